"""The cluster survives Countersign's absence: nothing of the cluster's own waits for it, and nothing escapes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.own import Own, own_cluster
from tests.e2e.release import Release
from tests.e2e.scene import ACCOUNT, PROGRAM, QUICK_END, TOKEN_FILE, Ledger, Scene
from tests.lab.http import Answer
from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.objects import Object

SERVICES = ("gate", "controller", "verifier")
BACK_SECONDS = 180.0
"""At most, from a ready API server to the first governed pod. Mostly 7 to 16 s. But an API server that has looked for
our kinds before it served them refuses every TokenRequest by the guard of minting, until it looks again after 30 s
(k8s apiserver/pkg/server/options/admission.go); and a kubelet waits twice as long after each refusal."""


class World(NamedTuple):
    """Countersign at work, with pods from before its absence."""

    own: Own
    release: Release
    scene: Scene
    audited: Scene
    keeper: Object
    """A governed pod that runs all along."""
    leaver: Object
    """One that is deleted meanwhile."""
    finisher: Object
    """The pod of a governed Job that completes meanwhile."""

    @property
    def cluster(self) -> Cluster:
        return self.own.cluster

    @property
    def lab(self) -> Lab:
        return self.own.lab


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A cluster of its own, since all of Countersign goes, and then all of the cluster."""
    with own_cluster() as own:
        release = own.release()
        release.install()
        ledger = Ledger(own.cluster, release, own.store)
        scene = own.scene(release, ledger)
        audited = own.scene(release, ledger, mode="Audit")
        scene.create(objects.deployment("web", scene.namespace, scene.spec(), replicas=2))
        keeper, leaver = scene.start(scene.pod("keeper")), scene.start(scene.pod("leaver"))
        for pod in own.cluster.running(scene.namespace, "app=web", 2):
            scene.grant(pod, "Active")
        assert scene.ask(keeper).active
        scene.create(objects.job("task", scene.namespace, scene.spec("work", "-for", "40s")))
        (finisher,) = own.cluster.running(scene.namespace, "app=task")
        scene.grant(finisher, "Active")
        yield World(own, release, scene, audited, keeper, leaver, finisher)


@pytest.fixture(scope="module")
def absence(world: World) -> World:
    """All of Countersign's pods are gone."""
    world.release.scale(dict.fromkeys(SERVICES, 0))
    assert not world.cluster.pods(world.release.namespace)
    assert world.cluster.pod(world.scene.namespace, world.finisher["metadata"]["name"])["status"]["phase"] == "Running"
    return world


def test_a_governed_pod_is_refused_by_name_of_the_webhook(absence: World) -> None:
    scene = absence.scene
    reply = attempt(scene, scene.pod("governed"))
    assert reply.status == 500, reply
    assert "failed calling webhook" in reply.message
    assert ".mutate.countersign.dev" in reply.message
    assert "countersign-gate.countersign-system.svc" in reply.message


def test_a_system_pod_starts(absence: World) -> None:
    cluster = absence.cluster
    pod = cluster.create(objects.pod("system", "kube-system", plain(absence.scene), {"app": "system"}))
    cluster.phase(pod, "Running")
    cluster.delete(pod)
    cluster.gone(pod)


def test_an_ungoverned_job_starts_completes_and_is_removed_by_its_ttl(absence: World) -> None:
    cluster = absence.cluster
    namespace = cluster.create_namespace("ungoverned")
    job = objects.job("task", namespace, plain(absence.scene, "-for", "1s"))
    job["spec"]["ttlSecondsAfterFinished"] = 3
    cluster.create(job)
    (pod,) = cluster.wait(lambda: cluster.pods(namespace, "app=task") or None, what="the Job has a pod")
    cluster.gone(pod)
    cluster.wait(lambda: cluster.get(objects.object_path(job)) is None, what="the Job is gone")


def test_a_deletion_and_a_scale_down_go_through(absence: World) -> None:
    scene, cluster = absence.scene, absence.cluster
    cluster.delete(absence.leaver)
    cluster.gone(absence.leaver)
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web/scale"
    cluster.as_user(scene.developer).patch(path, {"spec": {"replicas": 1}}, expect=200)
    cluster.running(scene.namespace, "app=web", 1)


def test_a_status_update_goes_through(absence: World) -> None:
    condition = {"type": "example.com/Seen", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    path = f"{objects.object_path(absence.keeper)}/status"
    changed = absence.cluster.api.patch(path, {"status": {"conditions": [condition]}}, expect=200).body
    assert any(one["type"] == condition["type"] for one in changed["status"]["conditions"])


def test_of_a_governed_pods_changes_only_those_that_count_wait(absence: World) -> None:
    path, api = objects.object_path(absence.keeper), absence.cluster.api
    api.patch(path, {"metadata": {"annotations": {"example.com/note": "seen"}}}, expect=200)
    refused = api.patch(path, {"metadata": {"labels": {"role": "leader"}}})
    assert (refused.status, "failed calling webhook" in refused.message) == (500, True), refused


def test_tokens_of_running_pods_are_refreshed(absence: World) -> None:
    """A kubelet that starts anew has no token cached: each mount asks for another."""
    before = absence.scene.token(absence.keeper)
    asked = len(requested(absence))
    absence.lab.real_node.kubelet.restart()
    absence.cluster.wait(
        lambda: try_in(absence, "cat", TOKEN_FILE) not in ("", before), what="the kubelet wrote another", seconds=120
    )
    assert {event["responseStatus"]["code"] for event in requested(absence)[asked:]} == {201}


def test_a_node_is_drained(absence: World) -> None:
    scene, cluster = absence.scene, absence.cluster
    (pod,) = cluster.running(scene.namespace, "app=web", 1)
    node = absence.lab.real_node.name
    try:
        cluster.kubectl(
            *("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"),
            "--pod-selector=app=web",
        )
        cluster.gone(pod)
    finally:
        cluster.kubectl("uncordon", node)


def test_a_governed_job_completes_and_its_pod_vanishes(absence: World) -> None:
    scene, cluster = absence.scene, absence.cluster
    job = cluster.wait(lambda: completed(scene, "task"), what="the Job is complete", seconds=90)
    cluster.delete(job, propagationPolicy="Foreground")
    cluster.gone(absence.finisher)
    cluster.wait(lambda: cluster.get(objects.object_path(job)) is None, what="the Job is gone")


def test_what_came_meanwhile_is_judged_when_it_is_back(absence: World) -> None:
    """The door is open in Audit and in what nobody governs: what passed it has no identity, and is on record."""
    scene, audited, cluster = absence.scene, absence.audited, absence.cluster
    unjudged = audited.create(audited.pod("meanwhile"))
    assert "countersign.dev/receipt" not in unjudged["metadata"].get("annotations", {})
    namespace = cluster.create_namespace("governed-later")
    cluster.create(objects.service_account(ACCOUNT, namespace))
    later = cluster.create(objects.pod("later", namespace, plain(scene)))
    cluster.kubectl("label", "namespace", namespace, f"scene={scene.namespace}")

    absence.release.scale(dict.fromkeys(SERVICES, 2))

    assert audited.grant(unjudged, "Revoked")["status"]["reason"] == "ReceiptMissing"
    assert grant_of(cluster, namespace, later)["state"] in ("Revoked", "Suspended")
    scene.grant(absence.leaver, "Revoked", "Deleted")
    scene.grant(absence.finisher, "Revoked")
    scene.grant(absence.keeper, "Active")
    cluster.wait(lambda: scene.ask(absence.keeper).active, what="the running pod's token is active again")
    # By itself the refused replica comes later: its controller backs off, 5 ms doubled at each refusal, up to 1000 s
    # (client-go util/workqueue, DefaultControllerRateLimiter). A change of the Deployment makes it try at once.
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/web/scale"
    cluster.as_user(scene.developer).patch(path, {"spec": {"replicas": 2}}, expect=200)
    for pod in cluster.running(scene.namespace, "app=web", 2):
        scene.grant(pod, "Active")
    admitted = scene.start(scene.pod("after"))
    assert scene.ask(admitted).active


def test_after_a_power_cut_everything_starts_by_itself_and_keeps_its_grant(absence: World) -> None:
    """Our own pods start although the gate's webhook fails closed, and the pods' grants are the ones from before."""
    lab, scene, cluster = absence.lab, absence.scene, absence.cluster
    absence.release.scale(dict.fromkeys(SERVICES, 2))
    before = scene.grant(absence.keeper, "Active")
    services = {pod["metadata"]["uid"]: restarts(pod) for pod in cluster.pods(absence.release.namespace)}

    lab.real_node.power_off()
    lab.control_plane.stop(grace=0)
    lab.control_plane.start()
    ready = time.monotonic()
    closed = attempt(scene, scene.pod("too-early"))
    assert not closed.ok, "no gate can have answered yet"
    lab.real_node.power_on()

    admit(absence, scene.pod("first"))
    admitted = time.monotonic() - ready
    first = cluster.phase(cluster.pod(scene.namespace, "first"), "Running", seconds=BACK_SECONDS)
    print(
        f"\nAPI server ready: governed pod admitted {admitted:.1f} s, Running {time.monotonic() - ready:.1f} s", end=" "
    )
    scene.grant(first, "Active")
    for service in SERVICES:
        cluster.running(absence.release.namespace, f"app.kubernetes.io/component={service}", 2, seconds=BACK_SECONDS)
    print(f"and all services ready {time.monotonic() - ready:.1f} s later")
    now = {pod["metadata"]["uid"]: restarts(pod) for pod in cluster.pods(absence.release.namespace)}
    assert now.keys() == services.keys(), "the same pods, started anew"
    assert all(now[uid] > services[uid] for uid in now)

    after = scene.grant(absence.keeper, "Active")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    cluster.wait(lambda: try_in(absence, "ask").startswith("200 "), what="the workload is active", seconds=BACK_SECONDS)


def requested(world: World) -> list[Object]:
    """The kubelet's requests for tokens of governed pods, from the audit log."""
    return world.lab.audit_events(
        verb="create",
        resource="serviceaccounts",
        subresource="token",
        namespace=world.scene.namespace,
        name=ACCOUNT,
        user=f"system:node:{world.lab.real_node.name}",
    )


def attempt(scene: Scene, obj: Object) -> Answer:
    """Create as the developer, whatever comes of it."""
    return scene.cluster.as_user(scene.developer).post(objects.collection_path(obj), obj)


def admit(world: World, pod: Object) -> None:
    """Wait until the pod is admitted; if it never is, AssertionError with the last refusal and what our pods do."""
    refusals: list[str] = []

    def probe() -> bool:
        reply = attempt(world.scene, pod)
        refusals.append(reply.message)
        return reply.ok

    try:
        world.cluster.wait(probe, what="a governed pod is admitted", seconds=BACK_SECONDS)
    except AssertionError as error:
        ours = world.cluster.kubectl("get", "pods,events", "-n", world.release.namespace)
        raise AssertionError(f"{error}; last refusal: {refusals[-1]}\n{ours}") from None


def plain(scene: Scene, *args: str) -> Object:
    """A pod's spec with the workload's program under the default account."""
    return objects.pod_spec(objects.container(scene.unsigned.by_tag, args=["work", *args]), **QUICK_END)


def completed(scene: Scene, name: str) -> Object | None:
    """The Job, once it is complete."""
    job = scene.cluster.get(f"/apis/batch/v1/namespaces/{scene.namespace}/jobs/{name}")
    conditions = job["status"].get("conditions", [])
    return dict(job) if any(one["type"] == "Complete" and one["status"] == "True" for one in conditions) else None


def grant_of(cluster: Cluster, namespace: str, pod: Object) -> Object:
    """Status of the pod's grant, once it has a state."""
    path = f"/apis/countersign.dev/v1alpha1/namespaces/{namespace}/workloadgrants"
    selector = f"countersign.dev/pod-uid={pod['metadata']['uid']}"

    def probe() -> Object | None:
        found = cluster.items(path, labelSelector=selector)
        status = found[0].get("status", {}) if found else {}
        return dict(status) if status.get("state") else None

    return dict(cluster.wait(probe, what=f"pod {namespace}/{pod['metadata']['name']} is judged"))


def restarts(pod: Object) -> int:
    """How often the pod's container was started again."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def try_in(world: World, *args: str) -> str:
    """What the workload's program prints in the running pod; empty while kubelet or container do not answer."""
    reply = world.cluster.try_kubectl("exec", "keeper", "-n", world.scene.namespace, "--", PROGRAM, *args)
    return reply.stdout if reply.returncode == 0 else ""
