"""Facts about images, from the registries or from memory.

What is remembered are facts, never verdicts, and only definite answers: by digest and repository (a tag is asked about
each time), by who was asked about (keys, the content of evidence roots, predicates and conditions), and by what the
asker's credentials may see, so that an image which one tenant may pull does not count as seen for another. A time-out,
a 429 or a 5xx is never remembered. Policies that put the same question share the answer, and weigh it themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from functools import lru_cache
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import structlog

from countersign.gate.evidence.askers import Askers
from countersign.gate.evidence.candidates import Found, Place, Seeker, Wanted
from countersign.gate.evidence.examiner import Examiner, WorkerExaminer
from countersign.gate.evidence.memory import Memory
from countersign.gate.evidence.metrics import EvidenceObserver, UnobservedEvidence
from countersign.gate.evidence.platforms import find_configs
from countersign.gate.evidence.questions import Inquiry, Lifetimes, Question, Scoped, facts_of
from countersign.gate.evidence.request import (
    EvidenceRequest,
    OwnCredentials,
    PullSecret,
    PullSecrets,
    PullSecretsUnavailable,
)
from countersign.gate.evidence.roots import NoRoots, RootContent, Roots
from countersign.gate.evidence.together import together
from countersign.registry.client import RegistryClient
from countersign.registry.errors import RegistryError
from countersign.registry.fairness import Share
from countersign.registry.flight import Flights
from countersign.runtime.tracing.spans import child, happened
from countersign.trust.evidence.facts import ImageFacts, PlatformConfig, Unverifiable
from countersign.trust.images.reference import BadReference, ImageReference

__all__ = [
    "EvidenceRequest",
    "EvidenceService",
    "Lifetimes",
    "PullSecret",
    "PullSecrets",
    "PullSecretsUnavailable",
    "RootContent",
    "Roots",
]

DEFAULT_CACHE_BYTES: Final = 32 * 1024 * 1024
STALE_WAIT_SECONDS: Final = 3.0
"""Who has an older answer to fall back on waits no longer than this for a registry; the asking goes on meanwhile."""

Outcome = Literal["warm", "asked", "stale", "unverifiable"]
Observer = Callable[[Outcome, float], None]
"""Told of each answer, with the seconds that it took."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_log = structlog.get_logger()


class _Answer(NamedTuple, Generic[V]):
    value: V
    outcome: Outcome
    age: float = 0.0
    """Seconds since it was found out, where it is stale."""


class EvidenceService:
    """Answers evidence requests. One per process; must be closed."""

    def __init__(
        self,
        client: RegistryClient,
        pull_secrets: PullSecrets | None = None,
        *,
        own: OwnCredentials | None = None,
        roots: Roots | None = None,
        examiner: Examiner | None = None,
        observe: Observer | None = None,
        observer: EvidenceObserver | None = None,
        lifetimes: Lifetimes | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        """Without `pull_secrets` and `own` all registries are asked anonymously; without `roots` only keys vouch.

        The examiner is closed with the service.
        """
        self._client = client
        self._lifetimes = lifetimes or Lifetimes()
        self._askers = Askers(pull_secrets, own)
        self._roots = roots or NoRoots()
        self._observe = observe or (lambda _outcome, _seconds: None)
        self._observer = observer or UnobservedEvidence()
        self._examiner = examiner or WorkerExaminer()
        self._seeker = Seeker(client, self._examiner, max_bytes=cache_bytes // 4)
        self._found: Memory[Question, Found] = Memory(cache_bytes // 2)
        self._configs: Memory[Scoped, tuple[PlatformConfig, ...]] = Memory(cache_bytes // 8)
        self._tags: Memory[tuple[str, str], str] = Memory(cache_bytes // 8)
        self._resolving: Flights[tuple[str, str], str] = Flights()
        self._seeking: Flights[Question, Found] = Flights()
        self._reading: Flights[Scoped, tuple[PlatformConfig, ...]] = Flights()
        self._observer.remembers(
            lambda: self._found.size + self._configs.size + self._tags.size + self._seeker.examined.size
        )

    async def close(self) -> None:
        """End what goes on in the background."""
        await asyncio.gather(self._resolving.close(), self._seeking.close(), self._reading.close())
        await self._examiner.close()

    async def gather(
        self, requests: Iterable[EvidenceRequest], deadline: float
    ) -> dict[EvidenceRequest, ImageFacts | Unverifiable]:
        """An answer to every request, by the deadline (absolute, on the running loop's clock).

        What is not known by then is Unverifiable with reason Timeout; the work goes on, so that the retry is warm.
        """
        answers: dict[EvidenceRequest, ImageFacts | Unverifiable] = {}
        asked: list[Inquiry] = []
        loop = asyncio.get_running_loop()
        for request in dict.fromkeys(requests):
            started = loop.time()
            try:
                inquiry = Inquiry(request, await self._askers.of(request, deadline), self._contents(request.roots))
            except PullSecretsUnavailable as error:
                answers[request] = Unverifiable(str(request.reference), "RegistryUnavailable", str(error), True)
                self._observe("unverifiable", loop.time() - started)
                continue
            except BadReference as error:
                answers[request] = Unverifiable(str(request.reference), "Malformed", str(error), False)
                self._observe("unverifiable", loop.time() - started)
                continue
            remembered = self._from_memory(inquiry, started)
            if remembered is None:
                asked.append(inquiry)
            else:
                answers[request] = remembered
                self._observe("warm", loop.time() - started)
                happened("gate.evidence", loop.time() - started, _named(request, "warm"))
        if asked:
            found = await together(*(self._answer(inquiry) for inquiry in asked))
            answers.update(zip((inquiry.request for inquiry in asked), found, strict=True))
        return answers

    def _contents(self, names: tuple[str, ...]) -> tuple[RootContent, ...]:
        found = (self._roots.content(name) for name in names)
        return tuple(content for content in found if content is not None)

    def _from_memory(self, inquiry: Inquiry, now: float) -> ImageFacts | None:
        request = inquiry.request
        digest = request.reference.digest
        if digest is None:
            return None
        scoped = Scoped(digest, request.reference.name, inquiry.asker.scope)
        found: Found | None = Found()
        if request.wants_signatures:
            found = self._found.fresh(inquiry.question(scoped), now, max_age=request.max_age_seconds)
        configs = self._configs.fresh(scoped, now) if request.wants_configs else ()
        return facts_of(inquiry, digest, found, configs) if found is not None and configs is not None else None

    async def _answer(self, inquiry: Inquiry) -> ImageFacts | Unverifiable:
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome: Outcome = "unverifiable"
        answer: ImageFacts | Unverifiable
        with child("gate.evidence") as span:
            try:
                answer, outcome = await self._from_registry(inquiry)
            except RegistryError as error:
                answer = Unverifiable(str(inquiry.request.reference), error.reason, str(error), error.transient)
                span.set({"countersign.reason": error.reason})
            if span.recorded:
                span.set(_named(inquiry.request, outcome))
        self._observe(outcome, loop.time() - started)
        return answer

    async def _from_registry(self, inquiry: Inquiry) -> tuple[ImageFacts, Outcome]:
        request = inquiry.request
        digest = await self._resolved(inquiry)
        scoped = Scoped(digest.value, request.reference.name, inquiry.asker.scope)
        # An index that lies about its platforms is no reason to wait for its signatures: both are asked at once, except
        # where the platforms must be known first.
        reading = asyncio.ensure_future(self._configured(inquiry, scoped))
        seeking = asyncio.ensure_future(self._sought(inquiry, scoped, reading))
        try:
            await asyncio.gather(reading, seeking)
        except BaseException:
            for task in (reading, seeking):
                task.cancel()
            await asyncio.gather(reading, seeking, return_exceptions=True)
            raise
        found, configs = seeking.result(), reading.result()
        age = max(digest.age, found.age, configs.age)
        facts = facts_of(
            inquiry, digest.value, found.value, configs.value, stale_seconds=max(1, round(age)) if age else 0
        )
        return facts, "stale" if age else "asked"

    async def _resolved(self, inquiry: Inquiry) -> _Answer[str]:
        reference, asker = inquiry.request.reference, inquiry.asker
        if reference.digest:
            return _Answer(reference.digest, "warm")
        key = (str(reference), asker.scope)

        async def resolve(share: Share) -> str:
            digest = (await self._client.resolve(reference, asker.access(reference.name, share))).digest
            self._tags.put(key, digest, asyncio.get_running_loop().time(), seconds=0.0, lasting=True)
            return digest

        return await self._remembered_or_asked(self._tags, self._resolving, key, inquiry, resolve)

    async def _sought(
        self, inquiry: Inquiry, scoped: Scoped, reading: "asyncio.Future[_Answer[tuple[PlatformConfig, ...]]]"
    ) -> _Answer[Found]:
        request = inquiry.request
        if not request.wants_signatures:
            return _Answer(Found(), "warm")
        question = inquiry.question(scoped)
        wanted = Wanted(request.keys, inquiry.roots, request.predicates)
        below = [config.digest for config in (await asyncio.shield(reading)).value] if request.platforms else []

        async def seek(share: Share) -> Found:
            places = [Place(_repository(one, request), inquiry.asker.access(one or request.reference.name, share))
                      for one in request.repositories]  # fmt: skip
            loop = asyncio.get_running_loop()
            started = loop.time()
            try:
                found = await self._seeker.find(wanted, scoped.image, scoped.digest, below, places)
            except RegistryError:
                self._observer.verified("failed", loop.time() - started)
                raise
            something = bool(found.vouches or found.attestations)
            self._observer.verified("found" if something else "nothing", loop.time() - started)
            seconds = self._lifetimes.of(question, found)
            # That there is nothing is not carried over an outage: it may have been signed since.
            self._found.put(question, found, loop.time(), seconds=seconds, lasting=something and found.sure)
            return found

        return await self._remembered_or_asked(
            self._found, self._seeking, question, inquiry, seek, max_age=request.max_age_seconds
        )

    async def _configured(self, inquiry: Inquiry, scoped: Scoped) -> _Answer[tuple[PlatformConfig, ...]]:
        request = inquiry.request
        if not request.wants_configs:
            return _Answer((), "warm")

        async def read(share: Share) -> tuple[PlatformConfig, ...]:
            access = inquiry.asker.access(request.reference.name, share)
            configs = await find_configs(self._client, request.reference, scoped.digest, access)
            now = asyncio.get_running_loop().time()
            self._configs.put(scoped, configs, now, seconds=self._lifetimes.configs, lasting=True)
            return configs

        return await self._remembered_or_asked(self._configs, self._reading, scoped, inquiry, read)

    async def _remembered_or_asked(
        self,
        memory: Memory[K, V],
        flights: Flights[K, V],
        key: K,
        inquiry: Inquiry,
        work: Callable[[Share], Awaitable[V]],
        *,
        max_age: float | None = None,
    ) -> _Answer[V]:
        """From memory if it is fresh, and no older than `max_age`; else by the work, which remembers; else, if that
        failed for a while, stale.
        """
        loop = asyncio.get_running_loop()
        remembered = memory.fresh(key, loop.time(), max_age=max_age)
        if remembered is not None:
            return _Answer(remembered, "warm")
        deadline, allowed = inquiry.asker.deadline, float(inquiry.request.stale_seconds)
        if memory.stale(key, loop.time(), allowed) is not None:
            deadline = min(deadline, loop.time() + STALE_WAIT_SECONDS)
        try:
            return _Answer(await flights.result(key, inquiry.asker.namespace, work, deadline), "asked")
        except RegistryError as error:
            stale = memory.stale(key, loop.time(), allowed) if error.transient else None
            if stale is None:
                raise
            _log.warning("registry cannot answer: what was found out before is used", message=str(error))
            return _Answer(stale.value, "stale", loop.time() - stale.found_at)


def _named(request: EvidenceRequest, outcome: Outcome) -> dict[str, str]:
    return {"countersign.image": str(request.reference), "countersign.outcome": outcome}


def _repository(name: str, request: EvidenceRequest) -> ImageReference:
    return _parse_repository(name) if name else request.reference


_parse_repository = lru_cache(1024)(ImageReference.parse)
