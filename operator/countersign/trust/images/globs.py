"""Globs over `registry/repository`: `*` within one segment, a final `/**` one or more segments.

No regular expressions: a segment is compared piece by piece from left to right, each piece searched once, so the time
is linear in the text for any glob.
"""

from typing import Final

_REST: Final = "**"


class Glob:
    """One compiled glob. `text` is as the policy states it."""

    __slots__ = ("_exact", "_literal_prefix", "_open_end", "_segments", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        segments = text.split("/")
        self._open_end = len(segments) > 1 and segments[-1] == _REST
        if self._open_end:
            segments.pop()
        self._segments = tuple(_pieces(segment) for segment in segments)
        literal = "*" not in "".join(segments)
        self._exact = literal and not self._open_end
        # The usual glob, `registry/team/**`, is one comparison.
        self._literal_prefix = "/".join(segments) + "/" if literal and self._open_end else ""

    def matches(self, name: str) -> bool:
        """Whether the glob matches `name` whole. `name` is a normalised `registry/repository`, no tag, no digest."""
        if self._exact:
            return name == self.text
        if self._literal_prefix:
            return name.startswith(self._literal_prefix) and len(name) > len(self._literal_prefix)
        segments = name.split("/")
        wanted = len(self._segments)
        if len(segments) != wanted and not (self._open_end and len(segments) > wanted):
            return False
        if self._open_end and len(segments) == wanted:
            return False
        return all(_segment_matches(pieces, segment) for pieces, segment in zip(self._segments, segments, strict=False))

    def __repr__(self) -> str:
        return f"Glob({self.text!r})"


def _pieces(segment: str) -> tuple[str, ...]:
    """The literal pieces between the stars; one piece alone: no star. Runs of stars mean what one star means."""
    pieces = segment.split("*")
    return (pieces[0], *(piece for piece in pieces[1:-1] if piece), pieces[-1]) if len(pieces) > 1 else (segment,)


def _segment_matches(pieces: tuple[str, ...], segment: str) -> bool:
    if len(pieces) == 1:
        return segment == pieces[0]
    first, *middle, last = pieces
    if len(segment) < len(first) + len(last) or not segment.startswith(first) or not segment.endswith(last):
        return False
    position, end = len(first), len(segment) - len(last)
    for piece in middle:
        # The leftmost place leaves most room for what follows, so no other place need be tried.
        found = segment.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
