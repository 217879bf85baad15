"""After the start: facts about the images that governed pods run, so that their successors need not wait for them.

A gate that starts knows nothing, and a rollout or a lost node may ask it for hundreds of pods at once. So it lists the
pods, once, and puts the questions that their admission would put, one after the other: those of the most pods first.
It takes what others leave: each image is followed by a pause as long as all requests of the gate meanwhile, its
admissions' included, are worth at the rate that was set.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from countersign.api.pod import Pod
from countersign.cluster.client import Page
from countersign.cluster.errors import ClusterError
from countersign.gate.evidence.inquiry import EvidenceSource, request_for
from countersign.gate.evidence.request import EvidenceRequest
from countersign.gate.state import GateState
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.scope import governing

PAGE_SIZE: Final = 50
"""Pods read at once: more would keep the loop busy for longer than a warm admission takes."""
MAX_QUESTIONS: Final = 5000
"""Distinct questions that are put; more than the memory of facts holds."""
QUESTION_SECONDS: Final = 30.0
RUNNING: Final = "status.phase!=Succeeded,status.phase!=Failed"

_log = structlog.get_logger()

Pods = Callable[[], AsyncIterator[Page[Pod]]]
"""Lists the pods of the cluster that run, page by page. Raises ClusterError."""


class WarmUp:
    """One warm-up."""

    def __init__(
        self, pods: Pods, state: GateState, evidence: EvidenceSource, sent: Callable[[], int], rate: float
    ) -> None:
        """`sent`: how many requests the gate has sent to registries so far. `rate`: of them, a second."""
        self._pods = pods
        self._state = state
        self._evidence = evidence
        self._sent = sent
        self._rate = rate

    async def run(self) -> None:
        """Return when it is done. What cannot be found out is left to the admissions that need it."""
        await self._state.listed()
        try:
            questions = await self._questions()
        except ClusterError as error:
            _log.warning("no warm-up: pods cannot be listed", error=str(error))
            return
        before, answered = self._sent(), 0
        for question, _ in questions.most_common(MAX_QUESTIONS):
            try:
                answered += await self._put(question)
            except Exception:
                _log.exception("warm-up ends: a question could not be put", image=str(question.reference))
                return
        _log.info("warm-up done", questions=len(questions), answered=answered, requests=self._sent() - before)

    async def _questions(self) -> Counter[EvidenceRequest]:
        """The questions, each with the number of pods that would put it."""
        found: Counter[EvidenceRequest] = Counter()
        async for page in self._pods():
            for pod in page.items or ():
                found.update(self._of(pod))
            await asyncio.sleep(0)
        return found

    def _of(self, pod: Pod) -> list[EvidenceRequest]:
        namespace = self._state.known_namespace(pod.metadata.namespace)
        if namespace is None:
            return []
        snapshot = self._state.snapshot
        policies = governing(snapshot, Subject(pod=pod, namespace=namespace, requester=None))
        if not policies:
            return []
        return [request_for(need, pod, namespace.name) for need in evidence_needs(policies, pod, snapshot.roots)]

    async def _put(self, question: EvidenceRequest) -> bool:
        loop = asyncio.get_running_loop()
        before, started = self._sent(), loop.time()
        answer = (await self._evidence.gather([question], started + QUESTION_SECONDS))[question]
        await asyncio.sleep(max(0.0, started + (self._sent() - before) / self._rate - loop.time()))
        return isinstance(answer, ImageFacts)
