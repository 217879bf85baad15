"""One namespace's flood does not keep another waiting."""

import asyncio
import contextlib

import pytest

from countersign.registry.errors import RateLimitedError
from countersign.registry.fairness import FairSlots, Share, Traffic


class Line:
    """Work that holds a slot until it is let go, in the order in which it got one."""

    def __init__(self, slots: FairSlots) -> None:
        self.slots = slots
        self.holding: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._done: dict[str, asyncio.Event] = {}

    async def queue(self, label: str, share: Share) -> None:
        self._done[label] = asyncio.Event()
        self.tasks[label] = asyncio.create_task(self._work(label, share))
        await asyncio.sleep(0)

    async def finish(self, label: str) -> None:
        self._done[label].set()
        await self.tasks[label]
        await asyncio.sleep(0)

    async def cancel(self, label: str) -> None:
        self.tasks[label].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks[label]
        await asyncio.sleep(0)

    async def end(self) -> None:
        for label in self.tasks:
            await self.cancel(label)

    async def _work(self, label: str, share: Share) -> None:
        async with self.slots.hold(share):
            self.holding.append(label)
            try:
                await self._done[label].wait()
            finally:
                self.holding.remove(label)


async def test_a_newcomer_is_served_before_the_rest_of_a_flood() -> None:
    line = Line(FairSlots(limit=2, per_name=2, max_waiting=100))
    for number in range(20):
        await line.queue(f"a{number}", Share("a"))
    await line.queue("b", Share("b"))
    assert line.holding == ["a0", "a1"]
    await line.finish("a0")
    assert line.holding == ["a1", "a2"]  # it stood in line before b came
    await line.finish("a1")
    assert line.holding == ["a2", "b"]
    await line.end()
    assert line.slots.idle


async def test_waiting_names_are_served_in_turn() -> None:
    line = Line(FairSlots(limit=1, per_name=1, max_waiting=100))
    await line.queue("x", Share("x"))
    for number in range(3):
        for name in "abc":
            await line.queue(f"{name}{number}", Share(name))
    served = []
    await line.finish("x")
    while line.holding:
        (label,) = line.holding
        served.append(label)
        await line.finish(label)
    assert served == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]
    assert line.slots.idle


async def test_one_name_never_holds_more_than_its_bound_so_that_a_hanging_flood_leaves_room() -> None:
    line = Line(FairSlots(limit=4, per_name=2, max_waiting=100))
    for number in range(10):
        await line.queue(f"a{number}", Share("a"))
    assert line.holding == ["a0", "a1"]
    await line.queue("b", Share("b"))
    assert line.holding == ["a0", "a1", "b"]
    await line.end()
    assert line.slots.idle


async def test_joining_puts_the_work_into_the_joiners_own_queue() -> None:
    line = Line(FairSlots(limit=2, per_name=1, max_waiting=100))
    for number in range(10):
        await line.queue(f"a{number}", Share("a"))
    shared = Share("a")
    await line.queue("shared", shared)
    assert line.holding == ["a0"]
    shared.join("b")
    await asyncio.sleep(0)
    assert line.holding == ["a0", "shared"]
    await line.finish("shared")
    await line.queue("b", Share("b"))
    assert line.holding == ["a0", "b"]
    await line.end()
    assert line.slots.idle


async def test_a_cancelled_wait_gives_its_place_away() -> None:
    line = Line(FairSlots(limit=1, per_name=1, max_waiting=100))
    for label in ("first", "second", "third"):
        await line.queue(label, Share("a"))
    await line.cancel("second")
    await line.finish("first")
    assert line.holding == ["third"]
    await line.end()
    assert line.slots.idle


async def test_a_slot_granted_in_the_moment_of_cancellation_is_given_back() -> None:
    slots = FairSlots(limit=1, per_name=1, max_waiting=100)
    line = Line(slots)
    await line.queue("first", Share("a"))
    await line.queue("second", Share("b"))
    line.tasks["first"].cancel()
    await asyncio.sleep(0)  # first has left and granted its slot to second, which has not run yet
    line.tasks["second"].cancel()
    await asyncio.gather(*line.tasks.values(), return_exceptions=True)
    assert slots.idle


async def test_a_queue_is_bounded() -> None:
    line = Line(FairSlots(limit=1, per_name=1, max_waiting=2))
    for label in ("holds", "waits", "waits too"):
        await line.queue(label, Share("a"))
    with pytest.raises(RateLimitedError) as refusal:
        async with line.slots.hold(Share("a")):
            pass
    assert refusal.value.transient
    await line.queue("other", Share("b"))
    await line.finish("holds")
    await line.end()
    assert line.slots.idle


async def test_a_slow_host_does_not_use_up_the_turns_of_the_others() -> None:
    traffic = Traffic(per_host=2, per_host_and_name=2, total=3, total_per_name=3)
    entered: list[str] = []

    async def visit(host: str) -> None:
        async with traffic.turn(host, Share("a")):
            entered.append(host)
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(visit("slow")) for _ in range(10)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(visit("other")))
    await asyncio.sleep(0.01)
    assert entered == ["slow", "slow", "other"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
