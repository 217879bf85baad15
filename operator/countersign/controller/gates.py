"""Calls from the controller to the gates: each of them for its counts, any of them for an outlook (`api.gate_calls`).

Gates are found by the EndpointSlices of their Service, so that each answers for itself. Where the gate has a URL, that
is asked: behind a load balancer then one gate at a time, which loses nothing but time.
"""

import asyncio
import io
import ssl
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import aiohttp
import msgspec
import structlog
from yarl import URL

from countersign.api.gate_calls import (
    EVIDENCE_PATH,
    OUTLOOK_PATH,
    TALLIES_PATH,
    OutlookAnswer,
    OutlookQuestion,
    TallyReport,
)
from countersign.api.pod import Pod
from countersign.cluster.client import ApiClient
from countersign.cluster.errors import ClusterError
from countersign.cluster.resource import ENDPOINT_SLICES
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.webhooks import GateEndpoint
from countersign.keys.calls import sign_call
from countersign.keys.errors import KeysError
from countersign.keys.receipt_keys import ReceiptKeys
from countersign.trust.evidence.reverification import EvidenceAnswer, EvidenceQuestion

TALLY_SECONDS: Final = 5.0
QUESTION_SECONDS: Final = 30.0
"""Longer than a gate takes for an answer (`gate.internal`)."""
MAX_GATES: Final = 64
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""4,096 policies with twenty reasons each are 3 MB."""
SERVICE_LABEL: Final = "kubernetes.io/service-name"
"""On each EndpointSlice of a Service (discovery.k8s.io/v1, LabelServiceName)."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Port(msgspec.Struct, frozen=True):
    port: int | None = None
    name: str | None = None


class _Endpoint(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...] = ()


class EndpointSlice(msgspec.Struct, frozen=True):
    """The part of an EndpointSlice (discovery.k8s.io/v1) that says where to call. Unready ones count, too: a gate that
    drains has counted."""

    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] | None = None


class _Target(NamedTuple):
    url: URL
    server_name: str | None


class Gates:
    """An async context manager, bound to the event loop in which it was entered."""

    def __init__(
        self,
        client: ApiClient,
        endpoint: GateEndpoint,
        metrics: ControllerMetrics,
        *,
        ca_bundle: Callable[[], bytes],
        keys: Callable[[], ReceiptKeys],
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._metrics = metrics
        self._ca_bundle = ca_bundle
        self._keys = keys
        self._clock = clock
        self._turn = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A connection that stays would reach the same gate for ever behind a load balancer.
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def tallies(self) -> list[TallyReport]:
        """The reports of all gates that answer."""
        targets = await self._targets()
        found = await asyncio.gather(
            *(self._call(target, TALLIES_PATH, b"", TallyReport, TALLY_SECONDS) for target in targets)
        )
        return [report for report in found if report is not None]

    async def outlook(self, namespace: str, pod: Pod) -> OutlookAnswer | None:
        """What one of the gates says of a pod; None: none answers now."""
        return await self._any(OUTLOOK_PATH, OutlookQuestion(namespace=namespace, pod=pod), OutlookAnswer)

    async def evidence(self, question: EvidenceQuestion) -> EvidenceAnswer | None:
        """What one of the gates finds out about an image; None: none answers now."""
        return await self._any(EVIDENCE_PATH, question, EvidenceAnswer)

    async def _any(self, path: str, question: msgspec.Struct, into: type[T]) -> T | None:
        """The answer of the first gate that gives one, beginning with another one each time."""
        targets = await self._targets()
        self._turn += 1
        body = msgspec.json.encode(question)
        for offset in range(len(targets)):
            target = targets[(self._turn + offset) % len(targets)]
            answer = await self._call(target, path, body, into, QUESTION_SECONDS)
            if answer is not None:
                return answer
        return None

    async def _targets(self) -> list[_Target]:
        endpoint = self._endpoint
        if endpoint.url:
            return [_Target(URL(endpoint.url.rstrip("/")), None)]
        selector = f"{SERVICE_LABEL}={endpoint.service}"
        try:
            slices = await self._client.list(
                ENDPOINT_SLICES, EndpointSlice, namespace=endpoint.namespace, label_selector=selector
            )
        except ClusterError as error:
            _log.warning("gates not found", error=str(error))
            return []
        name = f"{endpoint.service}.{endpoint.namespace}.svc"
        found = {
            _Target(URL.build(scheme="https", host=one.addresses[0], port=port), name)
            for some in slices
            for port in _ports(some)
            for one in some.endpoints or ()
            if one.addresses
        }
        return sorted(found, key=str)[:MAX_GATES]

    async def _call(self, target: _Target, path: str, body: bytes, into: type[T], seconds: float) -> T | None:
        """The answer; None, with a word in the log, if there is none."""
        bundle = self._ca_bundle()
        if self._session is None or not bundle:
            return None
        try:
            headers = {
                "Authorization": sign_call(self._keys(), path, body, self._clock()),
                "Content-Type": "application/json",
            }
            async with (
                asyncio.timeout(seconds),
                self._session.post(
                    target.url.with_path(path),
                    data=io.BytesIO(body),
                    headers=headers,
                    ssl=_trust(bundle),
                    server_hostname=target.server_name,
                    allow_redirects=False,
                ) as response,
            ):
                return msgspec.json.decode(await _read(response), type=into)
        except (aiohttp.ClientError, TimeoutError, OSError, KeysError, msgspec.MsgspecError) as error:
            self._metrics.gate_call_errors.labels(path).inc()
            _log.info("gate does not answer", gate=str(target.url), path=path, error=str(error) or type(error).__name__)
            return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise aiohttp.ClientError(f"status {response.status}")
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientError(f"answers with more than {MAX_ANSWER_BYTES} bytes")
    return bytes(found)


def _ports(found: EndpointSlice) -> list[int]:
    ports = [one for one in found.ports or () if one.port]
    named = [one for one in ports if one.name == "https"]
    return [one.port for one in named or ports[:1] if one.port]


@lru_cache(2)
def _trust(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode("ascii"))
