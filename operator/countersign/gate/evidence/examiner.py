"""Judging candidates: here where that takes less than a millisecond, elsewhere where it may take longer."""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from countersign.registry.fairness import Share
from countersign.signatures.bundle import verify_bundle
from countersign.signatures.classic import SIGNATURE_ANNOTATION, verify_classic
from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import parse_public_key
from countersign.trust.evidence.facts import Attestation, Vouch

MAX_KEYS_ON_LOOP: Final = 4
MAX_BYTES_ON_LOOP: Final = 64 * 1024
"""More keys or larger documents are judged elsewhere; below this a judgement takes about 1 ms at the most."""
MAX_ATTESTATION_BYTES: Final = 32 * 1024 * 1024


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asked about, as it may be sent to another process."""

    digest: str
    name: str
    keys: tuple[str, ...]
    roots: tuple[bytes, ...]
    predicates: dict[str, tuple[str, ...]]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that may be evidence."""

    form: Literal["bundle", "simple-signing", "dsse"]
    data: bytes
    annotations: dict[str, str]


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What they are worth, and why they are worth nothing."""

    vouches: tuple[Vouch, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    problem: str = ""
    sure: bool = True


class Examiner(Protocol):
    """Says what candidates are worth."""

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> list[Examined]:
        """One answer for each, in order. Raises RegistryTimeoutError if there is no telling now."""


class LocalExaminer:
    """In this process: on the loop, or in a thread."""

    async def examine(self, candidates: Sequence[Candidate], question: Question, share: Share) -> list[Examined]:
        """As in Examiner."""
        if is_light(candidates, question):
            return [examine(one, question) for one in candidates]
        return await asyncio.to_thread(lambda: [examine(one, question) for one in candidates])


def is_light(candidates: Sequence[Candidate], question: Question) -> bool:
    """Whether a judgement takes about a millisecond at the most."""
    return (
        not question.roots
        and not any(question.predicates.values())
        and len(question.keys) * len(candidates) <= MAX_KEYS_ON_LOOP
        and sum(len(one.data) for one in candidates) <= MAX_BYTES_ON_LOOP
    )


def examine(candidate: Candidate, question: Question) -> Examined:
    """Judge one candidate."""
    keys = [parse_public_key(pem) for pem in question.keys]
    try:
        if candidate.form == "simple-signing":
            signature = candidate.annotations.get(SIGNATURE_ANNOTATION, "")
            vouch = verify_classic(candidate.data, signature, question.digest, keys)
        else:
            vouch = verify_bundle(candidate.data, question.digest, keys)
    except SignatureError as error:
        return Examined(problem=str(error))
    return Examined(vouches=(vouch,))
