"""Invariant 4: a revoked grant never becomes active again, and no end is missed."""

import time

from countersign.api.names import RECEIPT_ANNOTATION, SYSTEM_NAMESPACE
from tests.lab.images import ImageSpec
from tests.stack import objects
from tests.stack.governed import Governed


def _grant_path(grant: objects.Object) -> str:
    meta = grant["metadata"]
    return f"/apis/countersign.dev/v1alpha1/namespaces/{meta['namespace']}/workloadgrants/{meta['name']}"


def test_a_completed_pod_is_inactive_while_tokenreview_still_authenticates(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    governed.node.finish(pod)
    governed.await_inactive(token)
    review = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [governed.audience]},
    }  # fmt: skip
    answer = governed.lab.admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review, expect=201).body
    assert answer["status"]["authenticated"] is True
    assert governed.countersign.grant_of(pod, state="Revoked")["status"]["reason"] == "Completed"
    assert governed.node.request_token(pod, governed.audience, expiration_seconds=600).status >= 400


def test_a_phase_that_a_node_writes_back_to_running_revives_nothing(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    governed.node.finish(pod)
    governed.countersign.grant_of(pod, state="Revoked")
    # The API server keeps a terminal phase in most cases; where it lets a node write it back, the grant stays ended.
    governed.node.api.patch(f"{governed.pods}/{pod['metadata']['name']}/status", {"status": {"phase": "Running"}})
    time.sleep(1)
    assert not governed.active(token)
    assert governed.countersign.grant_of(pod)["status"]["state"] == "Revoked"


def test_ends_that_happen_while_the_controller_is_away_are_caught_up(governed: Governed) -> None:
    finished, deleted = governed.running(), governed.running()
    tokens = [governed.token(finished), governed.token(deleted)]
    governed.countersign.kill("controller")
    governed.node.finish(finished)
    governed.edit.delete(f"{governed.pods}/{deleted['metadata']['name']}", query={"gracePeriodSeconds": "0"})
    governed.node.remove(deleted)
    assert not any(governed.active(token) for token in tokens)
    governed.countersign.start_service("controller")
    assert governed.countersign.grant_of(finished, state="Revoked")["status"]["reason"] == "Completed"
    assert governed.countersign.grant_of(deleted, state="Revoked")["status"]["reason"] == "Deleted"


def test_a_restarted_verifier_knows_every_end(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    governed.countersign.kill("verifier")
    governed.node.finish(pod)
    governed.countersign.start_service("verifier")
    assert not governed.active(token)


def test_nobody_with_edit_writes_or_deletes_a_grant(governed: Governed) -> None:
    pod = governed.running()
    path = _grant_path(governed.countersign.grant_of(pod, state="Active"))
    assert governed.edit.delete(path).status == 403
    assert governed.edit.patch(f"{path}/status", {"status": {"state": "Active"}}).status == 403
    # The guard binds cluster admins, too.
    assert governed.lab.admin.delete(path).status >= 400
    assert governed.lab.admin.patch(f"{path}/status", {"status": {"state": "Revoked"}}).status >= 400


def test_a_revoked_grant_that_the_controller_itself_loses_does_not_come_back_active(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    order = objects.revocation(governed.namespace, {"pod": {"name": pod["metadata"]["name"]}})
    assert governed.countersign.create(order).status == 201
    grant = governed.countersign.grant_of(pod, state="Revoked")
    assert grant["status"]["reason"] == "RevokedByOrder"
    governed.await_inactive(token)
    # With the controller's own rights, as after a lost or restored etcd, the record itself is removed.
    own = governed.lab.service_account_token(SYSTEM_NAMESPACE, "countersign-controller")
    governed.lab.api_with_token(own).delete(_grant_path(grant), expect=200)
    time.sleep(2)
    assert not governed.active(token)
    governed.countersign.kill("controller")
    governed.countersign.start_service("controller")
    time.sleep(2)
    assert not governed.active(token)


def test_a_revocation_of_a_digest_stands_for_everything_later(governed: Governed) -> None:
    registry = governed.lab.registry("referrers")
    image = registry.repository(f"{governed.namespace}/app").push(
        "bad", ImageSpec.distinct(f"{governed.namespace}-bad", entrypoint=["/app"])
    )
    governed.lab.cosign.sign(registry, image, governed.key)
    pod = governed.running(governed.pod(image=image.by_tag))
    token = governed.token(pod)
    order = objects.revocation(SYSTEM_NAMESPACE, {"digest": image.digest}, "malware")
    assert governed.countersign.create(order).status == 201
    governed.await_inactive(token)
    refused = governed.lab.wait_for(
        lambda: next((a for a in (governed.create(governed.pod(image=image.by_tag)),) if a.status == 403), None),
        what="the gate knows the revocation",
    )
    assert "ImageRevoked" in refused.message


def test_a_failover_takes_seconds_and_loses_nothing(governed: Governed) -> None:
    pod = governed.running()
    countersign = governed.countersign
    countersign.start_service("controller", key="controller-2")
    countersign.kill("controller")
    try:
        governed.node.finish(pod)
        assert countersign.grant_of(pod, state="Revoked")["status"]["reason"] == "Completed"
    finally:
        countersign.start_service("controller")
        countersign.stop("controller-2")


def test_the_receipt_of_a_revoked_pod_is_spent(governed: Governed) -> None:
    pod = governed.running()
    receipt = pod["metadata"]["annotations"][RECEIPT_ANNOTATION]
    governed.node.finish(pod)
    governed.countersign.grant_of(pod, state="Revoked")
    again = governed.admitted(governed.pod(metadata={"annotations": {RECEIPT_ANNOTATION: receipt}}))
    assert again["metadata"]["annotations"][RECEIPT_ANNOTATION] != receipt
