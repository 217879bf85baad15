"""The alerts of the PrometheusRule: each has a page that says more, and looks at this installation only."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from tests.dashboards.files import files
from tests.metrics import page, samples
from tests.render import CHART, ROOT, render

pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

_METRIC = re.compile(r"\b(countersign_[a-z_]+)(?:\{([^}]*)\})?")
_PAGE = ROOT / "docs" / "alerts.md"


@cache
def alerts() -> list[dict[str, Any]]:
    (rule,) = [obj for obj in render({"prometheusRule": {"enabled": True}}) if obj["kind"] == "PrometheusRule"]
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_each_alert_names_metrics_that_a_service_has_of_this_installation(alert: dict[str, Any]) -> None:
    used = _METRIC.findall(alert["expr"])
    assert used
    for metric, matchers in used:
        assert metric in samples()
        assert 'namespace="countersign-system"' in matchers


def test_each_alert_says_what_it_means_and_what_to_do() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert len(alert["annotations"]["summary"]) < 100
        assert len(alert["annotations"]["description"]) > 60


def test_each_alert_has_a_section_of_its_own_to_which_it_leads_and_no_section_is_left_over() -> None:
    sections = re.findall(r"^## (Countersign\w+)$", _PAGE.read_text(), re.MULTILINE)
    found = alerts()
    assert sections == [alert["alert"] for alert in found], "docs/alerts.md: a section each, in the order of the rules"
    for alert in found:
        page_, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page_.endswith("docs/alerts.md")
        assert anchor == alert["alert"].lower()


def test_each_section_says_what_it_means_where_to_look_and_what_to_do() -> None:
    for section in re.split(r"^## ", _PAGE.read_text(), flags=re.MULTILINE)[1:]:
        for word in ("**Means.**", "**Look.**", "**Do.**"):
            assert word in section, section.splitlines()[0]


def test_runbooks_may_be_elsewhere_or_nowhere() -> None:
    (rule,) = [obj for obj in render({"prometheusRule": {"enabled": True, "runbooks": ""}})
               if obj["kind"] == "PrometheusRule"]  # fmt: skip
    assert all("runbook_url" not in alert["annotations"] for alert in rule["spec"]["groups"][0]["rules"])


def test_nobody_is_told_that_webhooks_are_not_kept_where_nobody_keeps_them() -> None:
    values = {"prometheusRule": {"enabled": True}, "controller": {"registerWebhooks": False}}
    (rule,) = [obj for obj in render(values) if obj["kind"] == "PrometheusRule"]
    assert "CountersignWebhooksNotRegistered" not in {alert["alert"] for alert in rule["spec"]["groups"][0]["rules"]}


def test_the_page_of_metrics_is_what_the_services_have() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == page(), "docs/metrics.md is stale: run `make generate`"


def test_the_dashboards_are_what_their_rows_say() -> None:
    folder = CHART / "dashboards"
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == files(), "charts/countersign/dashboards is stale: run `make generate`"


def test_the_dashboards_come_with_the_label_that_grafana_looks_for() -> None:
    assert not [obj for obj in render() if obj["metadata"]["name"] == "countersign-dashboards"]
    values = {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "Security"}}}
    (found,) = [obj for obj in render(values) if obj["metadata"]["name"] == "countersign-dashboards"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Security"}
    assert found["data"] == files()
