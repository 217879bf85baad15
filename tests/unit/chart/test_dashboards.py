"""The dashboard: every panel says what it shows, and every metric that people may want to see is in one."""

from __future__ import annotations

import json
from typing import Any

from tests.dashboards.files import files
from tests.metrics import metrics

UNSEEN = frozenset[str]()
"""Metrics that no panel needs to show."""


def dashboard() -> dict[str, Any]:
    (text,) = files().values()
    return dict(json.loads(text))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def test_every_metric_of_the_services_is_shown_somewhere() -> None:
    asked = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    unseen = {metric.name for metric in metrics().values() if not any(name in asked for name in metric.samples)}
    assert unseen == UNSEEN


def test_every_panel_has_a_title_of_its_own_in_its_row_a_description_and_a_unit() -> None:
    for panel in panels():
        assert panel["title"]
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_data_source_namespace_and_job_are_chosen_by_whoever_looks() -> None:
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource", "namespace", "job"]
    for panel in panels():
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'namespace="$namespace",job=~"$job"' in target["expr"], panel["title"]
