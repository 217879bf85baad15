"""The controller on a real API server: what it grants, what ends it, and what it catches up on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.signing import make_key, pem_of
from tests.lab.lab import Lab
from tests.lab.waiting import wait_for
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

Object = dict[str, Any]
pytestmark = pytest.mark.lab


def state(countersign: Installation, pod: Object) -> tuple[str, str] | None:
    """State and reason of the pod's grant, or None without one."""
    meta = pod["metadata"]
    found = grants(countersign, meta["namespace"], meta["uid"])
    assert len(found) <= 1, found
    if not found:
        return None
    status = found[0].get("status", {})
    return status.get("state", ""), status.get("reason", "")


def grants(countersign: Installation, namespace: str, uid: str) -> list[Object]:
    path = f"/apis/countersign.dev/v1alpha1/namespaces/{namespace}/workloadgrants"
    query = {"labelSelector": f"countersign.dev/pod-uid={uid}"}
    items: list[Object] = countersign.lab.admin.get(path, query=query, expect=200).body["items"]
    return items


def until(countersign: Installation, pod: Object, expected: tuple[str, str]) -> None:
    """Wait until the pod's grant is in that state for that reason."""
    try:
        wait_for(lambda: state(countersign, pod) == expected, what=f"the grant is {expected}")
    except AssertionError as error:
        raise AssertionError(f"{error}, found {state(countersign, pod)}") from None


def path_of(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


@pytest.fixture
def scene(countersign: Installation) -> Governed:
    """A governed namespace of the test's own."""
    return govern(countersign)


@pytest.mark.parametrize(("exit_code", "reason"), [(0, "Completed"), (1, "Failed")])
def test_the_end_of_the_work_ends_the_identity_at_once(governed: Governed, exit_code: int, reason: str) -> None:
    pod = governed.running()
    governed.node.finish(pod, exit_code=exit_code)
    until(governed.countersign, pod, ("Revoked", reason))


def test_a_terminal_phase_taken_back_by_its_node_stays_the_end(governed: Governed) -> None:
    pod = governed.running()
    governed.node.finish(pod)
    governed.node.report(pod, "Running")
    until(governed.countersign, pod, ("Revoked", "Completed"))
    time.sleep(0.5)
    assert state(governed.countersign, pod) == ("Revoked", "Completed")


def test_a_person_reads_on_the_pod_what_ended_its_identity(governed: Governed) -> None:
    pod = governed.running()
    governed.node.finish(pod)
    path = f"/apis/events.k8s.io/v1/namespaces/{governed.namespace}/events"

    def told() -> bool:
        events = governed.lab.admin.get(path, expect=200).body["items"]
        return any(
            event["regarding"]["uid"] == pod["metadata"]["uid"] and event["reason"] == "Completed" for event in events
        )

    governed.lab.wait_for(told, what="an Event on the pod")


def test_a_pod_around_the_gate_is_recorded_and_gets_nothing(scene: Governed) -> None:
    made = scene.slipped_in()
    until(scene.countersign, made, ("Revoked", "ReceiptMissing"))
    (record,) = grants(scene.countersign, scene.namespace, made["metadata"]["uid"])
    assert "tokens" not in record["spec"]
    assert record["metadata"]["name"].startswith("refused-")


def test_webhooks_that_somebody_deletes_come_back(scene: Governed) -> None:
    scene.countersign.remove_webhooks()
    scene.lab.wait_for(
        lambda: scene.create(scene.pod(image=scene.unsigned.by_tag)).status == 403,
        what="the webhooks that were deleted are back",
    )  # fmt: skip


def test_a_copied_receipt_is_spent(scene: Governed) -> None:
    pod = scene.running()
    copy = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "copy",
            "namespace": scene.namespace,
            "labels": pod["metadata"].get("labels", {}),
            "annotations": pod["metadata"]["annotations"],
        },
        "spec": {key: value for key, value in pod["spec"].items() if key != "nodeName"},
    }
    until(scene.countersign, scene.slipped_in(copy), ("Revoked", "ReceiptSpent"))
    assert state(scene.countersign, pod) == ("Active", "Admitted")


def test_another_image_in_place_ends_the_identity(scene: Governed) -> None:
    pod = scene.running()
    set_image(scene, pod, scene.image.by_digest)
    until(scene.countersign, pod, ("Revoked", "ImageChanged"))


def test_an_image_swapped_and_put_back_while_no_controller_ran_ends_the_identity(scene: Governed) -> None:
    pod = scene.running()
    original = pod["spec"]["containers"][0]["image"]
    scene.countersign.stop("controller")
    try:
        set_image(scene, pod, scene.image.by_digest)
        set_image(scene, pod, original)
    finally:
        scene.countersign.start_service("controller")
    until(scene.countersign, pod, ("Revoked", "ImageChanged"))


def set_image(scene: Governed, pod: Object, image: str) -> None:
    patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": image}]
    scene.lab.admin.patch(path_of(pod), patch, expect=200)


def test_an_ephemeral_container_ends_the_identity(governed: Governed) -> None:
    pod = governed.running()
    debugger = {"name": "debug", "image": governed.image.by_tag}
    governed.lab.admin.patch(
        f"{path_of(pod)}/ephemeralcontainers", {"spec": {"ephemeralContainers": [debugger]}}, expect=200
    )
    until(governed.countersign, pod, ("Revoked", "EphemeralContainerAdded"))


def test_a_replaced_account_ends_the_identity(scene: Governed) -> None:
    pod = scene.running()
    accounts = f"/api/v1/namespaces/{scene.namespace}/serviceaccounts"
    scene.lab.admin.delete(f"{accounts}/worker", expect=200)
    scene.lab.admin.post(accounts, objects.service_account("worker", scene.namespace), expect=201)
    until(scene.countersign, pod, ("Revoked", "ServiceAccountChanged"))


def test_with_a_grace_period_the_identity_ends_after_drain_seconds(countersign: Installation) -> None:
    scene = govern(countersign, drainSeconds=2)
    pod = scene.running()
    began = time.perf_counter()
    scene.lab.admin.delete(path_of(pod), body={"gracePeriodSeconds": 600}, expect=200)
    until(countersign, pod, ("Revoked", "Deleted"))
    # deletionTimestamp is in whole seconds, so the request may seem up to a second older than it is.
    assert time.perf_counter() - began > 0.9


def test_immediate_ends_the_identity_with_the_request_to_delete(countersign: Installation) -> None:
    scene = govern(countersign, onTermination="Immediate")
    pod = scene.running()
    scene.lab.admin.delete(path_of(pod), body={"gracePeriodSeconds": 600}, expect=200)
    until(countersign, pod, ("Revoked", "Deleted"))


def test_an_order_ends_what_it_names_and_says_how_much(scene: Governed) -> None:
    pods = [scene.running() for _ in range(3)]
    target = {"serviceAccount": {"name": "worker"}}
    order = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "Revocation",
        "metadata": {"name": "leak", "namespace": scene.namespace},
        "spec": {"target": target, "reason": "the key leaked"},
    }
    answer = scene.countersign.create(order)
    assert answer.status == 201, answer.message
    for pod in pods:
        until(scene.countersign, pod, ("Revoked", "RevokedByOrder"))
    (record,) = grants(scene.countersign, scene.namespace, pods[0]["metadata"]["uid"])
    assert record["status"]["causedBy"] == f"Revocation {scene.namespace}/leak"
    path = f"/apis/countersign.dev/v1alpha1/namespaces/{scene.namespace}/revocations/leak"

    def applied() -> bool:
        status = scene.lab.admin.get(path, expect=200).body.get("status", {})
        return bool(status.get("revoked") == 3 and status["conditions"][0]["status"] == "True")

    scene.lab.wait_for(applied, what="the order counts what it ended")


# Policies


def edit(scene: Governed, change: Callable[[Object], None]) -> Object:
    spec = scene.lab.admin.get(objects.object_path(scene.policy), expect=200).body["spec"]
    change(spec)
    patch = [{"op": "replace", "path": "/spec", "value": spec}]
    return dict(scene.lab.admin.patch(objects.object_path(scene.policy), patch, expect=200).body)


def distrust(spec: Object) -> None:
    spec["images"][0]["authorities"][0]["key"]["pem"] = [pem_of(make_key())]


def test_a_policy_that_turns_against_a_pod_suspends_until_it_is_undone(scene: Governed) -> None:
    pod = scene.running()
    good = scene.policy["spec"]["images"]
    edit(scene, distrust)
    until(scene.countersign, pod, ("Suspended", "NoLongerQualifies"))
    edit(scene, lambda spec: spec.update(images=good))
    until(scene.countersign, pod, ("Active", "QualifiesAgain"))


def test_a_deleted_policy_suspends_and_coming_back_restores(scene: Governed) -> None:
    pod = scene.running()
    scene.lab.admin.delete(objects.object_path(scene.policy), expect=200)
    until(scene.countersign, pod, ("Suspended", "NoLongerQualifies"))
    scene.countersign.declare(scene.policy)
    # Another object with another UID: the grant makes way for one that names it.
    until(scene.countersign, pod, ("Active", "Admitted"))


def test_a_change_that_would_suspend_many_waits_for_consent(scene: Governed) -> None:
    pods = [scene.running() for _ in range(12)]
    held = edit(scene, distrust)

    def condition() -> Object | None:
        status = scene.lab.admin.get(objects.object_path(scene.policy), expect=200).body["status"]
        return next((c for c in status["conditions"] if c["type"] == "ImpactHeld" and c["status"] == "True"), None)

    found = scene.lab.wait_for(condition, what="ImpactHeld")
    assert "12 of 12" in found["message"]
    assert all(state(scene.countersign, pod) == ("Active", "Admitted") for pod in pods)
    edit(scene, lambda spec: spec.update(acceptImpact=held["metadata"]["generation"]))
    for pod in pods:
        until(scene.countersign, pod, ("Suspended", "NoLongerQualifies"))
    scene.lab.wait_for(lambda: condition() is None, what="ImpactHeld is over")


@pytest.fixture
def quick_scan(countersign: Installation) -> Iterator[None]:
    """The scan's queue holds the pods of all tests: at the default rate one's own would come up after minutes."""
    countersign.stop("controller")
    countersign.start_service("controller", scan_requests_per_second="50")
    yield
    countersign.stop("controller")
    countersign.start_service("controller")


@pytest.mark.usefixtures("quick_scan")
def test_a_policy_tells_how_its_pods_stand(scene: Governed) -> None:
    scene.running()
    scene.slipped_in(scene.pod(image=scene.unsigned.by_tag))

    def counted() -> bool:
        status = scene.lab.admin.get(objects.object_path(scene.policy), expect=200).body["status"]
        reasons = {entry["reason"] for entry in status.get("topReasons", ())}
        return status["pods"]["governed"] == 2 and status["pods"]["failing"] == 1 and bool(reasons)

    scene.lab.wait_for(counted, what="the policy counts its pods", timeout=90)
    path = f"/apis/countersign.dev/v1alpha1/protectedaudiences/{scene.namespace}"
    scene.lab.wait_for(
        lambda: scene.lab.admin.get(path, expect=200).body["status"].get("grants") == 1,
        what="the audience counts its grants",
    )


# Processes that come and go


def test_a_controller_catches_up_on_what_ended_while_it_was_away(scene: Governed) -> None:
    finished, deleted, untouched = scene.running(), scene.running(), scene.running()
    scene.countersign.stop("controller")
    try:
        scene.node.finish(finished)
        scene.lab.admin.delete(path_of(deleted), body={"gracePeriodSeconds": 0}, expect=200)
        late = scene.admitted()
    finally:
        scene.countersign.start_service("controller")
    until(scene.countersign, finished, ("Revoked", "Completed"))
    until(scene.countersign, deleted, ("Revoked", "Deleted"))
    until(scene.countersign, late, ("Active", "Admitted"))
    assert state(scene.countersign, untouched) == ("Active", "Admitted")


def test_a_lost_leader_is_replaced_by_the_standby(scene: Governed) -> None:
    pod = scene.running()
    scene.countersign.start_service("controller", key="standby")
    scene.countersign.kill("controller")
    try:
        scene.node.finish(pod)
        until(scene.countersign, pod, ("Revoked", "Completed"))
    finally:
        scene.countersign.start_service("controller")
        scene.countersign.stop("standby")
    after = scene.running()
    scene.node.finish(after)
    until(scene.countersign, after, ("Revoked", "Completed"))


def test_the_end_of_a_controller_leaves_the_webhooks(scene: Governed, lab: Lab) -> None:
    scene.countersign.stop("controller")
    try:
        answer = scene.create(scene.pod(image=scene.unsigned.by_tag))
        assert answer.status == 403, answer.message
    finally:
        scene.countersign.start_service("controller")


def test_a_grant_that_somebody_deletes_comes_back_as_it_was(scene: Governed) -> None:
    pod = scene.running()
    scene.node.finish(pod)
    until(scene.countersign, pod, ("Revoked", "Completed"))
    (record,) = grants(scene.countersign, scene.namespace, pod["metadata"]["uid"])
    path = f"/apis/countersign.dev/v1alpha1/namespaces/{scene.namespace}/workloadgrants/{record['metadata']['name']}"
    assert scene.lab.admin.delete(path).status == 403, "the guard in the API server"
    account = f"system:serviceaccount:{scene.countersign.namespace}:countersign-controller"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{scene.countersign.namespace}", "system:authenticated"]
    scene.lab.api(account, groups).delete(path, expect=200)
    until(scene.countersign, pod, ("Revoked", "Completed"))
