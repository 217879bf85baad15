"""W3C Trace Context: what the header `traceparent` says (https://www.w3.org/TR/trace-context/, section 3.2).

kube-apiserver sends it to webhooks where its tracing is on (KEP-647), a relying party may send it to the verifier. It
is read, and sent nowhere: registries are none of the caller's business. `tracestate` is not looked at.
"""

import re
from typing import Final, NamedTuple

HEADER: Final = "traceparent"
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_SAMPLED: Final = 0x01
_MAX: Final = 512


class Parent(NamedTuple):
    """The span that somebody else's work belongs to."""

    trace_id: bytes
    """16 bytes, not all zero."""
    span_id: bytes
    """8 bytes, not all zero."""
    sampled: bool


def parse(header: str) -> Parent | None:
    """What a header says; None where it is no traceparent, for which a new trace is begun (section 4.3)."""
    found = _FORM.fullmatch(header) if len(header) <= _MAX else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    trace_id, span_id = bytes.fromhex(trace), bytes.fromhex(span)
    if not any(trace_id) or not any(span_id):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
