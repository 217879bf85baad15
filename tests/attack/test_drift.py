"""Whoever makes an instance another thing than was admitted, or pretends that it is one."""

from __future__ import annotations

from tests.integration.test_drift import LEDGER, label, labelled, selecting
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

ADDRESS = "10.1.2.3"


def test_a_label_flipped_to_escape_its_policy_ends_the_identity_for_good(countersign: Installation) -> None:
    scene = selecting(countersign)
    pod = labelled(scene)
    token = scene.token(pod)
    label(scene, pod, identity=None)
    label(scene, pod, identity="ledger")
    scene.await_inactive(token)
    assert countersign.grant_of(pod, state="Revoked")["status"]["reason"] == "Drifted"
    assert scene.node.request_token(pod, scene.audience).status >= 400


def test_a_label_flipped_to_enter_another_policy_brings_none_of_its_identity(countersign: Installation) -> None:
    scene = selecting(countersign)
    gold = f"gold.{scene.audience}"
    name = f"{scene.namespace}-gold"
    rich = objects.cluster_policy(
        name,
        namespaces={"governed-by": scene.namespace},
        images=scene.policy["spec"]["images"],
        tokens=[objects.token(gold, name="gold")],
        mode="Audit",
    )
    rich["spec"]["match"]["podSelector"] = {"matchLabels": {"tier": "gold"}}
    asker = (scene.namespace, "relying-party")
    countersign.declare(objects.protected_audience(name, gold, introspectors=[asker]), rich)
    pod = labelled(scene)
    token = scene.token(pod)
    label(scene, pod, tier="gold")
    scene.await_inactive(token)
    grant = countersign.grant_of(pod, state="Revoked")
    assert grant["status"]["reason"] == "Drifted"
    assert gold not in {one["audience"] for one in grant["spec"]["tokens"]}
    assert scene.node.request_token(pod, gold).status >= 400
    # The same label from the start is no escape: both policies judge it at the door.
    rightly = scene.running(scene.pod(metadata={"labels": {**LEDGER, "tier": "gold"}}))
    assert len(countersign.grant_of(rightly)["spec"]["policies"]) == 2


def test_a_pod_made_anew_with_the_same_name_and_address_starts_with_nothing(governed: Governed) -> None:
    first = governed.running(governed.pod(name="again"))
    governed.node.patch_status(first, {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]})
    old = governed.token(first)
    assert governed.active(old)
    governed.edit.delete(f"{governed.pods}/again", query={"gracePeriodSeconds": "0"}, expect=200)
    governed.node.remove(first)
    second = governed.running(governed.pod(name="again"))
    governed.node.patch_status(second, {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]})
    assert not governed.active(old)
    assert governed.active(governed.token(second))


def test_a_token_copied_to_another_pod_ends_with_the_pod_that_it_is_of(governed: Governed) -> None:
    owner, thief = governed.running(), governed.running()
    stolen = governed.token(owner)
    assert governed.introspect(stolen)["countersign.dev"]["pod"]["uid"] == owner["metadata"]["uid"]
    governed.node.finish(owner)
    governed.await_inactive(stolen)
    assert governed.active(governed.token(thief))


def test_a_token_from_before_the_binding_names_no_node_and_is_worth_nothing(countersign: Installation) -> None:
    governed = govern(countersign, audience_spec={"mode": "Audit"})
    pod = governed.admitted()
    path = f"/api/v1/namespaces/{governed.namespace}/serviceaccounts/worker/token"
    bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    spec = {"audiences": [governed.audience], "expirationSeconds": 600, "boundObjectRef": bound}
    early = governed.lab.admin.post(path, {"spec": spec}, expect=201).body["status"]["token"]
    pod = governed.node.run(pod)
    countersign.grant_of(pod, state="Active")
    assert not governed.active(early)
    assert governed.active(governed.token(pod))
