"""The parts of break-glass that need no cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jsonpatch
import msgspec
import pytest

from countersign.api.clock import format_time
from countersign.api.names import CLOSED_ANNOTATION
from countersign.api.objects import to_object
from countersign.cli.diagnosis.check import Anything
from countersign.cli.diagnosis.pauses import WEBHOOKS, pauses
from countersign.cli.orders.pause import opening, parse_duration
from countersign.controller.webhooks.webhooks import has_failed_closed, webhook_configurations
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.controller.test_webhooks import CA, GATE, protected
from tests.unit.trust.build import cluster_policy, pause, snapshot

PAUSES = "/apis/countersign.dev/v1alpha1/admissionpauses"
GIVEN = snapshot(cluster_policy(), audiences=(protected("a.example.com", outage="Refuse"),))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(minutes=90)),
        ("24h", timedelta(hours=24)),
        ("24h1s", None),
        ("0m", None),
        ("", None),
        ("30", None),
        ("-5m", None),
        ("1d", timedelta(hours=24)),
        ("1d1s", None),
        ("1.5h", None),
        ("30m1h", None),
        ("999999999h", None),
    ],
)
def test_how_long_is_said_in_days_hours_minutes_and_seconds(text: str, length: timedelta | None) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("annotations", [None, {"mine": "stays"}])
def test_the_last_resort_writes_what_the_controller_would(annotations: dict[str, str] | None) -> None:
    closed = webhook_configurations(GIVEN, {}, GATE, CA, fail_closed=True)
    paused = webhook_configurations(GIVEN, {}, GATE, CA, fail_closed=True, paused=True)
    for stored, wanted in zip(closed, paused, strict=True):
        if annotations:
            stored["metadata"]["annotations"] = annotations
        operations = opening(msgspec.convert(stored, Anything))
        made: dict[str, Any] = jsonpatch.apply_patch(stored, operations)
        assert made["webhooks"] == wanted["webhooks"]
        assert made["metadata"]["annotations"] == {**(annotations or {}), CLOSED_ANNOTATION: "true"}
        assert has_failed_closed(made)


def test_what_is_open_is_left_as_it_is() -> None:
    for stored in webhook_configurations(GIVEN, {}, GATE, CA, fail_closed=False):
        assert opening(msgspec.convert(stored, Anything)) == []


def test_an_entry_that_moved_meanwhile_is_not_opened_by_mistake() -> None:
    stored = webhook_configurations(GIVEN, {}, GATE, CA, fail_closed=True)[1]
    operations = opening(msgspec.convert(stored, Anything))
    stored["webhooks"].reverse()
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(stored, operations)


def checked(*stored: Any, marked: bool = False) -> tuple[str, str]:
    annotations = {CLOSED_ANNOTATION: "true"} if marked else {}
    configurations = {path: {"metadata": {"name": "countersign", "annotations": annotations}} for path in WEBHOOKS}
    (check,) = pauses(FakeCluster({PAUSES: [to_object(one) for one in stored], **configurations}), "ours")
    return check.result, check.found


def test_doctor_says_that_the_door_is_open_and_by_whom() -> None:
    now = datetime.now(UTC)
    current = pause(created=format_time(now), expires=format_time(now + timedelta(minutes=5)))
    result, found = checked(current, marked=True)
    assert result == "warn"
    assert "pause-1 by night-shift" in found


def test_doctor_says_that_the_door_stayed_open() -> None:
    assert checked(pause(), marked=True)[0] == "fail"
    assert checked(pause()) == ("ok", "admission is not paused")
    assert checked()[0] == "ok"
