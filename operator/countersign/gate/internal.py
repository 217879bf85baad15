"""The calls of our controller on the gate's TLS port (`api.gate_calls`), for whoever signs them (`keys.calls`)."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from aiohttp import web

from countersign.api.gate_calls import OUTLOOK_PATH, TALLIES_PATH, OutlookQuestion
from countersign.gate.answers import RefuseNow
from countersign.gate.outlooks import Outlooks
from countersign.gate.tallies import Tallies
from countersign.keys.calls import CallVerifier
from countersign.runtime.logs import pod_keys

OUTLOOK_SECONDS: Final = 20.0
"""For all images of one pod. Nobody waits for it as for an admission."""
MAX_OUTLOOKS: Final = 4
"""Questions at once. The controller asks one at a time; another one may take over from it."""

_log = structlog.get_logger()
_decode = msgspec.json.Decoder(OutlookQuestion).decode
_encode = msgspec.json.Encoder().encode


class InternalCalls:
    """The handlers of both paths."""

    def __init__(
        self,
        verifier: CallVerifier,
        tallies: Tallies,
        outlooks: Outlooks,
        *,
        ready: Callable[[], bool | str],
        rejected: Callable[[int], None],
    ) -> None:
        self._verifier = verifier
        self._tallies = tallies
        self._outlooks = outlooks
        self._ready = ready
        self._rejected = rejected
        self._answering = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_post(TALLIES_PATH, self._signed(self._report))
        router.add_post(OUTLOOK_PATH, self._signed(self._outlook))

    def _signed(self, handler: "_Handler") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            header = request.headers.get("Authorization", "")
            # A stranger is turned away before a body is read.
            if not self._verifier.claims(header):
                return self._refuse(HTTPStatus.UNAUTHORIZED)
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            if not self._verifier.verify(header, request.path, body):
                return self._refuse(HTTPStatus.UNAUTHORIZED)
            return await handler(body)

        return serve

    async def _report(self, _body: bytes) -> web.Response:
        return web.Response(body=_encode(self._tallies.report()), content_type="application/json")

    async def _outlook(self, body: bytes) -> web.Response:
        if self._ready() is not True or self._answering >= MAX_OUTLOOKS:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            question = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._refuse(HTTPStatus.BAD_REQUEST)
        self._answering += 1
        try:
            until = asyncio.get_running_loop().time() + OUTLOOK_SECONDS
            answer = await self._outlooks.answer(question, until)
        except RefuseNow:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        except Exception:
            meta = question.pod.metadata
            _log.exception("outlook failed", **pod_keys(question.namespace, meta.name, meta.uid))
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            self._answering -= 1
        return web.Response(body=_encode(answer), content_type="application/json")

    def _refuse(self, status: HTTPStatus) -> web.Response:
        self._rejected(status)
        return web.Response(status=status)


_Handler = Callable[[bytes], Awaitable[web.Response]]
