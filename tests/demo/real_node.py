"""The story with pods that really run: the chart by Helm, tokens in files, containers that come and go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from tests.demo.story import Story
from tests.e2e.cluster import Cluster
from tests.e2e.release import Release
from tests.e2e.scene import PROGRAM, TOKEN_FILE, Answer, Ledger, Scene
from tests.e2e.setting import LabSetting, on_lab
from tests.stack import objects
from tests.stack.objects import Object

PODS_TIMED = 10
SLOW = ("work", "-linger", "8s", "-every", "250ms")
FREE = "ungoverned"


@dataclass
class Play:
    """What the steps hand on to each other."""

    setting: LabSetting
    release: Release
    scene: Any = None
    """The main namespace (`Scene`), once it is made."""

    @property
    def cluster(self) -> Cluster:
        return self.setting.cluster

    def another(self, **policy: Any) -> Scene:
        """A governed namespace under a policy of its own."""
        ledger: Ledger = self.scene.ledger
        return self.setting.scene(self.release, ledger, **policy)


def tell_all(console: Console) -> bool:
    """Tell the whole story; returns whether it went as told."""
    story = Story(console)
    started = time.perf_counter()
    with on_lab() as setting:
        seconds = time.perf_counter() - started
        story.say(
            f"A control plane, a registry and a node with kubelet, containerd and runc are running ({seconds:.0f} s)."
            " What follows is real: Helm's own library installs the chart, containers read their tokens from files, and"
            " the relying party is a pod that asks the verifier."
        )
        play = Play(setting, setting.release())
        for tell in STEPS:
            tell(story, play)
    return story.finish()


def _installed(story: Story, play: Play) -> None:
    with story.step("helm install: one command, and it ends ready") as tell:
        tell.did("helm install countersign charts/countersign -n countersign-system --wait")
        notes = play.release.install()
        tell.got(notes[: notes.index("\nNext:")] if "\nNext:" in notes else notes)
        tell.got(play.cluster.kubectl("get", "pods", "-n", play.release.namespace))
        ledger = Ledger(play.cluster, play.release, play.setting.store)
        play.scene = play.setting.scene(play.release, ledger)
        ready = [pod for name in ("gate", "controller", "verifier") for pod in play.release.service(name)]
        tell.outcome(f"{len(ready)} pods ready; a policy, an audience and a relying party declared")


def _unsigned(story: Story, play: Play) -> None:
    with story.step("A Deployment with an unsigned image gets no pod, and is told why") as tell:
        scene: Scene = play.scene
        name = "unsigned"
        tell.did(f"kubectl apply: Deployment {name}, as {scene.developer} (role edit)")
        scene.create(objects.deployment(name, scene.namespace, scene.spec(image=scene.unsigned.by_tag)))
        message = play.cluster.wait(
            lambda: next((one for one in play.cluster.events(scene.namespace) if "ImageUnsigned" in one), None),
            what="the ReplicaSet tells why it has no pod",
        )
        tell.got(message)
        tell.outcome("ImageUnsigned, with the way out, in the ReplicaSet's events")


def _replicas(story: Story, play: Play) -> None:
    with story.step("An ordinary Deployment: each replica reads a token of its own from the file") as tell:
        scene: Scene = play.scene
        tell.did("kubectl apply: Deployment api, 2 replicas, image by tag; nothing about Countersign stands in it")
        scene.create(objects.deployment("api", scene.namespace, scene.spec(), replicas=2))
        pods = play.cluster.running(scene.namespace, "app=api", 2)
        for pod in pods:
            grant, told = scene.grant(pod, "Active"), scene.ask(pod)
            tell.got(f"{pod['metadata']['name']}: {scene.token(pod)[:24]}... from {TOKEN_FILE}")
            tell.got(f"  grant {grant['metadata']['name']}; the ledger was told: {_short(told)}")
            tell.expect(told.active, f"the token is not active: {told}")
        tell.expect(len({scene.grant(pod)["metadata"]["name"] for pod in pods}) == 2, "two pods share a grant")
        tell.outcome("two pods, two grants, both active; the answer names digest, key, owner, policy and grant")


def _no_delay(story: Story, play: Play) -> None:
    with story.step("The pod starts without a visible delay, though its token is asked for before its grant") as tell:
        scene: Scene = play.scene
        play.cluster.create_namespace(FREE)
        play.cluster.create(objects.service_account("worker", FREE))
        tell.did(f"{PODS_TIMED} pods each, in turns: without Countersign in namespace {FREE}, and governed")
        free, governed = [], []
        for number in range(PODS_TIMED):
            spec = scene.spec(terminationGracePeriodSeconds=1)
            free.append(_seconds_to_run(play.cluster, objects.pod(f"p{number}", FREE, spec)))
            governed.append(_seconds_to_run(play.cluster, objects.pod(f"p{number}", scene.namespace, spec)))
        without, with_ = sorted(free)[PODS_TIMED // 2], sorted(governed)[PODS_TIMED // 2]
        tell.outcome(f"creation to Running, median: {without * 1000:.0f} ms without, {with_ * 1000:.0f} ms with")


def _revoked(story: Story, play: Play) -> None:
    with story.step("Revoked: inactive at once, and the kubelet's refresh is refused") as tell:
        scene: Scene = play.scene
        pod = scene.start(scene.pod("leaky"))
        token = scene.token(pod)
        tell.did(f"kubectl create: Revocation of pod {pod['metadata']['name']}")
        scene.revoke(pod)
        began = time.perf_counter()
        scene.inactive(token)
        tell.got(f"the ledger refuses it {(time.perf_counter() - began) * 1000:.0f} ms later (one call takes ~100 ms)")
        tell.did("the kubelet is restarted, so that it asks for the token anew")
        play.setting.lab.real_node.kubelet.restart()
        refused = play.cluster.wait(
            lambda: _about(play.cluster.events(scene.namespace, pod["metadata"]["name"]), "GrantNotActive"),
            what="the pod's events tell of the refusal",
            seconds=150,
        )
        tell.got(refused)
        _await_exec(play, scene.ledger.client)
        scene.inactive(token, seconds=60)
        tell.outcome("inactive; the pod's event carries the gate's message")


def _job(story: Story, play: Play) -> None:
    with story.step("A Job ends, and its token with it") as tell:
        scene: Scene = play.scene
        tell.did("kubectl apply: Job settle, 3 s of work")
        scene.create(objects.job("settle", scene.namespace, scene.spec("work", "-for", "3s")))
        pod = scene.pod_of("settle")
        token = scene.token(pod)
        tell.expect(scene.ledger.ask(token).active, "its token is not active while it runs")
        play.cluster.phase(pod, "Succeeded")
        scene.inactive(token)
        grant = scene.grant(pod, "Revoked", "Completed")
        tell.got(f"grant {grant['metadata']['name']}: Revoked, Completed; TokenReview still says authenticated:")
        tell.got(f"  {_token_review(play.cluster, token, scene.audience)}")
        tell.outcome("Completed: inactive, though the API server itself would still take the token")


def _deleted(story: Story, play: Play) -> None:
    with story.step("A pod is deleted while its container takes 8 s to end: GracePeriod, and Immediate") as tell:
        for policy in ("GracePeriod", "Immediate"):
            scene = play.another(onTermination=policy)
            pod = scene.start(scene.pod("slow", *SLOW, terminationGracePeriodSeconds=20))
            token = scene.token(pod)
            play.cluster.delete(pod)
            play.cluster.pause(2)
            told = scene.ledger.ask(token)
            tell.got(f"onTermination: {policy}: 2 s after the deletion, its container still running: {_short(told)}")
            tell.expect(told.active == (policy == "GracePeriod"), f"{policy}: {told}")
            play.cluster.gone(pod)
            scene.inactive(token)
        tell.outcome("GracePeriod: active while it drains; Immediate: inactive at once; both inactive afterwards")


def _crash(story: Story, play: Play) -> None:
    with story.step("A container crashes and restarts: the same pod, the same grant") as tell:
        scene: Scene = play.scene
        pod = scene.start(scene.pod("crashes"))
        before = scene.grant(pod, "Active")["metadata"]["name"]
        play.cluster.try_kubectl("exec", "crashes", "-n", scene.namespace, "--", PROGRAM, "crash")
        again = play.cluster.wait(lambda: _restarted(play.cluster, pod), what="the container runs again", seconds=40)
        told = scene.ask(again)
        tell.got(f"restarts: {again['status']['containerStatuses'][0]['restartCount']}; {_short(told)}")
        tell.expect(told.active and scene.grant(again)["metadata"]["name"] == before, "not the same grant, or inactive")
        tell.outcome("active, by the same grant")


def _lost_node(story: Story, play: Play) -> None:
    with story.step("The node falls silent: what the policy says then") as tell:
        scene = play.another(responses={"nodeLost": "Suspend", "nodeLostAfterSeconds": 30})
        keeping = play.another(responses={"nodeLost": "Keep"})
        pod, kept = scene.start(scene.pod("lost")), keeping.start(keeping.pod("kept"))
        token, kept_token = scene.token(pod), keeping.token(kept)
        tell.did("the kubelet is stopped; its containers run on")
        kubelet = play.setting.lab.real_node.kubelet
        kubelet.stop()
        try:
            grant = scene.grant(pod, "Suspended", "NodeLost", seconds=120)
            tell.got(f"responses.nodeLost: Suspend  {grant['status']['message']}")
            # exec needs the kubelet, and so does the relying party's probe: ask the grants, not the ledger.
            tell.got(f"responses.nodeLost: Keep     {keeping.grant(kept)['status']['state']}")
            tell.expect(keeping.grant(kept)["status"]["state"] == "Active", "Keep did not keep")
        finally:
            kubelet.start()
        scene.grant(pod, "Active", "QualifiesAgain", seconds=60)
        _await_exec(play, scene.ledger.client)
        play.cluster.wait(lambda: scene.ledger.ask(token).active, what="the token is active again", seconds=60)
        tell.expect(keeping.ledger.ask(kept_token).active, "the kept token is not active")
        tell.outcome("Suspend: NodeLost, since unknown is inactive, and back with the node; Keep: Active all along")


def _containers(story: Story, play: Play) -> None:
    with story.step("Init container, native sidecar, debug container, image volume: verified, or refused") as tell:
        scene: Scene = play.scene
        unsigned = scene.unsigned.by_tag
        prepare = scene.container("stat", PROGRAM, name="prepare", image=unsigned)
        sidecar = scene.container(name="proxy", image=unsigned, restartPolicy="Always")
        volume = {"name": "model", "image": {"reference": unsigned}}
        for what, more in (
            ("init container", {"initContainers": [prepare]}),
            ("sidecar", {"initContainers": [sidecar]}),
            ("image volume", {"volumes": [volume]}),
        ):
            message = scene.denial(scene.pod("refused", **more))
            tell.expect("ImageUnsigned" in message, message)
            tell.got(f"unsigned {what}: {message[message.index('ImageUnsigned') :][:110]}...")
        pod = scene.start(scene.pod("debugged"))
        token = scene.token(pod)
        for image, kind in ((unsigned, "unsigned"), (scene.image.by_tag, "signed")):
            done = play.cluster.try_kubectl(
                "debug", pod["metadata"]["name"], "-n", scene.namespace, f"--image={image}", "--container=debugger",
                "--profile=restricted", "--", PROGRAM, "work",
            )  # fmt: skip
            said = (done.stderr or "let in").strip().splitlines()[-1]
            tell.got(f"kubectl debug with the {kind} image: {said[:160]}")
            tell.expect((done.returncode == 0) == (kind == "signed"), f"{kind}: {said}")
        scene.inactive(token)
        scene.grant(pod, "Revoked", "EphemeralContainerAdded")
        tell.outcome("unsigned ones refused; a signed debug container is let in and ends the pod's identity")


def _files(story: Story, play: Play) -> None:
    with story.step("Who can read the file: the named container, whatever its user; no other") as tell:
        scene: Scene = play.scene
        app = {**scene.container(), "securityContext": {"readOnlyRootFilesystem": True}}
        containers = [app, scene.container(name="other")]
        pod = scene.start(
            scene.pod("files", containers=containers, securityContext={"runAsUser": 12345, "fsGroup": 2000})
        )
        mode = scene.cluster.exec(pod, PROGRAM, "stat", TOKEN_FILE)
        tell.got(f"app (user 12345, fsGroup 2000, read-only root): mode, user and group {mode}")
        told = scene.ask(pod)
        tell.expect(told.active, f"{told}")
        other = play.cluster.try_kubectl(
            "exec", pod["metadata"]["name"], "-n", scene.namespace, "-c", "other", "--", PROGRAM, "cat", TOKEN_FILE
        )
        tell.got(f"other: {other.stderr.strip().splitlines()[0]}")
        tell.expect(other.returncode != 0, "the other container read the token")
        tell.outcome("read by `app` as user 12345 through fsGroup; `other` has no such file")


def _workloads(story: Story, play: Play) -> None:
    with story.step("StatefulSet, DaemonSet, CronJob; an eviction; a namespace that is deleted") as tell:
        scene = play.another()
        for obj in _controllers(scene):
            scene.create(obj)
        tell.did("(a CronJob's pod comes with the next minute)")
        first = play.cluster.wait(
            lambda: play.cluster.pods(scene.namespace, "app=cron") or None, what="the CronJob's minute", seconds=75
        )
        pods = [scene.pod_of("set"), scene.pod_of("daemon"), play.cluster.phase(first[0], "Running")]
        for pod in pods:
            grant = scene.grant(pod, "Active")
            controller = grant["spec"]["controller"]
            tell.got(f"{controller['kind']} {controller['name']}: pod {pod['metadata']['name']}, grant Active")
        tokens = [scene.token(pod) for pod in pods]
        evicted = pods[0]
        meta = {"name": evicted["metadata"]["name"], "namespace": scene.namespace}
        path = f"/api/v1/namespaces/{scene.namespace}/pods/{meta['name']}/eviction"
        play.cluster.api.post(path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}, expect=201)
        scene.inactive(tokens[0], seconds=20)
        tell.got(f"evicted {meta['name']}: its token is inactive, its successor has a grant of its own")
        play.cluster.kubectl("delete", "namespace", scene.namespace, "--timeout=90s")
        for token in tokens:
            scene.inactive(token)
        tell.outcome("each with a grant by its top-level controller; after the namespace all inactive, nothing hangs")


def _inventory(story: Story, play: Play) -> None:
    with story.step("The inventory: kubectl get workloadgrants") as tell:
        listing = play.cluster.kubectl("get", "workloadgrants", "-n", play.scene.namespace)
        tell.got(listing)
        states = [line.split()[2] for line in listing.splitlines()[1:]]
        tell.outcome(", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))))


STEPS: tuple[Callable[[Story, Play], None], ...] = (
    _installed,
    _unsigned,
    _replicas,
    _no_delay,
    _revoked,
    _job,
    _deleted,
    _crash,
    _containers,
    _files,
    _workloads,
    _lost_node,
    _inventory,
)


def _await_exec(play: Play, pod: Object) -> None:
    """A kubelet that has just started does not know its pods for a moment."""
    meta = pod["metadata"]
    command = ("exec", meta["name"], "-n", meta["namespace"], "--", PROGRAM, "stat", PROGRAM)
    play.cluster.wait(
        lambda: play.cluster.try_kubectl(*command).returncode == 0, what="the kubelet knows its pods", seconds=60
    )


def _short(told: Answer) -> str:
    body = told.body if isinstance(told.body, dict) else {}
    evidence = body.get("countersign.dev", {})
    return f"{told.status} " + json.dumps({"active": body.get("active"), "grant": evidence.get("grant")})


def _about(lines: list[str], word: str) -> str | None:
    return next((line for line in lines if word in line), None)


def _seconds_to_run(cluster: Cluster, pod: Object) -> float:
    began = time.perf_counter()
    made = cluster.create(pod)
    while True:
        now = cluster.pod(pod["metadata"]["namespace"], made["metadata"]["name"])
        if now and now["status"].get("phase") == "Running":
            break
        time.sleep(0.01)
    took = time.perf_counter() - began
    cluster.delete(made, gracePeriodSeconds=0)
    return took


def _restarted(cluster: Cluster, pod: Object) -> Object | None:
    now: Object = cluster.pod(pod["metadata"]["namespace"], pod["metadata"]["name"])
    state = now["status"]["containerStatuses"][0]
    return now if state["restartCount"] > 0 and state["state"].get("running") else None


def _token_review(cluster: Cluster, token: str, audience: str) -> str:
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    answer = cluster.api.post("/apis/authentication.k8s.io/v1/tokenreviews", review, expect=201)
    return json.dumps({"authenticated": answer.body["status"].get("authenticated", False)})


def _controllers(scene: Scene) -> list[Object]:
    def template(name: str, **more: Any) -> Object:
        return {"metadata": {"labels": {"app": name}}, "spec": scene.spec(**more)}

    def workload(kind: str, name: str, **spec: Any) -> Object:
        metadata = {"name": name, "namespace": scene.namespace}
        selector = {"selector": {"matchLabels": {"app": name}}, "template": template(name)}
        return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": {**selector, **spec}}

    job = {"backoffLimit": 0, "template": template("cron", restartPolicy="Never")}
    cron: Object = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "cron", "namespace": scene.namespace},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job}},
    }
    return [workload("StatefulSet", "set", replicas=1, serviceName="set"), workload("DaemonSet", "daemon"), cron]
