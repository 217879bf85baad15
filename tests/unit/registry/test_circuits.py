"""When a host is left alone, and who may try whether it is back. A test's clock stands until it is moved."""

from datetime import UTC, datetime

import pytest

from countersign.registry.circuits import FIRST_REST_SECONDS, MAX_REST_SECONDS, Circuits
from countersign.registry.errors import CircuitOpenError

HOST = "registry.example.com"


class Scene:
    def __init__(self) -> None:
        self.now = 100.0
        self.circuits = Circuits(
            lambda: self.now, max_failures=3, wall=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        )

    def fail(self, *names: str) -> None:
        probe = self.circuits.enter(HOST, names)
        self.circuits.failed(HOST, names, "no answer", probe=probe)

    def refused(self, *names: str) -> str:
        with pytest.raises(CircuitOpenError) as refusal:
            self.circuits.enter(HOST, names)
        return str(refusal.value)


def test_failures_in_a_row_of_two_namespaces_close_the_host_to_all() -> None:
    scene = Scene()
    scene.fail("a")
    scene.fail("b")
    assert scene.circuits.enter(HOST, ["c"]) is False
    scene.fail("a")
    assert scene.refused("c") == (
        "registry.example.com has not answered since 03:04:05 UTC (3 requests in a row, the last: no answer), so it is "
        "left alone; it is asked again in 2 s"
    )
    assert scene.circuits.enter("other.example.com", ["c"]) is False


def test_an_answer_in_between_starts_the_count_anew() -> None:
    scene = Scene()
    for _ in range(5):
        scene.fail("a")
        scene.fail("b")
        scene.circuits.answered(HOST)
    assert scene.circuits.enter(HOST, ["a"]) is False


def test_one_probe_at_a_time_decides_for_all() -> None:
    scene = Scene()
    for name in ("a", "b", "a"):
        scene.fail(name)
    scene.now += FIRST_REST_SECONDS
    assert scene.circuits.enter(HOST, ["c"]) is True
    assert "it is being asked again now" in scene.refused("d")
    scene.circuits.left(HOST, probe=True)
    assert scene.circuits.enter(HOST, ["d"]) is True
    scene.circuits.answered(HOST)
    assert scene.circuits.enter(HOST, ["a"]) is False


def test_after_each_failed_probe_the_host_rests_longer_up_to_a_bound() -> None:
    scene = Scene()
    for name in ("a", "b", "a"):
        scene.fail(name)
    rest = FIRST_REST_SECONDS
    for _ in range(8):
        scene.now += rest - 0.1
        scene.refused("a")
        scene.now += 0.1
        scene.fail("a")
        rest = min(2 * rest, MAX_REST_SECONDS)


def test_the_failures_of_one_namespace_close_the_host_to_it_alone() -> None:
    scene = Scene()
    for _ in range(3):
        scene.fail("a")
    scene.refused("a")
    assert scene.circuits.enter(HOST, ["a", "b"]) is False  # work that b waits for, too
    assert scene.circuits.enter(HOST, ["b"]) is False
    scene.fail("b")
    scene.refused("b")
    scene.refused("c")


def test_many_hosts_are_not_remembered_for_ever() -> None:
    scene = Scene()
    for number in range(5000):
        scene.circuits.failed(f"h{number}.example.com", ["a"], "no answer", probe=False)
    assert scene.circuits.enter("h0.example.com", ["a"]) is False
