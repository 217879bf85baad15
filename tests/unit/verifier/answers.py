"""Answers as recorders are told of them, and the verifier's memory of uses over a clock in the test's hand."""

from __future__ import annotations

from datetime import UTC, datetime

from countersign.access.claims import ObjectClaim
from countersign.access.decision import Asker, Decision, Reason
from countersign.access.use import use_of
from countersign.api.verifier_calls import TokenUses, UsesQuestion
from countersign.cluster.reviews import UserInfo
from countersign.verifier.askers import KnownAsker
from countersign.verifier.introspection import Answer
from countersign.verifier.records import Record
from countersign.verifier.uses import MAX_ENTRIES, Uses
from tests.unit.access import cases

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LEDGER = ("ledger", "api")


def answered(
    reason: Reason = "Active",
    *,
    uid: str = "pod-uid",
    audience: str = cases.AUDIENCE,
    address: str = "",
    asker: tuple[str, str] | None = LEDGER,
    endpoint: str = "introspect",
    decided: bool = True,
) -> Record:
    """One answer. `decided` False: it was given before anything of the token was weighed."""
    known = KnownAsker(Asker(*asker), UserInfo(username="x")) if asker else None
    claims = cases.claims(audiences=(audience,), pod=ObjectClaim("api-7d9c", uid))
    decision = Decision(reason == "Active", reason, "") if decided else None
    return Record(endpoint, Answer(reason, "", decision, claims, known), use_of(source_address=address), 0.001)


class Seen:
    """One verifier's memory, from a moment on."""

    def __init__(self, started: float = 0.0, *, capacity: int = MAX_ENTRIES) -> None:
        self.now = START.timestamp() + started
        began = datetime.fromtimestamp(self.now, UTC)
        self.uses = Uses(began, clock=lambda: self.now, capacity=capacity)

    def at(self, seconds: float, record: Record) -> None:
        """An answer at so many seconds after START."""
        self.now = START.timestamp() + seconds
        self.uses(record)

    def all(self) -> list[TokenUses]:
        return list(self.uses.report(UsesQuestion()).uses)

    def one(self) -> TokenUses:
        (found,) = self.all()
        return found
