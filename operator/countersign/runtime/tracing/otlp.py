"""Spans as OTLP: ExportTraceServiceRequest in binary protobuf, written by hand.

The messages are a dozen fields of opentelemetry/proto/{collector/trace,trace,resource,common}/v1, stable since OTLP
1.0; the numbers below are theirs. Wire types and varints: https://protobuf.dev/programming-guides/encoding/. The
tests have it read by the official definitions.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from countersign.runtime.tracing.spans import Kind, Span, Value

SCOPE: Final = "countersign"
_KINDS: Final[Mapping[Kind, int]] = {"internal": 1, "server": 2}
_ERROR: Final = 2
_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack
_VARINT, _I64, _LENGTH, _I32 = 0, 1, 2, 5
_SAMPLED: Final = 0x01


def encode(spans: Iterable[Span], resource: Mapping[str, Value], version: str) -> bytes:
    """The body of one export: spans of one process."""
    scope = _text(1, SCOPE) + _text(2, version)
    in_scope = _message(1, scope) + b"".join(_message(2, _span(span)) for span in spans)
    return _message(1, _message(1, _attributes(1, resource)) + _message(2, in_scope))


def _span(span: Span) -> bytes:
    parts = [
        _message(1, span.trace_id),
        _message(2, span.span_id),
        _message(4, span.parent_id) if span.parent_id else b"",
        _text(5, span.name),
        _number(6, _KINDS[span.kind]),
        _tag(7, _I64) + _fixed64(span.started),
        _tag(8, _I64) + _fixed64(max(span.ended, span.started)),
        _attributes(9, span.attributes),
        _message(15, _text(2, span.error) + _number(3, _ERROR)) if span.error else b"",
        _tag(16, _I32) + _fixed32(_SAMPLED),
    ]
    return b"".join(parts)


def _attributes(field: int, values: Mapping[str, Value]) -> bytes:
    return b"".join(_message(field, _text(1, name) + _message(2, _value(value))) for name, value in values.items())


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return _number(2, int(value))
    if isinstance(value, int):
        return _number(3, value)
    if isinstance(value, float):
        return _tag(4, _I64) + _double(value)
    return _text(1, value)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode("utf-8", "replace"))


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, _LENGTH) + _varint(len(content)) + content


def _number(field: int, number: int) -> bytes:
    return _tag(field, _VARINT) + _varint(number)


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # int64: two's complement
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
