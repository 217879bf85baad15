"""kopf as the eyes of the controller: events of pods and of our kinds, handed to the main loop as small models.

kopf runs in a thread with an event loop of its own, because it cancels every task of its loop when it ends. Only
`on.event` handlers are registered: they put no finalizer and no annotation on anything, and return None, since kopf
would write what they return into the object. kopf elects no leader, so `standalone`; the Lease is ours.

Two things that kopf does not tell are told by `sweeping`: that a list is complete, and that an object vanished between
two lists. An event of type None is from a list.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import structlog

from countersign.api.admission import Namespace, ServiceAccount
from countersign.api.names import GROUP, MIRROR_ANNOTATION, RECEIPT_ANNOTATION, VERSION
from countersign.api.node import Node
from countersign.api.objects import KINDS, CustomResource
from countersign.api.pod import Pod
from countersign.cluster.config import ClusterConfig
from countersign.cluster.errors import ConfigError
from countersign.controller.watches.lean_kopf import kopf

_log = structlog.get_logger(__name__)

Watched = CustomResource | Pod | Node | Namespace | ServiceAccount

WATCHED: Final[tuple[tuple[str, str, str, type[Watched]], ...]] = (
    ("", "v1", "pods", Pod),
    ("", "v1", "nodes", Node),
    ("", "v1", "namespaces", Namespace),
    ("", "v1", "serviceaccounts", ServiceAccount),
    *((GROUP, VERSION, kind.PLURAL, kind) for kind in KINDS),
)
"""Group, version, plural, model."""

POD_ANNOTATIONS: Final = frozenset({RECEIPT_ANNOTATION, MIRROR_ANNOTATION})

LOGIN_LIFETIME: Final = timedelta(minutes=30)
"""After this kopf opens a new session, which trusts the cluster's CA of then. Tokens are read at each request."""
RETRY_SECONDS: Final = (1, 1, 2, 3, 5)
PAGE_SIZE: Final = 100
"""Objects per page of kopf's lists: with the storages below, 5,000 pods took 110 MB at most instead of 915."""
WORKER_IDLE_SECONDS: Final = 0.1
"""How long kopf keeps a task for an object that is quiet."""
PULSE_SECONDS: Final = 5.0
GOODBYE_SECONDS: Final = 0.1
"""For TLS connections to say goodbye: aiohttp closes a session before they have (its docs, "Graceful Shutdown")."""


class Sighting(NamedTuple):
    """One event. `gone`: it was deleted. `listed`: it came from a list, so others may have vanished unseen."""

    object: Watched
    gone: bool
    listed: bool


class Watching:
    """Runs kopf until `stop`. `sink` is called in the loop that called `start`."""

    def __init__(self, config: ClusterConfig, sink: Callable[[Sighting], None]) -> None:
        """Raises ConfigError for what kopf's sessions cannot do."""
        if config.server_name is not None:
            raise ConfigError("the controller cannot use tls-server-name: name the API server as its certificate does")
        self.ended: asyncio.Event = asyncio.Event()
        """Set when kopf has ended, which it does by itself only after an error that it cannot outlive."""
        self._config = config
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._pulse = self._loop.time()

    def start(self) -> None:
        """Begin to watch."""
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns that signals are not its business in this thread; they are `runtime.service`'s.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
        self._thread.start()

    async def stop(self) -> None:
        """End kopf and wait for it, within its own grace time."""
        self._stop.set()
        if self._thread.is_alive():
            await self.ended.wait()
            await asyncio.to_thread(self._thread.join)

    def is_alive(self, limit: float) -> bool:
        """Whether kopf's loop has turned within the last `limit` seconds."""
        return self._thread.is_alive() and self._loop.time() - self._pulse < limit

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except BaseException:
            _log.exception("kopf ended")
        finally:
            with contextlib.suppress(RuntimeError):  # the main loop may be closed already
                self._loop.call_soon_threadsafe(self.ended.set)

    async def _operate(self) -> None:
        pulse = asyncio.create_task(self._beat())
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=operator_settings(),
                standalone=True,
                clusterwide=True,
                stop_flag=self._stop,
            )
        finally:
            pulse.cancel()
            await asyncio.sleep(GOODBYE_SECONDS)

    async def _beat(self) -> None:
        while True:
            self._pulse = self._loop.time()
            await asyncio.sleep(PULSE_SECONDS)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for group, version, plural, model in WATCHED:
            kopf.on.event(group, version, plural, registry=registry, id=plural)(self._handler(model))
        return registry

    def _handler(self, model: type[Watched]) -> Callable[..., Any]:
        async def handle(event: Mapping[str, Any], **_: Any) -> None:
            kind = event["type"]
            try:
                found = msgspec.convert(event["object"], model)
            except msgspec.ValidationError as error:
                meta = event["object"].get("metadata", {})
                _log.error("object cannot be read", kind=model.__name__, namespace=meta.get("namespace"),
                           name=meta.get("name"), error=str(error))  # fmt: skip
                return
            sighting = Sighting(slim(found), kind == "DELETED", kind is None)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._sink, sighting)

        return handle

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._config.trust()), middlewares=(self._authorize,)
        )
        return kopf.AiohttpSession(
            server=self._config.server, aiohttp_session=session, expiration=datetime.now(UTC) + LOGIN_LIFETIME
        )

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._config.token is not None:
            request.headers["Authorization"] = f"Bearer {self._config.token()}"
        return await handler(request)


def slim(found: Watched) -> Watched:
    """The object without what nobody reads. Of a pod's annotations only those that a judgement asks about stay."""
    if isinstance(found, Pod):
        meta = found.metadata
        kept = {key: value for key, value in meta.annotations.items() if key in POD_ANNOTATIONS}
        told = tuple(one for one in found.status.conditions if one.type == "PodScheduled")
        status = msgspec.structs.replace(found.status, conditions=told)
        return msgspec.structs.replace(found, metadata=msgspec.structs.replace(meta, annotations=kept), status=status)
    if isinstance(found, (Node, Namespace, ServiceAccount)):
        meta = msgspec.structs.replace(found.metadata, annotations={})
        return msgspec.structs.replace(found, metadata=meta)
    return found


class _NoDiff(kopf.DiffBaseStorage):
    """Keeps nothing and compares nothing: with `on.event` alone nobody asks, and it took 13 of 14 parts of the time."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing, for the same reason."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def operator_settings() -> kopf.OperatorSettings:
    """kopf's settings for watching many objects and writing nothing."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no watches of CRDs and namespaces by kopf itself
    settings.watching.chunk_size = PAGE_SIZE
    settings.queueing.idle_timeout = WORKER_IDLE_SECONDS
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiff()
    settings.persistence.progress_storage = _NoProgress()
    settings.networking.error_backoffs = _WithoutEnd()
    return settings


class _WithoutEnd(Iterable[float]):
    """Pauses between attempts, for ever: trouble with the API must not end the process."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1]))
