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


async def keep_on(
    keep: Callable[[], Awaitable[None]], until_next: Callable[[], float], wake: asyncio.Event, what: str
) -> Never:
    """Call `keep` until cancelled. `until_next`: seconds until there is something to do anyway; `what`: for the log."""
    while True:
        wake.clear()
        try:
            await keep()
            wait = min(max(until_next(), 0.0), LONGEST_SLEEP_SECONDS)
        except ClusterError as error:
            _log.warning("status not written, will be tried again", of=what, error=str(error))
            wait = RETRY_SECONDS
        try:
            async with asyncio.timeout(wait):
                await wake.wait()
        except TimeoutError:
            pass
