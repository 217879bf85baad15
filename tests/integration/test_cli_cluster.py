"""The commands that read a cluster and give orders, against a real API server; no service of ours runs here."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from typing import Any

import pytest

from countersign.api.crds import crd
from countersign.api.names import SYSTEM_NAMESPACE
from countersign.api.objects import KINDS
from tests.lab.http import HttpClient
from tests.lab.lab import Lab
from tests.stack.commandline import countersign
from tests.stack.objects import Object, object_path

OURS = "/apis/countersign.dev/v1alpha1"
DIGEST = "sha256:" + "ab" * 32
KEY = "sha256:" + "cd" * 32
CONTROLLER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:countersign-controller"


@pytest.fixture(scope="module")
def kinds(lab: Lab) -> None:
    """Our CRDs, established."""
    for kind in KINDS:
        obj = crd(kind)
        assert lab.admin.apply(object_path(obj), obj).ok
        path = f"{OURS}/{kind.PLURAL}"
        lab.wait_for(partial(_served, lab, path), what=f"{path} is served")


@pytest.fixture
def grants(lab: Lab, kinds: None, namespace: str) -> str:
    """A namespace with an active grant for pod api, and a revoked one for pod job."""
    # Only the controller may write grants, once the guards of the chart are on the lab.
    controller = lab.api(CONTROLLER, ["system:masters"])
    _put(
        controller, grant(namespace, "api", audiences=["ledger.example.com", "mail.example.com"]), "Active", "Admitted"
    )
    job = grant(namespace, "job", owner="=cmd()", digest="sha256:" + "00" * 32)
    used = {
        "uses": {"lastUsedAt": "2026-01-01T00:00:00Z", "refused": 1},
        "misuse": [
            {"kind": "UsedAfterEnd", "audience": "mail.example.com", "at": "2026-01-01T00:05:00Z", "message": "late"}
        ],
    }
    _put(controller, job, "Revoked", "Completed", **used)
    return namespace


def grant(
    namespace: str, pod: str, *, audiences: list[str] | None = None, owner: str = "team", digest: str = DIGEST
) -> Object:
    evidence = [{"policyUID": "p", "rule": "r", "authority": "release", "keyFingerprint": KEY}]
    return {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "WorkloadGrant",
        "metadata": {"name": f"wg-{pod}", "namespace": namespace, "labels": {"countersign.dev/pod-uid": f"uid-{pod}"}},
        "spec": {
            "pod": {"name": pod, "uid": f"uid-{pod}", "nodeName": "n1", "createdAt": "2026-01-01T00:00:00Z"},
            "serviceAccount": {"name": "default", "uid": "sa"},
            "owner": owner,
            "tokens": [
                {"audience": audience, "policyUID": "p", "maxExpirationSeconds": 600} for audience in audiences or []
            ],
            "images": [{"container": "app", "image": "r/x", "digest": digest, "evidence": evidence}],
        },
    }


def _served(lab: Lab, path: str) -> bool:
    return lab.admin.get(path).ok


def _put(client: HttpClient, obj: Object, state: str, reason: str, **more: Any) -> None:
    path = f"{OURS}/namespaces/{obj['metadata']['namespace']}/workloadgrants"
    client.post(path, obj, expect=201)
    status = {"status": {"state": state, "reason": reason, "changedAt": "2026-01-01T00:00:00Z", **more}}
    answer = client.patch(f"{path}/{obj['metadata']['name']}/status", status)
    assert answer.ok, answer


def listed(*args: str, lab: Lab) -> list[Any]:
    result = countersign("grants", *args, "--output=json", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def test_grants_are_listed_as_a_table(lab: Lab, grants: str) -> None:
    result = countersign("grants", "-n", grants, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    header, *lines = result.stdout.splitlines()
    assert header.split() == [
        "NAMESPACE", "NAME", "POD", "STATE", "REASON", "AUDIENCES", "OWNER", "ACCOUNT", "LASTUSED", "CREATED",
    ]  # fmt: skip
    api, job = sorted(lines)
    assert "ledger.example.com, mail.example.com" in api
    assert "Revoked  Completed" in job


@pytest.mark.parametrize(
    ("filter_", "names"),
    [
        ("--state=active", ["wg-api"]),
        ("--state=Revoked", ["wg-job"]),
        ("--audience=mail.example.com", ["wg-api"]),
        ("--audience=mail", []),
        ("--owner=team", ["wg-api"]),
        ("--pod=job", ["wg-job"]),
        ("--pod=uid-job", ["wg-job"]),
        (f"--digest={DIGEST}", ["wg-api"]),
        ("--reason=Completed", ["wg-job"]),
        ("--misused", ["wg-job"]),
    ],
)
def test_grants_are_filtered(lab: Lab, grants: str, filter_: str, names: list[str]) -> None:
    assert sorted(row["name"] for row in listed("-n", grants, filter_, lab=lab)) == names


def test_grants_as_csv_hold_no_formula(lab: Lab, grants: str) -> None:
    result = countersign("grants", "-n", grants, "-o", "csv", kubeconfig=lab.kubeconfig)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
    assert rows["wg-job"]["owner"] == "'=cmd()"
    assert rows["wg-api"]["audiences"] == "ledger.example.com, mail.example.com"


def test_an_unknown_state_is_refused(lab: Lab, grants: str) -> None:
    result = countersign("grants", "--state=Actve", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 2
    assert "'active'" in result.stderr


def test_who_may_not_list_is_told(lab: Lab, kinds: None, namespace: str) -> None:
    result = countersign("grants", "-n", namespace, kubeconfig=lab.kubeconfig_for("nobody-at-all"))
    assert result.exit_code == 2
    assert "you may not" in result.stderr
    assert "nobody-at-all" in result.stderr


def test_a_cluster_out_of_reach_is_unknown(lab: Lab, tmp_path: Any) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(lab.kubeconfig.read_text().replace(lab.url, "https://127.0.0.1:1"))
    result = countersign("grants", kubeconfig=kubeconfig)
    assert result.exit_code == 3
    assert "cannot be reached" in result.stderr


def test_a_dry_run_of_revoke_shows_what_would_end_and_changes_nothing(lab: Lab, grants: str) -> None:
    result = countersign(
        "revoke", "pod", "api", "-n", grants, "--reason=leaked", "--dry-run", "-o", "json", kubeconfig=lab.kubeconfig
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert [row["name"] for row in shown["ending"]] == ["wg-api"]
    assert shown["revocation"]["spec"]["requestedBy"] == "lab-admin"
    assert "1 grant(s) would end" in result.stderr
    assert lab.admin.get(f"{OURS}/namespaces/{grants}/revocations").body["items"] == []


def test_revoke_counts_no_grant_that_has_ended_already(lab: Lab, grants: str) -> None:
    result = countersign("revoke", "pod", "job", "-n", grants, "--reason=x", "--dry-run", kubeconfig=lab.kubeconfig)
    assert "0 grant(s) would end" in result.stderr
    assert "no grant stands that this would end" in result.stderr


def test_revoke_creates_the_order_in_the_objects_namespace(lab: Lab, grants: str) -> None:
    result = countersign(
        "revoke", "serviceaccount", "default", "-n", grants, "--reason=leaked", "--yes", kubeconfig=lab.kubeconfig
    )
    assert result.exit_code == 0, result.output
    (order,) = lab.admin.get(f"{OURS}/namespaces/{grants}/revocations").body["items"]
    assert order["spec"]["target"] == {"serviceAccount": {"name": "default"}}
    assert order["spec"]["reason"] == "leaked"
    assert f"created Revocation {grants}/{order['metadata']['name']}" in result.stderr


def test_a_standing_order_reaches_the_whole_cluster_from_our_own_namespace(lab: Lab, grants: str) -> None:
    if lab.admin.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}").status == 404:
        lab.create_namespace(SYSTEM_NAMESPACE)
    result = countersign("revoke", "key", KEY, "--reason=stolen", "--dry-run", "-o", "json", kubeconfig=lab.kubeconfig)
    shown = json.loads(result.stdout)
    assert shown["revocation"]["metadata"]["namespace"] == SYSTEM_NAMESPACE
    assert ("wg-api", grants) in [(row["name"], row["namespace"]) for row in shown["ending"]]


def test_a_signer_is_revoked_by_issuer_and_subject(lab: Lab, grants: str) -> None:
    issuer = "https://issuer.example.com"
    args = ("signer", "ann@example.com", f"--issuer={issuer}", "-n", grants, "--reason=left", "--dry-run", "-o", "json")
    result = countersign("revoke", *args, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["revocation"]["spec"]["target"] == {"signer": {"issuer": issuer, "subject": "ann@example.com"}}
    assert shown["ending"] == []


def test_revoke_without_a_terminal_wants_yes(lab: Lab, grants: str) -> None:
    result = countersign("revoke", "pod", "api", "-n", grants, "--reason=x", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert lab.admin.get(f"{OURS}/namespaces/{grants}/revocations").body["items"] == []


def test_what_the_api_server_refuses_is_told_in_its_words(lab: Lab, grants: str) -> None:
    result = countersign(
        "revoke", "digest", "sha256:short", "-n", grants, "--reason=x", "--yes", kubeconfig=lab.kubeconfig
    )
    assert result.exit_code == 2
    assert "spec.target.digest" in result.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["pod", "api"], "needs --namespace"),
        (["namespace", "shop", "-n", "bank"], "leave --namespace out"),
        (["signer", "ann@example.com"], "needs --issuer"),
        (["key", KEY, "--issuer=https://issuer.example.com"], "needs --issuer, and nothing else takes it"),
    ],
)
def test_an_order_that_could_not_reach_its_target_is_refused(lab: Lab, args: list[str], told: str) -> None:
    result = countersign("revoke", *args, "--reason=x", "--yes", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 2
    assert told in result.stderr


def test_doctor_tells_what_is_missing(lab: Lab, kinds: None) -> None:
    result = countersign("doctor", "--system-namespace=not-installed-here", "-o", "json", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 1
    found = {check["check"]: check for check in json.loads(result.stdout)}
    assert found["API server"]["found"].startswith("Kubernetes v1.")
    assert found["clocks"]["result"] == "ok"
    assert found["kinds"]["result"] == "ok"
    assert found["services"]["result"] == "warn"
    assert found["controller"]["result"] == "fail"
    assert "no Secret countersign-" in found["certificates"]["found"]
    assert all(check["remedy"] for check in found.values() if check["result"] != "ok")


def test_doctor_without_permissions_says_what_it_could_not_see(lab: Lab, kinds: None) -> None:
    result = countersign("doctor", "-o", "json", kubeconfig=lab.kubeconfig_for("nobody-at-all"))
    found = {check["check"]: check for check in json.loads(result.stdout)}
    assert found["guards"]["result"] == "unknown"
    assert found["guards"]["found"].startswith("could not look")
