"""Spans on their way to a collector: a bounded queue, emptied in the background. Whoever ends a span never waits.

OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp): POST of binary protobuf; 429, 502, 503 and 504 are tried
again, as is a connection that fails; everything else that is no 2xx is final. A collector that is away costs the spans
that no longer fit, each of them counted, and a try each half minute.
"""

import asyncio
import contextlib
import gzip
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Self

import aiohttp
import structlog

from countersign.runtime.tracing.environment import Target
from countersign.runtime.tracing.metrics import Outcome
from countersign.runtime.tracing.otlp import encode
from countersign.runtime.tracing.spans import Span, Value

MAX_QUEUED: Final = 2048
MAX_BATCH: Final = 512
DELAY_SECONDS: Final = 5.0
"""These three as OTEL_BSP_MAX_QUEUE_SIZE, _MAX_EXPORT_BATCH_SIZE and _SCHEDULE_DELAY are by default."""
TRIES: Final = 5
FIRST_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 30.0
FLUSH_SECONDS: Final = 2.0
"""How long an ending process waits for its last spans to be taken."""
_SLICE: Final = 64
"""Spans encoded between two turns of the event loop: about a millisecond's work."""
_AGAIN: Final = frozenset({429, 502, 503, 504})

_log = structlog.get_logger(__name__)


class _RefusedError(Exception):
    """The collector does not take it, and will not."""


class Exporter:
    """One per process; use as an async context manager. Call it with each span that ended."""

    def __init__(
        self,
        target: Target,
        resource: Mapping[str, Value],
        version: str,
        count: Callable[[Outcome, int], None],
        *,
        delay: float = DELAY_SECONDS,
        first_pause: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """Raises OSError or ValueError for certificates that cannot be read."""
        self._target = target
        self._resource = resource
        self._version = version
        self._count = count
        self._delay = delay
        self._first_pause = first_pause
        self._queue: deque[Span] = deque()
        self._full = asyncio.Event()
        self._trust = _trust(target)
        self._silent = False

    def __call__(self, span: Span) -> None:
        """Take a span that has ended. Never waits: what does not fit is counted, and gone."""
        if len(self._queue) >= MAX_QUEUED:
            self._count("queue_full", 1)
            return
        self._queue.append(span)
        if len(self._queue) >= MAX_BATCH:
            self._full.set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._target.timeout), headers=self._target.headers
        )
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                while batch := self._take():
                    await self._deliver(batch)
        await self._session.close()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._delay):
                    await self._full.wait()
            while batch := self._take():
                await self._deliver(batch)
                if len(self._queue) < MAX_BATCH:
                    break

    def _take(self) -> list[Span]:
        batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
        if len(self._queue) < MAX_BATCH:
            self._full.clear()
        return batch

    async def _deliver(self, batch: list[Span]) -> None:
        pause = self._first_pause
        for left in reversed(range(TRIES)):
            try:
                await self._post(batch)
            except _RefusedError as error:
                self._say("refused", str(error))
                self._count("refused", len(batch))
                return
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._say("unreachable", str(error) or type(error).__name__)
                if not left:
                    self._count("unreachable", len(batch))
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            else:
                self._silent = False
                self._count("exported", len(batch))
                return

    async def _post(self, batch: list[Span]) -> None:
        """Raises _RefusedError, or aiohttp.ClientError, OSError or TimeoutError for what may mend."""
        body = b""
        for start in range(0, len(batch), _SLICE):
            # Encodings of parts, one behind the other, are the encoding of the whole (protobuf merges messages).
            body += encode(batch[start : start + _SLICE], self._resource, self._version)
            await asyncio.sleep(0)
        headers = {"Content-Type": "application/x-protobuf"}
        if self._target.gzip:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        # A redirect would take the headers, which are secret, to another host.
        async with self._session.post(
            self._target.url, data=body, headers=headers, ssl=self._trust, allow_redirects=False
        ) as answer:
            if answer.status in _AGAIN:
                raise aiohttp.ClientError(f"HTTP {answer.status}")
            if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                raise _RefusedError(f"HTTP {answer.status}")

    def _say(self, outcome: Outcome, problem: str) -> None:
        """Once per outage: the counter has the rest."""
        if not self._silent:
            self._silent = True
            _log.warning("spans not taken by the collector", outcome=outcome, url=self._target.url, error=problem)


def _trust(target: Target) -> ssl.SSLContext | bool:
    if not (target.ca_file or target.certificate_file):
        return True
    context = ssl.create_default_context(cafile=target.ca_file or None)
    if target.certificate_file:
        context.load_cert_chain(target.certificate_file, target.key_file or None)
    return context
