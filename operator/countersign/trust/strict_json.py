"""JSON from strangers: one meaning or none.

Where signed or hashed bytes are read by several programs, a text that two parsers can understand differently is an
attack. So an object that names a member twice is refused (RFC 8259, section 4 leaves its meaning open), and so are
bytes that are not UTF-8, escapes that stand for half a character, and the numbers that JSON has not (NaN, Infinity).
"""

import json
import re
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class BadJSON(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The bytes are not JSON with exactly one meaning, or not of the wanted shape."""


def parse(data: bytes) -> Any:
    """Read one JSON text. Costs about 10 ms for 1 MiB; the caller bounds the size. Raises BadJSON."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # fails if half of a surrogate pair is missing
        return value
    except (ValueError, RecursionError) as error:
        raise BadJSON(str(error)[:200]) from None


def parse_as(data: bytes, wanted: type[_T]) -> _T:
    """Read one JSON text into a msgspec type. Raises BadJSON."""
    try:
        return msgspec.convert(parse(data), wanted)
    except msgspec.ValidationError as error:
        raise BadJSON(str(error)[:200]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the member {name[:80]!r} stands twice in one object")
            seen.add(name)
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
