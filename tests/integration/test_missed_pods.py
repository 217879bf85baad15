"""Pods that no gate admitted: made before their policy, or past the gate. Recorded, told of once, and listed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.test_controller import until
from tests.integration.test_drift import told
from tests.stack import objects
from tests.stack.commandline import countersign as command
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation
from tests.stack.objects import Object

pytestmark = pytest.mark.lab


def missed(scene: Governed) -> int | None:
    """What the policy's status says."""
    path = f"/apis/countersign.dev/v1alpha1/clustertrustpolicies/{scene.policy['metadata']['name']}"
    status = scene.lab.admin.get(path, expect=200).body.get("status", {})
    found = status.get("pods", {}).get("missed")
    return None if found is None else int(found)


def without_identity(scene: Governed) -> dict[str, Any]:
    """Pods of the namespace that `countersign adopt` lists, with what it says of each."""
    shown = command(
        "adopt", "-n", scene.namespace, f"--registry-ca={scene.lab.ca_file}", "--allow-address-range=127.0.0.0/8",
        "-o", "json", kubeconfig=scene.lab.kubeconfig,
    )  # fmt: skip
    return {row["pod"]: row for row in json.loads(shown.stdout)}


def from_before(scene: Governed) -> Object:
    """A pod of the namespace from before it was governed."""
    path = f"/api/v1/namespaces/{scene.namespace}"
    scene.lab.admin.patch(path, {"metadata": {"labels": {"governed-by": None}}}, expect=200)
    spec = objects.pod_spec(objects.container(scene.image.by_tag))
    made = scene.lab.wait_for(lambda: _untouched(scene, spec), what="the namespace is not governed")
    scene.lab.admin.patch(path, {"metadata": {"labels": {"governed-by": scene.namespace}}}, expect=200)
    return dict(made)


def _untouched(scene: Governed, spec: Object) -> Object | None:
    made = scene.create(objects.pod("before", scene.namespace, spec)).body
    if made["metadata"].get("annotations"):
        scene.lab.admin.delete(f"{scene.pods}/before", body={"gracePeriodSeconds": 0}, expect=200)
        return None
    return dict(made)


def test_missed_pods_are_counted_told_of_once_and_listed(countersign: Installation) -> None:
    scene = govern(countersign)
    well = scene.running()
    before = scene.node.run(from_before(scene))
    around = scene.node.run(scene.slipped_in(scene.pod(name="around")))
    until(countersign, around, ("Revoked", "ReceiptMissing"))
    reason = countersign.grant_of(before)["status"]["reason"]
    for pod, said in ((around, "ReceiptMissing"), (before, reason)):
        scene.lab.wait_for(lambda pod=pod, said=said: told(scene, pod, said), what=f"an Event {said} on the pod")  # type: ignore[misc]
    scene.lab.wait_for(lambda: missed(scene) == 2, what="the policy's status counts both")

    countersign.stop("controller")
    countersign.start_service("controller")
    scene.running()
    scene.lab.wait_for(lambda: missed(scene) == 2, what="they are counted by the next controller, too")
    for pod, said in ((around, "ReceiptMissing"), (before, reason)):
        [event] = told(scene, pod, said)
        assert "series" not in event
        assert "Identity" in event["note"]
    listed = without_identity(scene)
    assert set(listed) == {"around", "before"}
    assert well["metadata"]["name"] not in listed

    scene.node.finish(around)
    scene.lab.wait_for(lambda: missed(scene) == 1, what="whose work is over is missed no more")
