"""The access log: a line of JSON on standard output for each decision about a token (docs/record.md has the members).

What an entitled asker (an introspector of the audience) is told has a line of its own, up to a rate for each asker.
Everybody else can mint no end of questions: from strangers without a token that counts there is never more than a sum,
from authenticated ones without a right to ask a few lines and then the sum. A sum (`event: summary`) says every
SUMMARY_SECONDS how many answers had no line. So nobody fills a disk, and nothing is left out in silence.

No credential comes in: neither token is ever passed here. What a relying party tells of a path may hold one all the
same, so what looks like one is cut.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal, Never

import msgspec

from countersign.api.clock import from_seconds
from countersign.runtime.line_writer import LineWriter
from countersign.trust.verdicts.denial import clean
from countersign.verifier.introspection import Answer
from countersign.verifier.limits import RateLimiter
from countersign.verifier.records import Record

FLUSH_SECONDS: Final = 1.0
FLUSH_BYTES: Final = 32 * 1024
"""Whichever comes first. What is not flushed yet is lost with a process that is killed."""
SUMMARY_SECONDS: Final = 10.0
MAX_SUMS: Final = 1000
"""Sums kept apart until they are told; further askers are told as one, `others`."""
UNENTITLED_RATE: Final = 1.0
UNENTITLED_BURST: Final = 20
"""Lines per second, and at once, about one authenticated asker who has no right to ask."""
ALL_UNENTITLED_RATE: Final = 20.0
ALL_UNENTITLED_BURST: Final = 200
"""The same for all of them together: whoever may create service accounts has as many as they like."""
BURST_SECONDS: Final = 10
"""An entitled asker may use up so many seconds of its rate at once."""
MAX_TEXT: Final = 512
"""Characters of one member."""
MAX_JTI: Final = 128

OTHERS: Final = "others"

Decisions = Literal["All", "Inactive"]

_RUN: Final = re.compile(r"[A-Za-z0-9_=%.~+-]{37,}")
"""Longer than a UUID, of the characters that tokens are made of (RFC 7515, appendix C; RFC 3986, section 2.1)."""
_SHOWN_OF_RUN: Final = 8

_NO_RIGHT: Final = frozenset({"AudienceNotSingle", "AudienceUnknown", "AudienceNotAccepted", "AskerNotIntrospector"})
"""Reasons that are given before, or because, the asker is found to be no introspector of the audience."""


class DecisionLine(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One decision. Members that say nothing are left out. Names as in every log of ours (docs/record.md)."""

    time: datetime
    log: Literal["access"]
    event: Literal["decision"]
    decision: str
    """Names this line, over all replicas and restarts."""
    endpoint: str
    active: bool
    reason: str
    asker: str
    seconds: float
    message: str = ""
    jti: str = ""
    audience: str = ""
    subject: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    grant: str = ""
    source_address: str = ""
    method: str = ""
    path: str = ""


class SummaryLine(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Answers that have no line of their own."""

    time: datetime
    log: Literal["access"]
    event: Literal["summary"]
    since: datetime
    endpoint: str
    active: bool
    reason: str
    asker: str
    count: int


class _Sum(msgspec.Struct, frozen=True, gc=False):
    asker: str
    endpoint: str
    active: bool
    reason: str


class AccessLog:
    """A Recorder that writes lines. `run` must run for them to be written in time; `close` ends it."""

    def __init__(
        self,
        writer: LineWriter,
        *,
        decisions: Decisions = "All",
        rate: float = 100.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`rate`: lines per second about one entitled asker; 0: no limit."""
        self.written = self.summed = 0
        """Decisions since the start with a line of their own, and in a sum."""
        self._writer = writer
        self._inactive_only = decisions == "Inactive"
        self._clock = clock
        self._wall = wall
        self._entitled = RateLimiter(rate, max(1, round(rate * BURST_SECONDS)))
        self._unentitled = RateLimiter(UNENTITLED_RATE, UNENTITLED_BURST)
        self._all_unentitled = RateLimiter(ALL_UNENTITLED_RATE, ALL_UNENTITLED_BURST)
        self._encode = msgspec.json.Encoder().encode
        self._buffer = bytearray()
        self._lines = 0
        self._sums: dict[_Sum, int] = {}
        self._summed_at = clock()
        self._since = wall()
        # A counter behind a random beginning costs a tenth of a random id for each line.
        self._process = os.urandom(6).hex()
        self._number = 0

    def __call__(self, record: Record) -> None:
        """A Recorder."""
        answer = record.answer
        if answer.active and self._inactive_only:
            return
        asker = str(answer.asker) if answer.asker else ""
        if not asker or not self._has_turn(asker, record):
            self._sum(_Sum(asker, record.endpoint, answer.active, answer.reason))
            return
        self.written += 1
        self._number += 1
        now = from_seconds(self._wall())
        self._add(self._encode(line_of(record, asker=asker, now=now, decision=f"{self._process}-{self._number}")))

    async def run(self) -> Never:
        """Write what waits, each second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def close(self) -> None:
        """Write what is left. May take as long as the writer waits for its reader."""
        self._tell_sums()
        self._hand_over()
        self._writer.close()

    def flush(self) -> None:
        """Hand over what waits."""
        if self._clock() - self._summed_at >= SUMMARY_SECONDS:
            self._tell_sums()
        self._hand_over()

    def figures(self) -> dict[str, float]:
        """Decisions since the start, by what became of their lines. Dropped ones are among the written."""
        return {"written": self.written, "summed": self.summed, "dropped": self._writer.dropped}

    def _has_turn(self, asker: str, record: Record) -> bool:
        now = self._clock()
        if is_entitled(record):
            return self._entitled.delay(asker, now) == 0
        return self._unentitled.delay(asker, now) == 0 and self._all_unentitled.delay("", now) == 0

    def _sum(self, which: _Sum) -> None:
        self.summed += 1
        if which not in self._sums and len(self._sums) >= MAX_SUMS:
            which = msgspec.structs.replace(which, asker=OTHERS)
        self._sums[which] = self._sums.get(which, 0) + 1

    def _tell_sums(self) -> None:
        wall = self._wall()
        now, since = from_seconds(wall), from_seconds(self._since)
        for one, count in self._sums.items():
            line = SummaryLine(
                now, "access", "summary", since, one.endpoint, one.active, one.reason, one.asker, count
            )  # fmt: skip
            self._add(self._encode(line))
        self._sums.clear()
        self._summed_at, self._since = self._clock(), wall

    def _add(self, line: bytes) -> None:
        self._buffer += line
        self._buffer += b"\n"
        self._lines += 1
        if len(self._buffer) >= FLUSH_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._lines:
            self._writer.put(bytes(self._buffer), self._lines)
            self._buffer.clear()
            self._lines = 0


def is_entitled(record: Record) -> bool:
    """Whether the asker may ask about this audience: whoever owns the audience has named it.

    `/explain` answers everybody about tokens of their own namespace, so nobody is entitled to lines by asking there.
    """
    decision = record.answer.decision
    return decision is not None and decision.reason not in _NO_RIGHT and record.endpoint != "explain"


def line_of(record: Record, *, asker: str, now: datetime, decision: str) -> DecisionLine:
    """The line of one decision. Every text is bounded, and holds nothing that a terminal would obey."""
    answer, use, claims = record.answer, record.use, record.answer.claims
    pod = claims.pod if claims else None
    return DecisionLine(
        time=now,
        log="access",
        event="decision",
        decision=decision,
        endpoint=record.endpoint,
        active=answer.active,
        reason=answer.reason,
        asker=asker,
        seconds=round(record.seconds, 6),
        message=_message(answer),
        jti=clean(claims.jti, MAX_JTI) if claims else "",
        audience=clean(" ".join(claims.audiences), MAX_TEXT) if claims else "",
        subject=clean(claims.subject, MAX_TEXT) if claims else "",
        namespace=clean(claims.namespace, MAX_TEXT) if claims else "",
        pod=clean(f"{claims.namespace}/{pod.name}", MAX_TEXT) if claims and pod else "",
        pod_uid=clean(pod.uid, MAX_JTI) if pod else "",
        grant=clean(answer.grant, MAX_TEXT),
        source_address=use.source_address,
        method=clean(use.method, MAX_TEXT),
        path=shown(use.path),
    )


def shown(path: str) -> str:
    """A path without what may be a credential in it."""
    if not path:
        return ""
    return clean(_RUN.sub(lambda run: f"{run[0][:_SHOWN_OF_RUN]}...({len(run[0])})", path), MAX_TEXT)


def _message(answer: Answer) -> str:
    """Why not. What is said of a token that did not verify comes from that token: it stays out."""
    return "" if answer.decision is None or answer.active else clean(answer.decision.message, MAX_TEXT)
