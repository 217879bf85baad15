"""Invariant 3: a grant belongs to one pod UID. A replica with the same spec, name or address does not inherit it."""

from countersign.api.names import RECEIPT_ANNOTATION
from tests.lab.images import ImageSpec
from tests.stack import objects
from tests.stack.governed import Governed


def _slip_in(governed: Governed, pod: objects.Object) -> objects.Object:
    """Create the pod while no webhook stands in the way, and run it."""
    made = governed.slipped_in(pod)
    governed.node.run(made)
    return made


def _judged(governed: Governed, pod: objects.Object) -> str:
    def state() -> str | None:
        found: str | None = governed.countersign.grant_of(pod).get("status", {}).get("state")
        return found

    return str(governed.lab.wait_for(state, what=f"pod {pod['metadata']['name']} is judged"))


def _replica(governed: Governed, original: objects.Object, *, receipt: str | None) -> objects.Object:
    spec = original["spec"]
    kept = [v for v in spec["volumes"] if not v["name"].startswith("kube-api-access-")]
    mounts = [m for m in spec["containers"][0]["volumeMounts"] if not m["name"].startswith("kube-api-access-")]
    copy = governed.pod(
        {**spec["containers"][0], "volumeMounts": mounts},
        volumes=kept,
        metadata={"labels": original["metadata"].get("labels", {})},
    )
    if receipt:
        copy["metadata"]["annotations"] = {RECEIPT_ANNOTATION: receipt}
    return copy


def test_a_pod_recreated_under_the_same_name_starts_with_nothing(governed: Governed) -> None:
    first = governed.running(governed.pod(name="phoenix"))
    old = governed.token(first)
    assert governed.active(old)
    governed.edit.delete(f"{governed.pods}/phoenix", query={"gracePeriodSeconds": "0"}, expect=200)
    governed.node.remove(first)
    second = governed.running(governed.pod(name="phoenix"))
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert not governed.active(old)
    assert governed.active(governed.token(second))


def test_a_replica_with_a_copied_receipt_gets_a_revoked_grant(governed: Governed) -> None:
    original = governed.running()
    receipt = original["metadata"]["annotations"][RECEIPT_ANNOTATION]
    replica = _slip_in(governed, _replica(governed, original, receipt=receipt))
    grant = governed.countersign.grant_of(replica, state="Revoked")
    assert grant["status"]["reason"] in {"ReceiptSpent", "ReceiptInvalid"}
    governed.countersign.grant_of(original, state="Active")


def test_a_copied_receipt_that_comes_first_takes_nothing_from_the_genuine_pod_and_lives_by_none(
    governed: Governed,
) -> None:
    # The race: while the controller is away, a copy is made of a pod that has no grant yet.
    countersign = governed.countersign
    countersign.stop("controller")
    genuine = governed.admitted()
    receipt = genuine["metadata"]["annotations"][RECEIPT_ANNOTATION]
    copy = _replica(governed, genuine, receipt=receipt)
    countersign.remove_webhooks()
    try:
        replica = governed.lab.wait_for(
            lambda: next((a.body for a in (governed.create(copy),) if a.ok), None),
            what="the API server forgets the webhooks",
        )
    finally:
        countersign.start_service("controller")
        countersign.await_webhooks()
    states = [_judged(governed, pod) for pod in (genuine, replica)]
    # At most one pod lives by one receipt, whichever the controller saw first.
    assert states != ["Active", "Active"]


def test_the_receipt_of_a_dry_run_is_worth_nothing(governed: Governed) -> None:
    dry = governed.create(governed.pod(), dryRun="All")
    assert dry.status == 201, dry.message
    receipt = dry.body["metadata"].get("annotations", {}).get(RECEIPT_ANNOTATION, "")
    assert receipt.count(".") < 2, "a dry run handed out a signed receipt"
    pod = _slip_in(governed, _replica(governed, dry.body, receipt=receipt or "dry-run"))
    grant = governed.countersign.grant_of(pod, state="Revoked")
    assert grant["status"]["reason"] in {"ReceiptInvalid", "ReceiptMissing"}


def test_an_image_that_was_changed_and_changed_back_ends_the_instance(governed: Governed) -> None:
    registry = governed.lab.registry("referrers")
    other = registry.repository(f"{governed.namespace}/app").push(
        "v2", ImageSpec.distinct("other", entrypoint=["/app"])
    )
    governed.lab.cosign.sign(registry, other, governed.key)
    pod = governed.running()
    token = governed.token(pod)
    path = f"{governed.pods}/{pod['metadata']['name']}"
    original = pod["spec"]["containers"][0]["image"]
    governed.countersign.stop("controller")
    for image in (other.by_digest, original):
        swap = [{"op": "replace", "path": "/spec/containers/0/image", "value": image}]
        governed.edit.patch(path, swap, expect=200)
    governed.countersign.start_service("controller")
    grant = governed.countersign.grant_of(pod, state="Revoked")
    assert grant["status"]["reason"] == "ImageChanged"
    governed.await_inactive(token)


def test_an_ephemeral_container_ends_the_instance(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    debugger = {"spec": {"ephemeralContainers": [objects.container(governed.image.by_tag, "debug")]}}
    path = f"{governed.pods}/{pod['metadata']['name']}/ephemeralcontainers"
    governed.lab.admin.patch(path, debugger, content_type="application/strategic-merge-patch+json", expect=200)
    grant = governed.countersign.grant_of(pod, state="Revoked")
    assert grant["status"]["reason"] == "EphemeralContainerAdded"
    governed.await_inactive(token)


def test_a_service_account_made_anew_is_another_identity(governed: Governed) -> None:
    accounts = f"/api/v1/namespaces/{governed.namespace}/serviceaccounts"
    governed.lab.admin.post(accounts, objects.service_account("short-lived", governed.namespace), expect=201)
    pod = governed.running(governed.pod(service_account="short-lived"))
    token = governed.token(pod)
    governed.lab.admin.delete(f"{accounts}/short-lived", expect=200)
    governed.lab.admin.post(accounts, objects.service_account("short-lived", governed.namespace), expect=201)
    assert governed.countersign.grant_of(pod, state="Revoked")["status"]["reason"] == "ServiceAccountChanged"
    governed.await_inactive(token)
