"""An access log whose lines a test reads, and records to give it."""

from __future__ import annotations

import json
from typing import Any

from countersign.access.decision import Asker
from countersign.access.use import UNTOLD, Use
from countersign.cluster.reviews import UserInfo
from countersign.runtime.line_writer import LineWriter
from countersign.verifier.access_log import AccessLog, Decisions
from countersign.verifier.askers import KnownAsker
from countersign.verifier.introspection import Answer
from countersign.verifier.records import Record
from tests.unit.access import cases


class ReadLog:
    """An access log on a clock of the test's."""

    def __init__(self, *, decisions: Decisions = "All", rate: float = 100.0) -> None:
        self.ticks = 0.0
        self._written: list[bytes] = []
        self.log = AccessLog(
            LineWriter(self._written.append),
            decisions=decisions,
            rate=rate,
            clock=lambda: self.ticks,
            wall=lambda: cases.NOW.timestamp() + self.ticks,
        )

    def text(self) -> str:
        """All that was written; nothing more comes after it."""
        self.log.close()
        return b"".join(self._written).decode()

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text().splitlines()]


def asker(name: str = "api", namespace: str = "ledger") -> KnownAsker:
    return KnownAsker(Asker(namespace, name), UserInfo(f"system:serviceaccount:{namespace}:{name}"))


def answer(case: cases.Case, who: KnownAsker | None = None, *, known: bool = True) -> Answer:
    """What the verifier makes of a case; without an asker who is known, only that."""
    if not known:
        return Answer("AskerMissing", "no bearer token in the Authorization header")
    decision = case.decide()
    return Answer(decision.reason, decision.message, decision, case.claims, who or asker(), "payments/wg-1")


def record(made: Answer, use: Use = UNTOLD, endpoint: str = "introspect") -> Record:
    return Record(endpoint, made, use, 0.00041)
