"""Reads log files of any size, plain or gzip, for the lines that mention something."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

BLOCK_BYTES: Final = 1024 * 1024
MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""A line beyond it is passed over and counted: an audit event holds an object of at most 3 MiB, perhaps twice."""
_GZIP: Final = b"\x1f\x8b"


class Tally(msgspec.Struct):
    """What could not be used of a file."""

    unreadable: int = 0
    """Lines that mention the subject and are not what they should be, or are too long."""
    problem: str = ""
    """Why reading ended before the end of the file; empty: it did not."""


def lines_with(path: Path, words: Sequence[bytes], tally: Tally) -> Iterator[bytes]:
    """The lines that contain one of `words`. Whole blocks without any are passed over unread. Raises OSError."""
    if not words:
        return
    rest = b""
    skipping = False
    for block in _blocks(path, tally):
        head, newline, tail = block.rpartition(b"\n")
        if not newline:
            rest = b"" if skipping else rest + block
            if len(rest) > MAX_LINE_BYTES:
                rest, skipping = b"", True
                tally.unreadable += 1
            continue
        whole = head if skipping else rest + head
        if skipping:
            whole, skipping = head.partition(b"\n")[2], False
        rest = tail
        if any(word in whole for word in words):
            yield from (line for line in whole.split(b"\n") if any(word in line for word in words))
    if rest and any(word in rest for word in words):
        yield rest


def _blocks(path: Path, tally: Tally) -> Iterator[bytes]:
    with path.open("rb") as file:
        start = file.read(len(_GZIP))
        file.seek(0)
        source: IO[bytes] = gzip.GzipFile(fileobj=file) if start == _GZIP else file  # type: ignore[assignment]
        try:
            while block := source.read(BLOCK_BYTES):
                yield block
        except (zlib.error, EOFError, gzip.BadGzipFile) as error:
            tally.problem = f"it is damaged ({error}): what stands behind that place is not shown"
