"""Writes the webhook configurations, and keeps them as they should be.

An entry fails closed only after the gate has answered with a certificate of our CA; once one does, it stays so whether
the gate answers or not. Only a pause opens it, for its time (`trust.pause`). Nothing here runs at exit: a controller
that ends leaves the cluster as protected as it is.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog

from countersign.api.names import WEBHOOK_CONFIGURATION
from countersign.cluster.client import ApiClient, Object
from countersign.cluster.errors import AlreadyExistsError, ClusterError, ConflictError, NotFoundError
from countersign.cluster.resource import Resource
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.resources import MUTATING, VALIDATING
from countersign.controller.statuses import Registered
from countersign.controller.webhooks import (
    GateEndpoint,
    differs,
    enforces,
    fails_closed,
    has_failed_closed,
    webhook_configurations,
)
from countersign.controller.world import World

CHECK_SECONDS: Final = 5.0
"""How often the stored configurations are compared, whatever happened."""
WAITING_SECONDS: Final = 1.0
"""How often while the gate is waited for, or after an error."""
PROBE_SECONDS: Final = 2.0
LOAD_SECONDS: Final = 1.0
"""An API server follows the configurations by a watch: each replica has a new one well within this."""

_log = structlog.get_logger(__name__)


class Leadership(Protocol):
    """Says whether this process may write."""

    def fence(self) -> None:
        """Raises unless it leads."""


class Desired(NamedTuple):
    """A configuration and where it belongs."""

    resource: Resource
    body: Object


class Registrar:
    """Keeps both configurations."""

    def __init__(
        self,
        world: World,
        client: ApiClient,
        leadership: Leadership,
        gate: GateEndpoint,
        metrics: ControllerMetrics,
        *,
        ca_bundle: Callable[[], bytes],
        paused: Callable[[], bool],
        changed: Callable[[], None],
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.registered = Registered()
        self._world = world
        self._client = client
        self._leadership = leadership
        self._gate = gate
        self._metrics = metrics
        self._ca_bundle = ca_bundle
        self._paused = paused
        self._changed = changed
        self._load_seconds = load_seconds
        self._wake = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Policies, audiences, namespaces or the CA may be others now."""
        self._wake.set()

    async def run(self) -> None:
        """Keep them until cancelled."""
        while True:
            self._wake.clear()
            try:
                outcome = await self.register()
            except ClusterError as error:
                _log.warning("webhooks not registered, will be tried again", error=str(error))
                problem = f"The webhook configurations could not be written: {error}"
                outcome = Registered(False, problem, self.registered.paused)
            if outcome != self.registered:
                self.registered = outcome
                self._changed()
            healthy = outcome.written and not outcome.problem
            try:
                async with asyncio.timeout(CHECK_SECONDS if healthy else WAITING_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def register(self) -> Registered:
        """Compare and write. Raises ClusterError."""
        bundle = self._ca_bundle()
        if not bundle:
            return Registered(False, "The CA does not exist yet.")
        snapshot = self._world.snapshot()
        stored = {resource: await self._read(resource) for resource in (MUTATING, VALIDATING)}
        self._closed = self._closed or any(has_failed_closed(body) for body in stored.values() if body)
        wanted = enforces(snapshot)
        unanswered = ""
        if wanted and not self._closed:
            unanswered = await probe(self._gate, bundle)
            self._closed = not unanswered
        paused = self._paused()
        bodies = webhook_configurations(
            snapshot, self._world.namespaces, self._gate, bundle, fail_closed=self._closed, paused=paused
        )
        if await self._write(Desired(MUTATING, bodies[0]), stored[MUTATING]):
            # A pod that is validated must have been mutated: let every API server load the first before the second.
            await asyncio.sleep(self._load_seconds)
        await self._write(Desired(VALIDATING, bodies[1]), stored[VALIDATING])
        self._metrics.webhooks_fail_closed.set(any(fails_closed(body) for body in bodies))
        problem = f"Nothing fails closed yet, because the gate does not answer: {unanswered}" if unanswered else ""
        return Registered(True, problem, paused)

    async def _read(self, resource: Resource) -> Object | None:
        try:
            return await self._client.get(resource, WEBHOOK_CONFIGURATION, dict[str, Any])
        except NotFoundError:
            return None

    async def _write(self, desired: Desired, stored: Object | None) -> bool:
        """Whether it was another one before."""
        resource, body = desired
        if stored is not None and not differs(stored, body):
            return False
        self._leadership.fence()
        try:
            if stored is None:
                await self._client.create(resource, body)
            else:
                meta = body["metadata"] | {"resourceVersion": stored["metadata"]["resourceVersion"]}
                await self._client.replace(resource, WEBHOOK_CONFIGURATION, body | {"metadata": meta})
        except (ConflictError, AlreadyExistsError):
            self.wake()  # somebody wrote meanwhile: look again
            return False
        _log.info("webhooks registered", kind=resource.plural, entries=len(body["webhooks"]))
        return True


async def probe(gate: GateEndpoint, ca_bundle: bytes) -> str:
    """Why the gate cannot be reached under a certificate of ours; empty if it can."""
    parts = urlsplit(gate.url) if gate.url else None
    host = (parts.hostname or "") if parts else f"{gate.service}.{gate.namespace}.svc"
    port = (parts.port or 443) if parts else gate.port
    trust = ssl.create_default_context(cadata=ca_bundle.decode("ascii"))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=trust)
    except TimeoutError:
        return f"no answer from {host}:{port} within {PROBE_SECONDS:g} s"
    except (OSError, ssl.SSLError) as error:
        return f"{host}:{port}: {error}"
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return ""
