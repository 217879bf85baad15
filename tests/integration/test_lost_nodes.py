"""A lost node on a real API server: the controller follows its condition, its absence and its UID."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from countersign.api.clock import format_time
from tests.lab.node import NodePlayer
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

pytestmark = pytest.mark.lab
PATIENCE = 30


@pytest.fixture(scope="module")
def scene(countersign: Installation) -> Governed:
    return govern(countersign, responses={"nodeLostAfterSeconds": PATIENCE})


def on(scene: Governed, node: NodePlayer) -> dict[str, Any]:
    """A pod with an Active grant that runs on this node."""
    pod = node.run(scene.admitted())
    scene.countersign.grant_of(pod, state="Active")
    return pod


def mark(scene: Governed, node: NodePlayer, ready: str, seconds_ago: float = 0) -> None:
    """Write the Ready condition as the node-lifecycle controller does once it misses heartbeats."""
    since = format_time(datetime.now(UTC) - timedelta(seconds=seconds_ago))
    condition = {"type": "Ready", "status": ready, "reason": "NodeStatusUnknown", "lastTransitionTime": since}
    scene.lab.admin.patch(f"/api/v1/nodes/{node.name}/status", {"status": {"conditions": [condition]}}, expect=200)


def reason(scene: Governed, pod: dict[str, Any]) -> str:
    return str(scene.countersign.grant_of(pod)["status"]["reason"])


def test_a_node_that_stays_silent_suspends_its_pods_until_it_is_ready_again(scene: Governed) -> None:
    node = scene.lab.node("silent-1")
    pod = on(scene, node)
    token = node.token(pod, scene.audience)
    mark(scene, node, "Unknown", seconds_ago=PATIENCE - 5)
    time.sleep(1.5)
    assert reason(scene, pod) == "Admitted", "its time is not over"
    scene.countersign.grant_of(pod, state="Suspended", timeout=PATIENCE)
    assert reason(scene, pod) == "NodeLost"
    scene.await_inactive(token)
    mark(scene, node, "True")
    scene.countersign.grant_of(pod, state="Active")
    assert reason(scene, pod) == "QualifiesAgain"
    scene.lab.wait_for(lambda: scene.active(token), what="the token is active again")


def test_a_controller_that_was_away_finds_the_node_lost(scene: Governed) -> None:
    node = scene.lab.node("silent-2")
    pod = on(scene, node)
    scene.countersign.stop("controller")
    mark(scene, node, "Unknown", seconds_ago=PATIENCE)
    scene.countersign.start_service("controller")
    scene.countersign.grant_of(pod, state="Suspended", timeout=PATIENCE)
    assert reason(scene, pod) == "NodeLost"


def test_another_node_of_the_same_name_gets_none_of_the_identities(scene: Governed) -> None:
    node = scene.lab.node("replaced-1")
    pod = on(scene, node)
    token = node.token(pod, scene.audience)
    scene.lab.admin.delete(f"/api/v1/nodes/{node.name}", expect=200)
    scene.countersign.grant_of(pod, state="Suspended")
    assert reason(scene, pod) == "NodeReplaced"
    node.register()
    time.sleep(1)
    assert reason(scene, pod) == "NodeReplaced"
    assert not scene.active(token)
    refused = node.tokens(pod)[scene.audience]
    assert refused.status == 403
    assert "GrantNotActive" in refused.message


def test_a_controller_that_was_away_tells_another_node_by_its_age(scene: Governed) -> None:
    node = scene.lab.node("replaced-2")
    pod = on(scene, node)
    scene.countersign.stop("controller")
    time.sleep(6)
    scene.lab.admin.delete(f"/api/v1/nodes/{node.name}", expect=200)
    node.register()
    scene.countersign.start_service("controller")
    scene.countersign.grant_of(pod, state="Suspended", timeout=PATIENCE)
    assert reason(scene, pod) == "NodeReplaced"


def test_a_policy_that_keeps_keeps(countersign: Installation) -> None:
    scene = govern(countersign, responses={"nodeLost": "Keep"})
    node = scene.lab.node("kept-1")
    pod = on(scene, node)
    token = node.token(pod, scene.audience)
    mark(scene, node, "Unknown", seconds_ago=90000)
    time.sleep(1)
    assert scene.active(token)
    assert reason(scene, pod) == "Admitted"


@pytest.mark.parametrize(
    "responses", [{"nodeLostAfterSeconds": 29}, {"nodeLostAfterSeconds": 86401}, {"nodeLost": "Revoke"}]
)
def test_a_response_out_of_bounds_is_refused(scene: Governed, responses: dict[str, Any]) -> None:
    policy = {**scene.policy, "spec": {**scene.policy["spec"], "responses": responses}}
    policy["metadata"] = {"name": "out-of-bounds"}
    answer = scene.countersign.create(policy)
    assert answer.status == 422
    assert "spec.responses" in answer.message
