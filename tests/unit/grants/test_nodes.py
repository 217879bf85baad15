from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from countersign.api.meta import ObjectMeta
from countersign.api.node import Node, NodeCondition, NodeStatus
from countersign.grants.nodes import CLOCK_SKEW_SECONDS, NodeFacts, lost_at, node_facts, sight_of
from countersign.grants.tracking import PodTrack, first_sight
from tests.unit.grants.build import at, live, stamp


def track(**members: Any) -> PodTrack:
    return msgspec.structs.replace(first_sight(live()), **{"node_name": "n1", "bound_at": stamp(0), **members})


def facts(**members: Any) -> NodeFacts:
    return NodeFacts(**{"name": "n1", "uid": "u", "created": stamp(-60), **members})


def node(status: str, since: str | None = None, kind: str = "Ready") -> Node:
    meta = ObjectMeta(name="n1", uid="u", creation_timestamp=stamp(-60))
    condition = NodeCondition(type=kind, status=status, last_transition_time=since)
    return Node(metadata=meta, status=NodeStatus(conditions=(condition,)))


def test_a_pod_that_is_bound_to_none_has_no_node() -> None:
    assert sight_of(track(node_name=""), None, "") is None


def test_a_node_that_is_gone_is_not_the_machine_any_more() -> None:
    sight = sight_of(track(), None, "u")
    assert sight is not None
    assert "does not exist" in sight.replaced


@pytest.mark.parametrize(
    ("younger", "replaced"), [(0, False), (CLOCK_SKEW_SECONDS, False), (CLOCK_SKEW_SECONDS + 1, True)]
)
def test_a_node_younger_than_the_binding_is_another(younger: int, replaced: bool) -> None:
    sight = sight_of(track(), facts(created=stamp(younger)), "")
    assert sight is not None
    assert bool(sight.replaced) is replaced


@pytest.mark.parametrize("status", ["False", "Unknown", ""])
def test_what_is_not_ready_is_silent_since_it_changed(status: str) -> None:
    assert node_facts(node(status, stamp(5))).unready_since == stamp(5)


def test_a_ready_node_is_not_silent() -> None:
    assert node_facts(node("True", stamp(5))).unready_since == ""


def test_a_node_that_says_nothing_of_ready_is_silent_since_its_creation() -> None:
    assert node_facts(node("True", stamp(5), kind="MemoryPressure")).unready_since == stamp(-60)


def test_of_another_node_nothing_is_carried_over() -> None:
    before = facts(uid="former", unready_since=stamp(1))
    assert node_facts(node("False", stamp(5)), before).unready_since == stamp(5)


def test_a_time_that_cannot_be_read_counts_as_long_ago() -> None:
    sight = sight_of(track(), facts(created="?", unready_since="?"), "")
    assert sight is not None
    assert lost_at(sight, 300) == datetime(1970, 1, 1, 0, 5, tzinfo=UTC)


def test_a_node_is_lost_when_the_patience_of_the_policies_is_over() -> None:
    sight = sight_of(track(), facts(unready_since=stamp(10)), "")
    assert lost_at(sight, 300) == at(310)
    assert lost_at(sight, None) is None
    assert lost_at(None, 300) is None
