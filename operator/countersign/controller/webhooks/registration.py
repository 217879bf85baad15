"""Writes the webhook configurations, and keeps them as they should be.

An entry fails closed only after the gate has answered with a certificate of our CA; once one does, it stays so whether
the gate answers or not. Only a pause opens it, for its time (`trust.orders.pause`). Nothing here runs at exit: a
controller that ends leaves the cluster as protected as it is.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import structlog

from countersign.api.meta import OwnerReference
from countersign.api.names import WEBHOOK_CONFIGURATION
from countersign.cluster.client import ApiClient, Object
from countersign.cluster.errors import AlreadyExistsError, ClusterError, ConflictError, ForbiddenError, NotFoundError
from countersign.cluster.resource import SERVICES, Resource
from countersign.controller.keeping import woken
from countersign.controller.keys.ownership import Owner, references, repaired
from countersign.controller.leadership import Fence
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.resources import MUTATING, VALIDATING
from countersign.controller.statuses.statuses import Registered
from countersign.controller.watches.world import World
from countersign.controller.webhooks.webhooks import (
    GateEndpoint,
    differs,
    enforces,
    fails_closed,
    has_failed_closed,
    webhook_configurations,
)

CHECK_SECONDS: Final = 2.0
"""How often the stored configurations are compared, whatever happened. Deleted ones are back within this."""
WAITING_SECONDS: Final = 1.0
"""How often while the gate is waited for, or after an error."""
PROBE_SECONDS: Final = 2.0
LOAD_SECONDS: Final = 1.0
"""An API server follows the configurations by a watch: each replica has a new one well within this."""

_log = structlog.get_logger(__name__)


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
        fence: Fence,
        gate: GateEndpoint,
        metrics: ControllerMetrics,
        *,
        owner: Owner,
        ca_bundle: Callable[[], bytes],
        paused: Callable[[], bool],
        changed: Callable[[], None],
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.registered = Registered()
        self._world = world
        self._client = client
        self._fence = fence
        self._gate = gate
        self._metrics = metrics
        self._owner = owner
        self._ca_bundle = ca_bundle
        self._paused = paused
        self._changed = changed
        self._load_seconds = load_seconds
        self._wake = asyncio.Event()
        self._closed = False
        self._told = False

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
            self._metrics.webhooks_registered.set(outcome.written)
            if outcome != self.registered:
                self.registered = outcome
                self._changed()
            healthy = outcome.written and not outcome.problem
            await woken(self._wake, CHECK_SECONDS if healthy else WAITING_SECONDS)

    async def register(self) -> Registered:
        """Compare and write. Raises ClusterError."""
        bundle = self._ca_bundle()
        if not bundle:
            return Registered(False, "The CA does not exist yet.")
        snapshot = self._world.rules.snapshot()
        owner = await self._owner.find()
        stored = {resource: await self._read(resource) for resource in (MUTATING, VALIDATING)}
        self._closed = self._closed or any(has_failed_closed(body) for body in stored.values() if body)
        wanted = enforces(snapshot)
        unanswered = ""
        if wanted and not self._closed:
            unanswered = await probe(self._gate, bundle, await self._address())
            self._closed = not unanswered
        paused = self._paused()
        bodies = webhook_configurations(
            snapshot, self._world.namespaces, self._gate, bundle, fail_closed=self._closed, paused=paused
        )
        if await self._write(Desired(MUTATING, bodies[0]), stored[MUTATING], owner):
            # A pod that is validated must have been mutated: let every API server load the first before the second.
            await asyncio.sleep(self._load_seconds)
        await self._write(Desired(VALIDATING, bodies[1]), stored[VALIDATING], owner)
        self._metrics.webhooks_fail_closed.set(any(fails_closed(body) for body in bodies))
        problem = f"Nothing fails closed yet, because the gate does not answer: {unanswered}" if unanswered else ""
        return Registered(True, problem, paused)

    async def _address(self) -> str:
        """The Service's address; empty where the gate has a URL, or no such address is known.

        The API server needs no DNS to call a webhook (k8s apiserver/pkg/util/proxy), so neither may what decides
        whether it fails closed.
        """
        if self._gate.url:
            return ""
        try:
            found = await self._client.get(SERVICES, self._gate.service, dict[str, Any], namespace=self._gate.namespace)
        except (ForbiddenError, NotFoundError):
            return ""
        address = str(found.get("spec", {}).get("clusterIP", ""))
        return "" if address == "None" else address

    async def _read(self, resource: Resource) -> Object | None:
        try:
            return await self._client.get(resource, WEBHOOK_CONFIGURATION, dict[str, Any])
        except NotFoundError:
            return None

    async def _write(self, desired: Desired, stored: Object | None, owner: OwnerReference | None) -> bool:
        """Whether its entries were others before."""
        resource, body = desired
        try:
            if stored is None:
                self._fence.fence()
                await self._client.create(resource, _with_meta(body, {"ownerReferences": references(owner)}))
            else:
                same = not differs(stored, body)
                if not same:
                    stored = await self._replace(resource, body, stored, stored["metadata"].get("ownerReferences"))
                await self._own(resource, body, stored, owner)
                if same:
                    return False
        except (ConflictError, AlreadyExistsError):
            self.wake()  # somebody wrote meanwhile: look again
            return False
        _log.info("webhooks registered", kind=resource.plural, entries=len(body["webhooks"]))
        return True

    async def _own(self, resource: Resource, body: Object, stored: Object, owner: OwnerReference | None) -> None:
        """A write of its own: it may be refused where the entries may be written."""
        wanted = repaired(stored, owner)
        if wanted is None:
            return
        try:
            await self._replace(resource, body, stored, wanted)
        except ForbiddenError as error:
            # OwnerReferencesPermissionEnforcement wants the right to delete, which the controller does not need.
            if not self._told:
                _log.warning("owner not set, this will outlive an uninstall", kind=resource.plural, error=str(error))
                self._told = True

    async def _replace(self, resource: Resource, body: Object, stored: Object, owners: list[Object] | None) -> Object:
        self._fence.fence()
        meta = {"resourceVersion": stored["metadata"]["resourceVersion"], "ownerReferences": owners or []}
        return await self._client.replace(resource, WEBHOOK_CONFIGURATION, _with_meta(body, meta))


async def probe(gate: GateEndpoint, ca_bundle: bytes, address: str = "") -> str:
    """Why the gate cannot be reached under a certificate of ours; empty if it can. `address`: instead of its name."""
    parts = urlsplit(gate.url) if gate.url else None
    host = (parts.hostname or "") if parts else f"{gate.service}.{gate.namespace}.svc"
    port = (parts.port or 443) if parts else gate.port
    trust = ssl.create_default_context(cadata=ca_bundle.decode("ascii"))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(address or host, port, ssl=trust, server_hostname=host)
    except TimeoutError:
        return f"no answer from {address or host}:{port} within {PROBE_SECONDS:g} s"
    except (OSError, ssl.SSLError) as error:
        return f"{address or host}:{port}: {error}"
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return ""


def _with_meta(body: Object, more: Object) -> Object:
    return body | {"metadata": body["metadata"] | more}
