"""The alerts of the PrometheusRule rest on metrics that the services have, and say what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from countersign.controller.metrics import ControllerMetrics
from countersign.gate.evidence.metrics import EvidenceMetrics
from countersign.gate.metrics import GateMetrics
from countersign.verifier.metrics import VerifierMetrics
from tests.render import render

pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

_METRIC = re.compile(r"\b(countersign_[a-z_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)=~?\"")
_GROUPED = re.compile(r"by \((\w+)\)")
_FROM_PROMETHEUS = {"namespace", "pod", "component"}
"""Labels that the scrape adds."""


def alerts() -> list[dict[str, Any]]:
    (rule,) = [obj for obj in render({"prometheusRule": {"enabled": True}}) if obj["kind"] == "PrometheusRule"]
    (group,) = rule["spec"]["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """The labels of each sample that the services expose, by its name."""
    registry = CollectorRegistry()
    controller, gate = ControllerMetrics(registry), GateMetrics(registry)
    EvidenceMetrics(registry)
    verifier = VerifierMetrics(registry)
    verifier.read_at_scrape(ages=lambda: {"lease": 1.0}, sizes=lambda: {"pods": 1.0})
    controller.queue_depth(lambda: 0)
    controller.certificate_expiry.labels("ca").set(1)
    controller.certificate_errors.labels("ca").inc()
    controller.root_confirmed("public-good", datetime.now(UTC))
    controller.exceptions.labels("Expiring").set(0)
    gate.answered(("/mutate", "pods", "CREATE", "error", "X"), 0.1)
    gate.ungranted("ledger.example.com", refused=True)
    verifier.turned_away(503, "Stale")
    verifier.restore_suspected(lambda: 0.0)
    return {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_each_metric_and_label_of_an_alert_is_one_that_a_service_has(
    alert: dict[str, Any], labels: dict[str, set[str]]
) -> None:
    used = _METRIC.findall(alert["expr"])
    assert used
    for metric, matchers in used:
        assert metric in labels
        assert {*_LABEL.findall(matchers), *_GROUPED.findall(alert["expr"])} <= labels[metric] | _FROM_PROMETHEUS


def test_each_alert_says_what_it_means_and_what_to_do() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert len(alert["annotations"]["summary"]) < 100
        assert len(alert["annotations"]["description"]) > 60


def test_each_alert_looks_at_this_installation_only() -> None:
    for alert in alerts():
        for _, matchers in _METRIC.findall(alert["expr"]):
            assert 'namespace="countersign-system"' in matchers
