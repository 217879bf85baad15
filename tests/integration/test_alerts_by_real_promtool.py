"""Alerts, dashboards and metrics as Prometheus itself reads them: its parser, its rule tests, its linter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.lab import builder
from tests.lab.prometheus import GROUP, Said, promtool, read
from tests.metrics import SCRAPED, metrics, samples
from tests.stack.installation import Installation
from tests.unit.chart.test_alerts import alerts
from tests.unit.chart.test_dashboards import panels

NS = 'namespace="countersign-system"'
_OPTIONAL = {"or", "unless"}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if builder.missing([GROUP]) and os.environ.get("COUNTERSIGN_LAB") == "off":
        pytest.skip("COUNTERSIGN_LAB=off and promtool is not built")
    builder.ensure([GROUP])


def expressions() -> dict[str, str]:
    """Each expression of alerts and panels, with Grafana's variables filled in."""
    found = {str(alert["alert"]): str(alert["expr"]) for alert in alerts()}
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m").replace("$namespace", "n").replace("$job", "j")
            found[f"{panel['title']} {target['refId']} {panel['id']}"] = text
    return found


def test_every_expression_parses_and_names_metrics_and_labels_that_the_services_have() -> None:
    known = samples()
    texts = expressions()
    for name, said in zip(texts, read(texts.values()), strict=True):
        assert not said.error, f"{name}: {said.error}"
        assert said.selectors, name
        for selector in said.selectors:
            assert selector.metric in known, f"{name}: {selector.metric}"
            assert {*selector.labels} <= known[selector.metric] | SCRAPED, f"{name}: {selector}"
        for grouping in said.groupings:
            for metric in grouping.metrics:
                assert {*(grouping.labels or ())} <= known[metric] | SCRAPED, f"{name}: {grouping}"


def test_counters_are_asked_for_their_rate_and_gauges_are_not() -> None:
    kinds = {series: metric.kind for metric in metrics().values() for series in metric.samples}
    texts = expressions()
    for name, said in zip(texts, read(texts.values()), strict=True):
        for selector in said.selectors:
            is_counter = kinds[selector.metric] in {"counter", "histogram"}
            if "offset" in texts[name]:
                continue  # a series that was not there before is told by itself
            assert selector.range == is_counter, f"{name}: {selector.metric} is a {kinds[selector.metric]}"


def test_what_asks_of_a_reason_asks_for_reasons_that_exist() -> None:
    from typing import get_args

    from countersign.access.decision import Reason as DecisionReason
    from countersign.grants.reasons import ActiveReason, RevokedReason, SuspendedReason

    of_grants = {*get_args(ActiveReason), *get_args(SuspendedReason), *get_args(RevokedReason)}
    of_metric = {
        "countersign_controller_transitions_total": of_grants,
        "countersign_verifier_decisions_total": {*get_args(DecisionReason)},
    }
    asked = 0
    for said in read(expressions().values()):
        for metric, reason in _reasons(said):
            if metric in of_metric and not reason.endswith(".*"):
                asked += 1
                assert reason in of_metric[metric]
    assert asked


def _reasons(said: Said) -> list[tuple[str, str]]:
    return [
        (selector.metric, one)
        for selector in said.selectors
        for label, value in zip(selector.labels, selector.values, strict=True)
        if label == "reason"
        for one in value.lstrip("=~!").split("|")
    ]


class Case(NamedTuple):
    """Series under which an alert fires, in promtool's notation, a sample a minute."""

    series: Mapping[str, str]
    at: str = "40m"
    labels: Mapping[str, str] = {}


def pod(metric: str, **labels: str) -> str:
    """A series as a scrape stores it."""
    told = ",".join(f'{name}="{value}"' for name, value in {"pod": "p", **labels}.items())
    return f"{metric}{{{NS},{told}}}"


REVIEWS = "countersign_gate_admissions_total"
MOVES = "countersign_controller_transitions_total"
GRANTS = "countersign_controller_grants"
CASES: Mapping[str, Case] = {
    "GateAbsent": Case({}),
    "GateBehind": Case({pod("countersign_gate_snapshot_age_seconds"): "100x60"}, labels={"pod": "p"}),
    "GateErrors": Case({pod(REVIEWS, result="retry", reason="X"): "0+60x60"}, labels={"reason": "X"}),
    "GateErrorRatio": Case({pod(REVIEWS, result="error"): "0+60x60", pod(REVIEWS, result="allowed"): "0+600x60"}),
    "GateSlow": Case(
        {
            pod("countersign_gate_admission_seconds_bucket", path="/mutate", le="5.0"): "0x60",
            pod("countersign_gate_admission_seconds_bucket", path="/mutate", le="10.0"): "0+10x60",
            pod("countersign_gate_admission_seconds_bucket", path="/mutate", le="+Inf"): "0+10x60",
        },
        labels={"path": "/mutate"},
    ),
    "GateTurnsReviewsAway": Case({pod("countersign_gate_rejected_requests_total", code="503"): "0+60x60"}),
    "MostPodsDenied": Case({pod(REVIEWS, path="/mutate", result="denied"): "0+9x60",
                            pod(REVIEWS, path="/mutate", result="allowed"): "0+1x60"}),
    "EvidenceStale": Case({pod("countersign_gate_evidence_seconds_count", outcome="stale"): "0+1x60"}, "50m"),
    "VerificationsFail": Case({pod("countersign_gate_verifications_total", outcome="failed"): "0+9x60",
                               pod("countersign_gate_verifications_total", outcome="found"): "0+1x60"}),
    "RegistryLeftAlone": Case({pod("countersign_gate_registry_circuits_open"): "1x60"}, labels={"pod": "p"}),
    "UngrantedTokenRequests": Case(
        # The very first: the series begins with it.
        {pod("countersign_gate_ungranted_token_requests_total", audience="a", refused="true"): "_x38 1 1 1"},
        labels={"audience": "a"},
    ),
    "NoLeader": Case({pod("countersign_controller_leading"): "0x60"}),
    "WebhooksNotRegistered": Case({pod("countersign_controller_webhooks_registered"): "0x60"}),
    "SweepsStopped": Case({pod("countersign_controller_leading"): "1x60",
                           pod("countersign_controller_sweep_seconds_count"): "7x60"}, labels={"pod": "p"}),
    "GateCallsFail": Case({pod("countersign_controller_gate_call_errors_total", path="/x"): "0+6x60"},
                          labels={"path": "/x"}),
    "RevokedForCause": Case({pod(MOVES, state="Revoked", reason="Drifted"): "0x38 1 1 1"},
                            labels={"reason": "Drifted"}),
    "ReceiptsRefused": Case({pod(MOVES, state="Revoked", reason="ReceiptSpent"): "0x38 1 1 1"},
                            labels={"reason": "ReceiptSpent"}),
    "ManySuspensions": Case({pod(MOVES, state="Suspended", reason="NodeLost"): "0+2x60"},
                            labels={"reason": "NodeLost"}),
    "ManySuspended": Case({pod(GRANTS, state="Suspended"): "20x60", pod(GRANTS, state="Active"): "80x60"}),
    "QueueGrows": Case({pod("countersign_controller_queue_depth"): "2000x60"}),
    "ImpactHeld": Case({pod("countersign_controller_impact_held"): "1x60"}),
    "CertificateExpires": Case({pod("countersign_controller_certificate_expiry_seconds", certificate="c"): "9x60"},
                               labels={"certificate": "c"}),
    "EvidenceExpiring": Case({pod("countersign_controller_evidence_expiring"): "2x60"}),
    "ReverificationBehind": Case({pod("countersign_controller_reverifications_due"): "5x100"}, "80m"),
    "MisuseFound": Case({pod("countersign_controller_misuse_total", kind="OtherAddress"): "0x38 1 1 1"},
                        labels={"kind": "OtherAddress"}),
    "KeysNotKept": Case({pod("countersign_controller_key_errors_total", object="o"): "0+1x60"},
                        labels={"object": "o"}),
    "VerifierAbsent": Case({}),
    "VerifierBehind": Case({pod("countersign_verifier_turned_away_total", code="503"): "0+1x60"}),
    "VerifierSourceOld": Case({pod("countersign_verifier_age_seconds", source="pods"): "100x60"},
                              labels={"source": "pods"}),
    "VerifierSlow": Case({pod("countersign_verifier_seconds_bucket", le="0.25"): "0x60",
                          pod("countersign_verifier_seconds_bucket", le="0.5"): "0+10x60",
                          pod("countersign_verifier_seconds_bucket", le="+Inf"): "0+10x60"}),
    "AskerOverLimit": Case({pod("countersign_verifier_turned_away_total", code="429"): "0+1x60"}),
    "EndedIdentityUsed": Case({pod("countersign_verifier_decisions_total", reason="GrantRevoked"): "0+6x60"},
                              labels={"reason": "GrantRevoked"}),
    "AdmissionPaused": Case({pod("countersign_admission_paused"): "1x60"}),
    "EvidenceRootOld": Case({pod("countersign_evidence_root_age_seconds", root="r"): "400000x60"},
                            labels={"root": "r"}),
    "EvidenceRootRefreshFails": Case({pod("countersign_evidence_root_refresh_failures_total", root="r"): "0+1x100"},
                                     "80m", {"root": "r"}),
    "TrustExceptionExpires": Case({pod("countersign_trust_exceptions", state="Expiring"): "1x60"}),
    "EtcdRestoreSuspected": Case({pod("countersign_verifier_etcd_restore_suspected"): "1x60"}),
    "VersionsDiffer": Case({pod("countersign_build_info", version="1"): "1x100",
                            pod("countersign_build_info", version="2"): "1x100"}, "80m"),
    "TracesDropped": Case({pod("countersign_trace_spans_total", outcome="unreachable"): "0+1x60"},
                          labels={"outcome": "unreachable"}),
}  # fmt: skip
"""What each alert is there for. One without a case fails its test."""

WELL: Mapping[str, str] = {
    pod("countersign_gate_inflight"): "0x100",
    pod("countersign_gate_snapshot_age_seconds"): "20x100",
    pod(REVIEWS, path="/mutate", result="allowed", reason="Admitted"): "0+60x100",
    pod(REVIEWS, path="/mutate", result="denied", reason="Unsigned"): "0+5x100",
    pod(REVIEWS, path="/mutate", result="retry", reason="VerificationTimeout"): "0+1x100",
    pod("countersign_gate_evidence_seconds_count", outcome="warm"): "0+60x100",
    pod("countersign_gate_verifications_total", outcome="found"): "0+60x100",
    pod("countersign_gate_verifications_total", outcome="failed"): "0+1x100",
    pod("countersign_gate_registry_circuits_open"): "0x100",
    pod("countersign_controller_leading"): "1x100",
    pod("countersign_controller_webhooks_registered"): "1x100",
    pod("countersign_controller_sweep_seconds_count"): "0+1x100",
    pod("countersign_controller_queue_depth"): "3x100",
    pod(MOVES, state="Revoked", reason="Completed"): "0+100x100",
    pod(MOVES, state="Revoked", reason="Drifted"): "0x100",
    pod(GRANTS, state="Suspended"): "2x100",
    pod(GRANTS, state="Active"): "80x100",
    pod("countersign_controller_certificate_expiry_seconds", certificate="ca"): "9000000x100",
    pod("countersign_verifier_age_seconds", source="pods"): "30x100",
    pod("countersign_verifier_decisions_total", reason="Active"): "0+6000x100",
    pod("countersign_verifier_decisions_total", reason="TokenExpired"): "0+6x100",
    pod("countersign_build_info", version="1"): "1x100",
    pod("countersign_controller_evidence_expiring"): "0x100",
    pod("countersign_controller_reverifications_due"): "0x100",
    pod("countersign_controller_misuse_total", kind="OtherAddress"): "0x100",
    pod("countersign_trace_spans_total", outcome="exported"): "0+60x100",
    pod("countersign_trust_exceptions", state="Active"): "3x100",
    pod("countersign_trust_exceptions", state="Expiring"): "0x100",
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "countersign", "rules": alerts()}]}))
    return file


def test_promtool_has_nothing_against_the_rules(rules: Path) -> None:
    code, said = promtool(["check", "rules", "--lint=all", "--lint-fatal", rules])
    assert code == 0, said
    assert f"{len(alerts())} rules found" in said


def test_each_alert_fires_when_it_should_and_nothing_fires_when_all_is_well(rules: Path) -> None:
    found = {alert["alert"].removeprefix("Countersign"): alert for alert in alerts()}
    assert set(CASES) == set(found), "each alert needs a case under which it fires"
    tests = [_firing(found[name], case) for name, case in CASES.items()]
    tests += [_silent(list(found.values()), at) for at in ("20m", "95m")]
    file = rules.with_name("tests.yaml")
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    code, said = promtool(["test", "rules", file])
    assert code == 0, said


def _firing(alert: Mapping[str, Any], case: Case) -> Mapping[str, Any]:
    labels = {"severity": alert["labels"]["severity"], **case.labels}
    if "absent(" in alert["expr"]:
        labels["namespace"] = "countersign-system"
    expected = [{"exp_labels": labels, "exp_annotations": alert["annotations"]}]
    return {
        "name": f"{alert['alert']} fires",
        "interval": "1m",
        "input_series": _series(case.series),
        "alert_rule_test": [{"eval_time": case.at, "alertname": alert["alert"], "exp_alerts": expected}],
    }


def _silent(found: Sequence[Mapping[str, Any]], at: str) -> Mapping[str, Any]:
    return {
        "name": f"all is well at {at}",
        "interval": "1m",
        "input_series": _series(WELL),
        "alert_rule_test": [{"eval_time": at, "alertname": alert["alert"], "exp_alerts": []} for alert in found],
    }


def _series(series: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


@pytest.mark.parametrize("service", ["gate", "controller", "verifier"])
def test_what_a_running_service_exposes_is_what_the_page_says_and_is_well_named(
    countersign: Installation, service: str
) -> None:
    text = countersign.services[service].metrics()
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE countersign_")}
    families = {name for name in families if not name.endswith("_created")}
    known = {
        metric.name + ("_total" if metric.kind == "counter" else "")
        for metric in metrics().values()
        if service in metric.services
    }
    assert families == known, "tests/metrics.py must compose the registry as the service does"
    code, said = promtool(["check", "metrics"], stdin=text)
    ours = [line for line in said.splitlines() if line.startswith("countersign_") and "_created" not in line]
    assert not ours, said
    assert code in (0, 3), said
