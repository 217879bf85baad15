"""Collects what the gates count of new pods, for the statuses of policies (`trust.verdicts.tally`)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from countersign.api import clock
from countersign.api.gate_calls import TallyReport
from countersign.api.policy import AdmissionCounts
from countersign.controller.world import AnyPolicyResource, World
from countersign.trust.verdicts.tally import collected


class AdmissionCollector:
    """Keeps the sums. `changed` is told when some have grown, once a round: a status is no log."""

    def __init__(
        self,
        world: World,
        ask: Callable[[], Awaitable[Sequence[TallyReport]]],
        *,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._world = world
        self._ask = ask
        self._clock = clock
        self._changed = changed
        self._counts: dict[str, AdmissionCounts] = {}

    async def run(self, every: float) -> None:
        """Collect until cancelled."""
        while True:
            await self.collect()
            await asyncio.sleep(every)

    async def collect(self) -> None:
        """One round."""
        reports = await self._ask()
        before = dict(self._counts)
        for uid in self._counts.keys() - self._world.policies.keys():
            del self._counts[uid]
        for resource in self._world.policies.values():
            self._counts[resource.metadata.uid] = self._sum(resource, reports)
        if self._counts != before:
            self._changed()

    def of(self, resource: AnyPolicyResource) -> AdmissionCounts:
        """The counts of the policy's present generation."""
        found = self._counts.get(resource.metadata.uid)
        if found is None or found.generation != resource.metadata.generation:
            found = self._counts[resource.metadata.uid] = self._sum(resource, ())
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
