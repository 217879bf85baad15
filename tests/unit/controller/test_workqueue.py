from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from countersign.controller import workqueue
from countersign.controller.workqueue import WorkQueue


@asynccontextmanager
async def working(work: Callable[[str], Awaitable[None]], *, workers: int = 2) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(work, workers=workers)
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def settled(queue: WorkQueue) -> None:
    async with asyncio.timeout(5):
        while len(queue):
            await asyncio.sleep(0.001)


async def test_a_key_that_waits_is_worked_on_once() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue(work, workers=1)
    for key in ("a", "b", "a"):
        queue.add(key)
    running = asyncio.create_task(queue.run())
    await settled(queue)
    running.cancel()
    assert done == ["a", "b"]


async def test_a_key_added_while_it_is_worked_on_is_worked_on_again_and_never_twice_at_once() -> None:
    busy, most, rounds = 0, 0, 0
    release = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal busy, most, rounds
        busy += 1
        most = max(most, busy)
        await release.wait()
        busy -= 1
        rounds += 1

    async with working(work) as queue:
        queue.add("a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.add("a")
        release.set()
        await settled(queue)
        assert (most, rounds) == (1, 2)


async def test_what_is_urgent_goes_first() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue(work, workers=1)
    for key in ("a", "b", "c"):
        queue.add(key)
    queue.add("c", urgent=True)
    running = asyncio.create_task(queue.run())
    await settled(queue)
    running.cancel()
    assert done == ["c", "a", "b"]


async def test_no_more_keys_are_worked_on_at_once_than_there_are_workers() -> None:
    busy, most = 0, 0

    async def work(_: str) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001)
        busy -= 1

    async with working(work, workers=3) as queue:
        for number in range(30):
            queue.add(str(number))
        await settled(queue)
        assert most == 3


async def test_failed_work_comes_back() -> None:
    attempts = 0

    async def work(_: str) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ConnectionError("not yet")

    async with working(work) as queue:
        queue.add("a")
        async with asyncio.timeout(5):
            while attempts < 3:
                await asyncio.sleep(0.01)


async def test_later_means_later_and_the_sooner_of_two_counts() -> None:
    done: list[float] = []
    loop = asyncio.get_running_loop()

    async def work(_: str) -> None:
        done.append(loop.time())

    async with working(work) as queue:
        began = loop.time()
        queue.add_after("a", 30)
        queue.add_after("a", 0.05)
        queue.add_after("a", 20)
        await asyncio.sleep(0.02)
        assert not done
        async with asyncio.timeout(5):
            while not done:
                await asyncio.sleep(0.005)
        assert done[0] - began >= 0.05
        await asyncio.sleep(0.05)
        assert len(done) == 1


async def test_work_that_never_waits_does_not_hold_the_loop() -> None:
    async def work(_: str) -> None:
        return

    async with working(work, workers=1) as queue:
        for number in range(1000):
            queue.add(str(number))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(queue), "the loop had its turn before all was done"


async def test_work_that_has_begun_comes_to_its_end_when_the_queue_is_stopped() -> None:
    began, answered = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def work(key: str) -> None:
        began.set()
        await answered.wait()  # the API server has written, and its answer is on the way
        told.append(key)

    queue = WorkQueue(work, workers=1)
    queue.add("a")
    queue.add("b")
    running = asyncio.create_task(queue.run())
    await began.wait()
    running.cancel()
    await asyncio.sleep(0)
    answered.set()
    with suppress(asyncio.CancelledError):
        await running
    assert told == ["a"], "what waits is for whoever leads next"


async def test_work_that_does_not_end_keeps_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "FINISH_SECONDS", 0.01)
    began = asyncio.Event()

    async def work(_: str) -> None:
        began.set()
        await asyncio.Event().wait()

    queue = WorkQueue(work, workers=1)
    queue.add("a")
    running = asyncio.create_task(queue.run())
    await began.wait()
    running.cancel()
    async with asyncio.timeout(2):
        with suppress(asyncio.CancelledError):
            await running


async def test_whoever_waits_for_the_urgent_hears_when_the_last_was_taken_up() -> None:
    taken: list[str] = []
    release = asyncio.Event()

    async def work(key: str) -> None:
        taken.append(key)
        await release.wait()

    async with working(work, workers=1) as queue:
        await queue.nothing_urgent()
        for key in ("first", "second"):
            queue.add(key, urgent=True)
        queue.add("patient")
        calm = asyncio.create_task(queue.nothing_urgent())
        await asyncio.sleep(0.01)
        assert not calm.done()
        release.set()
        async with asyncio.timeout(5):
            await calm
        assert taken[:2] == ["first", "second"]
