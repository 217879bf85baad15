"""Calls from the controller to the replicas of one of our own Services: each for itself, or any of them.

Replicas are found by the EndpointSlices of the Service. Where the service has a URL, that is asked: behind a load
balancer then one replica at a time, which loses nothing but time.
"""

import asyncio
import io
import ssl
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import aiohttp
import msgspec
import structlog
from yarl import URL

from countersign.cluster.client import ApiClient
from countersign.cluster.errors import ClusterError
from countersign.cluster.resource import ENDPOINT_SLICES

MAX_REPLICAS: Final = 64
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""4,096 policies with twenty reasons each are 3 MB."""
SERVICE_LABEL: Final = "kubernetes.io/service-name"
"""On each EndpointSlice of a Service (discovery.k8s.io/v1, LabelServiceName)."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class CannotCallError(Exception):
    """There is nothing to authenticate by just now."""


class Where(NamedTuple):
    """A Service in our own namespace, or a URL in its place."""

    namespace: str
    service: str
    url: str = ""


class _Port(msgspec.Struct, frozen=True):
    port: int | None = None
    name: str | None = None


class _Endpoint(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...] = ()


class EndpointSlice(msgspec.Struct, frozen=True):
    """The part of an EndpointSlice (discovery.k8s.io/v1) that says where to call. Unready ones count, too: a replica
    that drains knows things."""

    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] | None = None


class Target(NamedTuple):
    """One replica."""

    url: URL
    server_name: str | None


class Replicas:
    """An async context manager, bound to the event loop in which it was entered.

    `authorize` makes the Authorization header for a path and a body, and raises CannotCallError; `failed` is told the
    path of each call that was not answered.
    """

    def __init__(
        self,
        client: ApiClient,
        where: Where,
        *,
        ca_bundle: Callable[[], bytes],
        authorize: Callable[[str, bytes], str],
        failed: Callable[[str], None],
    ) -> None:
        self._client = client
        self._where = where
        self._ca_bundle = ca_bundle
        self._authorize = authorize
        self._failed = failed
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A connection that stays would reach the same replica for ever behind a load balancer.
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def targets(self) -> list[Target]:
        """Every replica; none if they cannot be found just now."""
        where = self._where
        if where.url:
            return [Target(URL(where.url.rstrip("/")), None)]
        selector = f"{SERVICE_LABEL}={where.service}"
        try:
            slices = await self._client.list(
                ENDPOINT_SLICES, EndpointSlice, namespace=where.namespace, label_selector=selector
            )
        except ClusterError as error:
            _log.warning("replicas not found", service=where.service, error=str(error))
            return []
        name = f"{where.service}.{where.namespace}.svc"
        found = {
            Target(URL.build(scheme="https", host=one.addresses[0], port=port), name)
            for some in slices
            for port in _ports(some)
            for one in some.endpoints or ()
            if one.addresses
        }
        return sorted(found, key=str)[:MAX_REPLICAS]

    async def call(self, target: Target, path: str, body: bytes, into: type[T], seconds: float) -> T | None:
        """The answer; None, with a word in the log, if there is none."""
        bundle = self._ca_bundle()
        if self._session is None or not bundle:
            return None
        try:
            headers = {"Authorization": self._authorize(path, body), "Content-Type": "application/json"}
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
        except (aiohttp.ClientError, TimeoutError, OSError, CannotCallError, msgspec.MsgspecError) as error:
            self._failed(path)
            _log.info(
                "replica does not answer", service=self._where.service, replica=str(target.url), path=path,
                error=str(error) or type(error).__name__,
            )  # fmt: skip
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
