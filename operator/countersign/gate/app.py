"""The HTTP side of the gate: what is a review, who judges it, and that every answer is an answer.

HTTP/1.1, since that is what the API server speaks to webhooks. A request that is no AdmissionReview v1 gets an HTTP
error, and the webhook's `failurePolicy` decides; a review that is one gets an AdmissionReview, with `allowed: false`
unless a handler said otherwise.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
import structlog
from aiohttp import web
from structlog.contextvars import bound_contextvars
from structlog.typing import FilteringBoundLogger

from countersign.api.admission import AdmissionRequest, AdmissionReview
from countersign.gate import answers, traces
from countersign.gate.answers import Answer
from countersign.gate.deadline import budget
from countersign.gate.metrics import GateMetrics
from countersign.runtime.tracing.spans import UNTRACED, Tracer

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""A review holds `object` and `oldObject`. The API server takes request bodies of 3 MiB (apiserver,
MaxRequestBodyBytes), etcd 1.5 MiB as protobuf, which JSON writes longer: twice 3 MiB, and room for the rest."""
MAX_IN_FLIGHT: Final = 1000
"""Reviews judged at once. The API server has 200 mutating requests in flight by default, each with a few reviews."""

_log: FilteringBoundLogger = structlog.get_logger()
_root = logging.getLogger()
"""Its level is the one that was configured (runtime.logs); asking it costs a tenth of asking structlog's proxy."""
_decode = msgspec.json.Decoder(AdmissionReview).decode

Handler = Callable[[AdmissionRequest, float], Awaitable[Answer]]
"""Judges one request. The second argument is the loop time at which the answer must be there: it bounds every wait."""


class Asked(NamedTuple):
    """What a review is about. The version is the one that the handler's model reads."""

    group: str
    version: str
    resource: str
    sub_resource: str
    operation: str


Routes = Mapping[str, Mapping[Asked, Handler]]
"""Handlers by URL path, then by what is asked."""


class GateApp:
    """The application behind the TLS port."""

    def __init__(self, routes: Routes, *, ready: Callable[[], bool | str], metrics: GateMetrics) -> None:
        self.draining = False
        """Set at shutdown: each answer then closes its connection, so that clients move to another replica."""
        self.tracer: Tracer = UNTRACED
        self._ready = ready
        self._metrics = metrics
        self._in_flight = 0
        metrics.read_in_flight(lambda: self._in_flight)
        self.application = web.Application(client_max_size=MAX_BODY_BYTES)
        for path, handlers in routes.items():
            self.application.router.add_post(path, self._endpoint(path, handlers))

    def _endpoint(
        self, path: str, handlers: Mapping[Asked, Handler]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(http: web.Request) -> web.StreamResponse:
            if http.content_type != "application/json":
                return self._reject(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send an AdmissionReview as application/json")
            try:
                body = await http.read()
            except web.HTTPRequestEntityTooLarge:
                text = f"a review has at most {MAX_BODY_BYTES} bytes"
                return self._reject(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
            state = self._ready()
            if state is not True:
                # As good as absent: whether that refuses or admits is what the webhook's failurePolicy is there for.
                text = f"countersign's gate is starting: {state or 'not ready'}"
                return self._reject(HTTPStatus.SERVICE_UNAVAILABLE, text)
            if self._in_flight >= MAX_IN_FLIGHT:
                return self._reject(HTTPStatus.SERVICE_UNAVAILABLE, "countersign's gate is overloaded: try again")
            try:
                request = _decode(body).request
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                text = f"not an AdmissionReview of admission.k8s.io/v1: {str(error)[:200]}"
                return self._reject(HTTPStatus.BAD_REQUEST, text)
            self._in_flight += 1
            started = time.perf_counter()
            try:
                # Whatever is logged on the way, a port's lines among it, bears the review's uid.
                with (
                    bound_contextvars(review=request.uid),
                    self.tracer.root("gate.review", http.headers.get(traces.HEADER, ""), kind="server") as span,
                ):
                    answer = await _judge(path, handlers, request, budget(http.rel_url.raw_query_string))
                    if span.recorded:
                        span.set(traces.of_review(path, request, answer))
            finally:
                self._in_flight -= 1
            self._record(path, request, answer, time.perf_counter() - started)
            response = web.Response(body=answers.encode(request.uid, answer), content_type="application/json")
            if self.draining:
                response.force_close()
            return response

        return serve

    def _reject(self, status: HTTPStatus, text: str) -> web.Response:
        self._metrics.rejected(status)
        response = web.Response(status=status, text=text)
        if self.draining:
            response.force_close()
        return response

    def _record(self, path: str, request: AdmissionRequest, answer: Answer, seconds: float) -> None:
        resource = request.resource.resource
        if request.sub_resource:
            resource += "/" + request.sub_resource
        known = answer.reason != answers.MISROUTED  # labels only ever hold what the routes name
        labels = (path, resource if known else "other", request.operation, answer.result, answer.reason)
        self._metrics.answered(labels, seconds)
        if answer.allowed and not answer.warnings:
            if not _root.isEnabledFor(logging.DEBUG):
                return  # nearly all reviews end here: a line that nobody reads is not composed
            level = _log.debug
        else:
            level = _log.info if answer.allowed else _log.warning
        level(
            "review",
            path=path,
            review=request.uid,
            result=answer.result,
            reason=answer.reason,
            operation=request.operation,
            resource=resource,
            namespace=request.namespace,
            name=request.name,
            user=request.user_info.username,
            dry_run=request.dry_run,
            seconds=round(seconds, 4),
            message=answer.message,
            **answer.facts,
        )


async def _judge(path: str, handlers: Mapping[Asked, Handler], request: AdmissionRequest, seconds: float) -> Answer:
    """The handler's answer, or an answer that says why there is none. Never raises, but for cancellation."""
    kind = request.resource
    # A plain tuple equals the Asked that it would make, and costs less.
    asked = (kind.group, kind.version, kind.resource, request.sub_resource, request.operation)
    handler: Handler | None = handlers.get(asked)  # type: ignore[call-overload]
    if handler is None:
        named = "/".join(part for part in (kind.group, kind.version, kind.resource, request.sub_resource) if part)
        return answers.misrouted(
            f"{path} judges no {request.operation} of {named[:200]}: correct the rules of the webhook configuration "
            "(the controller writes the right ones)"
        )
    try:
        return await handler(request, asyncio.get_running_loop().time() + seconds)
    except answers.RefuseNow as refused:
        return refused.answer
    except Exception:
        _log.exception("review failed", review=request.uid, path=path)
        return answers.failed()
