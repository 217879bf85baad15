"""The HTTP side of the verifier: RFC 7662 over TLS.

    POST /introspect   token=...&token_type_hint=...  ->  200 {"active": true, ...} or exactly {"active": false}
                       source_address, method, path, scope: what the relying party knows of the use (access.use)
    POST /explain      token=...                      ->  200 {"active": ..., "reason": ..., "message": ...}
    ANY  /authorize    for proxies: see verifier.authorize

At the first two the asker shows its own token in `Authorization: Bearer`. RFC 7662 has a 401 for one who does not; here
everyone who may not know gets the same `{"active": false}` (section 2.2 allows that), so that nobody can tell which it
was. A 400 says only that the request is no form with one `token`, whoever sent it. 503 and 429 carry `Retry-After`.
"""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import structlog
from aiohttp import hdrs, web
from structlog.typing import FilteringBoundLogger

from countersign.access.use import UNTOLD, Use, use_of
from countersign.runtime.tracing import context
from countersign.runtime.tracing.spans import UNTRACED, Tracer, current
from countersign.verifier import authorize
from countersign.verifier.introspection import Answer, Introspection, NoAnswerError
from countersign.verifier.metrics import VerifierMetrics
from countersign.verifier.records import Record, Recorder

MAX_BODY_BYTES: Final = 16 * 1024
"""A token of the longest length accepted, percent-encoded or not, and a hint."""
MAX_FIELDS: Final = 8
MAX_IN_FLIGHT: Final = 2000
"""Questions answered at once; nearly all take under a millisecond."""
READ_SECONDS: Final = 5.0
"""How long a client may take to send its form."""

INACTIVE: Final = b'{"active": false}'
_INVALID: Final = b'{"error": "invalid_request"}'
_NOT_ACTIVE: Final = b'{"error": "invalid_token"}'
_DENIED: Final = b'{"error": "access_denied"}'
_UNAVAILABLE: Final = b'{"error": "temporarily_unavailable"}'
_FORM: Final = "application/x-www-form-urlencoded"
_ENCODED: Final = re.compile(rb"[&%+;]")
_HEADERS: Final = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}

_log: FilteringBoundLogger = structlog.get_logger()
_encode = msgspec.json.Encoder().encode

Endpoint = Callable[[str, str, Use], Awaitable[Answer]]
"""The Authorization header, the token, and what is told of its use."""
Respond = Callable[[web.Request], Awaitable[web.Response]]


class _Form(NamedTuple):
    token: str
    use: Use = UNTOLD


class VerifierApp:
    """The application behind the TLS port."""

    def __init__(
        self,
        introspection: Introspection,
        metrics: VerifierMetrics,
        *,
        recorders: Sequence[Recorder] = (),
        max_in_flight: int = MAX_IN_FLIGHT,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self.draining = False
        """Set at shutdown: each answer then closes its connection, so that clients move to another replica."""
        self.tracer: Tracer = UNTRACED
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._read_seconds = read_seconds
        self._in_flight = 0
        self._noted: dict[str, float] = {}
        """When a request without an answer was last logged, by reason."""
        self._recorders = tuple(recorders)
        self.application = web.Application(client_max_size=MAX_BODY_BYTES)
        self._introspection = introspection
        for name, endpoint, body in (
            ("introspect", introspection.introspect, _introspected),
            ("explain", introspection.explain, _explained),
        ):
            self._serve(name, partial(self._of_form, name, endpoint, body), (hdrs.METH_POST, f"/{name}"))
        prefix = authorize.PREFIX
        self._serve("authorize", self._of_proxy, (hdrs.METH_ANY, prefix), (hdrs.METH_ANY, f"{prefix}/{{path:.*}}"))

    def _serve(self, name: str, respond: Respond, *routes: tuple[str, str]) -> None:
        async def serve(request: web.Request) -> web.StreamResponse:
            with self.tracer.root(f"verifier.{name}", request.headers.get(context.HEADER, ""), kind="server"):
                response = await self._guarded(request, respond)
            # A body that was announced and not read would be taken for the next request, or that for the body.
            if self.draining or not request.content.is_eof():
                response.force_close()
            return response

        for method, path in routes:
            self.application.router.add_route(method, path, serve)

    async def _guarded(self, request: web.Request, respond: Respond) -> web.Response:
        if self._in_flight >= self._max_in_flight:
            return self._turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "Overloaded", _UNAVAILABLE, 1.0)
        self._in_flight += 1
        try:
            return await respond(request)
        except web.HTTPRequestEntityTooLarge:
            return self._turn_away(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge", _INVALID)
        except authorize.AmbiguousError as error:
            _log.debug("ambiguous request", message=str(error))  # any client of a proxy can cause it
            return self._turn_away(HTTPStatus.FORBIDDEN, "Ambiguous", _INVALID)
        except NoAnswerError as error:
            self._note(request.path.split("/")[1], error)  # what follows may be a client's words
            return self._turn_away(error.status, error.reason, _UNAVAILABLE, error.retry_after)
        except Exception:
            _log.exception("introspection failed", endpoint=request.path)
            return self._turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "Defect", _UNAVAILABLE, 1.0)
        finally:
            self._in_flight -= 1

    async def _of_form(
        self, name: str, endpoint: Endpoint, body: Callable[[Answer], bytes], request: web.Request
    ) -> web.Response:
        form = await _form(request, self._read_seconds)
        if form is None:
            return self._turn_away(HTTPStatus.BAD_REQUEST, "Malformed", _INVALID)
        started = time.perf_counter()
        answer = await endpoint(request.headers.get(hdrs.AUTHORIZATION, ""), form.token, form.use)
        self._record(name, answer, form.use, time.perf_counter() - started)
        return web.Response(body=body(answer), headers=_HEADERS)

    async def _of_proxy(self, request: web.Request) -> web.Response:
        asked = authorize.question(request.method, request.raw_path, request.headers)
        started = time.perf_counter()
        answer = await self._introspection.introspect(asked.asker, asked.token, asked.use)
        answer = authorize.held_to(answer, asked.demanded)
        self._record("authorize", answer, asked.use, time.perf_counter() - started)
        if answer.decision is not None and answer.decision.members is not None:
            return web.Response(headers=_HEADERS | authorize.identity(answer.decision.members))
        if answer.asker is None:
            return web.Response(status=HTTPStatus.FORBIDDEN, body=_DENIED, headers=_HEADERS)
        headers = _HEADERS | {hdrs.WWW_AUTHENTICATE: authorize.challenge(shown=bool(asked.token))}
        return web.Response(status=HTTPStatus.UNAUTHORIZED, body=_NOT_ACTIVE, headers=headers)

    def _note(self, name: str, error: NoAnswerError) -> None:
        """At most once a second for each reason: whoever asks, a stranger too, comes here while nothing is fresh."""
        now = time.monotonic()
        if now - self._noted.get(error.reason, -1.0) >= 1.0:
            self._noted[error.reason] = now
            _log.info("no answer", endpoint=name, reason=error.reason, message=str(error))

    def _turn_away(self, status: int, reason: str, body: bytes, retry_after: float | None = None) -> web.Response:
        self._metrics.turned_away(int(status), reason)
        current().set({"http.response.status_code": int(status), "countersign.reason": reason})
        headers = dict(_HEADERS)
        if retry_after is not None:
            headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(retry_after)))  # whole seconds, RFC 9110 section 10.2.3
        return web.Response(status=int(status), body=body, headers=headers)

    def _record(self, name: str, answer: Answer, use: Use, seconds: float) -> None:
        self._metrics.decided(name, answer.reason, seconds, active=answer.active)
        record = Record(name, answer, use, seconds)
        for told in self._recorders:
            told(record)


async def _form(request: web.Request, within: float) -> _Form | None:
    """The form, or None if it has not exactly one `token`, or one of the others twice."""
    if request.content_type != _FORM:
        return None
    # A client that dawdles is cut off. A timer of the loop costs a tenth of `asyncio.timeout`.
    timer = asyncio.get_running_loop().call_later(within, _abort, request)
    try:
        body = await request.read()
    finally:
        timer.cancel()
    if body.startswith(b"token=") and not _ENCODED.search(body):  # as nearly everyone sends it
        return _Form(body[6:].decode("ascii", "replace"))
    try:
        fields = parse_qsl(body.decode("ascii"), max_num_fields=MAX_FIELDS, keep_blank_values=True)
    except ValueError:  # UnicodeDecodeError is one
        return None
    given = dict(fields)
    if "token" not in given or len(given) < len(fields):  # RFC 6749 section 3.1: no parameter more than once
        return None
    told = {name: given[name] for name in ("source_address", "method", "path", "scope") if name in given}
    return _Form(given["token"], use_of(**told))


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _introspected(answer: Answer) -> bytes:
    if not answer.active or answer.decision is None:
        return INACTIVE
    return _encode(answer.decision.members)


def _explained(answer: Answer) -> bytes:
    if not answer.may_know:
        return INACTIVE
    members = answer.decision.members if answer.decision else None
    said = {"active": answer.active, "reason": answer.reason, "message": answer.message}
    return _encode(said if members is None else said | {"introspection": members})
