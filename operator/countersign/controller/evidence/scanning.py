"""Looks, in the background, at what would become of each running pod if it were created now.

Most pods carry a receipt that answers, and are judged here. Of the others (from before a policy, or a key) a gate is
asked, one pod at a time: it has the registries' credentials and a memory of what they said. Its answer says how many
requests to registries that took, and the next question waits until they are within the rate.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import structlog

from countersign.api.gate_calls import OutlookAnswer
from countersign.api.pod import Pod
from countersign.cluster.errors import ClusterError
from countersign.controller.evidence.outlook import Basis, Outlook, Word
from countersign.controller.evidence.pacing import Pace
from countersign.controller.instances.judging import Judging, NotYetError
from countersign.controller.instances.receipts import remember
from countersign.controller.keeping import woken
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.pod_record import PodRecord
from countersign.controller.watches.world import World
from countersign.runtime.logs import pod_keys
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.orders.exceptions import in_force_until
from countersign.trust.policies.compiled import compiled_policy
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import as_admitted
from countersign.trust.verdicts.outlook import known, outlook, recreated, weigh

IDLE_SECONDS: Final = 30.0
"""How often to look for pods that are due, whatever happened."""
PAUSE_SECONDS: Final = 0.5
"""Between two looks through all pods, however much happens."""
UNKNOWN_SECONDS: Final = 300.0
"""When to ask again about a pod of which the registry could not tell."""
BATCH: Final = 10
"""Pods that are judged in one go: about 10 ms."""

_log = structlog.get_logger(__name__)

Ask = Callable[[str, Pod], Awaitable[OutlookAnswer | None]]
"""What a gate says of a pod in a namespace (`controller.calls.gates`)."""


class Scanner:
    """Keeps the outlook of each pod (`PodRecord.outlook`). `changed` is told of each that became another."""

    def __init__(
        self,
        world: World,
        judging: Judging,
        ask: Ask,
        metrics: ControllerMetrics,
        *,
        pace: Pace,
        refresh: float,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refresh`: seconds after which a pod is asked about again."""
        self._world = world
        self._judging = judging
        self._ask = ask
        self._metrics = metrics
        self._pace = pace
        self._refresh = refresh
        self._clock = clock
        self._changed = changed
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._waiting: dict[str, None] = {}

    def wake(self) -> None:
        """Pods or policies may be others now."""
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._wake.clear()
            await self.judge_due()
            while self._waiting:
                delay = self._pace.delay()
                if delay > 0 and await woken(self._wake, delay):
                    break
                await self.ask_next()
                if self._wake.is_set():
                    break
            await asyncio.sleep(PAUSE_SECONDS)
            await woken(self._wake, IDLE_SECONDS)

    async def judge_due(self) -> None:
        """Judge each pod whose outlook is missing or outdated, as far as that takes no registry."""
        snapshot, now = self._world.rules.snapshot(), self._monotonic()
        judged = 0
        for record in list(self._world.live()):
            held = record.outlook
            if record.track.ended or (held is not None and held.snapshot is snapshot and now < held.until):
                continue
            try:
                await self._judge(record, snapshot)
            except (ClusterError, NotYetError) as error:
                _log.info(
                    "pod not looked at yet",
                    **pod_keys(record.track.namespace, record.track.name, record.track.uid),
                    error=str(error),
                )
            judged += 1
            if judged % BATCH == 0:
                await asyncio.sleep(0)
        self._metrics.scan_waiting.set(len(self._waiting))

    async def ask_next(self) -> None:
        """Ask about the pod that has waited longest, and plan when to ask the next."""
        uid = next(iter(self._waiting))
        del self._waiting[uid]
        record = self._world.pods.get(uid)
        held = record.outlook if record is not None else None
        if record is None or held is None or record.gone or record.track.ended:
            return
        answer = await self._ask(record.track.namespace, record.pod())
        now = self._monotonic()
        if answer is None:
            self._waiting[uid] = None
            self._pace.unanswered()
            return
        self._metrics.scan_requests.inc(answer.registry_requests)
        self._pace.spend(answer.registry_requests)
        if record.outlook is not held:
            return  # the pod or the policies changed meanwhile: it is judged anew, and asked about if need be
        words = tuple(Word(one.uid, one.outcome, one.reasons, one.not_injected) for one in answer.policies)
        if tuple((one.uid, one.generation) for one in answer.policies) != held.basis[0]:
            # The gate knows other policies than we do; one of us will hear of them within a moment.
            self._waiting[uid] = None
            return
        unknown = any(word.outcome == "unknown" for word in words)
        record.outlook = held._replace(
            words=words, until=now + (min(UNKNOWN_SECONDS, self._refresh) if unknown else self._refresh)
        )
        self._metrics.scan_waiting.set(len(self._waiting))
        if words != held.words:
            self._changed()

    async def _judge(self, record: PodRecord, snapshot: PolicySnapshot) -> None:
        uid, held = record.track.uid, record.outlook
        pod = record.pod()
        grant = self._judging.judged_grant(uid)
        receipt = remember(pod, grant.spec.pod.receipt_hash) if grant is not None else None
        subject = self._judging.subject(pod)
        policies = governing(snapshot, subject if receipt is None else as_admitted(receipt, subject))
        if not policies:
            record.outlook = None if held is None else Outlook((), Basis(), snapshot)
            self._waiting.pop(uid, None)
            return
        if receipt is None and grant is None:
            return  # it has been seen, but not judged: its record is on the way, and wakes us
        basis = _basis(snapshot, policies, self._clock())
        same = held is not None and held.basis == basis
        if same and held is not None and self._monotonic() < held.until:
            record.outlook = held._replace(snapshot=snapshot)
            return
        subject = await self._judging.subject_with_controller(record, grant)
        subject = subject if receipt is None else as_admitted(receipt, subject)
        needs = evidence_needs(policies, recreated(subject.pod, admitted=receipt is not None), snapshot.roots)
        evidence, complete = known(needs, self._judging.facts_of(uid, receipt) if receipt is not None else {})
        verdict = outlook(snapshot, subject, evidence, self._clock(), admitted=receipt is not None)
        words = tuple(
            Word(one.policy.uid, one.outcome, one.reasons, one.not_injected) for one in weigh(verdict, subject)
        )
        unknown = any(word.outcome == "unknown" for word in words)
        if not complete and unknown and self._pace.rate > 0:
            self._waiting.setdefault(uid)
            if same and held is not None:
                words = held.words  # what was said of it stands until it is said anew
        else:
            self._waiting.pop(uid, None)
        record.outlook = Outlook(words, basis, snapshot, math.inf)
        if held is None or held.words != words:
            self._changed()


def _basis(snapshot: PolicySnapshot, policies: tuple[Policy, ...], now: datetime) -> Basis:
    named = {root for policy in policies for rule in compiled_policy(policy).rules for root in rule.asks(None).roots}
    return Basis(
        tuple((policy.ref.uid, policy.ref.generation) for policy in policies),
        tuple(order.metadata.uid for order in snapshot.revocations),
        tuple(sorted(snapshot.roots[root].hash for root in named if root in snapshot.roots)),
        tuple(one.metadata.uid for one in snapshot.exceptions if in_force_until(one, now) is not None),
    )
