"""Lines for standard output: in order, whole, and never at the price of waiting for whoever reads them."""

from __future__ import annotations

import os
import threading
import time

from countersign.runtime.line_writer import LineWriter, to_descriptor


def test_lines_come_out_whole_and_in_order() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(to_descriptor(writing))
    for number in range(1000):
        writer.put(f"line {number}\n".encode(), 1)
    assert writer.close(10)
    os.close(writing)
    with os.fdopen(reading) as reader:
        assert reader.read().splitlines() == [f"line {number}" for number in range(1000)]
    assert writer.dropped == 0


def test_a_reader_that_stands_still_keeps_nobody_waiting_and_what_finds_no_room_is_counted() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(to_descriptor(writing), max_waiting=256 * 1024)
    batch = b"x" * 1023 + b"\n"
    started = time.monotonic()
    for _ in range(2000):  # 2 MB, of which the pipe takes 64 KiB
        writer.put(batch, 1)
    assert time.monotonic() - started < 30
    assert not writer.close(0.1)
    dropped = writer.dropped
    assert dropped >= 2000 - 256 - 64
    # The reader comes back: all that was taken arrives.
    received = bytearray()
    while len(received) < (2000 - dropped) * 1024:
        received += os.read(reading, 65536)
    assert len(received) == (2000 - dropped) * 1024
    os.close(reading)
    os.close(writing)


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(to_descriptor(writing))  # SIGPIPE is ignored by Python
    writer.put(b"a\nb\n", 2)
    assert writer.close(10)
    os.close(writing)
    assert writer.dropped == 2


def test_what_is_being_written_still_takes_room() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def write(_: bytes) -> None:
        entered.set()
        go_on.wait(10)

    writer = LineWriter(write, max_waiting=10)
    writer.put(b"12345678\n", 1)
    assert entered.wait(10)
    writer.put(b"ab\n", 1)
    assert writer.dropped == 1
    go_on.set()
    assert writer.close(10)


def test_after_its_end_nothing_is_taken() -> None:
    written: list[bytes] = []
    writer = LineWriter(written.append)
    writer.put(b"a\n", 1)
    assert writer.close(10)
    writer.put(b"b\n", 1)
    assert (written, writer.dropped) == ([b"a\n"], 1)
