"""A question that is put again and again while pods run, and what is kept of the answers.

It names the image by digest and holds all that the answer depends on, so that a thousand replicas put one question. A
gate answers it (`gate.reverification`), the controller keeps what it says (`controller.evidence.reverified`).
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from countersign.trust.evidence.facts import Attestation, ImageFacts, UnverifiableReason, joined
from countersign.trust.evidence.needs import EvidenceNeed
from countersign.trust.evidence.signers import Weights, objection
from countersign.trust.policies.compiled import CompiledRule, CompiledSnapshot

MAX_KEPT: Final = 64
"""Attestations that are kept of one image: a pipeline that attests each hour is known for days."""


class _Call(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Members of a newer release are skipped."""


class Inquiry(_Call, frozen=True, kw_only=True):
    """One question, and as whom a registry is asked."""

    namespace: str
    service_account: str
    pull_secrets: tuple[str, ...] = ()
    """Names of the pod's own imagePullSecrets."""
    need: EvidenceNeed
    """`image` is `registry/repository@digest`."""


class EvidenceQuestion(_Call, frozen=True, kw_only=True):
    """The body of a call to a gate (`api.gate_calls.EVIDENCE_PATH`)."""

    inquiry: Inquiry
    max_age_seconds: float
    """How long ago the gate may have found out what it remembers."""


class EvidenceAnswer(_Call, frozen=True, kw_only=True):
    """What the gate found out."""

    facts: ImageFacts | None = None
    """None: nothing definite, and `reason` says why."""
    reason: UnverifiableReason | None = None
    registry_requests: int = 0
    """HTTP requests to registries for such questions since the last answer to one."""


def grown(before: ImageFacts | None, found: ImageFacts, index: CompiledSnapshot, namespace: str) -> ImageFacts:
    """What is known after another answer: all that was ever shown, so that nobody takes back what speaks against an
    image by deleting it. Only attestations are kept, since nothing else of it can turn. Where there are too many, those
    by whom no rule names go first, however new they are, then the oldest.
    """
    both = joined(before, found) if before is not None else found
    kept = both.attestations
    if len(kept) > MAX_KEPT:
        policies = (*index.cluster, *index.own.get(namespace, ()))
        rules = [rule for policy in policies for rule in policy.matching(both.image)]
        weights = Weights(index.standing.for_namespace(namespace), index.roots, 0.0)
        ranked = sorted(kept, key=lambda one: (_is_meant(one, both.image, rules, weights), _time_of(one)), reverse=True)
        kept = tuple(ranked[:MAX_KEPT])
    return msgspec.structs.replace(both, vouches=(), attestations=kept)


def with_later(receipts: ImageFacts, found: ImageFacts | None) -> ImageFacts:
    """A receipt's facts with what was found out since, if that is about the same image."""
    if found is None or (found.image, found.digest) != (receipts.image, receipts.digest):
        return receipts
    return joined(receipts, found)


def _is_meant(one: Attestation, image: str, rules: Iterable[CompiledRule], weights: Weights) -> bool:
    return any(
        not objection(authority, one.vouch, image, weights)
        for rule in rules
        for want in rule.attestations
        if want.predicate_type == one.predicate_type
        for authority in want.signers.naming(one.vouch)
    )


def _time_of(one: Attestation) -> int:
    proof = one.vouch.proof
    return proof.signed_at or 0 if proof is not None else 0
