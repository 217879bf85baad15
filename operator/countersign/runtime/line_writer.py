"""Lines for standard output from an event loop that must never wait for whoever reads them.

Writing to a pipe waits while the pipe is full, and a container runtime that stands still stops reading. So a thread
does the writing, what waits for it is bounded, and what goes beyond that is dropped and counted.
"""

import os
import threading
from collections.abc import Callable
from typing import Final

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""What waits for the reader: some ten thousand lines."""
CLOSE_SECONDS: Final = 2.0
"""How long the end of the process waits for the reader."""

Write = Callable[[bytes], object]
"""Writes all of it, or raises OSError."""


class LineWriter:
    """Writes batches of lines in the order in which they were given. `put` may be called from any thread."""

    def __init__(self, write: Write, *, max_waiting: int = MAX_WAITING_BYTES) -> None:
        self.dropped = 0
        """Lines that were not written: the reader stood still, or is gone."""
        self._write = write
        self._max_waiting = max_waiting
        self._waiting: list[tuple[bytes, int]] = []
        self._bytes = 0
        self._closed = False
        self._change = threading.Condition()
        # A daemon: one that hangs in a write must not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name="line-writer", daemon=True)
        self._thread.start()

    def put(self, lines: bytes, count: int) -> None:
        """Have `count` lines written, each with its newline. Never waits: what finds no room is dropped."""
        with self._change:
            if self._closed or self._bytes + len(lines) > self._max_waiting:
                self.dropped += count
                return
            self._waiting.append((lines, count))
            self._bytes += len(lines)
            self._change.notify()

    def close(self, within: float = CLOSE_SECONDS) -> bool:
        """Take nothing more, and wait for what was taken. False: it was not all written in time."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._closed:
                    self._change.wait()
                if not self._waiting:
                    return
                batch, self._waiting = self._waiting, []
            lines = b"".join(part for part, _ in batch)
            try:
                self._write(lines)
            except OSError:
                with self._change:
                    self.dropped += sum(count for _, count in batch)
            # Until it is written it takes room: a reader that stands still is not given twice as much.
            with self._change:
                self._bytes -= len(lines)


def to_descriptor(descriptor: int) -> Write:
    """Writes to a file descriptor, such as 1 for standard output."""

    def write(lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write
