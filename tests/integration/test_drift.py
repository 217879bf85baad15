"""Drift on a real API server: what a node writes into `pods/status`, and what somebody writes into labels."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.test_controller import grants, path_of, state, until
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

Object = dict[str, Any]
OTHER = "sha256:" + "e" * 64
LEDGER = {"identity": "ledger"}
pytestmark = pytest.mark.lab


def selecting(countersign: Installation, **policy: Any) -> Governed:
    """A namespace whose policy governs the pods that are labelled identity=ledger."""
    scene = govern(countersign, **policy)
    spec = scene.policy["spec"]
    match = {**spec["match"], "podSelector": {"matchLabels": LEDGER}}
    countersign.declare({**scene.policy, "spec": {**spec, "match": match}})
    return scene


def labelled(scene: Governed, **labels: str) -> Object:
    """A running pod with that label and others."""
    return scene.running(scene.pod(metadata={"labels": {**LEDGER, **labels}}))


def label(scene: Governed, pod: Object, **labels: str | None) -> None:
    scene.edit.patch(path_of(pod), {"metadata": {"labels": labels}}, expect=200)


def told(scene: Governed, pod: Object, reason: str) -> list[Object]:
    """The Events of that reason on the pod."""
    path = f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events"
    found = scene.lab.admin.get(path, expect=200).body["items"]
    uid = pod["metadata"]["uid"]
    return [event for event in found if event["regarding"]["uid"] == uid and event["reason"] == reason]


def status_of(scene: Governed, pod: Object) -> Object:
    [grant] = grants(scene.countersign, scene.namespace, pod["metadata"]["uid"])
    return dict(grant["status"])


def drifted(scene: Governed, pod: Object) -> str | None:
    """Status of the condition on the pod's grant."""
    found = [one for one in status_of(scene, pod).get("conditions", []) if one["type"] == "Drifted"]
    return str(found[0]["status"]) if found else None


def test_another_image_than_was_admitted_ends_the_identity_and_tells_who_saw_what(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    assert governed.active(token)
    governed.node.report(pod, "Running", image_ids={"app": OTHER})
    governed.node.report(pod, "Running")
    until(governed.countersign, pod, ("Revoked", "Drifted"))
    governed.await_inactive(token)
    status = status_of(governed, pod)
    assert status["causedBy"] == f"Node {governed.node.name}"
    assert OTHER in status["message"]
    assert governed.image.digest in status["message"]
    governed.lab.wait_for(lambda: told(governed, pod, "Drifted"), what="an Event on the pod")
    [event] = told(governed, pod, "Drifted")
    for word in ("Identity ended", "app", OTHER, governed.node.name):
        assert word in event["note"]


def test_a_container_that_the_spec_does_not_have_ends_the_identity(governed: Governed) -> None:
    pod = governed.running()
    intruder = {"name": "intruder", "image": "x", "imageID": "", "ready": True, "restartCount": 0, "state": {}}
    governed.node.api.patch(
        f"{path_of(pod)}/status", {"status": {"ephemeralContainerStatuses": [intruder]}}, expect=200
    )
    until(governed.countersign, pod, ("Revoked", "Drifted"))
    assert "intruder" in status_of(governed, pod)["message"]


def test_what_was_reported_while_no_controller_ran_counts_if_it_still_stands(countersign: Installation) -> None:
    scene = govern(countersign)
    pod = scene.running()
    countersign.stop("controller")
    try:
        scene.node.report(pod, "Running", image_ids={"app": OTHER})
    finally:
        countersign.start_service("controller")
    until(countersign, pod, ("Revoked", "Drifted"))


def test_a_suspension_for_drift_outlasts_a_better_report_and_a_new_controller(countersign: Installation) -> None:
    scene = govern(countersign, responses={"drift": "Suspend"})
    pod = scene.running()
    scene.node.report(pod, "Running", image_ids={"app": OTHER})
    until(countersign, pod, ("Suspended", "Drifted"))
    countersign.stop("controller")
    scene.node.report(pod, "Running")
    countersign.start_service("controller")
    witness = scene.running()
    assert state(countersign, witness) == ("Active", "Admitted")
    label(scene, pod, seen="again")
    scene.node.finish(pod)
    until(countersign, pod, ("Revoked", "Completed"))
    assert drifted(scene, pod) == "True"


def test_a_report_is_told_once_and_leaves_the_identity(countersign: Installation) -> None:
    scene = govern(countersign, responses={"drift": "Report"})
    pod = scene.running()
    token = scene.token(pod)
    scene.node.report(pod, "Running", image_ids={"app": OTHER})
    scene.lab.wait_for(lambda: told(scene, pod, "DriftReported"), what="an Event on the pod")
    scene.node.report(pod, "Running", image_ids={"app": "sha256:" + "f" * 64})
    label(scene, pod, seen="again")
    assert drifted(scene, pod) == "True"
    scene.node.finish(pod)
    until(countersign, pod, ("Revoked", "Completed"))
    scene.lab.wait_for(lambda: told(scene, pod, "Completed"), what="what came last was told")
    [event] = told(scene, pod, "DriftReported")
    assert OTHER in event["note"]
    assert "series" not in event
    assert not scene.active(token)


def test_another_name_for_what_may_be_the_same_content_takes_nothing_away(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    governed.node.report(pod, "Running", image_ids={"app": f"aaa.example.com/stranger@{OTHER}"})
    governed.lab.wait_for(lambda: told(governed, pod, "DriftUnclear"), what="an Event on the pod")
    governed.lab.wait_for(lambda: drifted(governed, pod) == "Unknown", what="it stands on the grant")
    assert state(governed.countersign, pod) == ("Active", "Admitted")
    assert governed.active(token)


def test_a_label_that_leads_out_of_its_policy_ends_the_identity(countersign: Installation) -> None:
    scene = selecting(countersign)
    pod = labelled(scene)
    token = scene.token(pod)
    label(scene, pod, identity=None)
    label(scene, pod, identity="ledger")
    until(countersign, pod, ("Revoked", "Drifted"))
    scene.await_inactive(token)
    status = status_of(scene, pod)
    assert status["causedBy"] == f"Pod {scene.namespace}/{pod['metadata']['name']}"
    for word in (f"out of ClusterTrustPolicy {scene.namespace}", "identity=ledger", "no identity"):
        assert word in status["message"]


def test_a_label_that_moves_no_policy_is_the_operators_own_business(countersign: Installation) -> None:
    scene = selecting(countersign)
    pod = labelled(scene, role="replica")
    label(scene, pod, role="leader")
    label(scene, pod, role=None)
    moved = labelled(scene)
    label(scene, moved, identity=None)
    until(countersign, moved, ("Revoked", "Drifted"))
    assert state(countersign, pod) == ("Active", "Admitted")
    assert drifted(scene, pod) is None


def test_a_policy_that_selects_by_labels_from_before_it_ends_nobody(countersign: Installation) -> None:
    scene = selecting(countersign)
    pod = labelled(scene)
    label(scene, pod, tier="gold")
    labelled(scene)  # that one has its grant, so the controller has seen the label: two watches know no order
    later = objects.cluster_policy(
        f"{scene.namespace}-gold", namespaces={"governed-by": scene.namespace}, images=scene.policy["spec"]["images"]
    )
    later["spec"]["match"]["podSelector"] = {"matchLabels": {"tier": "gold"}}
    countersign.declare(later)
    scene.lab.wait_for(lambda: drifted(scene, pod) == "Unknown", what="it is told that it is unclear")
    assert state(countersign, pod) == ("Active", "Admitted")


def test_every_end_says_who_or_what_caused_it(countersign: Installation) -> None:
    scene = govern(countersign)
    name = scene.namespace
    done, failed, gone, swapped, other = (scene.running() for _ in range(5))
    scene.node.finish(done)
    scene.node.finish(failed, exit_code=1)
    scene.lab.admin.delete(path_of(gone), body={"gracePeriodSeconds": 0}, expect=200)
    patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": scene.image.by_digest}]
    scene.lab.admin.patch(path_of(swapped), patch, expect=200)
    for pod, reason, cause in (
        (done, "Completed", f"Node {scene.node.name}"),
        (failed, "Failed", f"Node {scene.node.name}"),
        (gone, "Deleted", f"Pod {name}/{gone['metadata']['name']}"),
        (swapped, "ImageChanged", f"Pod {name}/{swapped['metadata']['name']}"),
    ):
        until(countersign, pod, ("Revoked", reason))
        assert status_of(scene, pod)["causedBy"] == cause
    scene.lab.admin.delete(f"/api/v1/namespaces/{name}/serviceaccounts/worker", expect=200)
    until(countersign, other, ("Revoked", "ServiceAccountChanged"))
    assert status_of(scene, other)["causedBy"] == f"ServiceAccount {name}/worker"
