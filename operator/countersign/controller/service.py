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
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from countersign.api import names
from countersign.api.meta import OwnerReference
from countersign.api.secret import Secret
from countersign.api.verifier_calls import UsesReport
from countersign.cluster.client import ApiClient
from countersign.cluster.config import load_config
from countersign.cluster.errors import ClusterError
from countersign.cluster.events import EventRecorder, ObjectReference
from countersign.cluster.lease import LeaseElector
from countersign.cluster.resource import SECRETS
from countersign.cluster.watch import Reflector
from countersign.controller.calls.admissions import AdmissionCollector
from countersign.controller.calls.calling import Where
from countersign.controller.calls.gates import Gates
from countersign.controller.calls.verifiers import Verifiers
from countersign.controller.evidence.evidence_roots import RootKeeper
from countersign.controller.evidence.fetching import Fetcher
from countersign.controller.evidence.pacing import Pace
from countersign.controller.evidence.reverified import Reverified
from countersign.controller.evidence.reverifying import Reverifier
from countersign.controller.evidence.scanning import Scanner
from countersign.controller.instances.judging import Judging
from countersign.controller.instances.pods import PodReconciler
from countersign.controller.instances.uses import UseKeeper
from countersign.controller.keys.certificates import KeyKeeper, service_names
from countersign.controller.keys.ownership import Owners
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.orders.exceptions import ExceptionKeeper
from countersign.controller.orders.pausing import PauseKeeper
from countersign.controller.settings import ControllerSettings
from countersign.controller.statuses.statuses import Registered, StatusKeeper
from countersign.controller.store import Store
from countersign.controller.watches.sweeping import RestoredError, sweep
from countersign.controller.watches.watching import Sighting, Watching
from countersign.controller.watches.world import PodRecord, Touched, World
from countersign.controller.webhooks.registration import Registrar
from countersign.controller.webhooks.webhooks import GateEndpoint
from countersign.controller.workqueue import WorkQueue
from countersign.grants.impact import Limits
from countersign.grants.reasons import REMEDIES
from countersign.runtime.health import HealthServer
from countersign.runtime.logs import configure_logging
from countersign.runtime.metrics import new_registry
from countersign.runtime.service import run_service
from countersign.runtime.tracing.setup import Tracing
from countersign.runtime.tracing.spans import UNTRACED, Tracer
from countersign.trust.orders.pause import in_force

FIRST_SWEEP_RETRY_SECONDS: Final = 1.0
RELIST_PAUSE_SECONDS: Final = 1.0
"""After kopf has listed anew: how long until the sweep that finds what vanished. Many events of one list make one."""
KOPF_LIMIT_SECONDS: Final = 60.0
"""How long kopf's loop may stand still before this process counts as dead."""

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
    """All parts of the process and how they hear of each other."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._world = World(settings.namespace)
        self._registry = new_registry()
        self._metrics = ControllerMetrics(self._registry)
        self._tracing = Tracing("countersign-controller", settings.otlp_endpoint, settings.trace_ratio, self._registry)
        self._tracer: Tracer = UNTRACED
        self._leads: Callable[[], bool] = lambda: False
        self._synced = False
        self._watching: Watching | None = None
        self._policies_changed = asyncio.Event()
        self._sweep_wanted = asyncio.Event()
        self._rewound = asyncio.Event()
        self._leading = False

    async def run(self, stop: asyncio.Event) -> None:
        """Watch, stand by, lead. Returns at `stop`; raises LostError when the process must be started anew."""
        settings = self._settings
        config = load_config(settings.kubeconfig)
        async with AsyncExitStack() as parts:
            await parts.enter_async_context(
                HealthServer(
                    settings.health_host, settings.health_port, self._ready, self._live, registry=self._registry
                )
            )
            self._tracer = await parts.enter_async_context(self._tracing.started())
            client = await parts.enter_async_context(ApiClient(config, user_agent="countersign-controller"))
            self._compose(client)
            await _until(stop, self._first_sweep(client))
            if stop.is_set():
                return
            self._watching = Watching(config, self._see)
            self._watching.start()
            parts.push_async_callback(self._watching.stop)
            for work in (self._keep_sweeping(client), self._receipt_keys(client).run()):
                parts.callback(asyncio.create_task(work).cancel)
            self._synced = True
            gc.collect()
            gc.freeze()  # what was read now stays: no use in looking through it at each collection
            await parts.enter_async_context(self._events)
            await self._stand_by(client, stop, parts)

    def _receipt_keys(self, client: ApiClient) -> Reflector[Secret, Secret]:
        """The watch by which a revoked receipt key is known at once."""
        ours, name = self._settings.namespace, names.RECEIPT_KEYS_SECRET
        watch = Reflector(client, SECRETS, Secret, lambda secret: secret, namespace=ours, name=name)
        watch.cache.on_change(self._keys.on_receipt_keys)
        return watch

    def _compose(self, client: ApiClient) -> None:
        """Make the parts and tell each whom to tell."""
        settings, world, metrics = self._settings, self._world, self._metrics
        gate = GateEndpoint(settings.namespace, settings.gate_service, url=settings.gate_url)
        self._store = Store(client, self._is_leader)
        self._owners = Owners(client, settings.namespace)
        self._keys = KeyKeeper(
            client,
            self._store,
            settings.namespace,
            metrics,
            owner=self._owners.namespaced,
            serving={
                names.GATE_TLS_SECRET: self._names_of(settings.gate_service),
                names.VERIFIER_TLS_SECRET: self._names_of(settings.verifier_service),
            },
            clock=_now,
            changed=self._keys_changed,
            marked=self._keys_marked,
        )
        self._registrar = Registrar(
            world,
            client,
            self._store,
            gate,
            metrics,
            owner=self._owners.cluster,
            ca_bundle=lambda: self._keys.ca_bundle,
            paused=self._paused,
            changed=self._status_changed,
        )
        self._events = EventRecorder(client, "countersign.dev/controller", self._identity())
        limits = Limits(settings.impact_grants, settings.impact_share)
        self._reverified = Reverified(refresh=settings.scan_refresh_seconds)
        self._judging = Judging(
            world, self._store, self._keys, metrics, limits,
            clock=_now, reverified=self._reverified, turned=self._evidence_turned,
        )  # fmt: skip
        self._verifiers = self._verifier_calls(client)
        self._uses = UseKeeper(
            world, self._events, metrics,
            ask=self._verifiers.uses if self._verifiers else _nobody, record_seconds=settings.use_record_seconds,
            clock=_now, wake=lambda uid: self._queue.add(uid),  # noqa: PLW0108 - the queue is made below
        )  # fmt: skip
        self._pods = PodReconciler(
            world,
            self._store,
            self._judging,
            self._events,
            metrics,
            uses=self._uses,
            retention=timedelta(seconds=settings.grant_retention_seconds),
            epoch=settings.epoch,
            clock=_now,
            later=self._look_again,
            changed=self._status_changed,
        )
        self._queue = WorkQueue(self._reconcile, workers=settings.workers)
        metrics.queue_depth(lambda: len(self._queue))
        self._gates = Gates(
            client, gate, metrics,
            ca_bundle=lambda: self._keys.ca_bundle, keys=lambda: self._keys.receipts.keys, clock=_now,
        )  # fmt: skip
        self._admissions = AdmissionCollector(
            world,
            self._gates.tallies,
            publish_seconds=settings.publish_seconds,
            clock=_now,
            changed=self._status_grew,
        )
        pace = Pace(settings.scan_requests_per_second)
        self._scanner = Scanner(
            world, self._judging, self._gates.outlook, metrics,
            pace=pace, refresh=settings.scan_refresh_seconds, clock=_now, changed=self._status_grew,
        )  # fmt: skip
        self._reverifier = Reverifier(
            world, self._judging, self._reverified, self._gates.evidence,
            pace=pace, metrics=metrics, refresh=settings.scan_refresh_seconds,
            requeue=self._work_on, everybody=self._everybody,
        )  # fmt: skip
        self._statuses = StatusKeeper(
            world,
            self._store,
            metrics,
            impacts=lambda: self._judging.impacts,
            registered=self._registered,
            clock=_now,
            admissions=self._admissions.of if settings.collect_seconds else lambda _: None,
        )
        self._pauses = PauseKeeper(
            world,
            self._store,
            self._events,
            metrics,
            registered=self._registered,
            clock=_now,
            turned=self._registrar.wake,
        )
        fetcher = Fetcher(self._store, settings.namespace)
        self._roots = RootKeeper(world, self._store, fetcher, self._events, metrics, clock=_now)

        self._exceptions = ExceptionKeeper(world, self._store, self._events, metrics, clock=_now)

    def _verifier_calls(self, client: ApiClient) -> Verifiers | None:
        settings = self._settings
        if settings.verifier_token_file is None or not settings.use_collect_seconds:
            return None
        return Verifiers(
            client, Where(settings.namespace, settings.verifier_service, settings.verifier_url), self._metrics,
            ca_bundle=lambda: self._keys.ca_bundle, token_file=settings.verifier_token_file,
        )  # fmt: skip

    async def _stand_by(self, client: ApiClient, stop: asyncio.Event, parts: AsyncExitStack) -> None:
        """Wait for the Lease, then lead until `stop`."""
        lost, rewound = asyncio.Event(), self._rewound
        elector = LeaseElector(
            client,
            self._settings.namespace,
            names.LEASE_NAME,
            self._identity(),
            on_lost=lost.set,
            on_rewound=rewound.set,
            owner=await self._lease_owner(),
        )
        assert self._watching is not None  # noqa: S101 - set by run
        elected = asyncio.create_task(parts.enter_async_context(elector))
        ends = {asyncio.create_task(event.wait()): what for event, what in (
            (stop, ""), (rewound, "etcd was restored from a snapshot"),
            (self._watching.ended, "the watches ended"), (lost, "another process may lead"),
        )}  # fmt: skip
        try:
            await asyncio.wait([elected, *ends], return_when=asyncio.FIRST_COMPLETED)
            if elected.done():
                elected.result()
                self._leads = lambda: elector.leads
                await self._lead(list(ends), parts)
            ended = next((what for task, what in ends.items() if task.done()), "")
            if rewound.is_set():
                ours = self._settings.namespace
                where = ObjectReference("coordination.k8s.io/v1", "Lease", names.LEASE_NAME, ours, "")
                self._events.emit(where, "Warning", "EtcdRestoreSuspected", RESTORE_NOTE, action="Restart")
            if ended:
                raise LostError(f"{ended}: this process must be started anew")
        finally:
            for task in (elected, *ends):
                task.cancel()
            await asyncio.gather(elected, *ends, return_exceptions=True)
            self._leading = False
            self._metrics.leading.set(0)

    async def _lease_owner(self) -> OwnerReference | None:
        """Once is enough: were the account made again, this process's own token would be worth nothing."""
        try:
            return await self._owners.namespaced.find()
        except ClusterError as error:
            _log.warning("the Lease keeps the owner that it has", error=str(error))
            return None

    async def _lead(self, ends: list[asyncio.Task[bool]], parts: AsyncExitStack) -> None:
        """Everything that writes. Returns when one of `ends` is done; raises what a part raised."""
        self._metrics.leading.set(1)
        # First of all, since the gate waits for its certificate, and a receipt cannot be read without its key.
        await self._keys.ensure()
        self._leading = True
        await parts.enter_async_context(self._gates)
        work: list[Awaitable[None]] = [
            self._keys.run(self._settings.certificate_check_seconds),
            self._keep_judging(),
            self._statuses.run(),
            self._pauses.run(),
            self._scanner.run(),
            self._reverifier.run(),
            self._roots.run(),
            self._exceptions.run(),
        ]
        if self._settings.collect_seconds:
            work.append(self._admissions.run(self._settings.collect_seconds))
        if self._verifiers is not None:
            await parts.enter_async_context(self._verifiers)
            work.append(self._uses.run(self._settings.use_collect_seconds))
        if self._settings.register_webhooks:
            work.append(self._registrar.run())
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            done, _ = await asyncio.wait([*tasks, *ends], return_when=asyncio.FIRST_COMPLETED)
            for task in done.intersection(tasks):
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_judging(self) -> None:
        """Judge everything anew after each change of policy. Pods are worked on once everything was judged once."""
        await self._survey()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            while True:
                await self._policies_changed.wait()
                await self._survey()

    async def _survey(self) -> None:
        self._policies_changed.clear()
        await self._judging.survey()
        self._everybody()
        self._exceptions.wake()

    def _everybody(self) -> None:
        for uid in self._world.everyone():
            self._queue.add(uid)
        self._status_changed()

    def _work_on(self, uid: str) -> None:
        self._queue.add(uid)
        self._statuses.changed()

    def _evidence_turned(self, record: PodRecord, withdrawn: bool) -> None:
        """It stands in statuses. Where it is only reported, an Event tells it; an end or a suspension has its own."""
        if not self._leading:
            return
        self._statuses.changed()
        found = record.evidence
        if not withdrawn or found is None or found.qualification.settings.evidence_withdrawn != "Report":
            return
        self._metrics.evidence_reported.inc()
        track = record.track
        pod = ObjectReference.to_pod(track.namespace, track.name, track.uid)
        note = f"Its evidence does not hold any more. {found.withdrawn} {REMEDIES['EvidenceWithdrawn']}"
        self._events.emit(pod, "Warning", "EvidenceWithdrawn", note, action="Report")

    async def _first_sweep(self, client: ApiClient) -> None:
        """List everything once. Until the CRDs are there, and the API server answers, there is nothing to do."""
        while True:
            started = time.perf_counter()
            try:
                await sweep(client, self._world, lambda _: None)
            except ClusterError as error:
                _log.warning("waiting for the API server and the CRDs", error=str(error))
                await asyncio.sleep(FIRST_SWEEP_RETRY_SECONDS)
            else:
                self._metrics.sweep_seconds.observe(time.perf_counter() - started)
                self._world.listed = True
                _log.info("everything listed", pods=len(self._world.pods), grants=len(self._world.grants))
                return

    async def _keep_sweeping(self, client: ApiClient) -> None:
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
                await sweep(client, self._world, self._tell)
            except ClusterError as error:
                _log.warning("sweep failed, the next will do", error=str(error))
            except RestoredError as error:
                _log.error("etcd went back in time", error=str(error))
                self._rewound.set()
            except Exception:
                _log.exception("sweep failed")
            self._metrics.sweep_seconds.observe(time.perf_counter() - started)

    def _see(self, sighting: Sighting) -> None:
        """An event from kopf."""
        self._tell(self._world.see(sighting))
        if sighting.listed:
            self._sweep_wanted.set()

    def _tell(self, touched: Touched) -> None:
        if not self._leading:
            return  # whoever begins to lead looks at everything
        if touched.pods:
            self._scanner.wake()
        for uid in touched.pods:
            self._queue.add(uid, urgent=touched.ended)
        if touched.policies:
            self._policies_changed.set()
            self._registrar.wake()
        if touched.status or touched.policies:
            self._statuses.changed()
            self._exceptions.wake()
        if touched.pauses:
            self._registrar.wake()
            self._pauses.wake()
        if touched.roots:
            self._roots.wake()

    def _status_changed(self) -> None:
        self._statuses.changed()
        self._pauses.wake()
        self._scanner.wake()
        self._reverifier.wake()
        self._exceptions.wake()

    def _status_grew(self) -> None:
        self._statuses.changed()

    def _registered(self) -> Registered:
        if self._settings.register_webhooks:
            return self._registrar.registered
        # Somebody else keeps the configurations; the gates open and shut the door for themselves.
        return Registered(True, paused=self._paused())

    def _paused(self) -> bool:
        return in_force(self._world.pauses.values(), _now()) is not None

    def _look_again(self, uid: str, seconds: float) -> None:
        self._queue.add_after(uid, seconds)

    def _is_leader(self) -> bool:
        return self._leads()

    async def _reconcile(self, uid: str) -> None:
        # Nearly every event of a pod asks for nothing: only what was written is worth a trace.
        with self._tracer.root("controller.reconcile", fruitless=False) as span:
            span.set({"k8s.pod.uid": uid})
            await self._pods.reconcile(uid)

    def _keys_changed(self) -> None:
        self._policies_changed.set()
        self._registrar.wake()

    def _keys_marked(self, ids: frozenset[str]) -> None:
        if self._leading:
            for uid in self._judging.resting_on(ids):
                self._queue.add(uid, urgent=True)

    def _names_of(self, service: str) -> tuple[str, ...]:
        settings = self._settings
        return service_names(service, settings.namespace, settings.cluster_domain, settings.certificate_names)

    def _identity(self) -> str:
        return f"{self._settings.identity}-{os.getpid()}"

    def _ready(self) -> bool | str:
        return self._synced or "the cluster has not been listed yet"

    def _live(self) -> bool | str:
        if self._watching is None or self._watching.is_alive(KOPF_LIMIT_SECONDS):
            return True
        return "the watches stand still"


async def _nobody() -> list[UsesReport]:
    return []


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


def _now() -> datetime:
    return datetime.now(UTC)
