"""Splitting a byte stream into lines, each of bounded size. Pure."""

from countersign.cluster.errors import MalformedAnswerError


class LineSplitter:
    """Feed chunks, get complete lines (without their newline).

    aiohttp's own `readline` fails beyond its 64 kB buffer, and an object in a watch may take 1.5 MiB; here a long line
    costs one join, however many chunks it comes in.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes. Raises MalformedAnswerError for a line longer than the limit."""
        first, *rest = chunk.split(b"\n")
        self._grow(first)
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._size = [], 0
        self._grow(rest[-1])
        return [line for line in lines if line]

    def _grow(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise MalformedAnswerError(f"a line of the stream is longer than {self._limit} bytes")
        if part:
            self._parts.append(part)
