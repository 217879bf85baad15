"""The TLS port of a service."""

import ssl
from typing import Final

from aiohttp import web

BACKLOG: Final = 1024
"""Connections that wait to be accepted: after a restart every client of the old process comes back at once."""


async def listen(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext) -> int:
    """Serve the runner's application over TLS. Returns the port, which is another one where 0 asked for any.

    Raises OSError if the port cannot be had. The runner's `cleanup` closes it.
    """
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context, backlog=BACKLOG).start()
    bound: int = runner.addresses[0][1]
    return bound
