"""The gate as a process: watches, certificate, keys, both ports, and an orderly end.

What it must be allowed to do, and no more:

    cluster        countersign.dev  clustertrustpolicies, trustpolicies,
                                    protectedaudiences, revocations,
                                    trustexceptions, admissionpauses,
                                    evidenceroots                              list watch
    cluster        countersign.dev  workloadgrants                             get
    cluster        countersign.dev  revocations                                get create
    cluster        ""               namespaces                                 get list watch
    cluster        ""               pods, serviceaccounts,
                                    replicationcontrollers                     get
    cluster        ""               pods                                       list (once, for the warm-up)
    cluster        apps             replicasets, deployments, statefulsets,
                                    daemonsets                                 get
    cluster        batch            jobs, cronjobs                             get
    own namespace  ""               secrets/countersign-gate-tls,
                                    secrets/countersign-receipt-keys           list watch (resourceNames)
    each namespace whose pull secrets it may use
                   ""               secrets                                    get
"""

import asyncio
import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import structlog
from aiohttp import web

from countersign.api import names
from countersign.api.pod import Pod
from countersign.cluster.client import ApiClient
from countersign.cluster.config import load_config
from countersign.cluster.owners import ControllerLinks
from countersign.cluster.resource import PODS
from countersign.gate.app import GateApp
from countersign.gate.connect import EntryGuard
from countersign.gate.evidence.examiner import WorkerExaminer
from countersign.gate.evidence.own_credentials import CredentialsFile
from countersign.gate.evidence.pull_secrets import LivePullSecrets
from countersign.gate.evidence.service import EvidenceService
from countersign.gate.evidence.traced import TracedEvidence
from countersign.gate.evidence.warmup import PAGE_SIZE, RUNNING, WarmUp
from countersign.gate.internal import InternalCalls
from countersign.gate.live import LiveReads
from countersign.gate.metrics import GateMetrics
from countersign.gate.mutate import Mutator
from countersign.gate.orders import LiveOrders, Recorder
from countersign.gate.outlooks import Outlooks
from countersign.gate.paused import OpenDoor
from countersign.gate.receipts import Receipts
from countersign.gate.reverification import Reverification
from countersign.gate.settings import GateSettings
from countersign.gate.state import GateState
from countersign.gate.subjects import Subjects
from countersign.gate.tallies import Tallies
from countersign.gate.templates import TemplateAdviser
from countersign.gate.tokens import TokenGuard
from countersign.gate.validate import Validator
from countersign.gate.watches import Watches
from countersign.keys.calls import CallVerifier
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.fairness import Traffic
from countersign.registry.transport import Transport
from countersign.runtime.health import HealthServer
from countersign.runtime.listener import listen
from countersign.runtime.logs import configure_logging
from countersign.runtime.memory import return_large_blocks
from countersign.runtime.metrics import new_registry
from countersign.runtime.service import run_service
from countersign.runtime.tracing.setup import Tracing

KEEP_ALIVE_SECONDS: Final = 120.0
"""Longer than the API server keeps an idle connection (90 s, Go's DefaultTransport.IdleConnTimeout): whoever closes
first must be the one that sends, or a review is lost on a connection that was just closed."""
SHUTDOWN_SECONDS: Final = 30.0
"""The longest that a webhook may take (admissionregistration.k8s.io/v1): answers under way are still given."""

_log = structlog.get_logger()


def run(settings: GateSettings) -> int:
    """Run the gate until SIGTERM. Returns the exit code."""
    configure_logging(settings.log_level, json=settings.log_json)
    return_large_blocks()  # attestations have up to 64 MiB, and come in one piece
    return run_service(lambda stop: serve(settings, stop))


async def serve(settings: GateSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises ConfigError if no cluster can be reached, OSError if a port is taken."""
    async with Gate(settings) as gate:
        stopping = asyncio.ensure_future(stop.wait())
        listening = asyncio.ensure_future(gate.listen())
        try:
            await asyncio.wait((stopping, listening), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
                await stopping
                await gate.drain()
        finally:
            for task in (stopping, listening):
                task.cancel()


class Gate:
    """One gate; use as an async context manager, then `listen`."""

    def __init__(self, settings: GateSettings) -> None:
        """Raises ConfigError, OSError for an unreadable file, ValueError for bad credentials or address ranges."""
        self.settings = settings
        self.port = settings.port
        """The TLS port, once `listen` has returned."""
        self._client = ApiClient(load_config(settings.kubeconfig), user_agent="countersign-gate")
        reads = LiveReads(self._client)

        watches = Watches(self._client, settings.namespace)
        self._runs = watches.runs()
        self._secrets = watches.secrets
        self._state = GateState(watches.caches, reads.namespace, system_namespace=settings.namespace)

        registry = new_registry()
        self._tracing = Tracing("countersign-gate", settings.otlp_endpoint, settings.trace_ratio, registry)
        metrics = GateMetrics(registry)
        metrics.watch_age(self._state.age)
        metrics.paused(lambda: self._state.paused(_now()) is not None)
        self._transport = Transport(
            AddressPolicy(allowed_ranges=settings.allowed_address_ranges, denied_ranges=settings.denied_address_ranges),
            insecure_hosts=settings.insecure_registries,
            extra_ca_pem=_pem(settings.registry_ca_files),
        )
        evidence_metrics = TracedEvidence(registry)
        traffic = Traffic.of(settings.registry_requests, settings.registry_requests_per_host)
        self._registries = RegistryClient(self._transport, traffic=traffic, observer=evidence_metrics)
        self._pull_secrets = LivePullSecrets(reads)
        own_credentials = None
        if settings.registry_credentials_file is not None:
            own_credentials = CredentialsFile(settings.registry_credentials_file)
            self._runs.append(own_credentials.follow())
        self._evidence = EvidenceService(
            self._registries,
            self._pull_secrets,
            own=own_credentials,
            roots=self._state,
            examiner=WorkerExaminer(settings.evidence_workers),
            observe=metrics.evidence,
            observer=evidence_metrics,
            cache_bytes=settings.evidence_cache_mib * 1024 * 1024,
        )
        warm_up = WarmUp(
            lambda: self._client.pages(PODS, Pod, field_selector=RUNNING, page_size=PAGE_SIZE),
            self._state,
            self._evidence,
            lambda: evidence_metrics.sent,
            settings.warm_up_requests_per_second,
        )
        self._warm_up = warm_up if settings.warm_up else None
        subjects = Subjects(self._state, ControllerLinks(reads))
        receipts = Receipts(self._secrets.signer, self._secrets.verifier, _now, metrics)
        tallies = Tallies(_now())
        mutator = Mutator(self._state, subjects, self._evidence, receipts, metrics, tallies=tallies)
        validator = Validator(self._state, subjects, self._evidence, receipts, metrics)
        # Nothing is patched while the door is open, so a pod is judged as it came.
        told = Validator(self._state, subjects, self._evidence, receipts, metrics, stage="mutate")
        door = OpenDoor(self._state, told.routes(), metrics, clock=_now)
        tokens = TokenGuard(self._state, subjects, receipts, reads, metrics=metrics, clock=_now, epoch=settings.epoch)
        templates = TemplateAdviser(self._state, subjects, self._evidence)
        recorder = Recorder(LiveOrders(self._client), settings.namespace)
        entries = EntryGuard(self._state, subjects, reads, recorder, clock=_now)
        self._app = GateApp(
            {
                "/mutate": door.around_mutate(mutator.routes()),
                "/validate": {
                    **door.around_validate(validator.routes()),
                    **tokens.routes(),
                    **templates.routes(),
                    **entries.routes(),
                },
            },
            ready=self._judges,
            metrics=metrics,
        )
        outlooks = Outlooks(self._state, subjects, self._evidence, receipts, _now)
        calls = CallVerifier(lambda: self._secrets.verifier.keys, _now)
        verifying = Reverification(self._evidence)
        InternalCalls(calls, tallies, outlooks, verifying, ready=self._judges, rejected=metrics.rejected).add_to(
            self._app.application.router
        )
        self._health = HealthServer(settings.health_host, settings.health_port, self._ready, registry=registry)
        self._runner = web.AppRunner(
            self._app.application,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def health_port(self) -> int:
        """The port of `/healthz`, `/readyz` and `/metrics`."""
        return self._health.port

    async def __aenter__(self) -> Self:
        self._app.tracer = await self._stack.enter_async_context(self._tracing.started())
        await self._stack.enter_async_context(self._client)
        await self._stack.enter_async_context(self._transport)
        self._stack.push_async_callback(self._registries.close)
        self._stack.push_async_callback(self._pull_secrets.close)
        self._stack.push_async_callback(self._evidence.close)
        await self._stack.enter_async_context(self._health)
        self._stack.push_async_callback(self._end_watches)
        self._tasks = [asyncio.create_task(run) for run in self._runs]
        if self._warm_up is not None:
            self._tasks.append(asyncio.create_task(self._warm_up.run()))
        self._stack.push_async_callback(self._runner.cleanup)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def listen(self) -> None:
        """Open the TLS port as soon as there is a certificate. Raises OSError if the port cannot be had."""
        certificate = await self._secrets.certificate.first()
        self.port = await listen(self._runner, self.settings.host, self.settings.port, certificate.context)
        _log.info("gate listening", port=self.port)
        await self._state.listed()
        # What is there by now stays: the collector need not walk it at each of its rounds.
        gc.collect()
        gc.freeze()

    async def drain(self) -> None:
        """Fail `/readyz` and go on serving for `drain_seconds`, so that the Service's endpoints forget us first."""
        self._app.draining = True
        await asyncio.sleep(self.settings.drain_seconds)

    def _judges(self) -> bool | str:
        """Whether reviews are judged: from the first complete list on, for as long as the process lives."""
        if not self._secrets.has_receipt_keys:
            where = f"{self.settings.namespace}/{names.RECEIPT_KEYS_SECRET}"
            return f"waiting for Secret {where}: the controller writes it"
        return self._state.starting() or True

    def _ready(self) -> bool | str:
        if self._app.draining:
            return "draining"
        if self._secrets.certificate.hot is None:
            return f"waiting for Secret {self.settings.namespace}/{names.GATE_TLS_SECRET}: the controller writes it"
        judging = self._judges()
        if judging is not True:
            return judging
        age = self._state.age()
        if age > self.settings.watch_limit_seconds:
            return f"the API server has been silent for {age:.0f} s: what is known of policies may be old"
        return bool(self._runner.addresses) or "the port is not open yet"

    async def _end_watches(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _pem(files: Sequence[Path]) -> str:
    return "\n".join(file.read_text("ascii") for file in files)


def _now() -> datetime:
    return datetime.now(UTC)
