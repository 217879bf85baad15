"""A queue of keys: each waits at most once, is worked on by at most one worker, and never gets lost.

The rules are client-go's workqueue's: a key that is added while it is being worked on is worked on again afterwards; a
key whose work fails comes back later, each time later than before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

FIRST_RETRY_SECONDS: Final = 0.1
MAX_RETRY_SECONDS: Final = 30.0
FINISH_SECONDS: Final = 3.0
"""How long work that has begun may go on when the queue is stopped: what was written is told as well."""

_log = structlog.get_logger(__name__)


class WorkQueue:
    """Keys that want work. Bound to one event loop; `run` works on them with `workers` tasks at once."""

    def __init__(self, work: Callable[[str], Awaitable[None]], *, workers: int) -> None:
        self._work = work
        self._workers = workers
        # Dicts keep the order and know no duplicates.
        self._urgent: dict[str, None] = {}
        self._ready: dict[str, None] = {}
        self._busy: set[str] = set()
        self._again: dict[str, bool] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._calm = asyncio.Event()
        self._calm.set()

    def __len__(self) -> int:
        """Keys that wait or are worked on; not those that are due later."""
        return len(self._urgent) + len(self._ready) + len(self._busy)

    def add(self, key: str, *, urgent: bool = False) -> None:
        """Work on `key` as soon as a worker is free; if it is urgent, before all that is not."""
        if key in self._busy:
            self._again[key] = urgent or self._again.get(key, False)
        elif urgent:
            self._ready.pop(key, None)
            self._urgent[key] = None
            self._calm.clear()
        elif key not in self._urgent:
            self._ready[key] = None
        self._wake_one()

    def add_after(self, key: str, seconds: float) -> None:
        """Work on `key` in so many seconds, or sooner if it is due sooner anyway."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(seconds, 0.0)
        planned = self._later.get(key)
        if planned is not None:
            if planned.when() <= due:
                return
            planned.cancel()
        self._later[key] = loop.call_at(due, self._fall_due, key)

    async def nothing_urgent(self) -> None:
        """Wait until every urgent key has been taken up."""
        await self._calm.wait()

    async def run(self) -> None:
        """Work until cancelled; what has begun by then comes to its end, if it takes no longer than FINISH_SECONDS."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._workers):
                    tasks.create_task(self._serve())
        finally:
            for planned in self._later.values():
                planned.cancel()
            self._later.clear()

    async def _serve(self) -> None:
        while True:
            key = await self._next()
            try:
                await _to_its_end(self._work(key))
                await asyncio.sleep(0)  # work that waited for nothing must not keep the loop from what is urgent
            except Exception as error:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                pause = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16))
                _log.warning("will be tried again", key=key, failures=failures, seconds=pause, error=repr(error))
                self.add_after(key, pause)
            else:
                self._failures.pop(key, None)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self.add(key, urgent=self._again.pop(key))

    async def _next(self) -> str:
        while True:
            for waiting in (self._urgent, self._ready):
                if waiting:
                    key = next(iter(waiting))
                    del waiting[key]
                    self._busy.add(key)
                    if not self._urgent:
                        self._calm.set()
                    return key
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    def _wake_one(self) -> None:
        if self._waiting:
            waiter = self._waiting.pop()
            if not waiter.done():
                waiter.set_result(None)

    def _fall_due(self, key: str) -> None:
        del self._later[key]
        self.add(key)


async def _to_its_end(work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=FINISH_SECONDS)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("not finished before the end", error=repr(error))
        raise
