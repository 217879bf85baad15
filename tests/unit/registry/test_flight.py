"""One piece of work per key; who leaves, who waits, and what goes on."""

import asyncio

import pytest

from countersign.registry.errors import NotFoundError, RateLimitedError, RegistryTimeoutError
from countersign.registry.fairness import Share
from countersign.registry.flight import Flights


class Work:
    """Counts its starts and ends when it is told to."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.shares: list[Share] = []
        self.go = asyncio.Event()

    async def __call__(self, share: Share) -> str:
        self.started += 1
        self.shares.append(share)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "done"


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_all_who_ask_for_the_same_share_one_piece_of_work() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    tasks = [asyncio.create_task(flights.result("key", name, work, soon())) for name in ("a", "b", "a")]
    await asyncio.sleep(0.01)
    work.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 3
    assert work.started == 1
    assert work.shares[0].names == ["a", "b"]
    assert len(flights) == 0
    assert await flights.result("key", "a", work, soon()) == "done"
    assert work.started == 2


async def test_an_error_comes_to_everyone_and_is_not_kept() -> None:
    flights: Flights[str, str] = Flights()
    failing = True

    async def work(_: Share) -> str:
        await asyncio.sleep(0)
        if failing:
            raise NotFoundError("nothing there")
        return "found"

    results = await asyncio.gather(
        *(flights.result("key", "a", work, soon()) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, NotFoundError) for result in results)
    failing = False
    assert await flights.result("key", "a", work, soon()) == "found"


async def test_one_who_leaves_does_not_end_the_work_of_the_others() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    leaving = asyncio.create_task(flights.result("key", "a", work, soon()))
    staying = asyncio.create_task(flights.result("key", "b", work, soon()))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.sleep(0.01)
    work.go.set()
    assert await staying == "done"
    assert leaving.cancelled()


async def test_when_the_last_one_leaves_the_work_ends_and_the_next_starts_anew() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    only = asyncio.create_task(flights.result("key", "a", work, soon()))
    await asyncio.sleep(0.01)
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    following = asyncio.create_task(flights.result("key", "a", work, soon()))
    await asyncio.sleep(0.01)
    assert (work.started, work.cancelled) == (2, 1)
    work.go.set()
    assert await following == "done"


async def test_after_a_deadline_the_work_goes_on_for_the_retry() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    with pytest.raises(RegistryTimeoutError) as refusal:
        await flights.result("key", "a", work, soon(0.02))
    assert refusal.value.transient
    retry = asyncio.create_task(flights.result("key", "a", work, soon()))
    await asyncio.sleep(0.01)
    work.go.set()
    assert await retry == "done"
    assert work.started == 1


async def test_work_nobody_waits_for_any_more_ends_at_its_own_bound() -> None:
    flights: Flights[str, str] = Flights(seconds=0.1)
    work = Work()
    with pytest.raises(RegistryTimeoutError):
        await flights.result("key", "a", work, soon(0.02))
    assert len(flights) == 1
    await asyncio.sleep(0.15)
    assert len(flights) == 0
    assert work.cancelled == 1


async def test_one_namespace_cannot_start_any_number_of_flights() -> None:
    flights: Flights[str, str] = Flights(max_per_name=2)
    work = Work()
    tasks = [asyncio.create_task(flights.result(f"key{number}", "a", work, soon())) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimitedError):
        await flights.result("key9", "a", work, soon())
    tasks.append(asyncio.create_task(flights.result("key9", "b", work, soon())))
    await asyncio.sleep(0.01)
    work.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 3


async def test_closing_ends_what_is_in_flight() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    with pytest.raises(RegistryTimeoutError):
        await flights.result("key", "a", work, soon(0.02))
    await flights.close()
    assert (len(flights), work.cancelled) == (0, 1)
