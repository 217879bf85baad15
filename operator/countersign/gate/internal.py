"""The calls of our controller on the gate's TLS port (`api.gate_calls`), for whoever signs them (`keys.calls`)."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
import structlog
from aiohttp import web

from countersign.api.gate_calls import EVIDENCE_PATH, OUTLOOK_PATH, TALLIES_PATH, OutlookQuestion
from countersign.gate.answers import RefuseNow
from countersign.gate.outlooks import Outlooks
from countersign.gate.reverification import Reverification
from countersign.gate.tallies import Tallies
from countersign.keys.calls import CallVerifier
from countersign.trust.evidence.reverification import EvidenceQuestion
from countersign.trust.images.reference import BadReference

ANSWER_SECONDS: Final = 20.0
"""For all images of one pod. Nobody waits for it as for an admission."""
MAX_QUESTIONS: Final = 4
"""At once. The controller asks two at a time; another one may take over from it."""

Q = TypeVar("Q")

_log = structlog.get_logger()
_decode_outlook = msgspec.json.Decoder(OutlookQuestion).decode
_decode_evidence = msgspec.json.Decoder(EvidenceQuestion).decode
_encode = msgspec.json.Encoder().encode


class InternalCalls:
    """The handlers of the paths."""

    def __init__(
        self,
        verifier: CallVerifier,
        tallies: Tallies,
        outlooks: Outlooks,
        reverification: Reverification,
        *,
        ready: Callable[[], bool | str],
        rejected: Callable[[int], None],
    ) -> None:
        self._verifier = verifier
        self._tallies = tallies
        self._outlooks = outlooks
        self._reverification = reverification
        self._ready = ready
        self._rejected = rejected
        self._answering = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        router.add_post(TALLIES_PATH, self._signed(self._report))
        router.add_post(OUTLOOK_PATH, self._signed(self._outlook))
        router.add_post(EVIDENCE_PATH, self._signed(self._evidence))

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
        return await self._answered(body, _decode_outlook, self._outlooks.answer)

    async def _evidence(self, body: bytes) -> web.Response:
        return await self._answered(body, _decode_evidence, self._reverification.answer)

    async def _answered(
        self, body: bytes, decode: Callable[[bytes], Q], answer: Callable[[Q, float], Awaitable[msgspec.Struct]]
    ) -> web.Response:
        if self._ready() is not True or self._answering >= MAX_QUESTIONS:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            question = decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._refuse(HTTPStatus.BAD_REQUEST)
        self._answering += 1
        try:
            until = asyncio.get_running_loop().time() + ANSWER_SECONDS
            found = await answer(question, until)
        except RefuseNow:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        except BadReference:
            return self._refuse(HTTPStatus.BAD_REQUEST)
        except Exception:
            _log.exception("question not answered", question=type(question).__name__)
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            self._answering -= 1
        return web.Response(body=_encode(found), content_type="application/json")

    def _refuse(self, status: HTTPStatus) -> web.Response:
        self._rejected(status)
        return web.Response(status=status)


_Handler = Callable[[bytes], Awaitable[web.Response]]
