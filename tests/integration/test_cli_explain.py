"""`countersign explain` on a real API server. The controller's part is played by the test, the gate's by nobody."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from typer.testing import Result

from countersign.api.admission import UserInfo
from countersign.api.crds import crd
from countersign.api.names import SYSTEM_NAMESPACE
from countersign.api.objects import KINDS
from countersign.api.pod import Pod
from countersign.keys.receipt_keys import plan_receipt_keys
from countersign.keys.receipts import ReceiptSigner
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import NamespaceFacts
from countersign.trust.receipt import encode, make
from tests.lab.lab import Lab
from tests.stack.commandline import countersign
from tests.stack.objects import (
    Object,
    collection_path,
    container,
    deployment,
    image_rule,
    job,
    object_path,
    pod,
    pod_spec,
    protected_audience,
    token,
    trust_policy,
)

OURS = "/apis/countersign.dev/v1alpha1"
DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example.com/shop/api@{DIGEST}"
CONTROLLER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:countersign-controller"


@pytest.fixture
def governed(lab: Lab, namespace: str) -> str:
    """A namespace under a policy of its own that lists a digest and gives a token to the container `app`."""
    for kind in KINDS:
        obj = crd(kind)
        assert lab.admin.apply(object_path(obj), obj).ok
        lab.wait_for(partial(_ok, lab, f"{OURS}/{kind.PLURAL}"), what=f"{kind.PLURAL} are served")
    audience = f"{namespace}.example.com"
    issuance = {"allowedNamespaces": {"from": "All"}}
    policy = trust_policy(
        "own",
        namespace,
        images=[image_rule(["registry.example.com/shop/*"], digests=[DIGEST])],
        tokens=[token(audience, containers=["app"])],
        runtime={"command": "Any"},
    )
    for obj in (protected_audience(namespace, audience, issuance=issuance), policy):
        assert lab.admin.apply(object_path(obj), obj).ok
    return namespace


def _ok(lab: Lab, path: str) -> bool:
    return lab.admin.get(path).ok


def create(lab: Lab, obj: Object) -> Any:
    return lab.admin.post(collection_path(obj), obj, expect=201).body


def explain(lab: Lab, kind: str, name: str, namespace: str, *args: str) -> Result:
    options = ["-n", namespace, "--offline", *args]
    return countersign("explain", kind, name, *options, kubeconfig=lab.kubeconfig)


def told(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_deployment_that_would_be_admitted_is_explained_with_its_tokens(lab: Lab, governed: str) -> None:
    create(lab, deployment("api", governed, pod_spec(container(IMAGE))))
    result = explain(lab, "deploy", "api", governed, "-o", "json")
    assert result.exit_code == 0, result.output
    shown = told(result)
    assert shown["verdict"] == "admitted"
    assert shown["policies"] == [{"policy": f"TrustPolicy {governed}/own", "mode": "Enforce"}]
    assert [one["audience"] for one in shown["tokens"]] == [f"{governed}.example.com"]


def test_a_pod_that_was_never_created_is_explained_by_its_deployment(lab: Lab, governed: str) -> None:
    """Here the API server itself refuses the pods, as a gate would: the words come from the ReplicaSet's events."""
    create(lab, deployment("api", governed, pod_spec(container("nginx"), service_account="missing")))
    lab.wait_for(lambda: _events(lab, governed), what="the ReplicaSet complains")
    result = explain(lab, "deployment", "api", governed, "-o", "json")
    assert result.exit_code == 1
    shown = told(result)
    assert shown["message"].startswith("ImageNotCovered: container app (nginx)")
    (event,) = shown["failedCreations"]
    assert event["by"].startswith("ReplicaSet api-")
    assert 'serviceaccount "missing" not found' in event["message"]
    text = explain(lab, "deployment", "api", governed).stdout
    assert "FailedCreate at " in text
    assert "its next pod  denied" in text
    (finding,) = csv.DictReader(io.StringIO(explain(lab, "deployment", "api", governed, "-o", "csv").stdout))
    assert (finding["code"], finding["denies"]) == ("ImageNotCovered", "True")


def _events(lab: Lab, namespace: str) -> bool:
    query = {"fieldSelector": "reason=FailedCreate"}
    return bool(lab.admin.get(f"/api/v1/namespaces/{namespace}/events", query=query).body["items"])


def test_a_jobs_controller_is_found_and_its_pods_are_listed(lab: Lab, governed: str) -> None:
    create(lab, job("task", governed, pod_spec(container(IMAGE))))
    lab.pods(governed, "app=task", count=1)
    shown = told(explain(lab, "job", "task", governed, "-o", "json"))
    assert [(one["grant"], one["state"]) for one in shown["pods"]] == [("", "")]


def test_a_replica_set_is_judged_as_its_deployments(lab: Lab, governed: str) -> None:
    binding = {"controllers": [{"apiGroup": "apps", "kind": "Deployment", "name": "api"}]}
    policy = {"spec": {"binding": binding}}
    assert lab.admin.patch(f"{OURS}/namespaces/{governed}/trustpolicies/own", policy).ok
    create(lab, deployment("api", governed, pod_spec(container(IMAGE))))
    lab.pods(governed, "app=api", count=1)
    (replica_set,) = lab.admin.get(f"/apis/apps/v1/namespaces/{governed}/replicasets").body["items"]
    assert explain(lab, "rs", replica_set["metadata"]["name"], governed).exit_code == 0
    create(lab, job("task", governed, pod_spec(container(IMAGE))))
    result = explain(lab, "job", "task", governed)
    assert result.exit_code == 1
    assert "ControllerNotBound" in result.stdout


def test_a_pod_without_grant_or_receipt_is_explained(lab: Lab, governed: str) -> None:
    create(lab, pod("api", governed, pod_spec(container(IMAGE))))
    result = explain(lab, "pod", "api", governed)
    assert result.exit_code == 1
    assert "none yet: is the controller running?" in result.stdout
    assert "none: no gate has seen this pod" in result.stdout
    assert "TokenNotInjected" in result.stdout


def test_a_pod_that_nothing_governs_is_explained(lab: Lab, governed: str, namespace: str) -> None:
    lab.admin.delete(f"{OURS}/namespaces/{governed}/trustpolicies/own")
    create(lab, pod("api", namespace, pod_spec(container("nginx"))))
    result = explain(lab, "pod", "api", namespace)
    assert result.exit_code == 0
    assert "none: no policy governs this pod" in result.stdout


def test_a_pod_is_explained_by_its_grant_and_the_receipt_that_it_rests_on(lab: Lab, governed: str) -> None:
    made = create_with_receipt(lab, governed)
    record(lab, governed, made, state="Suspended", reason="NoLongerQualifies")
    result = explain(lab, "pod", "api", governed, "-o", "json")
    assert result.exit_code == 1
    shown = told(result)
    assert (shown["grant"]["state"], shown["grant"]["reason"]) == ("Suspended", "NoLongerQualifies")
    assert shown["receipt"] == "the one that the grant rests on"
    text = explain(lab, "pod", "api", governed).stdout
    assert "Suspended (NoLongerQualifies)" in text
    assert "Undo the change of policy" in text
    assert f"TrustPolicy {governed}/own" in text


def test_a_pod_with_an_active_grant_exits_zero(lab: Lab, governed: str) -> None:
    record(lab, governed, create_with_receipt(lab, governed), state="Active", reason="Admitted")
    assert explain(lab, "pod", "api", governed).exit_code == 0


def test_a_receipt_that_no_grant_rests_on_counts_for_nothing(lab: Lab, governed: str) -> None:
    made = create_with_receipt(lab, governed)
    made["metadata"]["annotations"]["countersign.dev/receipt"] = "another"
    record(lab, governed, made, state="Active", reason="Admitted")
    shown = told(explain(lab, "pod", "api", governed, "-o", "json"))
    assert shown["receipt"] == "present, but not the one that the grant rests on"


def create_with_receipt(lab: Lab, namespace: str) -> Any:
    """A pod with a receipt of a key that nobody knows any more, as of a pod that has run for long."""
    obj = pod("api", namespace, pod_spec(container(IMAGE)))
    now = datetime.now(UTC)
    keys = plan_receipt_keys(None, now)
    assert keys is not None
    subject = Subject(
        pod=msgspec.convert(obj, Pod), namespace=NamespaceFacts(namespace, {}), requester=UserInfo(username="dev")
    )
    text = ReceiptSigner(keys).sign(encode(make(subject, (), {}, now=now, nonce="n" * 32)))
    obj["metadata"]["annotations"] = {"countersign.dev/receipt": text}
    return create(lab, obj)


def record(lab: Lab, namespace: str, made: Any, *, state: str, reason: str) -> None:
    meta = made["metadata"]
    text = meta["annotations"]["countersign.dev/receipt"]
    grant = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "WorkloadGrant",
        "metadata": {"name": "wg-api", "namespace": namespace, "labels": {"countersign.dev/pod-uid": meta["uid"]}},
        "spec": {
            "pod": {
                "name": meta["name"],
                "uid": meta["uid"],
                "createdAt": meta["creationTimestamp"],
                "receiptHash": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
            },
            "serviceAccount": {"name": "default", "uid": "sa"},
            "owner": "team@example.com",
            "requester": "dev",
        },
    }
    # Only the controller may write grants, once the guards of the chart are on the lab.
    controller = lab.api(CONTROLLER, ["system:masters"])
    controller.post(collection_path(grant), grant, expect=201)
    status = {"status": {"state": state, "reason": reason, "changedAt": "2026-01-01T00:00:00Z", "message": "why"}}
    assert controller.patch(f"{object_path(grant)}/status", status).ok


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("configmap", "x"), 2, "makes no pods: use po, deploy, rs"),
        (("deploy", "missing"), 2, 'deployments.apps "missing" not found'),
    ],
)
def test_what_cannot_be_explained_is_told(lab: Lab, governed: str, args: tuple[str, str], code: int, told: str) -> None:
    result = explain(lab, *args, governed)
    assert result.exit_code == code
    assert told in result.stderr


def test_whoever_may_not_read_revocations_is_told_so_and_served(lab: Lab, governed: str) -> None:
    create(lab, pod("api", governed, pod_spec(container(IMAGE))))
    rules = [
        {"apiGroups": ["countersign.dev"], "resources": ["*"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list"]},
    ]
    rules[0]["resources"] = ["clustertrustpolicies", "trustpolicies", "protectedaudiences", "workloadgrants"]
    base = "/apis/rbac.authorization.k8s.io/v1"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "cli-reader"},
        "rules": rules,
    }
    assert lab.admin.apply(f"{base}/clusterroles/cli-reader", role).ok
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "cli-reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cli-reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "cli-reader"}],
    }
    assert lab.admin.apply(f"{base}/clusterrolebindings/cli-reader", binding).ok
    kubeconfig = lab.kubeconfig_for("cli-reader")

    def served() -> bool:
        result = countersign("explain", "pod", "api", "-n", governed, "--offline", kubeconfig=kubeconfig)
        return result.exit_code == 1 and f"without the Revocations of {governed}" in result.stderr

    lab.wait_for(served, what="the role is in force")
