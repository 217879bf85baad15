"""The audiences' rules, each audience's compiled once for each state of it."""

from typing import Final

from countersign.access.decision import Decision
from countersign.access.rules import weigh
from countersign.api.audience import AllowRule, ProtectedAudience
from countersign.trust.allow.rules import Compiled, Read, compiled

MAX_KEPT: Final = 1024
"""Audiences whose rules are kept compiled: some 100 KiB for one that has as many and as long ones as it may."""


class Rulebook:
    """Weighs decisions by the rules of their audiences."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[AllowRule, ...], Compiled]] = {}
        """By the audience's UID: its rules, as they stand there and compiled."""

    def weigh(self, decision: Decision, audience: ProtectedAudience, read: Read, *, explain: bool) -> Decision:
        """The decision, with the rules of the audience (`access.rules.weigh`)."""
        if not decision.active or not audience.spec.allow:
            return decision
        return weigh(decision, audience, self._compiled(audience), read, explain=explain)

    def _compiled(self, audience: ProtectedAudience) -> Compiled:
        rules, uid = audience.spec.allow, audience.metadata.uid
        kept = self._kept.get(uid)
        # The generation tells it, too, but only where the API server counts it; to compare texts takes a microsecond.
        if kept is not None and (kept[0] is rules or kept[0] == rules):
            return kept[1]
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[uid] = (rules, made := compiled(rules))
        return made
