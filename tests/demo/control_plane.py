"""The story on the control plane alone: a test plays the kubelet's part. Runs without root, on any machine."""

import json
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from countersign.api.names import RECEIPT_ANNOTATION
from tests.demo.story import Story
from tests.lab.cosign import KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.lab.node import NodePlayer
from tests.stack import objects
from tests.stack.installation import Installation, introspect

AUDIENCE = "ledger.example.com"
NAMESPACE = "payments"
LABELS = {"team": "payments"}
ACCOUNT = "payments-api"
DEVELOPER = "dana"


@dataclass
class Scene:
    """What the steps hand on to each other."""

    lab: Lab
    countersign: Installation
    node: NodePlayer
    key: KeyPair
    image: PushedImage
    asker: str = ""
    pod: Any = None
    token: str = ""
    job_pod: Any = None
    job_token: str = ""


def tell_all(console: Console) -> bool:
    """Tell the whole story; returns whether it went as told."""
    story = Story(console)
    started = time.perf_counter()
    with Lab.start() as lab, Installation.start(lab) as countersign:
        story.say(
            f"A Kubernetes API server, a registry and Countersign are running ({time.perf_counter() - started:.0f} s)."
            " Objects, tokens and signatures are real; no kubelet runs here, so this program plays the node's part"
            " through a node's own identity, under the node authorizer."
        )
        scene = _set(lab, countersign)
        for tell in (
            _unsigned_is_refused,
            _signed_is_admitted,
            _relying_party_asks,
            _lookalike_holds_nothing,
            _person_is_refused,
            _job_ends,
            _refresh_is_refused,
            _inventory,
        ):
            tell(story, scene)
    return story.finish()


def _set(lab: Lab, countersign: Installation) -> Scene:
    lab.create_namespace(NAMESPACE, LABELS)
    lab.create_namespace("ledger")
    lab.admin.post("/api/v1/namespaces/ledger/serviceaccounts", objects.service_account("api", "ledger"), expect=201)
    account = objects.service_account(ACCOUNT, NAMESPACE)
    lab.admin.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account, expect=201)
    lab.grant_role(NAMESPACE, DEVELOPER)
    key = lab.cosign.generate_key("release")
    repository = lab.registry("referrers").repository("payments/api")
    image = repository.push("v1", ImageSpec(entrypoint=["/app", "serve"]))
    countersign.declare(
        objects.protected_audience("ledger", AUDIENCE, introspectors=[("ledger", "api")]),
        objects.cluster_policy(
            "payments",
            namespaces=LABELS,
            images=[objects.image_rule([f"{image.repository.rpartition('/')[0]}/**"], [key.public_pem])],
            tokens=[objects.token(AUDIENCE)],
            binding={"serviceAccounts": [{"namespace": NAMESPACE, "name": ACCOUNT}]},
        ),
    )
    return Scene(lab, countersign, lab.node("node-1"), key, image)


def _spec(image: str) -> objects.Object:
    return objects.pod_spec(objects.container(image), service_account=ACCOUNT)


def _unsigned_is_refused(story: Story, scene: Scene) -> None:
    with story.step("An ordinary Deployment with an unsigned image is refused") as tell:
        tell.did(f"kubectl apply: Deployment api, image {scene.image.by_tag}, as {DEVELOPER} (role edit)")
        manifest = json.dumps(objects.deployment("api", NAMESPACE, _spec(scene.image.by_tag)))
        applied = scene.lab.try_kubectl("apply", "-f", "-", as_=DEVELOPER, input_=manifest)
        tell.got(applied.stdout + applied.stderr)
        path = f"/api/v1/namespaces/{NAMESPACE}/events"
        event = scene.lab.wait_for(
            lambda: next(
                (
                    item
                    for item in scene.lab.admin.get(path, expect=200).body["items"]
                    if item["reason"] == "FailedCreate" and item["involvedObject"]["kind"] == "ReplicaSet"
                ),
                None,
            ),
            what="the ReplicaSet tells why it has no pod",
        )
        message = event["message"]
        tell.got(f"Warning  FailedCreate  replicaset/{event['involvedObject']['name']}  {message}")
        tell.expect("ImageUnsigned" in message, f"the denial does not say ImageUnsigned: {message}")
        tell.expect(not scene.lab.pods(NAMESPACE), "a pod was created all the same")
        tell.outcome("refused: ImageUnsigned, no pod")


def _signed_is_admitted(story: Story, scene: Scene) -> None:
    with story.step("The same, signed by cosign, is admitted by tag") as tell:
        scene.lab.cosign.sign(scene.lab.registry("referrers"), scene.image, scene.key)
        tell.did("cosign sign --key release.key; kubectl rollout restart deployment/api")
        restarted = scene.lab.try_kubectl("rollout", "restart", "deployment/api", "-n", NAMESPACE, as_=DEVELOPER)
        tell.got(restarted.stdout + restarted.stderr)
        tell.did("(the gate remembers for 5 s that an image bore no signature)")
        old, new = sorted(_replica_sets(scene), key=_revision)
        selector = f"pod-template-hash={new['metadata']['labels']['pod-template-hash']}"
        pod = scene.lab.pods(NAMESPACE, selector, count=1, timeout=30)[0]
        scene.pod = scene.node.run(pod)
        scene.lab.wait_for(lambda: _is_scaled_down(scene, old), what="the Deployment has rolled out")
        spec = scene.pod["spec"]
        image = spec["containers"][0]["image"]
        volume = next((v for v in spec["volumes"] if v["name"].startswith("countersign-token-")), None)
        receipt = scene.pod["metadata"]["annotations"].get(RECEIPT_ANNOTATION, "")
        tell.got(f"pod      {scene.pod['metadata']['name']}")
        tell.got(f"image    {image}")
        tell.got(f"volume   {json.dumps(volume)}")
        tell.got(f"env      {json.dumps(spec['containers'][0].get('env', []))}")
        tell.got(f"receipt  {receipt[:60]}... ({len(receipt)} characters)")
        tell.expect(image.endswith(scene.image.digest), f"the image is not pinned: {image}")
        tell.expect(volume is not None, "no token volume stands in the pod")
        tell.expect(receipt, "no receipt stands in the pod")
        grant = scene.countersign.grant_of(scene.pod, state="Active")
        tell.got(f"grant    {grant['metadata']['name']} Active, owner {grant['spec']['owner']}")
        tell.outcome("admitted, pinned to its digest, token volume and receipt in place, grant Active")


def _relying_party_asks(story: Story, scene: Scene) -> None:
    with story.step("The relying party introspects the pod's token: active, with the evidence") as tell:
        scene.token = scene.node.token(scene.pod, AUDIENCE)
        scene.asker = scene.countersign.asker("ledger", "api")
        tell.did(f"node-1 mints the pod's token for {AUDIENCE}; service account ledger/api asks POST /introspect")
        client = scene.countersign.verifier_client()
        introspect(client, scene.token, scene.asker)
        began = time.perf_counter()
        answer = introspect(client, scene.token, scene.asker).body
        tell.took((time.perf_counter() - began) * 1000)
        tell.got(json.dumps(answer, indent=2))
        tell.expect(answer.get("active") is True, "the token is not active")
        tell.expect(scene.image.digest in json.dumps(answer), "the answer does not name the verified digest")
        tell.outcome("active, with digest, key fingerprint, owner, policies and grant")


def _lookalike_holds_nothing(story: Story, scene: Scene) -> None:
    with story.step("A lookalike, created around the gate, holds a token that is inactive") as tell:
        tell.did(
            "an admin stops the controller and removes the webhook configurations; then a copy of the pod is created"
        )
        scene.countersign.stop("controller")
        scene.countersign.remove_webhooks()
        # Without the ReplicaSet's own label: it would adopt the copy, and delete it as one too many.
        labels = {k: v for k, v in scene.pod["metadata"]["labels"].items() if k != "pod-template-hash"}
        receipt = {RECEIPT_ANNOTATION: scene.pod["metadata"]["annotations"][RECEIPT_ANNOTATION]}
        copy = objects.pod("lookalike", NAMESPACE, _copied(scene.pod["spec"]), labels, annotations=receipt)
        try:
            made = scene.lab.wait_for(
                lambda: next((a.body for a in (scene.countersign.create(copy),) if a.status == 201), None),
                what="the API server forgets the removed webhooks",
            )
            pod = scene.node.run(made)
            token = scene.node.token(pod, AUDIENCE)
            review = _token_review(scene.lab, token)
        finally:
            scene.countersign.start_service("controller")
            scene.countersign.await_webhooks()
        grant = scene.countersign.grant_of(pod, state="Revoked")
        answer = scene.countersign.introspect(token, asker=scene.asker)
        tell.got(f"same service account, same labels, same spec, same receipt; TokenReview: authenticated={review}")
        tell.got(f"introspection: {json.dumps(answer)}")
        status = grant.get("status", {})
        tell.got(f"grant {grant['metadata']['name']}: {status.get('state')} {status.get('reason')}")
        tell.expect(review is True, "the API server itself does not take the token, so the step shows nothing")
        tell.expect(answer == {"active": False}, "the lookalike's token is active")
        tell.outcome(f"inactive, though TokenReview says authenticated; recorded as {status.get('reason')}")


def _person_is_refused(story: Story, scene: Scene) -> None:
    with story.step("A person with the edit role asks for the protected audience and is refused") as tell:
        tell.did(f"kubectl create token {ACCOUNT} --audience {AUDIENCE} --duration 87600h, as {DEVELOPER}")
        asked = scene.lab.try_kubectl(
            "create", "token", ACCOUNT, "-n", NAMESPACE, "--audience", AUDIENCE, "--duration", "87600h", as_=DEVELOPER
        )
        tell.got(asked.stdout + asked.stderr)
        tell.expect(asked.returncode != 0, "the token was issued")
        tell.outcome("refused")


def _job_ends(story: Story, scene: Scene) -> None:
    with story.step("A Job completes, and its token is dead while TokenReview still says authenticated") as tell:
        tell.did("kubectl apply: Job settle, the same signed image; its pod runs, mints its token, and completes")
        scene.lab.kubectl(
            "apply", "-f", "-", as_=DEVELOPER,
            input_=json.dumps(objects.job("settle", NAMESPACE, _spec(scene.image.by_tag))),
        )  # fmt: skip
        pod = scene.lab.pods(NAMESPACE, "app=settle", count=1)[0]
        scene.job_pod = scene.node.run(pod)
        scene.countersign.grant_of(scene.job_pod, state="Active")
        scene.job_token = scene.node.token(scene.job_pod, AUDIENCE)
        client = scene.countersign.verifier_client()
        before = introspect(client, scene.job_token, scene.asker).body
        tell.expect(before.get("active") is True, f"the Job's token is not active while it runs: {before}")
        scene.node.finish(scene.job_pod)
        began = time.perf_counter()
        polls = 1
        while introspect(client, scene.job_token, scene.asker).body.get("active"):
            polls += 1
            tell.expect(time.perf_counter() - began < 10, "the token is still active 10 s after the Job's end")
        milliseconds = (time.perf_counter() - began) * 1000
        review = _token_review(scene.lab, scene.job_token)
        tell.got(f'introspection: {{"active": false}} after {milliseconds:.0f} ms ({polls} polls)')
        tell.got(f"TokenReview of the same token, side by side: authenticated={review}")
        tell.expect(review is True, "TokenReview does not authenticate the token, so the step shows nothing")
        tell.took(milliseconds)
        tell.outcome(f"inactive {milliseconds:.0f} ms after the status was written; TokenReview: authenticated")


def _refresh_is_refused(story: Story, scene: Scene) -> None:
    with story.step("The ended Job's node asks for a fresh token and is refused") as tell:
        tell.did("node-1 sends the TokenRequest that a kubelet would send to refresh")
        scene.countersign.grant_of(scene.job_pod, state="Revoked")
        answer = scene.node.request_token(scene.job_pod, AUDIENCE, expiration_seconds=600)
        tell.got(f"{answer.status} {answer.message}")
        tell.expect(answer.status >= 400, "the token was issued")
        tell.outcome(f"refused with status {answer.status}")


def _inventory(story: Story, scene: Scene) -> None:
    with story.step("The inventory: kubectl get workloadgrants") as tell:
        tell.did("kubectl get workloadgrants -A")
        listing = scene.lab.kubectl("get", "workloadgrants", "-A")
        tell.got(listing)
        states = {
            grant["spec"]["pod"]["name"]: (grant["status"]["state"], grant["status"]["reason"])
            for grant in json.loads(scene.lab.kubectl("get", "workloadgrants", "-A", "-o", "json"))["items"]
        }
        tell.expect(states[scene.pod["metadata"]["name"]][0] == "Active", f"the Deployment's pod: {states}")
        tell.expect(states[scene.job_pod["metadata"]["name"]][0] == "Revoked", f"the Job's pod: {states}")
        tell.expect(states["lookalike"][0] != "Active", f"the lookalike: {states}")
        tell.outcome(", ".join(f"{name}: {state} ({reason})" for name, (state, reason) in sorted(states.items())))


def _revision(replica_set: objects.Object) -> int:
    return int(replica_set["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


def _is_scaled_down(scene: Scene, replica_set: objects.Object) -> bool:
    uid = replica_set["metadata"]["uid"]
    return all(one["spec"]["replicas"] == 0 for one in _replica_sets(scene) if one["metadata"]["uid"] == uid)


def _replica_sets(scene: Scene) -> list[objects.Object]:
    items: list[objects.Object] = scene.lab.admin.get(
        f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets", query={"labelSelector": "app=api"}, expect=200
    ).body["items"]
    return items


def _copied(spec: objects.Object) -> objects.Object:
    # What a person can copy out of `kubectl get pod -o yaml`, less what the API server fills in anew.
    volumes = [v for v in spec["volumes"] if not v["name"].startswith("kube-api-access-")]
    containers = [
        {
            **c,
            "volumeMounts": [m for m in c.get("volumeMounts", []) if not m["name"].startswith("kube-api-access-")],
        }
        for c in spec["containers"]
    ]
    return {"serviceAccountName": spec["serviceAccountName"], "containers": containers, "volumes": volumes}


def _token_review(lab: Lab, token: str) -> bool:
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }
    answer = lab.admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review, expect=201)
    return bool(answer.body["status"].get("authenticated", False))
