"""Spans, and the one that is current: what a service needs to be traced, and all of it that is loaded when it is not.

    with tracer.root("gate.review", traceparent) as span:       # begun by whoever holds a Tracer
        with child("judge") as judging:                         # anywhere below: nothing, unless a root is recorded
            judging.set({"countersign.result": "denied"})

The current span is a context variable (PEP 567), as in OpenTelemetry: a task that is started inherits it, so that a
verification in flight belongs to the review that began it, and the layers between need not hand a tracer down. Outside
of a recorded root `child` costs the look at that variable and an empty context manager, some 300 ns.

Names of attributes are OpenTelemetry's where it has one (`k8s.pod.uid`), else ours (`countersign.grant`). Never a
token, a credential or a receipt.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Literal, Protocol

Value = str | int | float | bool
"""Of an attribute (OTLP AnyValue, without lists)."""
Kind = Literal["internal", "server"]

MAX_ATTRIBUTES: Final = 64
MAX_TEXT: Final = 1024
"""Characters of an attribute's text; the rest is cut off."""


class Span:
    """Something that took time, in a trace. Times are in ns since 1970."""

    __slots__ = ("_sink", "attributes", "children", "ended", "error", "kind", "name", "parent_id", "span_id", "started",
                 "trace_id")  # fmt: skip

    def __init__(
        self,
        name: str,
        trace_id: bytes,
        parent_id: bytes,
        sink: Callable[["Span"], None],
        *,
        kind: Kind = "internal",
        started: int = 0,
    ) -> None:
        self.name = name
        self.kind = kind
        self.trace_id = trace_id
        self.span_id = os.urandom(8)
        self.parent_id = parent_id
        """Empty: the trace begins here."""
        self.started = started or time.time_ns()
        self.ended = 0
        self.attributes: dict[str, Value] = {}
        self.error = ""
        """Name of the exception that ended it; never its words, which may quote what came from outside."""
        self.children = 0
        self._sink = sink

    @property
    def recorded(self) -> bool:
        """Whether anybody will see what is set."""
        return True

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Set attributes. Empty texts are left out, long ones cut."""
        for name, value in attributes.items():
            if value != "" and len(self.attributes) < MAX_ATTRIBUTES:
                self.attributes[name] = value[:MAX_TEXT] if isinstance(value, str) else value

    def begin(self, name: str, *, started: int = 0) -> "Span":
        """A span below this one."""
        self.children += 1
        return Span(name, self.trace_id, self.span_id, self._sink, started=started)

    def end(self) -> None:
        """Hand it to whoever collects spans."""
        self.ended = time.time_ns()
        self._sink(self)


class Unrecorded:
    """Stands for a span where nobody traces. Takes everything and keeps nothing."""

    __slots__ = ()

    @property
    def recorded(self) -> bool:
        """Whether anybody will see what is set."""
        return False

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Nothing."""

    def __enter__(self) -> "Unrecorded":
        return self

    def __exit__(self, *_: object) -> None:
        return None


UNRECORDED: Final = Unrecorded()
_NONE: Final[Mapping[str, Value]] = {}
_current: ContextVar[Span | None] = ContextVar("countersign_span", default=None)


class Scope:
    """Makes a span the current one, and ends it. `fruitless`: False drops one that nothing happened below."""

    __slots__ = ("_fruitless", "_span", "_token")

    def __init__(self, span: Span, *, fruitless: bool = True) -> None:
        self._span = span
        self._fruitless = fruitless
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Span:
        self._token = _current.set(self._span)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None  # noqa: S101 - entered
        _current.reset(self._token)
        if kind is not None:
            self._span.error = kind.__name__
        if self._fruitless or self._span.children or kind is not None:
            self._span.end()


class Tracer(Protocol):
    """Begins traces."""

    def root(
        self, name: str, traceparent: str = "", *, kind: Kind = "internal", fruitless: bool = True
    ) -> Scope | Unrecorded:
        """The span of a piece of work, as a context manager; one that is not sampled records nothing.

        `traceparent` is the header of that name of whoever asked for the work (W3C Trace Context), as it came.
        `fruitless`: False drops the span if nothing was begun below it.
        """


class Untraced:
    """Nobody traces."""

    def root(
        self, name: str, traceparent: str = "", *, kind: Kind = "internal", fruitless: bool = True
    ) -> Scope | Unrecorded:
        """Nothing."""
        return UNRECORDED


UNTRACED: Final = Untraced()


def current() -> Span | Unrecorded:
    """The span of the work that is going on."""
    return _current.get() or UNRECORDED


def child(name: str, attributes: Mapping[str, Value] = _NONE) -> Scope | Unrecorded:
    """A span below the current one, as a context manager."""
    above = _current.get()
    if above is None:
        return UNRECORDED
    span = above.begin(name)
    span.set(attributes)
    return Scope(span)


def happened(name: str, seconds: float, attributes: Mapping[str, Value]) -> None:
    """A span below the current one, for what has just ended and took so long."""
    above = _current.get()
    if above is not None:
        span = above.begin(name, started=time.time_ns() - int(seconds * 1e9))
        span.set(attributes)
        span.end()
