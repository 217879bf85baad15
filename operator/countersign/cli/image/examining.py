"""Candidates judged in worker processes, as the gate does: conditions are evaluated nowhere else."""

import asyncio
from collections.abc import Sequence
from typing import Final

from countersign.gate.evidence.examiner import Judged, cheap_together
from countersign.registry.fairness import Share
from countersign.runtime.workers import WorkerError, Workers
from countersign.signatures.examine import Candidate, Examined, Question, examine, pack, unpack

MOST_SECONDS: Final = 30.0


class WorkingExaminer:
    """`gate.evidence.examiner.Examiner`; must be closed."""

    def __init__(self) -> None:
        self._workers = Workers(2)

    async def close(self) -> None:
        """End the processes."""
        await self._workers.close()

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> Judged:
        """As in Examiner."""
        if cheap_together(candidates, question):
            return Judged(tuple(examine(one, question) for one in candidates))
        deadline = min(share.until, asyncio.get_running_loop().time() + MOST_SECONDS)
        answers = await asyncio.gather(*(self._one(one, question, deadline) for one in candidates))
        return Judged(tuple(answer for answer, _ in answers), all(sure for _, sure in answers))

    async def _one(self, candidate: Candidate, question: Question, deadline: float) -> tuple[Examined, bool]:
        asked, data = pack(candidate, question)
        try:
            answer = await self._workers.run(
                "countersign.signatures.examine:examine_packed", asked, data, deadline=deadline
            )
        except WorkerError as error:
            return Examined(problem=f"{error.problem}: {error}"), error.problem not in ("Timeout", "Busy")
        return unpack(answer), True
