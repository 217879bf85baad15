from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from countersign import __version__
from countersign.api import clock
from countersign.api.clock import format_time
from countersign.api.exception import TrustExceptionStatus
from countersign.api.meta import Condition
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.objects import KINDS
from countersign.cli.cluster.kube import ApiError
from countersign.cli.diagnosis import api_server, evidence_roots, exceptions, grants, policies, services
from countersign.cli.diagnosis.check import Check
from countersign.cli.diagnosis.doctor import CHECKS, examine
from countersign.cli.main import application
from countersign.keys.authority import AUTHORITY_LIFETIME, new_authority
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.trust.build import exception

SYSTEM = "countersign-system"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
OURS = "/apis/countersign.dev/v1alpha1"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/countersign-controller"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments"


def ca_bundle(expires_in: timedelta) -> str:
    authority = new_authority(datetime.now(UTC) - AUTHORITY_LIFETIME + expires_in)
    return base64.b64encode(authority.certificate).decode()


def webhooks(bundle: str) -> dict[str, Any]:
    entry = {"name": "pods.countersign.dev", "failurePolicy": "Fail", "clientConfig": {"caBundle": bundle}}
    found = {"webhooks": [entry]}
    return {
        f"{ADMISSION}/{plural}/countersign": found
        for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    }


def namespaces(*names: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in names]


def policy(name: str = "baseline", *, conditions: list[dict[str, str]] | None = None, **spec: Any) -> dict[str, Any]:
    made = {"lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "Because", "message": "because"}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name, "generation": 2},
        "spec": {"owner": "team@example.com", "mode": "Audit", **spec},
        "status": {
            "observedGeneration": 2,
            "conditions": [{**made, **one} for one in (ready if conditions is None else conditions)],
        },
    }


def objects(*of_cluster: dict[str, Any], names: tuple[str, ...] = ("shop",)) -> dict[str, Any]:
    return {
        f"{OURS}/clustertrustpolicies": list(of_cluster),
        f"{OURS}/trustpolicies": [],
        f"{OURS}/protectedaudiences": [],
        "/api/v1/namespaces": namespaces(*names),
    }


def only(checks: Iterable[Check]) -> Check:
    found = list(checks)
    assert len(found) == 1, found
    return found[0]


def test_the_guards_are_those_of_the_chart() -> None:
    manifest = Path(__file__).parents[3] / "manifests/countersign.yaml"
    documents = [one for one in yaml.safe_load_all(manifest.read_text()) if one]
    guards = [one["metadata"]["name"] for one in documents if one["kind"] == "ValidatingAdmissionPolicy"]
    assert sorted(guards) == sorted(f"countersign-{name}" for name in (*api_server.GUARDS, *api_server.BY_CHOICE))


def test_services_are_told_by_the_labels_of_the_chart() -> None:
    manifest = Path(__file__).parents[3] / "manifests/countersign.yaml"
    deployments = [one for one in yaml.safe_load_all(manifest.read_text()) if one and one["kind"] == "Deployment"]
    labels = [one["metadata"]["labels"] for one in deployments]
    assert {one["app.kubernetes.io/component"] for one in labels} == set(services.SERVICES)
    assert {one["app.kubernetes.io/part-of"] for one in labels} == {"countersign"}
    assert {one["app.kubernetes.io/version"] for one in labels} == {__version__}


def test_a_guard_without_a_denying_binding_is_missing() -> None:
    both = [{"metadata": {"name": f"countersign-{name}"}} for name in (*api_server.GUARDS, *api_server.BY_CHOICE)]
    bindings: list[dict[str, Any]] = [
        {"spec": {"policyName": one["metadata"]["name"], "validationActions": ["Deny"]}} for one in both
    ]
    path = f"{ADMISSION}/validatingadmissionpolicies"
    assert only(api_server.guards(FakeCluster({path: both, f"{path[:-3]}ybindings": bindings}), SYSTEM)).result == "ok"
    bindings[0]["spec"]["validationActions"] = ["Audit"]
    check = only(api_server.guards(FakeCluster({path: both, f"{path[:-3]}ybindings": bindings}), SYSTEM))
    assert check.result == "fail"
    assert check.found.endswith(": countersign-crds")


def test_a_guard_that_a_value_turns_off_is_a_warning() -> None:
    on = [{"metadata": {"name": f"countersign-{name}"}} for name in api_server.GUARDS]
    bindings: list[dict[str, Any]] = [
        {"spec": {"policyName": one["metadata"]["name"], "validationActions": ["Deny"]}} for one in on
    ]
    path = f"{ADMISSION}/validatingadmissionpolicies"
    check = only(api_server.guards(FakeCluster({path: on, f"{path[:-3]}ybindings": bindings}), SYSTEM))
    assert (check.result, check.remedy) == ("warn", "set guards.nodeProxy of the chart")


@pytest.mark.parametrize(("off", "result"), [(timedelta(0), "ok"), (timedelta(seconds=40), "warn")])
def test_clocks_are_compared_by_the_date_of_an_answer(off: timedelta, result: str) -> None:
    class Dated(FakeCluster):
        def version(self) -> tuple[str, str]:
            return "v1.36.3", format_datetime(datetime.now(UTC) - off, usegmt=True)

    assert [check.result for check in api_server.api_server(Dated(), SYSTEM)] == ["ok", result]


def test_kinds_that_are_not_established_are_named() -> None:
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    established = {"status": {"conditions": [{"type": "Established", "status": "True"}]}}
    plurals = {kind.PLURAL for kind in KINDS} - {"protectedaudiences"}
    cluster = FakeCluster({f"{base}/{plural}.countersign.dev": established for plural in plurals})
    check = only(api_server.kinds(cluster, SYSTEM))
    assert (check.result, check.found) == ("fail", "not there: ProtectedAudience")
    cluster.objects[f"{base}/protectedaudiences.countersign.dev"] = {"status": {}}
    assert only(api_server.kinds(cluster, SYSTEM)).result == "fail"


@pytest.mark.parametrize(
    ("left", "result"), [(timedelta(days=300), "ok"), (timedelta(days=1), "warn"), (timedelta(seconds=-60), "fail")]
)
def test_the_ca_in_the_webhooks_is_looked_at(left: timedelta, result: str) -> None:
    *both, ca = services.webhooks(FakeCluster(webhooks(ca_bundle(left))), SYSTEM)
    assert [check.result for check in both] == ["ok", "ok"]
    assert (ca.check, ca.result) == ("certificates", result)


def test_webhooks_that_are_not_there_fail() -> None:
    checks = list(services.webhooks(FakeCluster(), SYSTEM))
    assert [check.result for check in checks] == ["fail", "fail"]


def test_a_bundle_that_is_no_certificate_fails() -> None:
    *_, ca = services.webhooks(FakeCluster(webhooks("bm9uZQ==")), SYSTEM)
    assert ca.result == "fail"


def lease(renewed: datetime, version: str = "1") -> dict[str, Any]:
    spec = {"holderIdentity": "controller-1", "renewTime": clock.format_micro(renewed)}
    return {"metadata": {"name": "countersign-controller", "resourceVersion": version}, "spec": spec}


def test_a_fresh_lease_is_ok() -> None:
    check = only(services.controller(FakeCluster({LEASE: lease(datetime.now(UTC))}), SYSTEM))
    assert check.result == "ok"
    assert "controller-1" in check.found


def test_a_lease_that_stands_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SECOND_LOOK_SECONDS", 0.0)
    check = only(services.controller(FakeCluster({LEASE: lease(datetime(2026, 1, 1, tzinfo=UTC))}), SYSTEM))
    assert check.result == "fail"
    assert "since 2026-01-01" in check.found


def test_a_lease_that_moves_with_a_wrong_time_tells_of_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SECOND_LOOK_SECONDS", 0.0)
    versions = iter("12")

    class Moving(FakeCluster):
        def find(self, path: str, type_: Any) -> Any:
            self.objects[LEASE] = lease(datetime.now(UTC) - timedelta(minutes=5), next(versions))
            return super().find(path, type_)

    check = only(services.controller(Moving(), SYSTEM))
    assert check.result == "warn"
    assert "300 s" in check.found


def test_without_a_lease_the_controller_never_ran() -> None:
    assert only(services.controller(FakeCluster(), SYSTEM)).result == "fail"


def deployment(name: str, version: str = __version__, ready: int = 2) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": name, "app.kubernetes.io/version": version}
    return {
        "metadata": {"name": f"countersign-{name}", "labels": labels},
        "spec": {"replicas": 2},
        "status": {"readyReplicas": ready},
    }


def test_services_are_there_ready_and_of_one_version() -> None:
    all_well = [deployment(name) for name in services.SERVICES]
    assert [c.result for c in services.deployments(FakeCluster({DEPLOYMENTS: all_well}), SYSTEM)] == ["ok"] * 3
    some = [deployment("gate", ready=1), deployment("controller", "0.0.9"), deployment("verifier", ready=0)]
    checks = list(services.deployments(FakeCluster({DEPLOYMENTS: some}), SYSTEM))
    assert [(c.check, c.result) for c in checks] == [("gate", "warn"), ("controller", "warn"), ("verifier", "fail")]
    checks = list(services.deployments(FakeCluster({DEPLOYMENTS: all_well[:2]}), SYSTEM))
    assert [(c.check, c.result) for c in checks][-1] == ("verifier", "fail")


def gate_check(answer: Any) -> Check:
    cluster = FakeCluster(objects(policy()))
    cluster.on_create = answer
    check = only(services.gate(cluster, SYSTEM))
    ((path, _, query),) = cluster.created
    assert path == "/api/v1/namespaces/shop/pods"
    assert query == {"dryRun": "All"}
    return check


def test_a_pod_that_keeps_a_made_up_receipt_went_around_the_gate() -> None:
    assert gate_check(None).result == "fail"


@pytest.mark.parametrize("annotations", [{}, {RECEIPT_ANNOTATION: "dry-run"}])
def test_a_pod_whose_made_up_receipt_is_gone_was_judged(annotations: dict[str, str]) -> None:
    assert gate_check({"metadata": {"annotations": annotations}}).result == "ok"


@pytest.mark.parametrize(
    ("message", "result"),
    [
        ('admission webhook "pods.countersign.dev" denied the request: ImageNotCovered: ...', "ok"),
        ('failed calling webhook "pods.countersign.dev": connection refused', "fail"),
        ('failed calling webhook "other.example.com": connection refused', "unknown"),
        ('pods is forbidden: User "dev" cannot create resource "pods"', "unknown"),
    ],
)
def test_a_refused_dry_run_tells_whose_word_it_was(message: str, result: str) -> None:
    assert gate_check(ApiError(403, "Forbidden", message)).result == result


def test_without_governed_namespaces_the_gate_is_not_tried() -> None:
    cluster = FakeCluster(objects())
    assert only(services.gate(cluster, SYSTEM)).result == "ok"
    assert not cluster.created


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ([{"type": "Accepted", "status": "False"}, {"type": "Ready", "status": "False"}], ["Accepted=False"]),
        ([{"type": "Ready", "status": "False"}], ["Ready=False"]),
        ([{"type": "Ready", "status": "True"}, {"type": "ImpactHeld", "status": "True"}], ["ImpactHeld=True"]),
        ([{"type": "Ready", "status": "True"}, {"type": "ImpactHeld", "status": "False"}], []),
        ([{"type": "Ready", "status": "True"}, {"type": "EvidenceExpiring", "status": "False"}], []),
    ],
)
def test_trouble_of_a_policy_is_told_once(conditions: list[dict[str, str]], found: list[str]) -> None:
    checks = list(policies.policies(FakeCluster(objects(policy(conditions=conditions))), SYSTEM))
    assert [check.found.split()[0] for check in checks if check.result == "fail"] == found
    assert [check.check for check in checks] == (["ClusterTrustPolicy baseline"] if found else ["policies"])


def test_evidence_that_runs_out_is_a_warning() -> None:
    expiring = policy(conditions=[{"type": "Ready", "status": "True"}, {"type": "EvidenceExpiring", "status": "True"}])
    check = only(policies.policies(FakeCluster(objects(expiring)), SYSTEM))
    assert (check.result, check.found.split()[0]) == ("warn", "EvidenceExpiring=True")


def test_a_policy_that_the_controller_has_not_seen_is_told() -> None:
    assert only(policies.policies(FakeCluster(objects(policy(conditions=[]))), SYSTEM)).result == "warn"


def test_namespaces_that_nothing_governs_are_named() -> None:
    chosen = policy(match={"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}})
    bound = policy(
        "bound", match=chosen["spec"]["match"], binding={"serviceAccounts": [{"namespace": "bank", "name": "x"}]}
    )
    cluster = FakeCluster(objects(chosen, bound, names=("shop", "bank", "blog", "kube-system", SYSTEM)))
    check = only(policies.coverage(cluster, SYSTEM))
    assert (check.result, check.found) == ("warn", "nothing governs 1 namespace(s): blog")
    assert only(policies.coverage(FakeCluster(objects(policy())), SYSTEM)).result == "ok"


def test_a_check_that_may_not_look_says_so_and_the_others_go_on() -> None:
    cluster = FakeCluster(objects(policy()))
    cluster.objects[LEASE] = ApiError(403, "Forbidden", "leases is forbidden")
    found = {check.check: check for check in examine(cluster, SYSTEM)}
    assert found["controller"].result == "unknown"
    assert "leases is forbidden" in found["controller"].found
    assert found["policies"].result == "ok"


def test_a_cluster_that_does_not_answer_ends_the_examination() -> None:
    cluster = FakeCluster({"/version": ApiError(0, "Unreachable", "connection refused")})
    with pytest.raises(ApiError, match="refused"):
        list(examine(cluster, SYSTEM))


def test_a_check_that_is_left_out_asks_nothing() -> None:
    every = {one.__name__.replace("_", "-") for one in CHECKS}
    assert list(examine(FakeCluster({}), SYSTEM, without=every)) == []


def test_a_check_that_does_not_exist_cannot_be_left_out() -> None:
    result = CliRunner().invoke(application("doctor"), ["doctor", "--skip=gaet"])
    assert result.exit_code == 2
    assert "no check is called gaet" in result.stderr


def grant(state: str, reason: str) -> dict[str, Any]:
    spec = {
        "pod": {"name": "api", "uid": "u", "createdAt": "2026-01-01T00:00:00Z"},
        "serviceAccount": {"name": "api", "uid": "a"},
    }
    return {"metadata": {"name": "wg"}, "spec": spec, "status": {"state": state, "reason": reason}}


def test_grants_that_the_cluster_itself_keeps_suspended_are_counted_by_reason() -> None:
    listed = [grant("Suspended", "NodeLost"), grant("Suspended", "NodeLost"), grant("Suspended", "EpochChanged")]
    listed += [grant("Suspended", "NoLongerQualifies"), grant("Active", "Admitted")]
    found = list(grants.suspended(FakeCluster({f"{OURS}/workloadgrants": listed}), SYSTEM))
    assert [(check.result, check.found) for check in found] == [
        ("warn", "2 of 5 are suspended: NodeLost"),
        ("warn", "1 of 5 are suspended: EpochChanged"),
    ]


def test_grants_that_their_policies_suspend_are_none_of_the_doctors_business() -> None:
    listed = [grant("Suspended", "NoLongerQualifies"), grant("Revoked", "ReceiptKeyRevoked")]
    (found,) = grants.suspended(FakeCluster({f"{OURS}/workloadgrants": listed}), SYSTEM)
    assert found.result == "ok"


def root(name: str = "private", **status: Any) -> dict[str, Any]:
    spec = {"sigstore": {"tuf": {"mirror": "https://tuf.example.com", "root": "{}"}}}
    given = {kind: status.pop(kind, "True") for kind in ("Accepted", "Ready", "Refreshed")}
    conditions = policy(conditions=[{"type": kind, "status": state} for kind, state in given.items()])["status"]
    return {"metadata": {"name": name, "generation": 2}, "spec": spec, "status": {**conditions, **status}}


@pytest.mark.parametrize(
    ("objects", "result", "says"),
    [
        ([], "ok", "public-good Sigstore of this release"),
        ([root()], "ok", "none with trouble"),
        ([root(Accepted="False", Ready="False")], "fail", "Accepted=False"),
        ([root(Ready="False", Refreshed="False")], "fail", "Ready=False"),
        ([root(Refreshed="False")], "warn", "Refreshed=False"),
        ([root(observedGeneration=1)], "warn", "has not judged"),
        ([root(earliestExpiry=clock.format_time(datetime.now(UTC) + timedelta(days=29)))], "warn", "runs out"),
        ([root(earliestExpiry=clock.format_time(datetime.now(UTC) + timedelta(days=31)))], "ok", "none with trouble"),
    ],
)
def test_evidence_roots_are_looked_at(objects: list[dict[str, Any]], result: str, says: str) -> None:
    check = only(evidence_roots.evidence_roots(FakeCluster({f"{OURS}/evidenceroots": objects}), SYSTEM))
    assert check.result == result
    assert says in check.found


def test_an_exception_that_runs_out_and_one_without_its_policy_are_named() -> None:
    now = datetime.now(UTC)
    ends = {"soon": timedelta(minutes=1), "late": timedelta(days=20), "over": timedelta(seconds=-1)}
    made = [
        exception(name, created=format_time(now - timedelta(days=1)), expires=format_time(now + left))
        for name, left in ends.items()
    ]
    missing = Condition(
        type="ResolvedRefs", status="False", reason="R", message="Not there: x", last_transition_time=""
    )
    made[1] = msgspec.structs.replace(made[1], status=TrustExceptionStatus(conditions=(missing,), pods=2))
    cluster = FakeCluster({f"{OURS}/trustexceptions": [msgspec.to_builtins(one) for one in made]})
    *warned, last = exceptions.exceptions(cluster, SYSTEM)
    assert [(one.result, one.found.split()[1]) for one in warned] == [("warn", "soon"), ("warn", "late")]
    assert (last.result, last.found) == ("ok", "2 in force")
