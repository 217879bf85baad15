"""Who judges a candidate: the loop, or a worker; and what it means that a worker did not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from countersign.gate.evidence.examiner import LARGE_BYTES, WorkerExaminer
from countersign.registry.fairness import Share
from countersign.runtime.workers import WorkerError, WorkerProblem, Workers
from countersign.signatures.examine import MAX_BYTES_ON_LOOP, Candidate, Examined, Question, examine_packed
from tests.fakes.signing import bundle, make_key, pem_of, statement

SIGNER = make_key()
DIGEST = "sha256:" + "ab" * 32
KEYED = Question(digest=DIGEST, keys=(pem_of(SIGNER),))
CERTIFIED = Question(digest=DIGEST, keys=(pem_of(SIGNER),), roots=(b"{}",))
GOOD = Candidate(form="bundle", data=bundle(SIGNER, statement(DIGEST)))


class HeldWorkers(Workers):
    """Workers that judge in this process, when they are told to, or fail."""

    def __init__(self) -> None:
        super().__init__(1)
        self.at_work = 0
        self.most = 0
        self.go = asyncio.Event()
        self.problem: WorkerProblem | None = None

    async def run(self, function: str, *parts: bytes, deadline: float) -> bytes:
        assert function == "countersign.signatures.examine:examine_packed"
        assert deadline > asyncio.get_running_loop().time()
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await self.go.wait()
        finally:
            self.at_work -= 1
        if self.problem is not None:
            raise WorkerError(self.problem, "as told")
        return examine_packed(*parts)


class Scene:
    def __init__(self, count: int) -> None:
        self.examiner = WorkerExaminer(count)
        self.workers = HeldWorkers()
        self.examiner._workers = self.workers

    def start(self, candidate: Candidate, namespace: str) -> "asyncio.Task[object]":
        return asyncio.create_task(self.examiner.examine([candidate], CERTIFIED, Share(namespace)))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    one = Scene(2)
    yield one
    await one.examiner.close()


async def test_small_candidates_of_few_keys_need_no_worker(scene: Scene) -> None:
    judged = await scene.examiner.examine([GOOD] * 20, KEYED, Share("a"))
    assert [len(answer.vouches) for answer in judged.answers] == [1] * 20
    assert judged.sure
    assert scene.workers.most == 0


@pytest.mark.parametrize(
    ("candidate", "question"),
    [
        (GOOD, CERTIFIED),
        (Candidate(form="bundle", data=b" " * MAX_BYTES_ON_LOOP + GOOD.data), KEYED),
        (GOOD, Question(digest=DIGEST, keys=tuple(pem_of(make_key()) for _ in range(5)))),
    ],
    ids=["certificates", "large", "many keys"],
)
async def test_what_may_take_long_is_judged_by_a_worker(scene: Scene, candidate: Candidate, question: Question) -> None:
    scene.workers.go.set()
    judged = await scene.examiner.examine([candidate], question, Share("a"))
    assert (len(judged.answers), judged.sure, scene.workers.most) == (1, True, 1)


async def test_one_namespace_leaves_a_worker_to_the_others(scene: Scene) -> None:
    flood = [scene.start(GOOD, "flood") for _ in range(5)]
    quiet = scene.start(GOOD, "quiet")
    while scene.workers.at_work < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert scene.workers.at_work == 2
    scene.workers.go.set()
    await asyncio.gather(*flood, quiet)
    assert scene.workers.most == 2


async def test_one_large_candidate_is_judged_at_a_time(scene: Scene) -> None:
    large = Candidate(form="bundle", data=b" " * (LARGE_BYTES + 1))
    several = [scene.start(large, f"ns-{number}") for number in range(4)]
    while scene.workers.at_work < 1:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert scene.workers.at_work == 1
    small = scene.start(GOOD, "quiet")
    while scene.workers.at_work < 2:
        await asyncio.sleep(0)
    scene.workers.go.set()
    await asyncio.gather(*several, small)


@pytest.mark.parametrize(("problem", "sure"), [("Timeout", False), ("Busy", False), ("Ended", True), ("Failed", True)])
async def test_what_no_worker_judged_counts_for_nothing_and_its_slowness_is_no_news(
    scene: Scene, problem: WorkerProblem, sure: bool
) -> None:
    scene.workers.go.set()
    scene.workers.problem = problem
    judged = await scene.examiner.examine([GOOD, GOOD], CERTIFIED, Share("a"))
    assert judged.answers == (Examined(problem=f"{problem}: as told"),) * 2
    assert judged.sure is sure


async def test_a_single_worker_serves_every_namespace_in_turn() -> None:
    scene = Scene(1)
    scene.workers.go.set()
    await asyncio.gather(*(scene.start(GOOD, f"ns-{number}") for number in range(5)))
    assert scene.workers.most == 1
    await scene.examiner.close()
