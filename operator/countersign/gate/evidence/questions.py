"""What a question about an image consists of, what its answer is remembered by, and for how long."""

from functools import lru_cache
from typing import NamedTuple

import msgspec

from countersign.gate.evidence.askers import Asker
from countersign.gate.evidence.candidates import Found
from countersign.gate.evidence.request import EvidenceRequest
from countersign.gate.evidence.roots import RootContent
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import ImageFacts, PlatformConfig, elsewhere
from countersign.trust.evidence.needs import PredicateNeed


class Scoped(msgspec.Struct, frozen=True):
    """Content seen with certain credentials: the part that all keys of the memory share."""

    digest: str
    image: str
    scope: str


class Question(msgspec.Struct, frozen=True):
    """What was asked about content, whoever asked."""

    scoped: Scoped
    fingerprints: tuple[str, ...]
    roots: tuple[str, ...]
    predicates: tuple[PredicateNeed, ...]
    platforms: bool
    repositories: tuple[str, ...]


class Inquiry(NamedTuple):
    """A request with all that its answer depends on."""

    request: EvidenceRequest
    asker: Asker
    roots: tuple[RootContent, ...]

    def question(self, scoped: Scoped) -> Question:
        """What the answer is remembered by."""
        request = self.request
        return Question(
            scoped,
            tuple(sorted(key.fingerprint for key in request.keys)),
            tuple(sorted(root.hash for root in self.roots)),
            _sorted(request.predicates),
            request.platforms,
            request.repositories,
        )


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long definite answers are fresh, in seconds. How much longer they count in an outage, the policies say."""

    complete: float = 600.0
    """All who were asked about have signed, and each kind of attestation is there. That stays true; what may change is
    who may see the image."""
    attested: float = 60.0
    """The same where attestations were asked about: a later one may be made at any time, and decide."""
    partial: float = 30.0
    """Some have signed, as with the old and the new key during a rotation."""
    nothing: float = 5.0
    """Nobody has: short, so that an image signed just now is admitted at the retry."""
    configs: float = 600.0
    """A config is fixed by its digest; only who may see it can change."""

    def of(self, question: Question, found: Found) -> float:
        """For how long an answer is fresh."""
        if not found.sure or not (found.vouches or found.attestations):
            return self.nothing
        signers = {vouch.key_fingerprint for vouch in found.vouches}
        certified = {vouch.proof.root for vouch in found.vouches if vouch.identity is not None and vouch.proof}
        attested = {one.predicate_type for one in found.attestations}
        complete = (
            signers.issuperset(question.fingerprints)
            and certified.issuperset(question.roots)
            and attested.issuperset(need.predicate_type for need in question.predicates)
        )
        if not complete:
            return self.partial
        return self.attested if question.predicates else self.complete


@lru_cache(1024)
def _sorted(predicates: tuple[PredicateNeed, ...]) -> tuple[PredicateNeed, ...]:
    tidy = (PredicateNeed(need.predicate_type, tuple(sorted(need.expressions))) for need in predicates)
    return tuple(sorted(tidy, key=lambda need: need.predicate_type))


@lru_cache(1024)
def _conditions(predicates: tuple[PredicateNeed, ...]) -> tuple[str, ...]:
    return tuple(
        condition_name(need.predicate_type, expression) for need in predicates for expression in need.expressions
    )


def facts_of(
    inquiry: Inquiry, digest: str, found: Found, configs: tuple[PlatformConfig, ...], *, stale_seconds: int = 0
) -> ImageFacts:
    """The answer to an inquiry."""
    request = inquiry.request
    return ImageFacts(
        image=request.reference.name,
        digest=digest,
        vouches=found.vouches,
        checked_keys=tuple(key.fingerprint for key in request.keys),
        configs=configs,
        attestations=found.attestations,
        checked_roots=tuple(root.hash for root in inquiry.roots),
        checked_predicates=tuple(need.predicate_type for need in request.predicates),
        checked_conditions=_conditions(request.predicates),
        platforms_checked=request.platforms,
        repositories=elsewhere(request.repositories),
        stale_seconds=stale_seconds,
    )
