"""The round of a part that keeps statuses up to now: at once when woken, at its next moment otherwise."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Never

import structlog

from countersign.cluster.errors import ClusterError

RETRY_SECONDS: Final = 1.0
LONGEST_SLEEP_SECONDS: Final = 60.0
"""A clock that is set meanwhile is noticed within this."""

_log = structlog.get_logger(__name__)


async def woken(wake: asyncio.Event, seconds: float) -> bool:
    """Wait to be woken, so long at the most; whether that happened."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return False
    return True


async def keep_on(
    keep: Callable[[], Awaitable[None]],
    until_next: Callable[[], float],
    wake: asyncio.Event,
    what: str,
    *,
    pause: float = 0.0,
) -> Never:
    """Call `keep` until cancelled.

    `until_next`: seconds until there is something to do anyway. `what`: for the log. `pause`: seconds to wait after
    being woken, for what else comes, unless there is something to do before.
    """

    def wait_for() -> float:
        return min(max(until_next(), 0.0), LONGEST_SLEEP_SECONDS)

    while True:
        wake.clear()
        try:
            await keep()
            wait = wait_for()
        except ClusterError as error:
            _log.warning("status not written, will be tried again", of=what, error=str(error))
            wait = RETRY_SECONDS
        if await woken(wake, wait) and pause:
            await asyncio.sleep(min(pause, wait_for()))
