"""The life of a service process: an event loop (uvloop), and an orderly end at SIGTERM or SIGINT."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog
import uvloop

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A service: runs until the event is set, then closes what it opened and returns."""


def run_service(main: Main) -> int:
    """Run `main` on a uvloop. Returns the exit code: 0 after an orderly end, 1 when `main` raised (which is logged).

    The first SIGTERM or SIGINT sets the event; a second one cancels `main`.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_supervise(main))
    except asyncio.CancelledError:
        return 1
    except Exception:
        structlog.get_logger().exception("service failed")
        return 1
    return 0


async def _supervise(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(stop))

    def end() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await task
