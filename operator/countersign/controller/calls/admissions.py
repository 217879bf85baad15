"""Collects what the gates count of new pods, for the statuses of policies (`trust.verdicts.tally`)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from countersign.api import clock
from countersign.api.gate_calls import TallyReport
from countersign.api.policy_status import AdmissionCounts
from countersign.controller.watches.rules import AnyPolicyResource
from countersign.controller.watches.world import World
from countersign.trust.verdicts.tally import collected


class AdmissionCollector:
    """Keeps the sums. Gates are asked often, since what they count ends with them; what statuses show changes seldom,
    since etcd is no log. `changed` is told when it does.
    """

    def __init__(
        self,
        world: World,
        ask: Callable[[], Awaitable[Sequence[TallyReport]]],
        *,
        publish_seconds: float,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`publish_seconds`: how long what a status shows stays as it is, at least."""
        self._world = world
        self._ask = ask
        self._publish_seconds = publish_seconds
        self._clock = clock
        self._changed = changed
        self._monotonic = monotonic
        self._counts: dict[str, AdmissionCounts] = {}
        self._shown: dict[str, AdmissionCounts] = {}
        self._shown_at = float("-inf")

    async def run(self, every: float) -> None:
        """Collect until cancelled."""
        while True:
            await self.collect()
            await asyncio.sleep(every)

    async def collect(self) -> None:
        """One round."""
        reports = await self._ask()
        for uid in self._counts.keys() - self._world.rules.policies.keys():
            del self._counts[uid]
        for resource in self._world.rules.policies.values():
            self._counts[resource.metadata.uid] = self._sum(resource, reports)
        now = self._monotonic()
        if self._counts != self._shown and now >= self._shown_at + self._publish_seconds:
            self._shown, self._shown_at = dict(self._counts), now
            self._changed()

    def of(self, resource: AnyPolicyResource) -> AdmissionCounts:
        """What the status of the policy's present generation is to show."""
        uid, generation = resource.metadata.uid, resource.metadata.generation
        found = self._shown.get(uid)
        if found is None or found.generation != generation:
            found = self._shown[uid] = self._counts[uid] = self._sum(resource, ())
        return found

    def _sum(self, resource: AnyPolicyResource, reports: Sequence[TallyReport]) -> AdmissionCounts:
        meta = resource.metadata
        known, stored = self._counts.get(meta.uid), resource.status.admissions
        if stored is not None and stored.generation != meta.generation:
            stored = None
        found = [
            one.tally
            for report in reports
            for one in report.policies
            if (one.uid, one.generation) == (meta.uid, meta.generation)
        ]
        if known is None or known.generation != meta.generation:
            known = stored
        elif stored is not None:
            # Another controller may have led for a while: what it collected of gates that are gone stands here alone.
            found += stored.gates
        created = meta.creation_timestamp if meta.generation == 1 else None
        return collected(known, meta.generation, found, created or clock.format_time(self._clock()))
