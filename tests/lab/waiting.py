"""Waiting for something that another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25
TIMEOUT_SECONDS = 30.0
"""For what takes a second: a machine that is busy with other tests is slow, and not wrong."""


def wait_for(probe: Callable[[], T | None], *, what: str, timeout: float = TIMEOUT_SECONDS) -> T:
    """The first answer of `probe` that is something: true, not empty. Raises AssertionError with `what` in the end.

    The pauses between two probes grow: what is slow is not made slower by being asked all the time.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE_SECONDS
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.25, LONGEST_PAUSE_SECONDS)
