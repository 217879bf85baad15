"""Judging candidates: here where that takes about a millisecond, elsewhere where it may take longer."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from countersign.registry.fairness import Share
from countersign.signatures.examine import Candidate, Examined, Question, cheap, examine

MAX_CHEAP_AT_ONCE = 4
"""Judged on the loop without a pause: several layers of one classic signature."""


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


class LocalExaminer:
    """In this process: on the loop, or in a thread. For programs that answer one question."""

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> Judged:
        """As in Examiner."""
        del share
        if cheap_together(candidates, question):
            return Judged(tuple(examine(one, question) for one in candidates))
        return Judged(await asyncio.to_thread(lambda: tuple(examine(one, question) for one in candidates)))


def cheap_together(candidates: Sequence[Candidate], question: Question) -> bool:
    """Whether all of them take about a millisecond."""
    return len(candidates) <= MAX_CHEAP_AT_ONCE and all(cheap(one, question) for one in candidates)
