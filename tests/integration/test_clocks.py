"""A machine whose clock is 90 s off: nobody gains an identity by it, and what it costs is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.test_controller import until
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

pytestmark = pytest.mark.lab

AHEAD, BEHIND = 90, -90


@contextmanager
def skewed(countersign: Installation, service: str, seconds: int) -> Iterator[None]:
    """That service on a machine whose clock is so many seconds ahead."""
    countersign.stop(service)
    right, countersign.program = countersign.program, (sys.executable, "-m", "tests.stack.skewed", str(seconds))
    try:
        countersign.start_service(service)
        yield
    finally:
        countersign.stop(service)
        countersign.program = right
        countersign.start_service(service)


@pytest.fixture
def scene(countersign: Installation) -> Governed:
    return govern(countersign)


def test_a_verifier_that_is_ahead_goes_on_with_tokens_that_are_young_enough(scene: Governed) -> None:
    pod = scene.running()
    token = scene.token(pod)
    with skewed(scene.countersign, "verifier", AHEAD):
        assert scene.active(token)
        scene.node.finish(pod)
        scene.await_inactive(token)


def test_to_a_verifier_that_is_behind_a_fresh_token_is_from_the_future(scene: Governed) -> None:
    token = scene.token(scene.running())
    with skewed(scene.countersign, "verifier", BEHIND):
        assert not scene.active(token)
    assert scene.active(token)


@pytest.mark.parametrize("seconds", [AHEAD, BEHIND])
def test_a_controller_whose_clock_is_off_grants_and_ends_as_ever(scene: Governed, seconds: int) -> None:
    with skewed(scene.countersign, "controller", seconds):
        pod = scene.running()
        token = scene.token(pod)
        assert scene.active(token)
        scene.node.finish(pod)
        until(scene.countersign, pod, ("Revoked", "Completed"))
        assert not scene.active(token)


@pytest.mark.parametrize("seconds", [AHEAD, BEHIND])
def test_a_gate_whose_clock_is_off_says_so_rather_than_give_a_receipt_that_counts_for_nothing(
    scene: Governed, seconds: int
) -> None:
    with skewed(scene.countersign, "gate", seconds):
        answer = scene.create()
        assert answer.status == 403
        assert "ClockSkew" in answer.message
        assert "ahead of" in answer.message if seconds > 0 else "behind" in answer.message
