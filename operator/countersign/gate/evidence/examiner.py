"""Judging candidates: here where that takes about a millisecond, in worker processes where it may take longer."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from countersign.registry.fairness import FairSlots, Share
from countersign.runtime.workers import WorkerError, Workers
from countersign.signatures.examine import Candidate, Examined, Question, cheap, examine, pack, unpack

DEFAULT_WORKERS: Final = 2
EXAMINE_SECONDS: Final = 15.0
"""For one candidate in a worker. An SBOM of 18 MB with a condition on it takes about 2 s."""
CHEAP_IN_A_ROW: Final = 4
"""Judged on the loop before others get their turn."""
IDLE_SECONDS: Final = 600.0
"""A worker stays for so long without work: it takes 0.2 s to start, and 40 MiB to keep."""
MAX_WAITING: Final = 512
LARGE_BYTES: Final = 1024 * 1024
"""Of what is larger, one is judged at a time: an SBOM of 18 MB with a condition on it takes 420 MiB, of 36 MB 700."""

_EXAMINE: Final = "countersign.signatures.examine:examine_packed"


class Judged(NamedTuple):
    """What candidates came to."""

    answers: tuple[Examined, ...]
    """One for each, in order."""
    sure: bool = True
    """False: some could not be judged in the time that there was, and count for nothing."""


class Examiner(Protocol):
    """Says what candidates are worth."""

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> Judged:
        """Judge candidates on behalf of a share. Never raises for what they hold."""

    async def close(self) -> None:
        """End what it has started."""


class WorkerExaminer:
    """What is cheap on the loop, all else in workers, of which no namespace gets more than its part."""

    def __init__(self, count: int = DEFAULT_WORKERS) -> None:
        """`count`: of worker processes at the most. None is started before there is work for it."""
        self._workers = Workers(count, idle_seconds=IDLE_SECONDS)
        self._slots = FairSlots(count, max(1, count // 2), MAX_WAITING)
        self._large = FairSlots(1, 1, MAX_WAITING)

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> Judged:
        """As in Examiner. Raises RateLimitedError if too much of this namespace waits already."""
        answers: list[Examined] = []
        sure = True
        for number, candidate in enumerate(candidates, 1):
            if cheap(candidate, question):
                answers.append(examine(candidate, question))
                if number % CHEAP_IN_A_ROW == 0:
                    await asyncio.sleep(0)
                continue
            try:
                answers.append(await self._elsewhere(candidate, question, share))
            except WorkerError as error:
                # One that a worker dies of would be the end of the next one, too; what was too slow may be judged when
                # there is less to do.
                sure = sure and error.problem not in ("Timeout", "Busy")
                answers.append(Examined(problem=f"{error.problem}: {error}"))
        return Judged(tuple(answers), sure)

    async def close(self) -> None:
        """End the workers."""
        await self._workers.close()

    async def _elsewhere(self, candidate: Candidate, question: Question, share: Share) -> Examined:
        async with contextlib.AsyncExitStack() as stack:
            if len(candidate.data) > LARGE_BYTES:
                await stack.enter_async_context(self._large.hold(share))
            await stack.enter_async_context(self._slots.hold(share))
            deadline = asyncio.get_running_loop().time() + EXAMINE_SECONDS
            return unpack(await self._workers.run(_EXAMINE, *pack(candidate, question), deadline=deadline))
