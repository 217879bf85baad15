"""The verifier's process: watches, the issuer's keys, the certificate, two listeners, an orderly end.

What it must be allowed to do, and no more:

    cluster      ""                     pods                              get list watch
    cluster      countersign.dev        workloadgrants, revocations,
                                        trustexceptions,
                                        protectedaudiences                list watch
    cluster      authentication.k8s.io  tokenreviews                      create
    cluster      authorization.k8s.io   subjectaccessreviews              create
    cluster      (non-resource)         /.well-known/openid-configuration,
                                        /openid/v1/jwks                   get (every service account may, by default)
    own namespace  ""                   secrets/countersign-verifier-tls  get list watch (resourceNames)
    own namespace  coordination.k8s.io  leases/countersign-controller     get list watch (resourceNames)
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final, Never, TypeVar

import structlog
from aiohttp import web

from countersign.access.pod_view import PodObject, PodView, view
from countersign.api import names
from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.revocation import Revocation
from countersign.api.secret import Secret
from countersign.cluster.cache import Change, Deleted
from countersign.cluster.client import ApiClient
from countersign.cluster.config import load_config
from countersign.cluster.errors import NotFoundError
from countersign.cluster.jwks import JwksCache
from countersign.cluster.lease import Lease
from countersign.cluster.resource import LEASES, PODS, SECRETS, Resource
from countersign.cluster.reviews import ResourceAttributes, TokenReviewResult, UserInfo, access_review, token_review
from countersign.cluster.watch import Reflector
from countersign.grants.sharing import Sharing
from countersign.keys.served import ServedCertificate
from countersign.runtime.health import HealthServer
from countersign.runtime.line_writer import LineWriter, to_descriptor
from countersign.runtime.listener import listen
from countersign.runtime.logs import configure_logging
from countersign.runtime.metrics import new_registry
from countersign.runtime.service import run_service
from countersign.runtime.tracing.setup import Tracing
from countersign.runtime.tracing.spans import child
from countersign.verifier.access_log import AccessLog
from countersign.verifier.app import VerifierApp
from countersign.verifier.askers import Askers
from countersign.verifier.freshness import Beat, Freshness, Heartbeat
from countersign.verifier.internal import InternalCalls
from countersign.verifier.introspection import Introspection
from countersign.verifier.limits import RateLimiter
from countersign.verifier.lookups import PodLookup
from countersign.verifier.metrics import VerifierMetrics
from countersign.verifier.records import DecisionLog, Recorder, traced
from countersign.verifier.settings import VerifierSettings
from countersign.verifier.state import Caches, ClusterState
from countersign.verifier.tokens import TokenReader
from countersign.verifier.uses import Uses

LOOKUP_SECONDS: Final = 2.0
"""How long a pod is looked up live, and the API server asked about an asker."""

STANDARD_OUTPUT: Final = 1
"""The access log alone is written there; our own lines go to standard error."""
LEASE_SILENCE_SECONDS: Final = 5.0
"""The controller's Lease moves about each second. Silent for so long it is listed anew, which shows a restored etcd."""

K = TypeVar("K", WorkloadGrant, Revocation, TrustException, ProtectedAudience)

_log = structlog.get_logger(__name__)


def run(settings: VerifierSettings) -> int:
    """Run the verifier until SIGTERM. Returns the exit code."""
    configure_logging(settings.log_level, json=settings.log_json)
    return run_service(lambda stop: serve(settings, stop))


async def serve(settings: VerifierSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises ConfigError if no cluster can be reached, OSError if a port is taken."""
    async with Verifier(settings) as verifier:
        waiting = asyncio.create_task(stop.wait())
        either: list[asyncio.Future[Any]] = [waiting, verifier.listening]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if verifier.listening.done():
                await verifier.listening  # raises what kept it from listening
            await waiting
        finally:
            waiting.cancel()
        await verifier.drain()


class Verifier:
    """One verifier; use as an async context manager. `listening` is done once the TLS port takes connections."""

    def __init__(self, settings: VerifierSettings) -> None:
        """Raises ConfigError."""
        self.settings = settings
        self.port = settings.port
        """The TLS port, once `listening` is done."""
        self.listening: asyncio.Future[None]
        self._client = ApiClient(load_config(settings.kubeconfig), user_agent="countersign-verifier")
        clock = time.monotonic
        grants_of = _watch(self._client, WorkloadGrant, Sharing().shared)
        revocations = _watch(self._client, Revocation)
        exceptions = _watch(self._client, TrustException)
        audiences = _watch(self._client, ProtectedAudience)
        pods = Reflector(self._client, PODS, PodObject, view)
        ours = settings.namespace
        lease = Reflector(
            self._client, LEASES, Lease, _beat, namespace=ours, name=names.LEASE_NAME,
            silence_seconds=LEASE_SILENCE_SECONDS, relist_when_silent=True,
        )  # fmt: skip
        secret = Reflector(self._client, SECRETS, Secret, _same, namespace=ours, name=names.VERIFIER_TLS_SECRET)
        keys = JwksCache(self._client)
        self._runs: list[Coroutine[Any, Any, Never]] = [
            watch.run() for watch in (grants_of, revocations, exceptions, audiences, pods, lease, secret)
        ]
        self._runs.append(keys.run())
        self._synced = [watch.cache.synced for watch in (grants_of, revocations, exceptions, audiences, pods)]

        heartbeat = Heartbeat(clock)
        lease.cache.on_change(heartbeat.on_change)
        self._certificate = ServedCertificate()
        secret.cache.on_change(self._on_certificate)
        self._state = ClusterState(
            Caches(
                pods=pods.cache,
                grants=grants_of.cache,
                revocations=revocations.cache,
                exceptions=exceptions.cache,
                audiences=audiences.cache,
            ),
            system_namespace=ours,
        )
        self.freshness = Freshness(
            streams={
                "pods": pods.cache,
                "workloadgrants": grants_of.cache,
                "revocations": revocations.cache,
                "trustexceptions": exceptions.cache,
                "protectedaudiences": audiences.cache,
            },
            lease=lease.cache,
            heartbeat=heartbeat,
            keys_age=keys.age,
            watch_limit=settings.watch_limit_seconds,
            heartbeat_limit=settings.heartbeat_limit_seconds,
            lease_limit=2 * LEASE_SILENCE_SECONDS,
            keys_limit=settings.keys_limit_seconds,
            clock=clock,
        )
        self._pods = PodLookup(self._read_pod, clock)
        tokens = TokenReader(keys, issuers=settings.issuers)
        askers = Askers(tokens, self._review, self._find_pod, clock=clock, wall=_wall)
        introspection = Introspection(
            freshness=self.freshness,
            askers=askers,
            limiter=RateLimiter(settings.asker_rate, settings.asker_burst),
            tokens=tokens,
            state=self._state,
            pods=self._pods,
            may_explain=self._may_explain,
            grant_wait_seconds=settings.grant_wait_seconds,
            epoch=settings.epoch,
            clock=clock,
            wall=_wall,
        )
        uses = Uses(_wall())
        registry = new_registry()
        self._tracing = Tracing("countersign-verifier", settings.otlp_endpoint, settings.trace_ratio, registry)
        metrics = VerifierMetrics(registry)
        metrics.restore_suspected(lambda: float(heartbeat.rewound))
        metrics.read_at_scrape(
            ages=self.freshness.ages,
            sizes=lambda: {
                "pods": len(pods.cache),
                "grants": len(grants_of.cache),
                "tokens": len(tokens),
                "uses": len(uses),
            },
        )
        self._access_log: AccessLog | None = None
        recorders: list[Recorder] = [self._log_of_decisions(metrics), traced, uses]
        self._app = VerifierApp(introspection, metrics, recorders=recorders)
        calls = InternalCalls(askers, uses, namespace=ours, turned_away=metrics.turned_away)
        calls.add_to(self._app.application.router)
        self._health = HealthServer(settings.health_host, settings.health_port, self._ready, registry=registry)
        self._runner = web.AppRunner(self._app.application, access_log=None, shutdown_timeout=10.0)
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[Any]] = []

    def _log_of_decisions(self, metrics: VerifierMetrics) -> Recorder:
        """The access log; without one, the first use of each token and what was not active, among our own lines."""
        settings = self.settings
        if settings.access_log == "None":
            return DecisionLog()
        written = AccessLog(
            LineWriter(to_descriptor(STANDARD_OUTPUT)),
            decisions="Inactive" if settings.access_log == "Inactive" else "All",
            rate=settings.access_log_rate,
        )
        metrics.read_access_log(written.figures)
        self._access_log = written
        self._runs.append(written.run())
        return written

    @property
    def health_port(self) -> int:
        """The port of `/healthz`, `/readyz` and `/metrics`."""
        return self._health.port

    async def __aenter__(self) -> "Verifier":
        self._app.tracer = await self._stack.enter_async_context(self._tracing.started())
        if self._access_log is not None:
            self._stack.callback(self._access_log.close)
        await self._stack.enter_async_context(self._client)
        self._stack.push_async_callback(self._end_tasks)
        await self._stack.enter_async_context(self._health)
        self._tasks = [asyncio.create_task(run) for run in self._runs]
        self._tasks.append(asyncio.create_task(self._freeze()))
        self.listening = asyncio.create_task(self._listen())
        self._tasks.append(self.listening)
        self._stack.push_async_callback(self._runner.cleanup)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def drain(self) -> None:
        """Fail `/readyz` and go on serving for `drain_seconds`, so that the Service's endpoints forget us first."""
        self._app.draining = True
        await asyncio.sleep(self.settings.drain_seconds)

    def _ready(self) -> bool | str:
        if self._app.draining:
            return "draining"
        if self._certificate.hot is None:
            return f"waiting for Secret {self.settings.namespace}/{names.VERIFIER_TLS_SECRET}: the controller writes it"
        return self.freshness.unready() or bool(self._runner.addresses) or "the port is not open yet"

    def _on_certificate(self, change: Change[Secret]) -> None:
        self._certificate.take(None if isinstance(change, Deleted) else change.new.data)

    async def _listen(self) -> None:
        certificate = await self._certificate.first()
        self.port = await listen(self._runner, self.settings.host, self.settings.port, certificate.context)
        _log.info("verifier listening", port=self.port)

    async def _freeze(self) -> None:
        """Once everything is listed: what is there will stay, so that the collector need not walk it each time."""
        for synced in self._synced:
            await synced.wait()
        gc.collect()
        gc.freeze()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _find_pod(self, namespace: str, name: str, uid: str) -> PodView | None:
        return self._state.pod(uid) or await self._pods.find(namespace, name, uid)

    async def _read_pod(self, namespace: str, name: str) -> PodView | None:
        with child("verifier.pod"):
            try:
                found = await self._client.get(PODS, name, PodObject, namespace=namespace, within=LOOKUP_SECONDS)
            except NotFoundError:
                return None
        return view(found)

    async def _review(self, token: str) -> TokenReviewResult:
        with child("verifier.tokenreview"):
            return await token_review(self._client, token, [names.VERIFIER_AUDIENCE], within=LOOKUP_SECONDS)

    async def _may_explain(self, user: UserInfo, namespace: str) -> bool:
        attributes = ResourceAttributes("get", WorkloadGrant.PLURAL, names.GROUP, namespace=namespace)
        with child("verifier.accessreview"):
            return (await access_review(self._client, user, attributes, within=LOOKUP_SECONDS)).allowed


def _watch(client: ApiClient, kind: type[K], kept: Callable[[K], K] = lambda one: one) -> Reflector[K, K]:
    resource = Resource(names.GROUP, names.VERSION, kind.PLURAL, kind.NAMESPACED)
    return Reflector(client, resource, kind, kept)


def _same(thing: Any) -> Any:
    return thing


def _beat(lease: Lease) -> Beat:
    version = lease.metadata.resource_version or ""
    revision = int(version) if version.isdigit() else 0
    return Beat(lease.spec.holder_identity or "", lease.spec.renew_time or "", revision)


def _wall() -> datetime:
    return datetime.now(UTC)
