"""The public keys of the cluster's service-account issuer, at hand without a request.

OpenID Connect discovery as the API server serves it (KEP-1393); reading it is granted to every service account by the
built-in ClusterRole `system:service-account-issuer-discovery`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Never

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from countersign.cluster.client import ApiClient
from countersign.cluster.errors import ClusterError, MalformedAnswerError

ALGORITHMS: Final = ("RS256", "ES256", "ES384", "ES512")
"""What Kubernetes signs service-account tokens with (pkg/serviceaccount/jwt.go; KEP-740 allows the same to external
signers). Never an HMAC, never none."""
REFRESH_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
UNKNOWN_KEY_SECONDS: Final = 10.0
"""At most one fetch in this time for key ids that are not known, so that junk tokens cost nothing."""
FETCH_SECONDS: Final = 5.0
MAX_KEYS: Final = 64
MIN_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3."""

_KEYS_PATH: Final = "/openid/v1/jwks"
_DISCOVERY_PATH: Final = "/.well-known/openid-configuration"

_log = structlog.get_logger(__name__)


class _Discovery(msgspec.Struct, frozen=True):
    issuer: str


class _Jwks(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


@dataclass(frozen=True)
class IssuerKeys:
    """Issuer and keys of one moment. `fetched_at` is monotonic seconds."""

    issuer: str
    keys: Mapping[str, PyJWK] = field(default_factory=dict)
    fetched_at: float = 0.0


class JwksCache:
    """Replaced whole each minute by `run`; lookups never wait, except `find`, and that rarely."""

    def __init__(self, client: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        self.ready = asyncio.Event()
        self._client = client
        self._clock = clock
        self._current: IssuerKeys | None = None
        self._asked_for_unknown = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    @property
    def issuer(self) -> str | None:
        """The cluster's issuer, as it stands in `iss`; None before the first fetch."""
        return self._current.issuer if self._current else None

    def key(self, key_id: str) -> PyJWK | None:
        """The key of that id, without any I/O. Its `algorithm_name` is the only algorithm it may be used with."""
        return self._current.keys.get(key_id) if self._current else None

    async def find(self, key_id: str) -> PyJWK | None:
        """The key of that id. An unknown one is asked for, by all callers together once per UNKNOWN_KEY_SECONDS."""
        known = self.key(key_id)
        if known is not None:
            return known
        now = self._clock()
        if self._fetching is None and now - self._asked_for_unknown >= UNKNOWN_KEY_SECONDS:
            self._asked_for_unknown = now
            self._fetching = asyncio.create_task(self._fetch_quietly())
        if self._fetching is not None:
            # One caller's cancellation must not end the fetch of the others.
            await asyncio.shield(self._fetching)
        return self.key(key_id)

    def age(self, now: float) -> float:
        """Seconds since the keys in use were fetched; infinite if there are none."""
        return now - self._current.fetched_at if self._current else float("inf")

    async def refresh(self) -> None:
        """Fetch issuer and keys and use them from now on. Raises ClusterError; the keys so far then stay in use."""
        discovery = await self._client.get_path(_DISCOVERY_PATH, _Discovery, within=FETCH_SECONDS)
        document = await self._client.get_path(_KEYS_PATH, _Jwks, within=FETCH_SECONDS)
        keys = usable_keys(document.keys)
        if not discovery.issuer or not keys:
            raise MalformedAnswerError(f"{_KEYS_PATH} holds no key that could verify a token, or there is no issuer")
        self._current = IssuerKeys(discovery.issuer, keys, self._clock())
        self.ready.set()

    async def run(self) -> Never:
        """Refresh for ever. Errors are logged, and the keys so far stay in use."""
        while True:
            fresh = await self._fetch()
            await asyncio.sleep(REFRESH_SECONDS if fresh else RETRY_SECONDS)

    async def _fetch_quietly(self) -> None:
        try:
            await self._fetch()
        finally:
            self._fetching = None

    async def _fetch(self) -> bool:
        try:
            await self.refresh()
        except ClusterError as error:
            _log.warning("issuer keys not fetched", error=str(error), age=self.age(self._clock()))
            return False
        return True


def usable_keys(documents: list[dict[str, Any]]) -> dict[str, PyJWK]:
    """The keys that may verify a token, by id. Whatever is not a signing key of a listed algorithm is left out."""
    found: dict[str, PyJWK] = {}
    for document in documents[:MAX_KEYS]:
        key_id, algorithm = document.get("kid"), document.get("alg")
        if not isinstance(key_id, str) or not key_id or document.get("use", "sig") != "sig":
            continue
        if algorithm is not None and algorithm not in ALGORITHMS:
            continue
        try:
            key = PyJWK(document)
        except (PyJWTError, ValueError, TypeError, KeyError):
            continue
        too_short = isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS
        if key.algorithm_name in ALGORITHMS and not hasattr(key.key, "private_bytes") and not too_short:
            found.setdefault(key_id, key)
    return found
