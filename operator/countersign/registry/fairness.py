"""Fair shares: a flood of work for one namespace must not keep another's waiting.

A `Share` says for whom a piece of work is done. It starts with one name; when a second namespace asks for the same work
its name is added, and whatever the work is waiting for is queued under that name too. So joining never means to wait in
somebody else's queue.
"""

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import AsyncIterator

from countersign.registry.errors import RateLimitedError


class Share:
    """On whose behalf a piece of work runs."""

    def __init__(self, name: str, until: float = math.inf) -> None:
        self.names = [name]
        self.until = until
        """Until when the result is of use (on the loop's clock): no request is tried again after that."""
        self._waiting: set[_Waiter] = set()

    def join(self, name: str, until: float = math.inf) -> None:
        """Run on this name's behalf as well, and until then at the least."""
        self.until = max(self.until, until)
        if name in self.names:
            return
        self.names.append(name)
        for waiter in tuple(self._waiting):
            waiter.slots.enqueue(waiter, name)

    def waits(self, waiter: "_Waiter") -> None:
        """Remember what the work is waiting for."""
        self._waiting.add(waiter)

    def goes_on(self, waiter: "_Waiter") -> None:
        """Forget it."""
        self._waiting.discard(waiter)


class FairSlots:
    """A number of slots, handed out to the waiting names in turn, and never more than `per_name` to one of them."""

    def __init__(self, limit: int, per_name: int, max_waiting: int) -> None:
        """`max_waiting`: how many may wait under one name; one more is turned away with RateLimitedError."""
        self._limit = limit
        self._per_name = per_name
        self._max_waiting = max_waiting
        self._in_use = 0
        self._held: Counter[str] = Counter()
        self._queues: dict[str, deque[_Waiter]] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody holds a slot or waits for one."""
        return not self._in_use and not self._queues

    @contextlib.asynccontextmanager
    async def hold(self, share: Share) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises RateLimitedError if too many wait already."""
        name = self._take_free(share)
        if name is None:
            name = await self._wait(share)
        try:
            yield
        finally:
            self._release(name)

    def enqueue(self, waiter: "_Waiter", name: str) -> None:
        """Let a waiter be served in this name's turn as well."""
        self._queues.setdefault(name, deque()).append(waiter)
        self._serve()

    def _take_free(self, share: Share) -> str | None:
        if self._in_use >= self._limit:
            return None
        for name in share.names:
            # A free slot beside waiting others means that those have reached their bound: nobody is overtaken.
            if self._held[name] < self._per_name:
                self._grant(name)
                return name
        return None

    async def _wait(self, share: Share) -> str:
        if all(len(self._queues.get(name, ())) >= self._max_waiting for name in share.names):
            raise RateLimitedError(f"more than {self._max_waiting} requests of this namespace are waiting already")
        waiter = _Waiter(self)
        share.waits(waiter)
        try:
            for name in tuple(share.names):
                self.enqueue(waiter, name)
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._release(waiter.granted.result())
            raise
        finally:
            share.goes_on(waiter)
            self._forget(waiter, share.names)

    def _grant(self, name: str) -> None:
        self._in_use += 1
        self._held[name] += 1

    def _release(self, name: str) -> None:
        self._in_use -= 1
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]
        self._serve()

    def _serve(self) -> None:
        while self._in_use < self._limit:
            name = next((name for name in self._queues if self._held[name] < self._per_name), None)
            if name is None:
                return
            queue = self._queues.pop(name)
            waiter = queue.popleft()
            if queue:
                self._queues[name] = queue  # at the end: the other names come first
            if not waiter.granted.done():
                self._grant(name)
                waiter.granted.set_result(name)

    def _forget(self, waiter: "_Waiter", names: list[str]) -> None:
        for name in names:
            queue = self._queues.get(name)
            if queue is None:
                continue
            with contextlib.suppress(ValueError):
                queue.remove(waiter)
            if not queue:
                del self._queues[name]


class _Waiter:
    def __init__(self, slots: FairSlots) -> None:
        self.slots = slots
        self.granted: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Traffic:
    """Turns for requests to registries: some for each host, some in all."""

    @classmethod
    def of(cls, total: int, per_host: int) -> "Traffic":
        """With these bounds; a namespace may take a quarter of all and half of a host's."""
        return cls(
            per_host=per_host,
            per_host_and_name=max(1, per_host // 2),
            total=total,
            total_per_name=max(1, total // 4),
        )

    def __init__(
        self,
        *,
        per_host: int = 32,
        per_host_and_name: int = 16,
        total: int = 128,
        total_per_name: int = 32,
        max_waiting: int = 512,
    ) -> None:
        """All are counts of requests in flight, but for `max_waiting`, of requests waiting under one name."""
        self._host_limits = (per_host, per_host_and_name, max_waiting)
        self._hosts: dict[str, FairSlots] = {}
        self._total = FairSlots(total, total_per_name, max_waiting)

    @contextlib.asynccontextmanager
    async def turn(self, host: str, share: Share) -> AsyncIterator[None]:
        """Wait for a turn to send one request to the host. A slow host fills its own slots before it fills them all."""
        slots = self._hosts.get(host)
        if slots is None:
            slots = self._hosts[host] = FairSlots(*self._host_limits)
        try:
            async with slots.hold(share), self._total.hold(share):
                yield
        finally:
            if slots.idle and self._hosts.get(host) is slots:
                del self._hosts[host]
