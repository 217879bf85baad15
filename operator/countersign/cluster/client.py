"""A thin API client: aiohttp and msgspec, typed by whatever msgspec type the caller reads.

Each call has one deadline over everything it does. Reads are retried while that lasts; writes only when the server
said that it did nothing (429). Redirects are not followed and proxies not used, so a token goes nowhere else.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Hashable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

import aiohttp
import msgspec
from yarl import URL

from countersign import __version__
from countersign.cluster.config import ClusterConfig
from countersign.cluster.errors import (
    ApiError,
    ClusterError,
    MalformedAnswerError,
    TimedOutError,
    TooManyRequestsError,
    UnavailableError,
    UnreachableError,
    error_from,
)
from countersign.cluster.resource import Resource

T = TypeVar("T")

Object = dict[str, Any]
"""An object as plain JSON: pass it as the type where no model is wanted."""

CALL_SECONDS: Final = 10.0
"""Deadline of one call, retries included, unless the caller gives another."""
CONNECT_SECONDS: Final = 5.0
MAX_CONCURRENT: Final = 64
"""Calls in flight at once; the API server's own default for all mutating requests is 200 (max-mutating-requests)."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Six times a page of 500 pods of 20 kB. etcd holds objects of 1.5 MiB at most."""
MAX_ERROR_BYTES: Final = 64 * 1024
PAGE_SIZE: Final = 500
"""Objects per page of a list (client-go's pager uses the same)."""
MAX_ATTEMPTS: Final = 5

Params = Mapping[str, str]


class ListMeta(msgspec.Struct, frozen=True, rename={"next": "continue", "resource_version": "resourceVersion"}):
    """metav1.ListMeta: where a watch starts, and the token of the next page (empty on the last)."""

    resource_version: str = ""
    next: str = ""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list."""

    metadata: ListMeta
    items: list[T] | None = None


class ApiClient:
    """Calls one API server. An async context manager; bound to the event loop in which it was entered."""

    def __init__(
        self, config: ClusterConfig, *, max_concurrent: int = MAX_CONCURRENT, user_agent: str = "countersign"
    ) -> None:
        self.config = config
        self._base = config.server.rstrip("/")
        self._slots = asyncio.Semaphore(max_concurrent)
        # Uncompressed: within a cluster, the time to inflate costs more than the bytes.
        self._headers = {
            "User-Agent": f"{user_agent}/{__version__}",
            # Some documents have a type of their own, and the server refuses to send it as plain JSON (406).
            "Accept": "application/json, */*",
            "Accept-Encoding": "identity",
        }
        self._open: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers=self._headers,
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            await self._open.close()
            self._open = None

    async def get(
        self,
        resource: Resource,
        name: str,
        into: type[T],
        *,
        namespace: str | None = None,
        within: float = CALL_SECONDS,
    ) -> T:
        """One object. Raises NotFoundError, or another ClusterError."""
        answer = await self._read(resource.path(namespace, name), {}, within)
        return _decode(answer, into)

    async def get_path(self, path: str, into: type[T], *, within: float = CALL_SECONDS) -> T:
        """A document outside the resource tree, such as `/openid/v1/jwks`."""
        return _decode(await self._read(path, {}, within), into)

    async def pages(
        self,
        resource: Resource,
        into: type[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
        within: float = CALL_SECONDS,
    ) -> AsyncIterator[Page[T]]:
        """A consistent list, page by page; `within` is the deadline of each page.

        Raises GoneError between pages if the caller takes longer than the server keeps the snapshot (5 minutes).
        """
        params = {"limit": str(page_size)} | selectors(label_selector, field_selector)
        path = resource.path(namespace)
        page = _decode(await self._read(path, params, within), Page[into])  # type: ignore[valid-type]
        while page.metadata.next:
            # The next page is on its way while the caller works on this one.
            following = params | {"continue": page.metadata.next}
            async with _ahead(self._read(path, following, within)) as ahead:
                yield page
                page = _decode(await ahead, Page[into])  # type: ignore[valid-type]
        yield page

    async def list(
        self,
        resource: Resource,
        into: type[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[T]:
        """All objects at once, for kinds that are few."""
        return [
            item
            async for page in self.pages(
                resource, into, namespace=namespace, label_selector=label_selector, field_selector=field_selector
            )
            for item in page.items or ()
        ]

    async def create(
        self,
        resource: Resource,
        body: T,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
        within: float = CALL_SECONDS,
    ) -> T:
        """What the server made of `body`, read as the same type. `name` is for subresources only, such as `token`.

        Raises AlreadyExistsError, InvalidError, ForbiddenError, or another ClusterError.
        """
        path = resource.path(namespace, name, subresource) if subresource else resource.path(namespace)
        return await self._write("POST", path, body, type(body), dry_run=dry_run, within=within)

    async def replace(
        self,
        resource: Resource,
        name: str,
        body: T,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        within: float = CALL_SECONDS,
    ) -> T:
        """Replace the whole object. With `metadata.resourceVersion` in it, raises ConflictError if that is outdated.

        `body` must be complete: fields that its type does not declare are removed from the stored object.
        """
        return await self._write("PUT", resource.path(namespace, name, subresource), body, type(body), within=within)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        patch: object,
        into: type[T],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
        within: float = CALL_SECONDS,
    ) -> T:
        """Apply an RFC 7396 merge patch. A `metadata.resourceVersion` in it makes it conditional (ConflictError)."""
        path = resource.path(namespace, name, subresource)
        kind = "application/merge-patch+json"
        return await self._write("PATCH", path, patch, into, kind=kind, dry_run=dry_run, within=within)

    async def json_patch(
        self,
        resource: Resource,
        name: str,
        operations: object,
        into: type[T],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
        within: float = CALL_SECONDS,
    ) -> T:
        """Apply RFC 6902 operations. A failed `test` raises InvalidError."""
        path = resource.path(namespace, name, subresource)
        kind = "application/json-patch+json"
        return await self._write("PATCH", path, operations, into, kind=kind, dry_run=dry_run, within=within)

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: T,
        *,
        field_manager: str,
        namespace: str | None = None,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
        within: float = CALL_SECONDS,
    ) -> T:
        """Server-side apply: create the object, or own exactly the fields in `body` (which has apiVersion and kind).

        Without `force`, raises ConflictError if another manager owns one of them.
        """
        path = resource.path(namespace, name, subresource)
        params = {"fieldManager": field_manager, "force": "true" if force else "false"}
        kind = "application/apply-patch+yaml"  # JSON is YAML
        return await self._write(
            "PATCH", path, body, type(body), kind=kind, params=params, dry_run=dry_run, within=within
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_seconds: int | None = None,
        within: float = CALL_SECONDS,
    ) -> None:
        """Delete in the background. With `uid` or `resource_version`, raises ConflictError if it is another by now."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "gracePeriodSeconds": grace_period_seconds,
            "preconditions": {key: value for key, value in preconditions.items() if value is not None} or None,
        }
        body = msgspec.json.encode({key: value for key, value in options.items() if value is not None})
        path = resource.path(namespace, name)
        await self._call("DELETE", path, {}, within=within, body=body, kind="application/json")

    @asynccontextmanager
    async def stream(
        self, resource: Resource, params: Params, *, namespace: str | None = None, within: float = CALL_SECONDS
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A long answer (a watch), chunk by chunk as it arrives; `within` is the time until its first byte.

        The connection is closed on leaving. Raises the same errors as a call, in the body too.
        """
        url = self._url(resource.path(namespace), params)
        try:
            try:
                async with asyncio.timeout(within):
                    response = await self._session.get(url, **self._options())
            except TimeoutError as error:
                raise TimedOutError(f"GET {url.path}: no answer within {within:g} s") from error
            try:
                if response.status != 200:
                    said = await _bounded(response, MAX_ERROR_BYTES)
                    raise error_from(response.status, said, response.headers.get("Retry-After"))
                yield response.content.iter_any()
            finally:
                response.close()
        except aiohttp.ClientError as error:
            raise UnreachableError(f"GET {url.path}: {str(error) or type(error).__name__}") from error

    async def _write(
        self,
        method: str,
        path: str,
        body: object,
        into: type[T],
        *,
        kind: str = "application/json",
        params: Params | None = None,
        dry_run: bool = False,
        within: float,
    ) -> T:
        query = dict(params or {}) | ({"dryRun": "All"} if dry_run else {})
        answer = await self._call(method, path, query, within=within, body=msgspec.json.encode(body), kind=kind)
        return _decode(answer, into)

    async def _read(self, path: str, params: Params, within: float) -> bytes:
        return await self._call("GET", path, params, within=within)

    async def _call(
        self,
        method: str,
        path: str,
        params: Params,
        *,
        within: float,
        body: bytes | None = None,
        kind: str | None = None,
    ) -> bytes:
        url = self._url(path, params)
        headers = {"Content-Type": kind} if kind else {}
        deadline = asyncio.get_running_loop().time() + within
        try:
            async with asyncio.timeout_at(deadline):
                for attempt in range(1, MAX_ATTEMPTS):
                    try:
                        return await self._send(method, url, body, headers)
                    except (TooManyRequestsError, UnavailableError) as error:
                        wait = _pause(error, attempt)
                        repeatable = method == "GET" or isinstance(error, TooManyRequestsError)
                        if not repeatable or asyncio.get_running_loop().time() + wait >= deadline:
                            raise
                        await asyncio.sleep(wait)
                return await self._send(method, url, body, headers)
        except TimeoutError as error:
            raise TimedOutError(f"{method} {url.path}: no answer within {within:g} s") from error

    async def _send(self, method: str, url: URL, body: bytes | None, headers: dict[str, str]) -> bytes:
        try:
            async with (
                self._slots,
                self._session.request(method, url, data=body, **self._options(headers)) as response,
            ):
                if 200 <= response.status < 300:
                    return await _bounded(response, MAX_ANSWER_BYTES)
                said = await _bounded(response, MAX_ERROR_BYTES)
                raise error_from(response.status, said, response.headers.get("Retry-After"))
        except aiohttp.ClientError as error:
            raise UnreachableError(f"{method} {url.path}: {str(error) or type(error).__name__}") from error

    def _url(self, path: str, params: Params) -> URL:
        # Names were encoded segment by segment; yarl must not normalise them again.
        return URL(self._base + path, encoded=True).with_query(dict(params) or None)

    def _options(self, headers: dict[str, str] | None = None) -> dict[str, Any]:
        token = self.config.token
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token()}"
        return {
            "headers": sent,
            "ssl": self.config.trust(),
            "server_hostname": self.config.server_name,
            "allow_redirects": False,
        }

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            raise RuntimeError("the client is closed: use it as `async with ApiClient(config)`")
        return self._open


def selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    """The query parameters of the selectors that are given."""
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in given.items() if value}


def _pause(error: ClusterError, attempt: int) -> float:
    """Seconds until the next attempt: what the server asked for, at least a jittered doubling from 0.2 up to 2."""
    asked = error.retry_after if isinstance(error, ApiError) else None
    jittered = min(2.0, 0.1 * 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311
    return max(asked or 0.0, jittered)


@asynccontextmanager
async def _ahead(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            response.close()
            raise MalformedAnswerError(f"{response.url.path}: the answer is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _decode(answer: bytes, into: type[T]) -> T:
    try:
        return cast("T", _decoder(cast("Hashable", into)).decode(answer))
    except msgspec.MsgspecError as error:
        name = getattr(into, "__name__", str(into))
        raise MalformedAnswerError(f"the answer is not a {name}: {error}") from error


@lru_cache(maxsize=256)
def _decoder(into: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast("type[Any]", into))
