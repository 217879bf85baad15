"""An API server in miniature that can misbehave on demand. What the real one does is tested against the real one.

It keeps objects with uid and resourceVersion, lists in pages, watches with bookmarks, checks resourceVersion on PUT,
merges patches, and speaks TLS with a certificate of its own. It knows no schema, no RBAC and no admission.
"""

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from countersign.cluster.config import ClusterConfig
from countersign.cluster.credentials import trusting
from countersign.keys.authority import AuthoritySet, issue, new_authority
from countersign.tls import load_key_pair

Json = dict[str, Any]
_AUTHORITIES = AuthoritySet((new_authority(datetime.now(UTC)),))
_CERTIFICATE = issue(_AUTHORITIES.authorities[0], ["127.0.0.1"], datetime.now(UTC))


@dataclass
class Fault:
    """What happens instead of an answer, to the next `times` requests that `when` chooses."""

    when: Callable[[web.Request], bool]
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    disconnect: bool = False
    times: int = 1


def is_watch(request: web.Request) -> bool:
    return "watch" in request.query


def is_list(request: web.Request) -> bool:
    return request.method == "GET" and "limit" in request.query


def status(code: int, reason: str, message: str = "on demand") -> bytes:
    return json.dumps({"kind": "Status", "code": code, "reason": reason, "message": message}).encode()


@dataclass
class _Watcher:
    plural: str
    namespace: str | None
    name: str | None
    queue: asyncio.Queue[bytes | None]


class FakeApiServer:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.documents: dict[str, Json] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.authorizations: list[str | None] = []
        self.bodies: list[bytes] = []
        self.faults: list[Fault] = []
        self.review: Callable[[Json], Json] = lambda body: body
        self.version = 100
        self.compacted = 0
        self.port = 0
        self._events: list[tuple[int, str, str, Json]] = []
        self._watchers: list[_Watcher] = []
        self._uids = (str(uuid.UUID(int=number)) for number in range(1, 1 << 20))

    # what a test does to the cluster

    def put(self, plural: str, name: str, *, namespace: str = "", **content: Any) -> Json:
        """Create an object, or replace its content."""
        key = (plural, namespace, name)
        known = self.objects.get(key)
        self.version += 1
        metadata = {"name": name, "uid": known["metadata"]["uid"] if known else next(self._uids)}
        if namespace:
            metadata["namespace"] = namespace
        metadata |= content.pop("metadata", {})
        made = {**content, "metadata": metadata | {"resourceVersion": str(self.version)}}
        self.objects[key] = made
        self._tell("MODIFIED" if known else "ADDED", plural, made)
        return made

    def remove(self, plural: str, name: str, *, namespace: str = "", silently: bool = False) -> None:
        """Delete an object; `silently` as if the watch's history had been lost."""
        gone = self.objects.pop((plural, namespace, name))
        self.version += 1
        if not silently:
            gone = {**gone, "metadata": gone["metadata"] | {"resourceVersion": str(self.version)}}
            self._tell("DELETED", plural, gone)

    def compact(self) -> None:
        """Forget history: a watch from before now is answered with 410."""
        self.version += 1
        self.compacted = self.version
        self._events.clear()

    def push(self, line: bytes) -> None:
        """Send raw bytes to every open watch."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(line)

    def end_watches(self) -> None:
        """End every open watch in order, as the server's timeout does."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(None)

    @property
    def watching(self) -> int:
        return len(self._watchers)

    def counted(self, method: str, *, watch: bool = False) -> int:
        return sum(1 for verb, _, query in self.requests if verb == method and ("watch" in query) == watch)

    def config(self, token: Callable[[], str] | None = None) -> ClusterConfig:
        trust = trusting(_AUTHORITIES.trust_bundle())
        return ClusterConfig(f"https://127.0.0.1:{self.port}", lambda: trust, token)

    # what it answers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        self.authorizations.append(request.headers.get("Authorization"))
        body = await request.read()
        self.bodies.append(body)
        for fault in self.faults:
            if fault.times > 0 and fault.when(request):
                fault.times -= 1
                await asyncio.sleep(fault.delay)
                if fault.disconnect:
                    assert request.transport
                    request.transport.abort()
                    return web.Response()
                if fault.status:
                    return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
                break
        if request.path in self.documents:
            return web.json_response(self.documents[request.path])
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = None
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        return await self._answer(request, body, namespace, parts)

    async def _answer(
        self, request: web.Request, body: bytes, namespace: str | None, parts: list[str]
    ) -> web.StreamResponse:
        plural, name = parts[0], parts[1] if len(parts) > 1 else None
        if is_watch(request):
            return await self._watch(request, plural, namespace)
        if request.method == "GET" and name is None:
            return self._list(request, plural, namespace)
        if request.method == "POST":
            return self._create(plural, namespace or "", json.loads(body))
        assert name
        key = (plural, namespace or "", name)
        if key not in self.objects:
            return _failure(404, "NotFound", f'{plural} "{name}" not found')
        known = self.objects[key]
        if request.method == "GET":
            return web.json_response(known)
        if request.method == "DELETE":
            wanted = json.loads(body or b"{}").get("preconditions", {}).get("uid")
            if wanted and wanted != known["metadata"]["uid"]:
                return _failure(409, "Conflict", "the UID in the precondition does not match")
            self.remove(plural, name, namespace=namespace or "")
            return web.json_response({"kind": "Status", "status": "Success"})
        sent = json.loads(body)
        wanted = sent.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != known["metadata"]["resourceVersion"]:
            return _failure(409, "Conflict", "the object has been modified")
        content = sent if request.method == "PUT" else _merge(known, sent)
        return web.json_response(self.put(plural, name, namespace=namespace or "", **content))

    def _list(self, request: web.Request, plural: str, namespace: str | None) -> web.Response:
        wanted = request.query.get("fieldSelector", "").removeprefix("metadata.name=") or None
        found = [
            one
            for (kind, ns, name), one in sorted(self.objects.items())
            if kind == plural and namespace in {None, ns} and wanted in {None, name}
        ]
        start, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 0)) or len(found)
        metadata = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return web.json_response({"metadata": metadata, "items": found[start : start + limit]})

    def _create(self, plural: str, namespace: str, sent: Json) -> web.Response:
        if plural.endswith("reviews"):
            return web.json_response(self.review(sent), status=201)
        name = sent["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            return _failure(409, "AlreadyExists", f'{plural} "{name}" already exists')
        return web.json_response(self.put(plural, name, namespace=namespace, **sent), status=201)

    async def _watch(self, request: web.Request, plural: str, namespace: str | None) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.compacted:
            return _failure(410, "Expired", "too old resource version")
        wanted = request.query.get("fieldSelector", "").removeprefix("metadata.name=") or None
        watcher = _Watcher(plural, namespace, wanted, asyncio.Queue())
        for version, kind, event_plural, one in self._events:
            if version > since:
                self._offer(watcher, kind, event_plural, one)
        self._watchers.append(watcher)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            while (line := await watcher.queue.get()) is not None:
                if line == CUT:
                    assert request.transport
                    request.transport.abort()
                    break
                await response.write(line)
        finally:
            self._watchers.remove(watcher)
        return response

    def _tell(self, kind: str, plural: str, one: Json) -> None:
        self._events.append((self.version, kind, plural, one))
        for watcher in self._watchers:
            self._offer(watcher, kind, plural, one)

    def _offer(self, watcher: _Watcher, kind: str, plural: str, one: Json) -> None:
        metadata = one["metadata"]
        if (
            watcher.plural == plural
            and watcher.namespace in {None, metadata.get("namespace")}
            and watcher.name in {None, metadata["name"]}
        ):
            watcher.queue.put_nowait(event(kind, one))


CUT = b"\0cut"
"""Pushed into a watch, it breaks the connection."""


def event(kind: str, one: Json) -> bytes:
    return json.dumps({"type": kind, "object": one}).encode() + b"\n"


def _failure(code: int, reason: str, message: str) -> web.Response:
    return web.Response(status=code, body=status(code, reason, message), content_type="application/json")


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


@asynccontextmanager
async def running() -> AsyncIterator[FakeApiServer]:
    """A server on a port of 127.0.0.1."""
    fake = FakeApiServer()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_key_pair(tls, *_CERTIFICATE)
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    fake.port = runner.addresses[0][1]
    try:
        yield fake
    finally:
        fake.end_watches()
        await runner.cleanup()
