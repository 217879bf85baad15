"""One piece of work in flight per key, however many ask for it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from countersign.registry.errors import RateLimitedError, RegistryTimeoutError
from countersign.registry.fairness import Share

FLIGHT_SECONDS: Final = 30.0
"""How long work may go on after its askers' deadlines have passed, so that the retry finds the answer."""
MAX_FLIGHTS_PER_NAME: Final = 256
"""Distinct pieces of work at once that one namespace may have started."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Work by key. Must be used within one event loop, and closed at the end."""

    def __init__(self, *, seconds: float = FLIGHT_SECONDS, max_per_name: int = MAX_FLIGHTS_PER_NAME) -> None:
        self._seconds = seconds
        self._max_per_name = max_per_name
        self._flights: dict[K, _Flight[V]] = {}
        self._started: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[V]] = set()

    def __len__(self) -> int:
        return len(self._flights)

    async def result(self, key: K, name: str, work: Callable[[Share], Awaitable[V]], deadline: float) -> V:
        """The result of the work under this key, started now unless it is in flight already.

        `name`: the namespace that asks. `deadline`: absolute, on the running loop's clock. When it passes, this raises
        RegistryTimeoutError and the work goes on. When the asker is cancelled, and nobody else waits or has waited
        until their deadline, the work is cancelled. The work's own exceptions come to everyone who waits.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, name, work, deadline)
        else:
            flight.share.join(name, deadline)
        flight.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(flight.task)
        except TimeoutError:
            flight.wanted = True
            flight.share.until = flight.ends  # nobody waits any more: it may take its time
            raise RegistryTimeoutError("no answer yet; the work goes on and the retry will find it") from None
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.wanted and not flight.task.done():
                self._forget(key, flight)  # at once: the next asker must not join work that is being cancelled
                flight.task.cancel()

    async def close(self) -> None:
        """Cancel everything in flight and wait until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: K, name: str, work: Callable[[Share], Awaitable[V]], deadline: float) -> "_Flight[V]":
        if self._started[name] >= self._max_per_name:
            raise RateLimitedError(f"{self._max_per_name} verifications for namespace {name} are in flight already")
        share = Share(name, deadline)
        task = asyncio.create_task(self._run(work, share))
        self._tasks.add(task)
        flight = self._flights[key] = _Flight(task, share, asyncio.get_running_loop().time() + self._seconds)
        self._started[name] += 1
        task.add_done_callback(lambda _: self._end(key, name, flight))
        return flight

    async def _run(self, work: Callable[[Share], Awaitable[V]], share: Share) -> V:
        try:
            async with asyncio.timeout(self._seconds):
                return await work(share)
        except TimeoutError:
            raise RegistryTimeoutError(f"no answer within {self._seconds:g} s") from None

    def _end(self, key: K, name: str, flight: "_Flight[V]") -> None:
        self._forget(key, flight)
        self._tasks.discard(flight.task)
        self._started[name] -= 1
        if not self._started[name]:
            del self._started[name]
        if not flight.task.cancelled():
            flight.task.exception()  # seen, even if nobody waits any more

    def _forget(self, key: K, flight: "_Flight[V]") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class _Flight(Generic[V]):
    def __init__(self, task: "asyncio.Task[V]", share: Share, ends: float) -> None:
        self.task = task
        self.share = share
        self.ends = ends
        self.waiting = 0
        self.wanted = False
