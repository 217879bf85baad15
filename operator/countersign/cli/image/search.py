"""All that is found on an image: the gate's own search, watched, so that what counts for nothing is seen, too."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from countersign.cli.image.registries import ANSWER_SECONDS, Registries, evidence_source
from countersign.gate.evidence.examiner import Judged, WorkerExaminer
from countersign.gate.evidence.service import EvidenceRequest
from countersign.registry.fairness import Share
from countersign.signatures.examine import Candidate, Examined, Question
from countersign.signatures.formats.statements import SIGN_PREDICATE_TYPE
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.evidence.facts import Attestation, ImageFacts, Unverifiable
from countersign.trust.evidence.needs import PredicateNeed


class Seen(NamedTuple):
    """A candidate, and what it came to."""

    signed: str
    """Digest of the image, or of a platform's manifest, that it was found with."""
    blob: str
    """Digest of what was examined."""
    form: str
    predicate_type: str
    """What it says that it is, signed or not; empty: a classic signature, or nothing that could be read."""
    payload: bytes
    """The statement, signed or not; empty: as above."""
    examined: Examined


class Watching:
    """`gate.evidence.examiner.Examiner` that remembers, and asks about attestations of every type."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._examiner = WorkerExaminer()

    async def close(self) -> None:
        """End what the examiner started."""
        await self._examiner.close()

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> Judged:
        """As in Examiner."""
        payloads = [claimed_statement(one) for one in candidates]
        types = [_type_of(one) for one in payloads]
        others = {one: () for one in types if one and one != SIGN_PREDICATE_TYPE}
        asked = msgspec.structs.replace(question, predicates={**others, **question.predicates})
        judged = await self._examiner.examine(candidates, asked, share)
        for candidate, type_, payload, examined in zip(candidates, types, payloads, judged.answers, strict=True):
            blob = f"sha256:{hashlib.sha256(candidate.data).hexdigest()}"
            told = msgspec.structs.replace(examined, attestations=_told(examined.attestations))
            self.seen.append(Seen(question.digest, blob, candidate.form, type_, payload, told))
        return judged


class Look(NamedTuple):
    """What was found."""

    facts: ImageFacts | Unverifiable
    seen: tuple[Seen, ...]


def look(request: EvidenceRequest, registries: Registries, roots: KnownRoots) -> Look:
    """Look at an image: signatures and attestations of every type, by the request's keys and roots."""
    watching = Watching()
    # Classic attestations are looked for only where some attestation is asked about; this type is none, and not told.
    asked = msgspec.structs.replace(request, predicates=(*request.predicates, PredicateNeed(SIGN_PREDICATE_TYPE)))

    async def ask() -> ImageFacts | Unverifiable:
        async with evidence_source(registries, roots, watching) as source:
            deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
            return (await source.gather([asked], deadline))[asked]

    facts = asyncio.run(ask())
    if isinstance(facts, ImageFacts):
        facts = msgspec.structs.replace(facts, attestations=_told(facts.attestations))
    return Look(facts, tuple(sorted(watching.seen, key=lambda one: (one.signed, one.predicate_type, one.blob))))


def _told(attestations: Sequence[Attestation]) -> tuple[Attestation, ...]:
    return tuple(one for one in attestations if one.predicate_type != SIGN_PREDICATE_TYPE)


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str = ""


class _Bundle(msgspec.Struct, rename="camel"):
    dsse_envelope: _Envelope = msgspec.field(default_factory=_Envelope)


class _Statement(msgspec.Struct, rename="camel"):
    predicate_type: str = ""


def claimed_statement(candidate: Candidate) -> bytes:
    """The statement that a candidate holds. Nothing of it is verified; empty: there is none."""
    try:
        if candidate.form == "bundle":
            payload = msgspec.json.decode(candidate.data, type=_Bundle).dsse_envelope.payload
        elif candidate.form == "dsse":
            payload = msgspec.json.decode(candidate.data, type=_Envelope).payload
        else:
            return b""
        return base64.b64decode(payload)
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return b""


def _type_of(statement: bytes) -> str:
    try:
        return msgspec.json.decode(statement, type=_Statement).predicate_type if statement else ""
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""
