"""`/healthz`, `/readyz` and `/metrics` over plain HTTP, on a port of their own.

`/metrics` is the Prometheus text format. Nothing here is secret and nothing can be changed through it.
"""

from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Probe = Callable[[], bool | str]
"""True: well. False, or a text that names what is missing: not (answered with status 503 and the text)."""


def always() -> bool:
    """The probe of a process that is well as long as it answers at all."""
    return True


class HealthServer:
    """Use as an async context manager, or call `start` and `close`. Port 0 takes a free one: see `port`."""

    def __init__(
        self,
        host: str,
        port: int,
        ready: Probe,
        live: Probe = always,
        *,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.port = port
        self._host = host
        self._registry = registry
        app = web.Application()
        app.router.add_get("/healthz", _handler(live))
        app.router.add_get("/readyz", _handler(ready))
        if registry is not None:
            app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listen. Raises OSError if the port cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _metrics(self, _request: web.Request) -> web.Response:
        assert self._registry is not None  # noqa: S101 - the route exists only with a registry
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _handler(probe: Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        state = probe()
        if state is True:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{state or 'not ready'}\n")

    return answer
