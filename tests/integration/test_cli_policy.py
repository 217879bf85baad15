"""`countersign policy findings` and `plan`: what they foretell is what happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from tests.stack import objects
from tests.stack.commandline import countersign
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation


@pytest.fixture
def scene(countersign: Installation) -> Governed:
    return govern(countersign, mode="Audit")


def run(scene: Governed, *args: str) -> Result:
    registry = f"--registry-ca={scene.lab.ca_file}", "--allow-address-range=127.0.0.0/8"
    return countersign("policy", *args, *registry, kubeconfig=scene.lab.kubeconfig)


def told(result: Result) -> Any:
    assert result.exit_code in (0, 1, 3), result.output
    return json.loads(result.stdout)


def edited(scene: Governed, **spec: Any) -> objects.Object:
    return {**scene.policy, "spec": {**scene.policy["spec"], **spec}}


def file_of(folder: Path, *documents: objects.Object) -> str:
    path = folder / "proposal.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return f"--filename={path}"


def deploy(scene: Governed, name: str, image: str) -> Any:
    spec = objects.pod_spec(objects.container(image), service_account="worker")
    deployment = objects.deployment(name, scene.namespace, spec)
    scene.lab.admin.post(objects.collection_path(deployment), deployment, expect=201)
    (pod,) = scene.lab.pods(scene.namespace, f"app={name}", count=1)
    return pod


# Findings


def test_findings_name_the_pods_that_would_be_refused_and_their_owners(scene: Governed) -> None:
    scene.admitted()
    pod = deploy(scene, "shop", scene.unsigned.by_tag)
    result = run(scene, "findings", scene.namespace, "--output=json")
    assert result.exit_code == 1
    found = told(result)
    assert (found["governed"], found["refused"], found["unknown"]) == (2, 1, 0)
    (row,) = found["findings"]
    assert (row["pod"], row["controller"], row["reason"]) == (
        pod["metadata"]["name"], "Deployment shop", "ImageUnsigned",
    )  # fmt: skip
    assert "sign the image" in row["wayOut"]
    table = run(scene, "findings", scene.namespace)
    assert "Deployment shop" in table.stdout
    assert "2 pods governed, 1 would be refused" in table.stderr


def test_findings_of_a_policy_that_all_satisfy_are_none(scene: Governed) -> None:
    scene.admitted()
    result = run(scene, "findings", scene.namespace)
    assert result.exit_code == 0, result.output
    assert "would refuse none" in result.stderr


def test_receipts_answer_where_no_registry_is_asked(scene: Governed) -> None:
    scene.admitted()
    scene.admitted(scene.pod(image=scene.unsigned.by_tag))
    assert told(run(scene, "findings", scene.namespace, "--offline", "--output=json"))["refused"] == 1


def test_findings_ask_registries_anew_if_told_to(scene: Governed) -> None:
    scene.admitted(scene.pod(image=scene.unsigned.by_tag))
    scene.lab.cosign.sign(scene.lab.registry("referrers"), scene.unsigned, scene.key)
    assert run(scene, "findings", scene.namespace).exit_code == 1, "the receipt says what was found at its admission"
    assert run(scene, "findings", scene.namespace, "--live").exit_code == 0


def test_a_pod_that_nobody_can_tell_of_is_unknown(scene: Governed) -> None:
    spec = objects.pod_spec(objects.container("127.0.0.1:9/gone/app:1"), service_account="worker")
    pod = objects.pod("lost", scene.namespace, spec)
    rules = [
        *scene.policy["spec"]["images"],
        objects.image_rule(["127.0.0.1:9/**"], [scene.key.public_pem], name="gone"),
    ]
    scene.countersign.declare(edited(scene, images=rules))
    scene.lab.wait_for(lambda: scene.lab.admin.post(scene.pods, pod).ok, what="the pod is let in")
    assert run(scene, "findings", scene.namespace).exit_code == 3


def test_findings_of_a_namespaces_own_policy(scene: Governed) -> None:
    own = objects.trust_policy(
        "own", scene.namespace, images=[objects.image_rule(["registry.example.com/**"], digests=["sha256:" + "a" * 64])]
    )  # fmt: skip
    own["spec"]["mode"] = "Audit"
    scene.countersign.declare(own)
    scene.admitted()
    assert told(run(scene, "findings", "own", f"--namespace={scene.namespace}", "--output=json"))["refused"] == 1
    assert (
        told(run(scene, "findings", scene.namespace, f"--namespace={scene.namespace}", "--output=json"))["refused"] == 0
    )
    hint = run(scene, "findings", "own")
    assert hint.exit_code == 2
    assert f"-n {scene.namespace}" in hint.stderr


# Plans


def test_nothing_changes_by_what_is_there_already(scene: Governed, tmp_path: Path) -> None:
    scene.running()
    found = told(result := run(scene, "plan", file_of(tmp_path, scene.policy), "--output=json"))
    assert result.exit_code == 0
    assert found["pods"] == []
    assert [one["change"] for one in found["policies"]] == ["unchanged"]


def test_enforcing_is_told_beforehand_and_happens(scene: Governed, tmp_path: Path) -> None:
    scene.running()
    unsigned = scene.admitted(scene.pod(image=scene.unsigned.by_tag))
    enforce = edited(scene, mode="Enforce")
    result = run(scene, "plan", file_of(tmp_path, enforce), "--output=json")
    assert result.exit_code == 1
    found = told(result)
    (row,) = found["pods"]
    assert (row["pod"], row["creation"], row["grant"]) == (unsigned["metadata"]["name"], "refused", "")
    assert row["reason"] == "ImageUnsigned"
    (policy,) = found["policies"]
    assert policy["mode"] == {"now": "Audit", "then": "Enforce"}
    assert policy["then"] == {"governed": 2, "failing": 1, "unknown": 0}
    assert found["reach"]["newlyEnforced"] == [scene.namespace]
    text = run(scene, "plan", file_of(tmp_path, enforce))
    assert "1 more refused" in text.stdout
    scene.countersign.declare(enforce)
    scene.lab.wait_for(
        lambda: scene.create(scene.pod(image=scene.unsigned.by_tag)).status == 403, what="it is refused as foretold"
    )


def test_a_policy_for_warning_only_refuses_nobody(scene: Governed, tmp_path: Path) -> None:
    scene.admitted(scene.pod(image=scene.unsigned.by_tag))
    assert run(scene, "plan", file_of(tmp_path, edited(scene, mode="Warn"))).exit_code == 0
    override = edited(scene, mode="Enforce", modeOverrides=[{"namespace": scene.namespace, "mode": "Warn"}])
    found = told(run(scene, "plan", file_of(tmp_path, override), "--output=json"))
    assert found["totals"]["refused"] == 0
    assert found["reach"]["newlyEnforced"] == []


def test_a_deletion_is_told_beforehand_and_suspends(scene: Governed) -> None:
    pod = scene.running()
    result = run(scene, "plan", f"--delete={scene.namespace}", "--output=json")
    assert result.exit_code == 1
    found = told(result)
    (row,) = found["pods"]
    assert (row["pod"], row["grant"], row["tokens"]) == (pod["metadata"]["name"], "suspended", [f"-{scene.audience}"])
    assert found["reach"]["noLongerGoverned"] == [scene.namespace]
    scene.lab.admin.delete(objects.object_path(scene.policy), expect=200)
    scene.countersign.grant_of(pod, state="Suspended")


def test_a_change_that_would_be_held_is_told_to_be(scene: Governed, tmp_path: Path) -> None:
    pods = [scene.running() for _ in range(3)]
    key = scene.lab.cosign.generate_key(f"{scene.namespace}-other")
    rule = objects.image_rule([f"{scene.lab.registry('referrers').host}/{scene.namespace}/**"], [key.public_pem])
    other = edited(scene, images=[rule])
    found = told(run(scene, "plan", file_of(tmp_path, other), "--impact-grants=2", "--output=json"))
    assert (found["totals"]["suspended"], found["totals"]["held"]) == (3, 3)
    (held,) = found["held"]
    assert (held["losing"], held["active"]) == (3, 3)
    assert {row["pod"] for row in found["pods"]} == {pod["metadata"]["name"] for pod in pods}
    accepted = edited(scene, images=[rule], acceptImpact=held["acceptImpact"])
    found = told(run(scene, "plan", file_of(tmp_path, accepted), "--impact-grants=2", "--output=json"))
    assert (found["totals"]["suspended"], found["totals"]["held"]) == (3, 0)
    # Three are not many by the controller's own limits.
    scene.countersign.declare(other)
    for pod in pods:
        scene.countersign.grant_of(pod, state="Suspended")
    back = told(run(scene, "plan", file_of(tmp_path, scene.policy), "--output=json"))
    assert back["totals"]["resumed"] == 3


def test_a_new_policy_tells_whom_it_would_govern(countersign: Installation, scene: Governed, tmp_path: Path) -> None:
    lab = scene.lab
    name = f"{scene.namespace}-fresh"
    lab.create_namespace(name, {"fresh": name})
    lab.wait_for(lambda: lab.admin.get(f"/api/v1/namespaces/{name}/serviceaccounts/default").ok, what="its account")
    pod = objects.pod("old", name, objects.pod_spec(objects.container(scene.unsigned.by_digest)))
    lab.admin.post(objects.collection_path(pod), pod, expect=201)
    policy = objects.cluster_policy(name, namespaces={"fresh": name}, images=scene.policy["spec"]["images"])
    found = told(result := run(scene, "plan", file_of(tmp_path, policy), "--output=json"))
    assert result.exit_code == 1
    assert found["reach"] | {"newlyEnforced": []} == {
        "newlyGoverned": [name], "noLongerGoverned": [], "newlyEnforced": [], "noLongerEnforced": [],
    }  # fmt: skip
    assert [(row["pod"], row["creation"]) for row in found["pods"]] == [("old", "refused")]
    assert run(scene, "plan", file_of(tmp_path, policy), "--offline").exit_code == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [([], "nothing to plan"), (["--delete=nowhere"], "there is no ClusterTrustPolicy nowhere")],
)
def test_a_plan_of_nothing_says_so(scene: Governed, args: list[str], message: str) -> None:
    result = run(scene, "plan", *args)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_the_api_server_would_refuse_is_no_proposal(scene: Governed, tmp_path: Path) -> None:
    result = run(scene, "plan", file_of(tmp_path, edited(scene, mode="Sometimes")))
    assert result.exit_code == 2
    assert "mode" in result.stderr
