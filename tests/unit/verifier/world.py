"""A cluster in the test's hand: an issuer's key, watch caches that the test fills, and the verifier's parts over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt import PyJWK
from prometheus_client import CollectorRegistry

from countersign.access.pod_view import PodView
from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.names import VERIFIER_AUDIENCE
from countersign.api.revocation import Revocation
from countersign.cluster.cache import Key, WatchCache
from countersign.cluster.reviews import TokenReviewResult, UserInfo
from countersign.verifier.app import VerifierApp
from countersign.verifier.askers import Askers
from countersign.verifier.freshness import Beat, Freshness, Heartbeat
from countersign.verifier.introspection import Introspection
from countersign.verifier.limits import RateLimiter
from countersign.verifier.lookups import PodLookup
from countersign.verifier.metrics import VerifierMetrics
from countersign.verifier.state import Caches, ClusterState
from countersign.verifier.tokens import TokenReader
from tests.unit.access import cases

ISSUER = "https://kubernetes.default.svc.cluster.local"
NOW = cases.NOW

_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(number: int = 1) -> rsa.RSAPrivateKey:
    """One of a few RSA keys; making one takes tenths of a second."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(private: _PrivateKey, algorithm: str) -> PyJWK:
    """Its public half, as the issuer publishes it."""
    of = jwt.algorithms.RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    document = of.to_jwk(private.public_key(), as_dict=True)  # type: ignore[call-overload]
    return PyJWK({**document, "alg": algorithm, "use": "sig"})


class Keys:
    """The issuer's keys."""

    def __init__(self) -> None:
        self.issuer: str | None = ISSUER
        self.known: dict[str, PyJWK] = {"k1": jwk(rsa_key(), "RS256")}
        self.hidden: dict[str, PyJWK] = {}
        """Published already, but not fetched yet."""
        self.asked: list[str] = []

    def key(self, key_id: str) -> PyJWK | None:
        return self.known.get(key_id)

    async def find(self, key_id: str) -> PyJWK | None:
        if key_id not in self.known:
            self.asked.append(key_id)
            self.known |= self.hidden
        return self.known.get(key_id)


def payload(**changes: Any) -> dict[str, Any]:
    """The payload of the active case's token; `kubernetes` replaces the private claim."""
    claims = cases.claims()
    private = {
        "namespace": claims.namespace,
        "serviceaccount": msgspec.to_builtins(claims.service_account),
        "pod": msgspec.to_builtins(claims.pod),
        "node": msgspec.to_builtins(claims.node),
    }
    made = {
        "iss": ISSUER, "sub": claims.subject, "aud": list(claims.audiences), "exp": claims.expires_at,
        "iat": claims.issued_at, "nbf": claims.not_before, "jti": claims.jti,
        "kubernetes.io": changes.pop("kubernetes", private),
    }  # fmt: skip
    return made | changes


def sign(
    members: Mapping[str, Any], *, key: Any = None, algorithm: str = "RS256", headers: Mapping[str, Any] | None = None
) -> str:
    """A JWT over these members."""
    return jwt.encode(
        dict(members),
        key or rsa_key(),
        algorithm=algorithm,
        headers={"kid": "k1"} if headers is None else dict(headers),
    )


def token(**changes: Any) -> str:
    """The active case's token."""
    return sign(payload(**changes))


def asker_token(
    namespace: str = "ledger", name: str = "api", *, pod: tuple[str, str] | None = None, **changes: Any
) -> str:
    """A relying party's own token; `pod` is (name, UID) if it is bound to one."""
    private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": f"{name}-uid"}}
    if pod:
        private |= {"pod": {"name": pod[0], "uid": pod[1]}, "node": {"name": "n1"}}
    subject = f"system:serviceaccount:{namespace}:{name}"
    return token(**({"aud": [VERIFIER_AUDIENCE], "sub": subject, "kubernetes": private} | changes))


@dataclass
class World:
    """Everything around the verifier. Times are the test's: `now` is wall clock, `ticks` monotonic."""

    now: datetime = NOW
    ticks: float = 1000.0
    rate: float = 0.0
    burst: int = 1
    grant_wait: float = 0.2
    keys: Keys = field(default_factory=Keys)
    live: dict[tuple[str, str], PodView] = field(default_factory=dict)
    """Pods that the API server has and the watch has not shown."""
    reads: list[tuple[str, str]] = field(default_factory=list)
    reviews: list[str] = field(default_factory=list)
    read_error: Exception | None = None
    hang: asyncio.Event | None = None
    """Reads wait for it."""
    review_error: Exception | None = None
    review: Callable[[str], TokenReviewResult] | None = None
    may_explain: bool = False
    explain_error: Exception | None = None
    keys_age: float = 1.0

    def __post_init__(self) -> None:
        clock = lambda: self.ticks  # noqa: E731
        self.pods: WatchCache[PodView] = WatchCache(clock)
        self.grants: WatchCache[WorkloadGrant] = WatchCache(clock)
        self.revocations: WatchCache[Revocation] = WatchCache(clock)
        self.exceptions: WatchCache[TrustException] = WatchCache(clock)
        self.audiences: WatchCache[ProtectedAudience] = WatchCache(clock)
        self.lease: WatchCache[Beat] = WatchCache(clock)
        self.heartbeat = Heartbeat(clock)
        self.lease.on_change(self.heartbeat.on_change)
        self.state = ClusterState(
            Caches(
                pods=self.pods,
                grants=self.grants,
                revocations=self.revocations,
                exceptions=self.exceptions,
                audiences=self.audiences,
            ),
            system_namespace=cases.SYSTEM,
        )
        self.streams: dict[str, WatchCache[Any]] = {
            "pods": self.pods, "workloadgrants": self.grants, "revocations": self.revocations,
            "trustexceptions": self.exceptions, "protectedaudiences": self.audiences,
        }  # fmt: skip
        self.freshness = Freshness(
            streams=self.streams,
            lease=self.lease,
            heartbeat=self.heartbeat,
            keys_age=lambda _: self.keys_age,
            watch_limit=120.0,
            heartbeat_limit=15.0,
            lease_limit=10.0,
            keys_limit=300.0,
            clock=clock,
        )
        self.tokens = TokenReader(self.keys)
        self.lookup = PodLookup(self._read, clock)
        self.askers = Askers(self.tokens, self._review, self._find, clock=clock, wall=lambda: self.now)
        self.introspection = Introspection(
            freshness=self.freshness,
            askers=self.askers,
            limiter=RateLimiter(self.rate, self.burst),
            tokens=self.tokens,
            state=self.state,
            pods=self.lookup,
            may_explain=self._may_explain,
            grant_wait_seconds=self.grant_wait,
            epoch="",
            clock=clock,
            wall=lambda: self.now,
        )
        self.registry = CollectorRegistry()
        self.metrics = VerifierMetrics(self.registry)
        self.app = VerifierApp(self.introspection, self.metrics, max_in_flight=4, read_seconds=0.2)

    def settle(self) -> World:
        """The active case, watched and fresh."""
        for cache_ in self.streams.values():
            cache_.synced.set()
            cache_.touch()
        self.put_pod(cases.pod())
        self.put_grant(cases.grant())
        self.put_audience(cases.audience())
        self.beat()
        self.beat()
        return self

    def put_pod(self, pod: PodView, version: str = "") -> None:
        self.pods.put(Key(pod.namespace, pod.name), pod.uid, version or self._version(), pod)

    def put_grant(self, grant: WorkloadGrant) -> None:
        meta = grant.metadata
        self.grants.put(Key(meta.namespace, meta.name), meta.uid, self._version(), grant)

    def put_audience(self, audience: ProtectedAudience) -> None:
        self.audiences.put(Key("", audience.metadata.name), audience.metadata.name, self._version(), audience)

    def put_revocation(self, order: Revocation) -> None:
        meta = order.metadata
        self.revocations.put(Key(meta.namespace, meta.name), meta.name, self._version(), order)

    def put_exception(self, exception: TrustException) -> None:
        meta = exception.metadata
        self.exceptions.put(Key("", meta.name), meta.uid, self._version(), exception)

    def beat(self, holder: str = "controller-1") -> None:
        """The controller renews its Lease."""
        version = self._version()
        self.lease.put(Key(cases.SYSTEM, "countersign-controller"), "lease", version, Beat(holder, version))

    def pass_time(self, seconds: float, *, beating: bool = True) -> None:
        """Let both clocks run on."""
        self.ticks += seconds
        self.now += timedelta(seconds=seconds)
        if beating:
            self.beat()
            for cache_ in self.streams.values():
                cache_.touch()

    def _version(self) -> str:
        self._versions = getattr(self, "_versions", 0) + 1
        return str(self._versions)

    async def _read(self, namespace: str, name: str) -> PodView | None:
        self.reads.append((namespace, name))
        await (self.hang.wait() if self.hang else asyncio.sleep(0))
        if self.read_error:
            raise self.read_error
        return self.live.get((namespace, name))

    async def _find(self, namespace: str, name: str, uid: str) -> PodView | None:
        return self.state.pod(uid) or await self.lookup.find(namespace, name, uid)

    async def _review(self, text: str) -> TokenReviewResult:
        self.reviews.append(text)
        await asyncio.sleep(0)
        if self.review_error:
            raise self.review_error
        if self.review:
            return self.review(text)
        subject = jwt.decode(text, options={"verify_signature": False})["sub"]
        return TokenReviewResult(
            authenticated=True, user=UserInfo(username=subject, groups=("system:serviceaccounts",)),
            audiences=(VERIFIER_AUDIENCE,),
        )  # fmt: skip

    async def _may_explain(self, _user: UserInfo, _namespace: str) -> bool:
        if self.explain_error:
            raise self.explain_error
        return self.may_explain


def public_pem(private: _PrivateKey) -> bytes:
    """What an attacker would try as an HMAC secret."""
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as a datetime."""
    return datetime.fromtimestamp(seconds, UTC)
