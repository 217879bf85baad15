"""One candidate, one question: who signed it, and what it says about the image. Bytes in, facts out.

The signature is checked before anything of the payload is read. A candidate that is no signature, whatever it is,
counts for nothing and raises nothing.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.classic import claimed_reference
from countersign.signatures.formats.statements import SIGN_PREDICATE_TYPE, STATEMENT_V1, Said, read_statement
from countersign.signatures.keys import BadPublicKey, PublicKey, parse_public_key
from countersign.signatures.roots.trust_root import BadTrustRoot, TrustRoot, parse_trust_root
from countersign.signatures.signers import Opened, open_bundle, open_envelope, open_payload
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import Attestation, Claim, Vouch

MAX_ATTESTATION_BYTES: Final = 64 * 1024 * 1024
"""Of one candidate: its statement may then have 48 MiB, twice the largest SBOMs that are about."""
MAX_BYTES_ON_LOOP: Final = 64 * 1024
MAX_KEYS_ON_LOOP: Final = 4


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy wants to know of an image."""

    digest: str
    """That must have been signed, `sha256:<hex>`."""
    name: str = ""
    """`registry/repository` of the image, for conditions."""
    keys: tuple[str, ...] = ()
    """PEM."""
    roots: tuple[bytes, ...] = ()
    """Contents of evidence roots."""
    predicates: dict[str, tuple[str, ...]] = {}
    """Predicate types that are asked about, and the conditions on each."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry holds that may be a signature."""

    form: Literal["bundle", "simple-signing", "dsse"]
    """A Sigstore bundle; a payload of a classic `.sig` layer; an envelope of a classic `.att` layer."""
    data: bytes
    annotations: dict[str, str] = {}
    """Of the layer: cosign keeps a classic signature in there, with its certificate and proofs."""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidate comes to."""

    vouches: tuple[Vouch, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    problem: str = ""
    """Why it counts for nothing, or which of the proofs that came along do not hold: for a log, and for whoever asks
    `countersign image verify`."""


Evaluate = Callable[[Sequence[str], Said], Sequence[tuple[bool, str]]]
"""Conditions and what they are about; for each whether it holds, and what was found if not. Raises nothing."""


def examine(candidate: Candidate, question: Question, evaluate: Evaluate | None = None) -> Examined:
    """Judge one candidate. Never raises; takes about 1 ms where `cheap` says so, else up to seconds."""
    if len(candidate.data) > MAX_ATTESTATION_BYTES:
        return Examined(problem=f"larger than {MAX_ATTESTATION_BYTES} bytes")
    try:
        return _examine(candidate, question, evaluate or _unevaluated)
    except SignatureError as error:
        return Examined(problem=f"{error.problem}: {error}")
    except (MemoryError, RecursionError):
        return Examined(problem="Malformed: it takes more memory to read than it may")


def cheap(candidate: Candidate, question: Question) -> bool:
    """Whether it may be judged on an event loop: a small document, a few keys, no certificates and no conditions."""
    return (
        len(candidate.data) <= MAX_BYTES_ON_LOOP
        and len(question.keys) <= MAX_KEYS_ON_LOOP
        and not question.roots
        and not any(question.predicates.values())
    )


class _Packed(msgspec.Struct, array_like=True):
    question: Question
    form: Literal["bundle", "simple-signing", "dsse"]
    annotations: dict[str, str]


def pack(candidate: Candidate, question: Question) -> tuple[bytes, bytes]:
    """Both as the arguments of `examine_packed`; the candidate's data is not copied."""
    return msgspec.msgpack.encode(_Packed(question, candidate.form, candidate.annotations)), candidate.data


def examine_packed(asked: bytes, data: bytes) -> bytes:
    """As `examine`, from bytes to bytes (MessagePack): what a worker process runs (`runtime.workers`).

    Only there are conditions evaluated: they need a process without threads, that can be killed.
    """
    packed = msgspec.msgpack.decode(asked, type=_Packed)
    candidate = Candidate(form=packed.form, data=data, annotations=packed.annotations)
    from countersign.signatures.conditions.apart import evaluate_apart

    return msgspec.msgpack.encode(examine(candidate, packed.question, evaluate_apart))


def unpack(answer: bytes) -> Examined:
    """What `examine_packed` returned."""
    return msgspec.msgpack.decode(answer, type=Examined)


def _roots(contents: Sequence[bytes]) -> list[TrustRoot]:
    found = []
    for content in contents:
        try:
            found.append(parse_trust_root(content))
        except BadTrustRoot:
            continue  # Nothing rests on it; its object's status says what to mend.
    return found


def _unevaluated(conditions: Sequence[str], said: Said) -> Sequence[tuple[bool, str]]:
    return [(False, "conditions are not evaluated here")] * len(conditions)


def _examine(candidate: Candidate, question: Question, evaluate: Evaluate) -> Examined:
    keys = _keys(question.keys)
    roots = _roots(question.roots)
    if candidate.form == "simple-signing":
        vouches = open_payload(candidate.data, candidate.annotations, keys, roots)
        reference = claimed_reference(candidate.data, question.digest)
        return Examined(vouches=tuple(msgspec.structs.replace(one, reference=reference) for one in vouches))
    if candidate.form == "bundle":
        opened = open_bundle(candidate.data, keys, roots)
    else:
        opened = open_envelope(candidate.data, candidate.annotations, keys, roots)
    return _said(opened, question, evaluate)


def _said(opened: Opened, question: Question, evaluate: Evaluate) -> Examined:
    statement = read_statement(opened.payload_type, opened.payload)
    if not statement.about(question.digest):
        raise SignatureError("OtherDigest", "the statement is about another image")
    kind = statement.predicate_type
    problem = "; ".join(opened.problems)
    vouches = opened.vouches if kind == SIGN_PREDICATE_TYPE and statement.type == STATEMENT_V1 else ()
    if kind not in question.predicates:
        if not vouches:
            raise SignatureError("OtherType", f"nobody asks about attestations of type {kind[:120]!r}")
        return Examined(vouches=vouches, problem=problem)
    claims = _claims(kind, Said(opened.payload, question.name, question.digest), question, evaluate)
    named = "sha256:" + hashlib.sha256(opened.payload).hexdigest()
    return Examined(
        vouches=vouches,
        attestations=tuple(
            Attestation(predicate_type=kind, statement=named, vouch=vouch, claims=claims) for vouch in opened.vouches
        ),
        problem=problem,
    )


def _claims(kind: str, said: Said, question: Question, evaluate: Evaluate) -> tuple[Claim, ...]:
    conditions = question.predicates[kind]
    if not conditions:
        return ()
    return tuple(
        Claim(condition=condition_name(kind, condition), holds=holds, found=found)
        for condition, (holds, found) in zip(conditions, evaluate(conditions, said), strict=True)
    )


def _keys(pems: Sequence[str]) -> list[PublicKey]:
    found = []
    for pem in pems:
        try:
            found.append(parse_public_key(pem))
        except BadPublicKey:
            continue  # One that cannot be used vouches for nothing; whoever asks has told so.
    return found
