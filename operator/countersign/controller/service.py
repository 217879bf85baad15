"""The controller as a process: what runs, in which order, and what its end means.

    sweep ──► watch, and stand by with all that is known ──► lead: judge everything once, then follow every change

Every replica watches; only the one that holds the Lease writes. So a failover costs the time of the Lease and no list.
Losing the Lease or the watches ends the process, and Kubernetes starts another.

What it may do, and no more (the chart's ClusterRole and Role `countersign-controller`):

    cluster   ""                             pods, namespaces, serviceaccounts, nodes        get list watch
              apps                           replicasets deployments statefulsets daemonsets get
              batch                          jobs cronjobs                                   get
              ""                             replicationcontrollers                          get
              countersign.dev                protectedaudiences clustertrustpolicies
                                             trustpolicies revocations trustexceptions
                                             admissionpauses evidenceroots                   get list watch
              countersign.dev                the same with /status                           patch
              countersign.dev                workloadgrants                     get list watch create delete
              countersign.dev                workloadgrants/status                           patch
              events.k8s.io                  events                                          create patch
              admissionregistration.k8s.io   mutatingwebhookconfigurations
                                             validatingwebhookconfigurations                 create
                                             those named `countersign`                       get update
              rbac.authorization.k8s.io      clusterroles named `countersign-controller`     get
    own       ""                             secrets                                         create
    namespace                                countersign-ca countersign-gate-tls
                                             countersign-verifier-tls
                                             countersign-receipt-keys                        get patch
                                             countersign-receipt-keys                        list watch
              ""                             configmaps                                      create
                                             countersign-ca                                  get patch
              ""                             configmaps that EvidenceRoots name              get
              ""                             services/countersign-gate                       get
              coordination.k8s.io            leases                                          create
                                             countersign-controller                          get update
                   discovery.k8s.io          endpointslices                                  list
    kube-node-lease
              coordination.k8s.io            leases                                          get
"""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final, Literal

import structlog

from countersign.api import names
from countersign.api.meta import OwnerReference
from countersign.cluster.client import ApiClient
from countersign.cluster.config import ClusterConfig, load_config
from countersign.cluster.errors import ClusterError
from countersign.cluster.events import ObjectReference
from countersign.cluster.lease import LeaseElector
from countersign.cluster.lease_keeper import LeaseKeeper
from countersign.controller.leadership import Leadership
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.parts import Parts
from countersign.controller.settings import ControllerSettings
from countersign.controller.watches.sweeping import RestoredError, first_sweep, sweep
from countersign.controller.watches.watching import Sighting, Watching
from countersign.controller.watches.world import World
from countersign.runtime.health import HealthServer
from countersign.runtime.logs import configure_logging
from countersign.runtime.metrics import new_registry
from countersign.runtime.service import run_service
from countersign.runtime.tracing.setup import Tracing

FIRST_SWEEP_RETRY_SECONDS: Final = 1.0
ELECTION_SECONDS: Final = 1.0
"""How long it takes to lead, if nobody else does. Whoever does not lead by then stands by, and watches."""
RELIST_PAUSE_SECONDS: Final = 1.0
"""After kopf has listed anew: how long until the sweep that finds what vanished. Many events of one list make one."""
KOPF_LIMIT_SECONDS: Final = 60.0
"""How long kopf's loop may stand still before this process counts as dead."""

TELL_SECONDS: Final = 20.0
"""How long a process that ends tries to tell people of a restore."""
RESTORE_NOTE: Final = (
    "etcd holds an older state than this controller has seen: it was restored from a snapshot, or copied from another. "
    "Grants that were revoked since may be active again: give all services another epoch (docs/bad-days.md)."
)

_log = structlog.get_logger(__name__)


class LostError(Exception):
    """Something ended that the process cannot go on without; it must be started anew."""


def run(settings: ControllerSettings) -> int:
    """Run the controller until SIGTERM or SIGINT. Returns the exit code."""
    configure_logging(settings.log_level, json=settings.log_json)
    return run_service(lambda stop: Controller(settings).run(stop))


class Controller:
    """The process: watch, stand by, lead."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._world = World(settings.namespace)
        self._registry = new_registry()
        self._metrics = ControllerMetrics(self._registry)
        self._tracing = Tracing("countersign-controller", settings.otlp_endpoint, settings.trace_ratio, self._registry)
        self._leadership = Leadership(f"{settings.identity}-{os.getpid()}")
        self._synced = False
        self._watching: Watching | None = None
        self._sweep_wanted = asyncio.Event()
        self._rewound = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch, stand by, lead. Returns at `stop`; raises LostError when the process must be started anew."""
        settings = self._settings
        config = load_config(settings.kubeconfig)
        async with AsyncExitStack() as held:
            await held.enter_async_context(
                HealthServer(
                    settings.health_host, settings.health_port, self._ready, self._live, registry=self._registry
                )
            )
            tracer = await held.enter_async_context(self._tracing.started())
            client = await held.enter_async_context(ApiClient(config, user_agent="countersign-controller"))
            parts = Parts(settings, self._world, client, self._metrics, tracer=tracer, leadership=self._leadership)
            await _until(stop, self._first_sweep(client))
            if stop.is_set():
                return
            watching = Watching(config, partial(self._see, parts))
            held.push_async_callback(watching.stop)
            for work in (
                self._begin_to_watch(watching, parts),
                self._keep_sweeping(client, parts),
                parts.receipt_keys(client).run(),
            ):
                held.callback(asyncio.create_task(work).cancel)
            self._synced = True
            gc.collect()
            gc.freeze()  # what was read now stays: no use in looking through it at each collection
            await held.enter_async_context(parts.events)
            held.push_async_callback(self._tell_of_restore, parts)  # after the Lease was left, which may tell it first
            lost = asyncio.Event()
            ends = {
                stop: "",
                self._rewound: "etcd was restored from a snapshot",
                watching.ended: "the watches ended",
                lost: "another process may lead",
            }
            owner = await _lease_owner(parts)
            elector = LeaseKeeper(
                partial(self._campaign, config, owner), on_lost=lost.set, on_rewound=self._rewound.set
            )
            await self._stand_by(elector, parts, ends, held)

    @asynccontextmanager
    async def _campaign(
        self,
        config: ClusterConfig,
        owner: OwnerReference | None,
        is_alive: Callable[[], bool],
        on_lost: Callable[[], None],
        on_rewound: Callable[[], None],
    ) -> AsyncIterator[LeaseElector]:
        """Runs in the Lease's own loop, so it has a client of its own."""
        namespace, identity = self._settings.namespace, self._leadership.identity
        async with (
            ApiClient(config, user_agent="countersign-controller") as client,
            LeaseElector(
                client, namespace, names.LEASE_NAME, identity,
                is_alive=is_alive, on_lost=on_lost, on_rewound=on_rewound, owner=owner,
            ) as elector,
        ):  # fmt: skip
            yield elector

    async def _stand_by(
        self, elector: LeaseKeeper, parts: Parts, ends: Mapping[asyncio.Event, str], held: AsyncExitStack
    ) -> None:
        """Wait for the Lease, then lead, until one of `ends`. Raises LostError with what that one says, if anything."""
        elected = asyncio.create_task(held.enter_async_context(elector))
        ending = {asyncio.create_task(event.wait()): what for event, what in ends.items()}
        try:
            await asyncio.wait([elected, *ending], return_when=asyncio.FIRST_COMPLETED)
            if elected.done():
                elected.result()
                self._leadership.elected(lambda: elector.leads)
                await self._lead(parts, list(ending), held)
            ended = next((what for task, what in ending.items() if task.done()), "")
            if ended:
                raise LostError(f"{ended}: this process must be started anew")
        finally:
            for task in (elected, *ending):
                task.cancel()
            await asyncio.gather(elected, *ending, return_exceptions=True)
            self._leadership.leading = False
            self._metrics.leading.set(0)

    async def _tell_of_restore(self, parts: Parts) -> None:
        """An Event, if the Lease or a sweep went back in time."""
        if self._rewound.is_set():
            lease = ObjectReference("coordination.k8s.io/v1", "Lease", names.LEASE_NAME, self._settings.namespace)
            await parts.events.insist(
                lease, "Warning", "EtcdRestoreSuspected", RESTORE_NOTE, action="Restart", within=TELL_SECONDS
            )

    async def _lead(self, parts: Parts, ends: list[asyncio.Task[Literal[True]]], held: AsyncExitStack) -> None:
        """Everything that writes. Returns when one of `ends` is done; raises what a part raised."""
        self._metrics.leading.set(1)
        tasks = [asyncio.ensure_future(one) for one in await parts.work(held)]
        try:
            done, _ = await asyncio.wait([*tasks, *ends], return_when=asyncio.FIRST_COMPLETED)
            for task in done.intersection(tasks):
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_sweep(self, client: ApiClient) -> None:
        """List everything once. Until the CRDs are there, and the API server answers, there is nothing to do."""
        while True:
            started = time.perf_counter()
            try:
                await first_sweep(client, self._world)
            except ClusterError as error:
                _log.warning("waiting for the API server and the CRDs", error=str(error))
                await asyncio.sleep(FIRST_SWEEP_RETRY_SECONDS)
            else:
                self._metrics.sweep_seconds.observe(time.perf_counter() - started)
                self._world.listed = True
                _log.info("everything listed", pods=len(self._world.pods), grants=len(self._world.grants))
                return

    async def _begin_to_watch(self, watching: Watching, parts: Parts) -> None:
        """Start kopf, which then reads everything anew. Whoever leads at once first ends what the sweep found over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ELECTION_SECONDS):
                await parts.over_ended.wait()
        if self._leadership.leading:
            await parts.over_ended.wait()
        self._watching = watching
        watching.start()

    async def _keep_sweeping(self, client: ApiClient, parts: Parts) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.sweep_seconds):
                    await self._sweep_wanted.wait()
                    await asyncio.sleep(RELIST_PAUSE_SECONDS)
            except TimeoutError:
                pass
            self._sweep_wanted.clear()
            started = time.perf_counter()
            try:
                await sweep(client, self._world, parts.tell)
            except ClusterError as error:
                _log.warning("sweep failed, the next will do", error=str(error))
            except RestoredError as error:
                _log.error("etcd went back in time", error=str(error))
                self._rewound.set()
            except Exception:
                _log.exception("sweep failed")
            self._metrics.sweep_seconds.observe(time.perf_counter() - started)

    def _see(self, parts: Parts, sighting: Sighting) -> None:
        """An event from kopf."""
        parts.tell(self._world.see(sighting))
        if sighting.listed:
            self._sweep_wanted.set()

    def _ready(self) -> bool | str:
        return self._synced or "the cluster has not been listed yet"

    def _live(self) -> bool | str:
        if self._watching is None or self._watching.is_alive(KOPF_LIMIT_SECONDS):
            return True
        return "the watches stand still"


async def _lease_owner(parts: Parts) -> OwnerReference | None:
    """Once is enough: were the account made again, this process's own token would be worth nothing."""
    try:
        return await parts.owners.namespaced.find()
    except ClusterError as error:
        _log.warning("the Lease keeps the owner that it has", error=str(error))
        return None


async def _until(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work, unless `stop` comes first."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
