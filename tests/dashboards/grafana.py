"""How Grafana wants a dashboard written: schema version 39 (Grafana 10.4), which later ones read as well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
Unit = Literal["short", "reqps", "s", "percentunit", "bytes", "dateTimeFromNow", "bool_on_off"]
"""Grafana's names of units."""

COLUMNS = 24
HEIGHT = 7
SCHEMA = 39
_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED = "green", "orange", "red"


class Query(NamedTuple):
    """One expression and how its series are called: `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """What a panel shows. `warn` and `bad` are thresholds; with `bad` below `warn`, small values are the bad ones."""

    title: str
    about: str
    queries: Sequence[Query]
    unit: Unit = "short"
    warn: float | None = None
    bad: float | None = None
    stat: bool = False
    """One number, the last, instead of a line over time."""
    stacked: bool = False


class Row(NamedTuple):
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def dashboard(uid: str, title: str, about: str, rows: Sequence[Row]) -> str:
    """The file, complete."""
    body: Json = {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["countersign"],
        "editable": True,
        "schemaVersion": SCHEMA,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": list(_variables())},
        "annotations": {"list": []},
        "panels": list(_panels(rows)),
    }
    return json.dumps(body, indent=1) + "\n"


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    yield _of_label("namespace", "countersign_build_info", several=False)
    yield _of_label("job", 'countersign_build_info{namespace="$namespace"}', several=True)


def _of_label(label: str, series: str, *, several: bool) -> Json:
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "includeAll": several,
        "multi": several,
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {"current": {}}),
    }


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}}  # fmt: skip
        top += 1
        left = 0
        for panel in row.panels:
            width = 4 if panel.stat else 8
            if left + width > COLUMNS:
                left, top = 0, top + HEIGHT
            number += 1
            yield _panel(panel, number, {"x": left, "y": top, "w": width, "h": HEIGHT})
            left += width
        top += HEIGHT


def _panel(panel: Panel, number: int, place: Json) -> Json:
    targets = [_target(query, chr(ord("A") + at), panel.stat) for at, query in enumerate(panel.queries)]
    defaults: Json = {"unit": panel.unit, "min": None if panel.unit == "dateTimeFromNow" else 0}
    defaults["thresholds"] = {"mode": "absolute", "steps": _steps(panel)}
    defaults["color"] = {"mode": "thresholds" if panel.stat else "palette-classic"}
    body: Json = {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }
    if panel.stat:
        body["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
        return body
    custom: Json = {"lineWidth": 1, "fillOpacity": 20 if panel.stacked else 5, "showPoints": "never"}
    custom["stacking"] = {"mode": "normal" if panel.stacked else "none"}
    if panel.warn is not None or panel.bad is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    defaults["custom"] = custom
    body["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return body


def _target(query: Query, name: str, instant: bool) -> Json:
    return {
        "refId": name,
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "range": not instant,
        "instant": instant,
    }


def _steps(panel: Panel) -> list[Json]:
    warn, bad = panel.warn, panel.bad
    if warn is not None and bad is not None and bad < warn:
        return [_step(RED, None), _step(ORANGE, bad), _step(GREEN, warn)]
    steps = [_step(GREEN, None)]
    if warn is not None:
        steps.append(_step(ORANGE, warn))
    if bad is not None:
        steps.append(_step(RED, bad))
    return steps


def _step(color: str, value: float | None) -> Json:
    return {"color": color, "value": value}
