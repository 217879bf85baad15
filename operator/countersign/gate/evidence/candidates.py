"""Signatures and attestations of a digest: listed, fetched, examined, remembered one by one.

What came of a candidate is remembered under its own digest: a question that is put again costs the lists, not all of
the strangers' signatures in them.
"""

import asyncio
import base64
import hashlib
import textwrap
from collections import Counter
from collections.abc import Coroutine, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from countersign.gate.evidence.examiner import Examiner
from countersign.gate.evidence.memory import Memory
from countersign.gate.evidence.places import (
    attestation_tag,
    form_of,
    layers_to_examine,
    signature_tag,
    worth_fetching,
)
from countersign.gate.evidence.roots import RootContent
from countersign.gate.evidence.together import together
from countersign.registry.client import MAX_SIGNATURE_BYTES, Access, RegistryClient
from countersign.registry.errors import MalformedError, RegistryError, TooLargeError
from countersign.registry.fairness import FairSlots
from countersign.registry.manifest import Descriptor, Manifest
from countersign.signatures.examine import MAX_ATTESTATION_BYTES, Candidate, Question
from countersign.signatures.keys import PublicKey
from countersign.trust.evidence.facts import Attestation, Vouch
from countersign.trust.evidence.needs import PredicateNeed
from countersign.trust.images.reference import ImageReference

MAX_FETCHES_AT_ONCE: Final = 16
"""Of one search."""
MAX_DIGEST_BYTES: Final = 128 * 1024 * 1024
"""Read for one digest; candidates beyond that are not looked at."""
LARGE_BYTES: Final = 1024 * 1024
"""Of blobs that are larger, only a few are in memory at once."""
LARGE_AT_ONCE: Final = 2
LARGE_AT_ONCE_PER_NAMESPACE: Final = 1
MAX_LARGE_WAITING: Final = 256
CANDIDATE_SECONDS: Final = 3600.0
"""How long an examined candidate is remembered: what it says is fixed by its digest."""

_log = structlog.get_logger()


class Wanted(msgspec.Struct, frozen=True):
    """Whose signatures and which attestations are looked for."""

    keys: tuple[PublicKey, ...]
    roots: tuple[RootContent, ...]
    predicates: tuple[PredicateNeed, ...]

    @property
    def name(self) -> str:
        """A digest of the question, for keys of memories."""
        parts = (
            sorted(key.fingerprint for key in self.keys),
            sorted(root.hash for root in self.roots),
            sorted((need.predicate_type, sorted(need.expressions)) for need in self.predicates),
        )
        return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()

    def about(self, image: str, digest: str) -> Question:
        """The question about one digest."""
        return Question(
            digest=digest,
            name=image,
            keys=tuple(_pem(key.der) for key in self.keys),
            roots=tuple(root.content for root in self.roots),
            predicates={need.predicate_type: need.expressions for need in self.predicates},
        )


@lru_cache(1024)
def _pem(der: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)  # RFC 7468, section 2
    return "\n".join(("-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""))


class Place(NamedTuple):
    """A repository, and as whom it is asked."""

    repository: ImageReference
    access: Access


class Found(msgspec.Struct, frozen=True):
    """What there is, in a stable order."""

    vouches: tuple[Vouch, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    sure: bool = True
    """False: some candidate could not be judged in the time that there was. It counts for nothing, and this answer is
    not to be remembered for long."""


class Seeker:
    """Searches for one process."""

    def __init__(self, client: RegistryClient, examiner: Examiner, *, max_bytes: int) -> None:
        """`max_bytes`: of memory for examined candidates."""
        self.client = client
        self.examiner = examiner
        self.examined: Memory[tuple[str, ...], Found] = Memory(max_bytes)
        self.large = FairSlots(LARGE_AT_ONCE, LARGE_AT_ONCE_PER_NAMESPACE, MAX_LARGE_WAITING)

    async def find(
        self, wanted: Wanted, image: str, digest: str, below: Sequence[str], places: Sequence[Place]
    ) -> Found:
        """All that vouches for the digest, or for the manifests `below` it, at any of the places.

        `image`: the `registry/repository` that the image is pulled from, for conditions.

        A candidate that is no evidence, or cannot be read for good, counts for nothing. Raises RegistryError if a
        registry cannot tell now: then nothing is known.
        """
        search = _Search(self, wanted, image)
        digests = tuple(dict.fromkeys((digest, *below)))
        pairs = [(one, place) for one in digests for place in places]
        found = await together(*(search.at(place, one) for one, place in pairs))
        return _joined(
            [several if one == digest else _on(one, several) for (one, _), several in zip(pairs, found, strict=True)]
        )


class _Search:
    """One search, with its bounds."""

    def __init__(self, seeker: Seeker, wanted: Wanted, image: str) -> None:
        self._client = seeker.client
        self._seeker = seeker
        self._wanted = wanted
        self._image = image
        self._name = wanted.name
        self._predicates = frozenset(need.predicate_type for need in wanted.predicates)
        self._fetches = asyncio.Semaphore(MAX_FETCHES_AT_ONCE)
        self._read: Counter[str] = Counter()

    async def at(self, place: Place, digest: str) -> Found:
        """What one place has about one digest."""
        work: list[Coroutine[Any, Any, Found]] = [self._referrers(place, digest)]
        tags = [signature_tag(digest), attestation_tag(digest) if self._predicates else None]
        work += [self._tagged(place, digest, tag) for tag in tags if tag]
        return _joined(await together(*work))

    async def _referrers(self, place: Place, digest: str) -> Found:
        try:
            async with self._fetches:
                listed = await self._client.referrers(place.repository, digest, place.access)
        except (MalformedError, TooLargeError) as error:
            _dismiss(place, digest, error)
            return Found()
        worth = worth_fetching(listed, self._predicates)
        return _joined(await together(*(self._referrer(place, digest, one) for one in worth)))

    async def _referrer(self, place: Place, digest: str, descriptor: Descriptor) -> Found:
        known = self._known(place, digest, descriptor.digest)
        if known is not None:
            return known
        try:
            async with self._fetches:
                manifest = await self._client.manifest(place.repository, descriptor.digest, place.access)
        except RegistryError as error:
            _dismiss(place, descriptor.digest, error)
            return Found()
        return await self._manifest(place, digest, manifest)

    async def _tagged(self, place: Place, digest: str, tag: str) -> Found:
        try:
            async with self._fetches:
                manifest = await self._client.tagged_manifest(place.repository, tag, place.access)
        except (MalformedError, TooLargeError) as error:
            _dismiss(place, tag, error)
            return Found()
        if manifest is None:
            return Found()
        known = self._known(place, digest, manifest.digest)
        return known if known is not None else await self._manifest(place, digest, manifest)

    async def _manifest(self, place: Place, digest: str, manifest: Manifest) -> Found:
        """What the layers of a manifest hold."""
        layers = layers_to_examine(manifest.layers)
        found = _joined(await together(*(self._layers(place, digest, several) for several in layers.values())))
        now = asyncio.get_running_loop().time()
        if found.sure:
            key = self._key(place, digest, manifest.digest)
            self._seeker.examined.put(key, found, now, seconds=CANDIDATE_SECONDS, lasting=False)
        return found

    async def _layers(self, place: Place, digest: str, layers: list[Descriptor]) -> Found:
        """What one blob holds, under the annotations of each layer that names it."""
        limit = MAX_ATTESTATION_BYTES if self._predicates else MAX_SIGNATURE_BYTES
        size = layers[0].size or MAX_SIGNATURE_BYTES
        if size > limit:
            _dismiss(place, layers[0].digest, TooLargeError(f"it says that it has {size} bytes, more than {limit}"))
            return Found()
        if self._read[digest] + size > MAX_DIGEST_BYTES:
            _dismiss(place, layers[0].digest, TooLargeError(f"more than {MAX_DIGEST_BYTES} bytes of candidates"))
            return Found()
        self._read[digest] += size
        if size <= LARGE_BYTES:
            return await self._blob(place, digest, layers, size)
        async with self._seeker.large.hold(place.access.share):
            return await self._blob(place, digest, layers, size)

    async def _blob(self, place: Place, digest: str, layers: list[Descriptor], size: int) -> Found:
        blob = layers[0].digest
        try:
            async with self._fetches:
                data = await self._client.blob(place.repository, blob, place.access, limit=size)
        except RegistryError as error:
            _dismiss(place, blob, error)
            return Found()
        forms = [(layer, form_of(layer, data)) for layer in layers]
        candidates = [
            Candidate(form=form, data=data, annotations=layer.annotations or {})
            for layer, form in forms
            if form is not None
        ]
        share = place.access.share
        examined = await self._seeker.examiner.examine(candidates, self._wanted.about(self._image, digest), share)
        for one in examined.answers:
            if one.problem:
                _log.debug("candidate does not vouch", digest=digest, candidate=blob, problem=one.problem)
        found = [Found(one.vouches, one.attestations) for one in examined.answers]
        return _joined([*found, Found(sure=examined.sure)])

    def _known(self, place: Place, digest: str, manifest: str) -> Found | None:
        now = asyncio.get_running_loop().time()
        return self._seeker.examined.fresh(self._key(place, digest, manifest), now)

    def _key(self, place: Place, digest: str, manifest: str) -> tuple[str, ...]:
        return place.repository.name, place.access.scope, self._image, digest, manifest, self._name


def _dismiss(place: Place, candidate: str, error: RegistryError) -> None:
    """A candidate that is missing, too large or lies about its digest will not get better; a time-out may."""
    if error.transient:
        raise error
    _log.debug("candidate cannot be read", image=place.repository.name, candidate=candidate, message=str(error))


def _on(digest: str, found: Found) -> Found:
    """What vouches for a platform's manifest says so."""

    def mark(vouch: Vouch) -> Vouch:
        return msgspec.structs.replace(vouch, digest=digest)

    return Found(
        tuple(mark(vouch) for vouch in found.vouches),
        tuple(msgspec.structs.replace(one, vouch=mark(one.vouch)) for one in found.attestations),
        found.sure,
    )


def _joined(several: Sequence[Found]) -> Found:
    vouches = {vouch for found in several for vouch in found.vouches}
    attestations = {one for found in several for one in found.attestations}
    return Found(
        tuple(sorted(vouches, key=_vouch_order)),
        tuple(sorted(attestations, key=_attestation_order)),
        all(found.sure for found in several),
    )


def _vouch_order(vouch: Vouch) -> tuple[str, ...]:
    identity = vouch.identity
    who = (identity.issuer, identity.subject) if identity else ("", "")
    proof = (vouch.proof.root, str(vouch.proof.signed_at or 0)) if vouch.proof else ("", "")
    return vouch.digest, vouch.key_fingerprint, *who, vouch.format, vouch.reference, *proof


def _attestation_order(attestation: Attestation) -> tuple[str, ...]:
    return attestation.predicate_type, attestation.statement, *_vouch_order(attestation.vouch)
