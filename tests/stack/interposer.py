"""A man in the middle between one process of ours and the API server, who makes the real one fail on demand.

It ends TLS on both sides (the lab's own CA, so that the process trusts it) and passes everything on, streams included,
until a test tells it to cut a request off, or to fall silent.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from tests.lab.controlplane import write_kubeconfig
from tests.lab.lab import Lab

Fate = Literal["pass", "before", "after"]
"""What becomes of a request: passed on; cut off before the API server has it; or once it has done what was asked."""
Rule = Callable[[str, str], Fate]
"""From method and path."""

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"})


class Interposer:
    """Use as a context manager. `url` is what the process takes for the API server."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._rule: Rule = lambda method, path: "pass"
        self._then: Callable[[], None] = lambda: None
        self._silent: Callable[[str], bool] = lambda path: False
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._runner: web.AppRunner
        self._session: aiohttp.ClientSession
        self.url = ""

    def kubeconfig(self, namespace: str, account: str) -> Path:
        """A kubeconfig of this service account that leads through here."""
        token = self._lab.service_account_token(namespace, account, expiration_seconds=86400)
        path = self._lab.folder / "kubeconfigs" / f"interposed-{account}-{id(self)}"
        return write_kubeconfig(path, self.url, self._lab.ca_file, token, namespace=namespace)

    def cut(self, rule: Rule, then: Callable[[], None]) -> None:
        """Cut off the first request that `rule` says so of, call `then` (in another thread), and pass on no more."""
        self._rule, self._then = rule, then

    def silence(self, which: Callable[[str], bool]) -> None:
        """From now on, streams and requests whose path `which` is true of get no more bytes, and no end."""
        self._silent = which

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(10):
            raise AssertionError("the interposer did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        files = self._lab.ca.server("interposer")
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(files.cert, files.key)
        trusted = ssl.create_default_context(cafile=str(self._lab.ca_file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusted, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=served)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fate = self._rule(request.method, request.path)
        if fate == "before":
            await self._end()
            raise ConnectionResetError
        sent = (one for one in request.headers.items() if one[0].lower() not in _HOP_BY_HOP)
        url = f"{self._lab.url}{request.raw_path}"
        async with self._session.request(
            request.method, url, data=body or None, headers=CIMultiDict(sent), allow_redirects=False
        ) as answer:
            if fate == "after":
                await answer.read()
                await self._end()
                raise ConnectionResetError
            return await self._pass_on(request, answer)

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = (one for one in answer.headers.items() if one[0].lower() not in _HOP_BY_HOP)
        response = web.StreamResponse(status=answer.status, headers=CIMultiDict(kept))
        await self._silenced(request.path)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await self._silenced(request.path)
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _silenced(self, path: str) -> None:
        while self._silent(path):
            await asyncio.sleep(0.1)

    async def _end(self) -> None:
        self._rule = lambda method, path: "before"
        then, self._then = self._then, lambda: None
        await asyncio.to_thread(then)
