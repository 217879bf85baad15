"""What the controller is made of, and who tells whom. Nothing here decides: each part is asked or woken.

watches, sweeps ──► told ──► queue of pods ──► PodReconciler          the grants
                        ├──► policies changed ──► survey             everything is judged anew, then queued
                        ├──► Registrar, PauseKeeper                  webhook configurations, pauses
                        ├──► RootKeeper, ExceptionKeeper             what policies refer to
                        └──► StatusKeeper                            statuses of policies and audiences
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from countersign.access import misuse
from countersign.api import names
from countersign.api.secret import Secret
from countersign.api.verifier_calls import UsesReport
from countersign.cluster.client import ApiClient
from countersign.cluster.events import EventRecorder, ObjectReference
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
from countersign.controller.leadership import Leadership
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.orders.exceptions import ExceptionKeeper
from countersign.controller.orders.pausing import PauseKeeper
from countersign.controller.settings import ControllerSettings
from countersign.controller.statuses.statuses import Registered, StatusKeeper
from countersign.controller.store import Store
from countersign.controller.watches.pod_record import PodRecord
from countersign.controller.watches.touched import Touched
from countersign.controller.watches.world import World
from countersign.controller.webhooks.registration import Registrar
from countersign.controller.webhooks.webhooks import GateEndpoint
from countersign.controller.workqueue import WorkQueue
from countersign.grants.impact import Limits
from countersign.grants.withdrawal import reported
from countersign.runtime.tracing.spans import Tracer
from countersign.trust.orders.pause import in_force

OVER_SECONDS: Final = 15.0
"""How long everything else waits for what was over when this process began to lead."""


class Parts:
    """Everything but the watches and the Lease. Made once in a process; `work` is for whoever leads."""

    def __init__(
        self,
        settings: ControllerSettings,
        world: World,
        client: ApiClient,
        metrics: ControllerMetrics,
        *,
        tracer: Tracer,
        leadership: Leadership,
    ) -> None:
        self._settings = settings
        self._world = world
        self._metrics = metrics
        self._tracer = tracer
        self._leadership = leadership
        self._policies_changed = asyncio.Event()
        self.over_ended = asyncio.Event()
        """What was over when this process began to lead has ended, or has been tried for OVER_SECONDS."""
        gate = GateEndpoint(settings.namespace, settings.gate_service, url=settings.gate_url)
        self._store = Store(client, leadership.holds_lease)
        self.owners = Owners(client, settings.namespace)
        self._keys = KeyKeeper(
            client,
            self._store,
            settings.namespace,
            metrics,
            owner=self.owners.namespaced,
            serving={
                names.GATE_TLS_SECRET: _names_of(settings, settings.gate_service),
                names.VERIFIER_TLS_SECRET: _names_of(settings, settings.verifier_service),
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
            owner=self.owners.cluster,
            ca_bundle=lambda: self._keys.ca_bundle,
            paused=self._paused,
            changed=self._status_changed,
        )
        self.events = EventRecorder(client, "countersign.dev/controller", leadership.identity)
        limits = Limits(settings.impact_grants, settings.impact_share)
        self._reverified = Reverified(refresh=settings.scan_refresh_seconds)
        self._judging = Judging(
            world, self._store, self._keys, metrics, limits,
            clock=_now, reverified=self._reverified, turned=self._evidence_turned,
        )  # fmt: skip
        self._verifiers = self._verifier_calls(client)
        self._uses = UseKeeper(
            world, self.events, metrics,
            ask=self._verifiers.uses if self._verifiers else _nobody, record_seconds=settings.use_record_seconds,
            limits=misuse.Limits(
                observed_seconds=settings.replicas_observed_seconds, settled_seconds=settings.replicas_settled_seconds
            ),
            clock=_now, wake=lambda uid: self._queue.add(uid),  # noqa: PLW0108 - the queue is made below
        )  # fmt: skip
        self._pods = PodReconciler(
            world,
            self._store,
            self._judging,
            self.events,
            metrics,
            uses=self._uses,
            retention=timedelta(seconds=settings.grant_retention_seconds),
            epoch=settings.epoch,
            clock=_now,
            later=lambda uid, seconds: self._queue.add_after(uid, seconds),  # noqa: PLW0108 - as above
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
            self.events,
            metrics,
            registered=self._registered,
            clock=_now,
            turned=self._registrar.wake,
        )
        fetcher = Fetcher(self._store, settings.namespace)
        self._roots = RootKeeper(world, self._store, fetcher, self.events, metrics, clock=_now)
        self._exceptions = ExceptionKeeper(world, self._store, self.events, metrics, clock=_now)

    def _verifier_calls(self, client: ApiClient) -> Verifiers | None:
        settings = self._settings
        if settings.verifier_token_file is None or not settings.use_collect_seconds:
            return None
        return Verifiers(
            client, Where(settings.namespace, settings.verifier_service, settings.verifier_url), self._metrics,
            ca_bundle=lambda: self._keys.ca_bundle, token_file=settings.verifier_token_file,
        )  # fmt: skip

    # Who leads

    def receipt_keys(self, client: ApiClient) -> Reflector[Secret, Secret]:
        """The watch by which a revoked receipt key is known at once."""
        ours, name = self._settings.namespace, names.RECEIPT_KEYS_SECRET
        watch = Reflector(client, SECRETS, Secret, lambda secret: secret, namespace=ours, name=name)
        watch.cache.on_change(self._keys.on_receipt_keys)
        return watch

    async def work(self, until: AsyncExitStack) -> list[Awaitable[None]]:
        """What whoever leads has to run, all at once and without end. Whatever it holds open ends with `until`."""
        # First of all, since the gate waits for its certificate, and a receipt cannot be read without its key.
        await self._keys.ensure()
        self._leadership.leading = True
        await until.enter_async_context(self._gates)
        work: list[Awaitable[None]] = [
            self._keys.run(self._settings.certificate_check_seconds),
            self._queue.run(),
            self._keep_judging(),
            self._statuses.run(),
            self._pauses.run(),
            self._after_ends(self._scanner.run),
            self._after_ends(self._reverifier.run),
            self._roots.run(),
            self._exceptions.run(),
        ]
        if self._settings.collect_seconds:
            work.append(self._admissions.run(self._settings.collect_seconds))
        if self._verifiers is not None:
            await until.enter_async_context(self._verifiers)
            work.append(self._uses.run(self._settings.use_collect_seconds))
        if self._settings.register_webhooks:
            work.append(self._registrar.run())
        return work

    async def _keep_judging(self) -> None:
        """End what is over, then judge everything, and again after each change of policy.

        Nothing is suspended before everything was judged once (`Judging.is_held`).
        """
        for uid in self._world.over():
            self._queue.add(uid, urgent=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(OVER_SECONDS):
                await self._queue.nothing_urgent()
        self.over_ended.set()
        while True:
            await self._survey()
            await self._policies_changed.wait()

    async def _after_ends(self, work: Callable[[], Awaitable[None]]) -> None:
        await self.over_ended.wait()
        await work()

    async def _survey(self) -> None:
        self._policies_changed.clear()
        await self._judging.survey()
        self._everybody()
        self._exceptions.wake()

    # Who tells whom

    def tell(self, touched: Touched) -> None:
        """What a watch or a sweep has shown."""
        if not self._leadership.leading:
            return  # whoever begins to lead looks at everything
        if touched.pods:
            self._scanner.wake()
        for uid in touched.pods:
            self._queue.add(uid, urgent=touched.ended)
        if touched.policies:
            self._policies_changed.set()
        if touched.policies or touched.namespaces:
            self._registrar.wake()
        if touched.status or touched.policies or touched.namespaces:
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
        return in_force(self._world.rules.pauses.values(), _now()) is not None

    def _everybody(self) -> None:
        for uid in self._world.everyone():
            self._queue.add(uid)
        self._status_changed()

    def _work_on(self, uid: str) -> None:
        self._queue.add(uid)
        self._statuses.changed()

    def _evidence_turned(self, record: PodRecord, withdrawn: bool) -> None:
        if not self._leadership.leading:
            return
        self._statuses.changed()
        note = reported(record.evidence) if withdrawn and record.evidence is not None else None
        if note is not None:
            self._metrics.evidence_reported.inc()
            track = record.track
            pod = ObjectReference.to_pod(track.namespace, track.name, track.uid)
            self.events.emit(pod, "Warning", "EvidenceWithdrawn", note, action="Report")

    async def _reconcile(self, uid: str) -> None:
        # Nearly every event of a pod asks for nothing: only what was written is worth a trace.
        with self._tracer.root("controller.reconcile", fruitless=False) as span:
            span.set({"k8s.pod.uid": uid})
            await self._pods.reconcile(uid)

    def _keys_changed(self) -> None:
        self._policies_changed.set()
        self._registrar.wake()

    def _keys_marked(self, ids: frozenset[str]) -> None:
        if self._leadership.leading:
            for uid in self._judging.resting_on(ids):
                self._queue.add(uid, urgent=True)


def _names_of(settings: ControllerSettings, service: str) -> tuple[str, ...]:
    return service_names(service, settings.namespace, settings.cluster_domain, settings.certificate_names)


async def _nobody() -> list[UsesReport]:
    return []


def _now() -> datetime:
    return datetime.now(UTC)
