"""Verifies, in the background, the evidence of running pods again: at a bounded rate, and of each image once.

Only evidence that can turn is looked at (`CompiledRule.may_turn`). A gate finds out; what it says is kept
(`controller.evidence.reverified`), and every pod that it is about is judged anew where it says something new. No
answer, or one that is not definite, changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from countersign.cluster.errors import ClusterError
from countersign.controller.evidence.pacing import Pace
from countersign.controller.evidence.reverified import Reverified
from countersign.controller.instances.judging import Judging, NotYetError
from countersign.controller.keeping import woken
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.world import World
from countersign.trust.evidence.reverification import EvidenceAnswer, EvidenceQuestion, Inquiry, grown
from countersign.trust.policies.compiled import compiled

IDLE_SECONDS: Final = 30.0
"""How often to look for what is due, whatever happened."""
MAX_MEMORY_SECONDS: Final = 60.0
"""How old an answer from a gate's memory may be: some replicas of an image may ask through different tags."""
BATCH: Final = 10
"""Pods that are judged in one go: about 10 ms."""

_log = structlog.get_logger(__name__)

Ask = Callable[[EvidenceQuestion], Awaitable[EvidenceAnswer | None]]
"""Puts a question to a gate (`controller.calls.gates`); None: none answers now."""


class Reverifier:
    """Asks what is due. `requeue` is told of pods that were judged anew, `everybody` once the brake holds others."""

    def __init__(
        self,
        world: World,
        judging: Judging,
        reverified: Reverified,
        ask: Ask,
        *,
        pace: Pace,
        metrics: ControllerMetrics,
        refresh: float,
        requeue: Callable[[str], None],
        everybody: Callable[[], None],
    ) -> None:
        self._world = world
        self._judging = judging
        self._reverified = reverified
        self._ask = ask
        self._pace = pace
        self._metrics = metrics
        self._max_age = min(MAX_MEMORY_SECONDS, refresh)
        self._requeue = requeue
        self._everybody = everybody
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Pods or policies may be others now."""
        self._wake.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._wake.clear()
            self._forget_ended(self._reverified.pods())
            while self._pace.rate > 0 and self._reverified.due():
                delay = self._pace.delay()
                if delay > 0:
                    await asyncio.sleep(delay)
                await self.ask_next()
            self._metrics.reverify_due.set(self._reverified.due())
            await woken(self._wake, self._idle())

    def _idle(self) -> float:
        if self._pace.rate <= 0:
            return IDLE_SECONDS
        return min(max(self._reverified.until_next(), 0.1), IDLE_SECONDS)

    async def ask_next(self) -> None:
        """Put the question that is due first, and take in the answer."""
        inquiry = self._reverified.next()
        entry = self._reverified.entry(inquiry) if inquiry is not None else None
        if inquiry is None or entry is None:
            return
        self._forget_ended(list(entry.pods))
        if not entry.pods:
            return
        self._metrics.reverify_due.set(self._reverified.due())
        answer = await self._ask(EvidenceQuestion(inquiry=inquiry, max_age_seconds=self._max_age))
        if answer is None:
            self._metrics.reverifications.labels("unanswered").inc()
            self._pace.unanswered()
            return
        self._metrics.scan_requests.inc(answer.registry_requests)
        self._pace.spend(answer.registry_requests)
        if answer.facts is None:
            self._metrics.reverifications.labels("unknown").inc()
            self._reverified.postpone(entry)
            _log.info("evidence not verified again", image=inquiry.need.image, reason=answer.reason)
            return
        if not set(inquiry.need.root_hashes) <= set(answer.facts.checked_roots):
            # The gate knows other roots than we do; one of us will hear of it within a moment.
            self._metrics.reverifications.labels("unknown").inc()
            self._reverified.postpone(entry)
            return
        self._metrics.reverifications.labels("definite").inc()
        facts = grown(entry.facts, answer.facts, compiled(self._world.rules.snapshot()), inquiry.namespace)
        if self._reverified.answered(entry, facts):
            await self._judge(inquiry, list(entry.pods))

    async def _judge(self, inquiry: Inquiry, uids: list[str]) -> None:
        """Judge all pods that it is about, then count what the policies would suspend, and only then write anything."""
        for index, uid in enumerate(uids):
            record, grant = self._world.pods.get(uid), self._judging.judged_grant(uid)
            if record is None or record.gone or record.track.ended or grant is None:
                continue
            record.outlook = None  # it was worked out by what was known before
            try:
                await self._judging.judge(record, grant)
            except (ClusterError, NotYetError) as error:
                record.judged = False
                _log.info("pod not judged yet", pod_uid=uid, error=str(error))
            if index % BATCH == BATCH - 1:
                await asyncio.sleep(0)
        _log.info("evidence verified again", image=inquiry.need.image, pods=len(uids))
        if self._judging.weigh_again():
            self._everybody()
            return
        for uid in uids:
            self._requeue(uid)

    def _forget_ended(self, uids: Iterable[str]) -> None:
        for uid in uids:
            record = self._world.pods.get(uid)
            if record is None or record.gone or record.track.ended:
                self._reverified.forget(uid)
