"""HTTP to hosts that nobody vouches for: addresses judged, answers bounded, redirects followed by hand.

Proxies of the environment are not used: behind one, the addresses could not be judged here.
"""

import asyncio
import io
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final

import aiohttp
import msgspec
from multidict import CIMultiDictProxy
from yarl import URL

from countersign import __version__
from countersign.registry.addresses import AddressPolicy, GuardedResolver
from countersign.registry.counting import note_request
from countersign.registry.errors import (
    MalformedError,
    RegistryTimeoutError,
    RegistryUnavailableError,
    TooLargeError,
)

REQUEST_SECONDS: Final = 10.0
"""For one request with its redirects: a registry that hangs must not keep a verification for its whole time."""
CONNECT_SECONDS: Final = 5.0
LARGE_BYTES: Final = 1024 * 1024
SLOWEST_BYTES_PER_SECOND: Final = 2 * 1024 * 1024
"""A body that may be larger than LARGE_BYTES is given time at this rate, once it has begun to come."""
MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {
    "User-Agent": f"countersign/{__version__}",
    "Accept-Encoding": "identity",  # a compressed answer could be larger than its limit
}


class Answer(msgspec.Struct, frozen=True):
    """A response, read whole."""

    url: URL
    """Where it came from after redirects."""
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Transport:
    """One HTTP session for all registries. Use as an async context manager, or `open` and `close` it."""

    def __init__(
        self,
        addresses: AddressPolicy | None = None,
        *,
        insecure_hosts: Iterable[str] = (),
        extra_ca_pem: str = "",
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """`insecure_hosts`: `host` or `host:port` spoken to over plain HTTP, as they stand in image references.

        `extra_ca_pem`: certificates trusted besides the system's. Raises ssl.SSLError if they cannot be read.
        """
        self._addresses = addresses or AddressPolicy()
        self._insecure_hosts = frozenset(host.lower() for host in insecure_hosts)
        self._request_seconds = request_seconds
        self._tls = ssl.create_default_context()
        if extra_ca_pem:
            self._tls.load_verify_locations(cadata=extra_ca_pem)
        self._session: aiohttp.ClientSession | None = None
        self._resolver: GuardedResolver | None = None

    async def open(self) -> None:
        """Make the session; needs the running loop."""
        self._resolver = GuardedResolver(self._addresses)
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            ssl=self._tls,
            limit=0,  # fairness.py decides who may send; a second limit here would know no namespaces
            keepalive_timeout=30,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._resolver is not None:
            await self._resolver.close()

    async def __aenter__(self) -> "Transport":
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def base_url(self, authority: str) -> URL:
        """The root of a registry: https, or http if the host is listed as insecure."""
        scheme = "http" if _lists(self._insecure_hosts, authority) else "https"
        return URL(f"{scheme}://{authority}", encoded=True)

    async def send(
        self,
        method: str,
        url: URL,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """Send one request without a body, follow its redirects, and read at most `limit` bytes.

        `authorization` goes to the first URL's scheme, host and port only. `seconds`, if that is less than the
        transport's own bound, until the answer begins; its body may take longer the larger it is. Raises
        RegistryError; any HTTP status is an answer.
        """
        bound = self._request_seconds if seconds is None else min(seconds, self._request_seconds)
        try:
            async with asyncio.timeout(bound) as timer:
                return await self._follow(
                    method, url, limit, {**_HEADERS, **(headers or {})}, authorization=authorization, timer=timer
                )
        except TimeoutError:
            raise RegistryTimeoutError(f"{url.host} did not answer within {bound:.3g} s") from None

    async def _follow(
        self,
        method: str,
        url: URL,
        limit: int,
        headers: dict[str, str],
        *,
        authorization: str | None,
        timer: asyncio.Timeout,
    ) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            sent = {**headers, "Authorization": authorization} if authorization else headers
            answer = await self._once(method, url, limit, sent, timer)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            target = self._redirect_target(url, location)
            if target.origin() != url.origin():
                authorization = None
            url = target
        raise MalformedError(f"{url.host} redirects more than {MAX_REDIRECTS} times")

    def _redirect_target(self, url: URL, location: str) -> URL:
        try:
            # A signed URL must arrive as it was written: quoting it anew could break its signature.
            verbatim = location.isascii() and location.isprintable() and " " not in location
            target = url.join(URL(location, encoded=verbatim))
            authority, credentials = target.authority, target.user or target.password
        except ValueError:
            raise MalformedError(f"{url.host} redirects to something that is no URL") from None
        if target.scheme == "http" and not (url.scheme == "http" and _lists(self._insecure_hosts, authority)):
            raise MalformedError(f"{url.host} redirects to plain HTTP ({target.host}), which is not followed")
        if target.scheme not in ("http", "https") or not target.host or credentials:
            raise MalformedError(f"{url.host} redirects to a URL of a kind that is not followed")
        return target

    async def _once(self, method: str, url: URL, limit: int, headers: dict[str, str], timer: asyncio.Timeout) -> Answer:
        if self._session is None:
            raise RuntimeError("the transport is not open")
        self._addresses.check_literal(url.host or "", url.port or 0)
        note_request()
        try:
            # aiohttp repeats a GET or HEAD once if the connection breaks before the answer begins.
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
                if limit > LARGE_BYTES and response.status == 200:
                    size = min(limit, response.content_length or limit)
                    patience = self._request_seconds + size / SLOWEST_BYTES_PER_SECOND
                    timer.reschedule(asyncio.get_running_loop().time() + patience)
                return Answer(url, response.status, response.headers, await _read(response, limit))
        except aiohttp.InvalidURL:
            raise MalformedError(f"{url.host} is no host that can be contacted") from None
        except aiohttp.ClientResponseError as error:
            raise MalformedError(f"{url.host} does not speak HTTP as it should: {error.message[:120]}") from None
        except (aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError):
            raise RegistryTimeoutError(f"{url.host} did not accept a connection in {CONNECT_SECONDS:g} s") from None
        except aiohttp.ClientError as error:
            raise _unavailable(url, error) from None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise MalformedError(f"{response.url.host} sends compressed content that was not asked for")
    declared = response.content_length
    if response.method != "HEAD" and declared is not None and declared > limit:
        raise TooLargeError(f"{response.url.host} answers with {declared} bytes, more than the {limit} that are read")
    # Its value is the buffer itself: a copy of 20 MB would hold the loop for 10 ms, and the memory twice.
    body = io.BytesIO()
    async for chunk in response.content.iter_any():
        body.write(chunk)
        if body.tell() > limit:
            raise TooLargeError(f"{response.url.host} answers with more than the {limit} bytes that are read")
    return body.getvalue()


def _unavailable(url: URL, error: aiohttp.ClientError) -> RegistryUnavailableError:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = error.certificate_error
            detail = getattr(reason, "verify_message", "") or "it cannot be verified"
            return RegistryUnavailableError(
                f"the certificate of {url.host} is refused ({detail}); add its CA to the extra CAs, "
                "or list the host as insecure",
                transient=False,
            )
        case aiohttp.ClientConnectorDNSError():
            return RegistryUnavailableError(f"{url.host} cannot be resolved")
        case aiohttp.ClientConnectorSSLError():
            return RegistryUnavailableError(f"no TLS connection to {url.host}:{url.port}", transient=False)
        case aiohttp.ClientConnectorError():
            return RegistryUnavailableError(f"no connection to {url.host}:{url.port} ({error.os_error})")
        case _:
            return RegistryUnavailableError(f"the connection to {url.host} broke ({type(error).__name__})")


def _lists(hosts: frozenset[str], authority: str) -> bool:
    """Whether `authority` (host or host:port) is listed, with or without its port."""
    authority = authority.lower()
    without_port = authority.rpartition(":")[0] if not authority.endswith("]") else ""
    return authority in hosts or without_port in hosts
