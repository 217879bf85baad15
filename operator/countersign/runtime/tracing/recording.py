"""The tracer that records: which traces are kept, and where their spans go."""

import os
import time
from collections.abc import Callable
from typing import Final

from countersign.runtime.tracing.context import parse
from countersign.runtime.tracing.spans import UNRECORDED, Kind, Scope, Span, Unrecorded

MAX_ASKED_PER_SECOND: Final = 100
"""Traces a second that are kept because a caller says so. Neither gate nor verifier knows its callers at that point,
and Trace Context warns of those that have everything traced (section 7.3, denial of service)."""

_RANGE: Final = 1 << 56


class RecordingTracer:
    """Keeps a share of the traces that begin here, and those of callers who keep theirs.

    As OpenTelemetry's ParentBased(TraceIdRatioBased): the share is of random trace ids, so each service comes to the
    same answer about one trace; a caller who does not keep its trace is followed in that.
    """

    def __init__(self, ratio: float, sink: Callable[[Span], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`ratio`: 0 to 1."""
        self._bound = int(ratio * _RANGE)
        self._sink = sink
        self._clock = clock
        self._second = 0
        self._asked = 0

    def root(
        self, name: str, traceparent: str = "", *, kind: Kind = "internal", fruitless: bool = True
    ) -> Scope | Unrecorded:
        """As `spans.Tracer`."""
        parent = parse(traceparent) if traceparent else None
        if parent is None:
            trace_id, span_id = os.urandom(16), b""
            kept = self._in_share(trace_id)
        else:
            trace_id, span_id = parent.trace_id, parent.span_id
            kept = parent.sampled and (self._may_ask() or self._in_share(trace_id))
        if not kept:
            return UNRECORDED
        return Scope(Span(name, trace_id, span_id, self._sink, kind=kind), fruitless=fruitless)

    def _in_share(self, trace_id: bytes) -> bool:
        # The rightmost 7 bytes are the random ones (Trace Context level 2, section 3.2.2.3).
        return int.from_bytes(trace_id[-7:], "big") < self._bound

    def _may_ask(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._asked = second, 0
        self._asked += 1
        return self._asked <= MAX_ASKED_PER_SECOND
