"""Facts about images, from the registries or from memory.

What is remembered are facts, never verdicts, and only definite answers: by digest (a tag is asked about each time), by
the keys asked about, and by what the asker's credentials may see, so that an image which one tenant may pull does not
count as seen for another. A time-out, a 429 or a 5xx is never remembered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Final, Literal, Protocol, TypeVar

import msgspec
import structlog

from countersign.gate.evidence.candidates import find_vouches
from countersign.gate.evidence.memory import Memory
from countersign.gate.evidence.platforms import find_configs
from countersign.gate.evidence.together import both, together
from countersign.registry.client import Access, RegistryClient
from countersign.registry.credentials import (
    ANONYMOUS,
    BadDockerConfig,
    Credential,
    Keyring,
    parse_docker_config,
    scope_of,
)
from countersign.registry.errors import RegistryError
from countersign.registry.fairness import Share
from countersign.registry.flight import Flights
from countersign.registry.lru import LRU
from countersign.signatures.keys import PublicKey
from countersign.trust.evidence.facts import ImageFacts, PlatformConfig, Unverifiable, Vouch
from countersign.trust.images.reference import ImageReference

MAX_REMEMBERED: Final = 4096

Outcome = Literal["warm", "asked", "stale", "unverifiable"]
Observer = Callable[[Outcome, float], None]
"""Told of each answer, with the seconds that it took."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_log = structlog.get_logger()


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long definite answers are remembered, in seconds."""

    signed: float = 600.0
    """Every key asked about has signed. That stays true; what may change is who may see the image."""
    partly_signed: float = 30.0
    """Some keys have signed, as with the old and the new key during a rotation."""
    unsigned: float = 5.0
    """No key has signed: short, so that an image signed just now is admitted at the retry."""
    stale: float = 3600.0
    """While the registry cannot answer, a full set of vouches and the configs count this long: both are fixed by the
    digest."""
    configs: float = 600.0
    """A config is fixed by its digest; only who may see it can change."""


class PullSecret(msgspec.Struct, frozen=True):
    """A Secret with registry credentials, as the API server holds it (decoded)."""

    type: str
    """`kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`."""
    data: bytes


class PullSecretsUnavailable(Exception):  # noqa: N818 - the condition
    """The pod's pull secrets cannot be read now. The message is a phrase for a person."""


class PullSecrets(Protocol):
    """Where the credentials of a pod come from."""

    async def for_pod(
        self, namespace: str, service_account: str, names: tuple[str, ...], within: float
    ) -> Sequence[PullSecret]:
        """The named secrets and those of the service account, in the kubelet's order; missing ones are left out.

        Asked before every answer, warm ones too (what may be seen is part of the question), so answer from memory.
        `within` is in seconds. Raises PullSecretsUnavailable.
        """


class EvidenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be found out about one image, and for whom."""

    reference: ImageReference
    keys: tuple[PublicKey, ...] = ()
    want_config: bool = False
    namespace: str
    service_account: str
    pull_secrets: tuple[str, ...] = ()
    """Names of the pod's own imagePullSecrets."""


class _Scoped(msgspec.Struct, frozen=True):
    """Content seen with certain credentials: the part that all keys of the memory share."""

    digest: str
    image: str
    scope: str


_Question = tuple[_Scoped, frozenset[str]]
"""Which of these keys (by fingerprint) have signed."""


class _Asker(msgspec.Struct, frozen=True):
    credentials: tuple[Credential, ...]
    scope: str
    namespace: str
    deadline: float


class EvidenceService:
    """Answers evidence requests. One per process; must be closed."""

    def __init__(
        self,
        client: RegistryClient,
        pull_secrets: PullSecrets | None = None,
        *,
        observe: Observer | None = None,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        """Without `pull_secrets` all registries are asked anonymously."""
        self._client = client
        self._lifetimes = lifetimes or Lifetimes()
        self._pull_secrets = pull_secrets
        self._observe = observe or (lambda _outcome, _seconds: None)
        self._keyrings: LRU[tuple[PullSecret, ...], Keyring] = LRU(256)
        self._vouches: Memory[_Question, tuple[Vouch, ...]] = Memory(MAX_REMEMBERED)
        self._configs: Memory[_Scoped, tuple[PlatformConfig, ...]] = Memory(MAX_REMEMBERED)
        self._resolving: Flights[tuple[str, str], str] = Flights()
        self._verifying: Flights[_Question, tuple[Vouch, ...]] = Flights()
        self._reading: Flights[_Scoped, tuple[PlatformConfig, ...]] = Flights()

    async def close(self) -> None:
        """End what goes on in the background."""
        await asyncio.gather(self._resolving.close(), self._verifying.close(), self._reading.close())

    async def gather(
        self, requests: Iterable[EvidenceRequest], deadline: float
    ) -> dict[EvidenceRequest, ImageFacts | Unverifiable]:
        """An answer to every request, by the deadline (absolute, on the running loop's clock).

        What is not known by then is Unverifiable with reason Timeout; the work goes on, so that the retry is warm.
        """
        answers: dict[EvidenceRequest, ImageFacts | Unverifiable] = {}
        asked: list[tuple[EvidenceRequest, _Asker]] = []
        loop = asyncio.get_running_loop()
        for request in dict.fromkeys(requests):
            started = loop.time()
            try:
                asker = await self._asker(request, deadline)
            except PullSecretsUnavailable as error:
                answers[request] = Unverifiable(str(request.reference), "RegistryUnavailable", str(error), True)
                self._observe("unverifiable", loop.time() - started)
                continue
            remembered = self._from_memory(request, asker, started)
            if remembered is None:
                asked.append((request, asker))
            else:
                answers[request] = remembered
                self._observe("warm", loop.time() - started)
        if asked:
            found = await together(*(self._answer(request, asker) for request, asker in asked))
            answers.update(zip((request for request, _ in asked), found, strict=True))
        return answers

    async def _answer(self, request: EvidenceRequest, asker: _Asker) -> ImageFacts | Unverifiable:
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome: Outcome = "unverifiable"
        answer: ImageFacts | Unverifiable
        try:
            answer, outcome = await self._from_registry(request, asker)
        except RegistryError as error:
            answer = Unverifiable(str(request.reference), error.reason, str(error), error.transient)
        self._observe(outcome, loop.time() - started)
        return answer

    async def _asker(self, request: EvidenceRequest, deadline: float) -> _Asker:
        keyring = ANONYMOUS
        reference = request.reference
        needs_registry = reference.digest is None or request.keys or request.want_config
        if needs_registry and self._pull_secrets is not None:
            within = deadline - asyncio.get_running_loop().time()
            secrets = await self._pull_secrets.for_pod(
                request.namespace, request.service_account, request.pull_secrets, within
            )
            if secrets:
                keyring = self._keyring(tuple(secrets))
        credentials = keyring.lookup(reference.name)
        return _Asker(credentials, scope_of(credentials), request.namespace, deadline)

    def _keyring(self, secrets: tuple[PullSecret, ...]) -> Keyring:
        keyring = self._keyrings.get(secrets, 0.0)
        if keyring is None:
            entries: list[tuple[str, Credential]] = []
            for secret in secrets:
                try:
                    entries += parse_docker_config(secret.type, secret.data)
                except BadDockerConfig as error:
                    _log.warning("pull secret left out", message=str(error))
            keyring = Keyring(entries)
            self._keyrings.put(secrets, keyring, 1.0)  # a function of its key: it never expires (the clock here is 0)
        return keyring

    def _from_memory(self, request: EvidenceRequest, asker: _Asker, now: float) -> ImageFacts | None:
        digest = request.reference.digest
        if digest is None:
            return None
        scoped = _Scoped(digest, request.reference.name, asker.scope)
        vouches: tuple[Vouch, ...] | None = ()
        if request.keys:
            vouches = self._vouches.fresh((scoped, _fingerprints(request)), now)
        configs = self._configs.fresh(scoped, now) if request.want_config else ()
        return _facts(request, digest, vouches, configs) if vouches is not None and configs is not None else None

    async def _from_registry(self, request: EvidenceRequest, asker: _Asker) -> tuple[ImageFacts, Outcome]:
        digest = request.reference.digest or await self._resolve(request.reference, asker)
        scoped = _Scoped(digest, request.reference.name, asker.scope)
        (vouches, one), (configs, other) = await both(
            self._verified(request, scoped, asker), self._configured(request, scoped, asker)
        )
        return _facts(request, digest, vouches, configs), "stale" if "stale" in (one, other) else "asked"

    async def _resolve(self, image: ImageReference, asker: _Asker) -> str:
        async def resolve(share: Share) -> str:
            return (await self._client.resolve(image, Access(share, asker.credentials))).digest

        key = (str(image), asker.scope)
        return await self._resolving.result(key, asker.namespace, resolve, asker.deadline)

    async def _verified(
        self, request: EvidenceRequest, scoped: _Scoped, asker: _Asker
    ) -> tuple[tuple[Vouch, ...], Outcome]:
        if not request.keys:
            return (), "warm"
        question = (scoped, _fingerprints(request))

        async def verify(share: Share) -> tuple[Vouch, ...]:
            access = Access(share, asker.credentials)
            vouches = await find_vouches(self._client, request.reference, scoped.digest, request.keys, access)
            self._remember(question, vouches, asyncio.get_running_loop().time())
            return vouches

        return await _remembered_or_asked(self._vouches, self._verifying, question, asker, verify)

    def _remember(self, question: _Question, vouches: tuple[Vouch, ...], now: float) -> None:
        times = self._lifetimes
        signed = {vouch.key_fingerprint for vouch in vouches}
        if signed == question[1]:
            self._vouches.put(question, vouches, fresh_until=now + times.signed, stale_until=now + times.stale)
        else:
            seconds = times.partly_signed if signed else times.unsigned
            self._vouches.put(question, vouches, fresh_until=now + seconds)

    async def _configured(
        self, request: EvidenceRequest, scoped: _Scoped, asker: _Asker
    ) -> tuple[tuple[PlatformConfig, ...], Outcome]:
        if not request.want_config:
            return (), "warm"

        async def read(share: Share) -> tuple[PlatformConfig, ...]:
            access = Access(share, asker.credentials)
            configs = await find_configs(self._client, request.reference, scoped.digest, access)
            now, times = asyncio.get_running_loop().time(), self._lifetimes
            self._configs.put(scoped, configs, fresh_until=now + times.configs, stale_until=now + times.stale)
            return configs

        return await _remembered_or_asked(self._configs, self._reading, scoped, asker, read)


async def _remembered_or_asked(
    memory: Memory[K, V],
    flights: Flights[K, V],
    key: K,
    asker: _Asker,
    work: Callable[[Share], Awaitable[V]],
) -> tuple[V, Outcome]:
    """From memory if it is fresh; else by the work, which remembers; else, if that failed for a while, stale."""
    loop = asyncio.get_running_loop()
    remembered = memory.fresh(key, loop.time())
    if remembered is not None:
        return remembered, "warm"
    try:
        return await flights.result(key, asker.namespace, work, asker.deadline), "asked"
    except RegistryError as error:
        stale = memory.stale(key, loop.time()) if error.transient else None
        if stale is None:
            raise
        _log.warning("registry cannot answer: what is known of the digest is used", message=str(error))
        return stale, "stale"


def _fingerprints(request: EvidenceRequest) -> frozenset[str]:
    return frozenset(key.fingerprint for key in request.keys)


def _facts(
    request: EvidenceRequest, digest: str, vouches: tuple[Vouch, ...], configs: tuple[PlatformConfig, ...]
) -> ImageFacts:
    return ImageFacts(
        image=request.reference.name,
        digest=digest,
        vouches=vouches,
        checked_keys=tuple(key.fingerprint for key in request.keys),
        configs=configs,
    )
