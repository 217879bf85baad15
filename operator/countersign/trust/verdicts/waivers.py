"""What the TrustExceptions in force make of the problems of one pod.

A waived problem stays a finding, and names the exception. It no longer keeps the pod out; it still withholds tokens,
unless the exception says `tokens: Issue`. Nothing here ever makes a pod fail that would pass.

A Revocation beats every exception. That a digest is revoked is a problem of the whole pod, which never comes here; a
missing signature is not waived for an image that somebody revoked has signed, nor a missing attestation that such a one
has made.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, get_args

from countersign.api import clock
from countersign.api.exception import WaivableCheck
from countersign.trust.evidence.facts import ImageFacts, Vouch
from countersign.trust.evidence.image_evidence import KnownImage
from countersign.trust.orders.exceptions import MAX_WAIVERS, CompiledException, ExceptionIndex, Waiver
from countersign.trust.orders.standing import Standing
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import PolicyRef
from countersign.trust.policies.scope import account_of
from countersign.trust.verdicts.problem import Problem

WAIVABLE: Final = frozenset(get_args(WaivableCheck))
NEVER_ISSUED: Final = frozenset({"PodTooPrivileged", "EphemeralContainerDenied"})
"""Checks that protect the tokens of a pod: waived, they let it in, and withhold tokens whatever the exception says."""
OF_ATTESTATIONS: Final = frozenset({"AttestationMissing", "AttestationFailed", "AttestationTooOld"})
BY_SIGNERS: Final = frozenset({"ImageUnsigned"}) | OF_ATTESTATIONS
"""Checks of who vouches for an image, or attests something about it."""


class Waivers:
    """The exceptions, for one pod at one time."""

    def __init__(
        self,
        index: ExceptionIndex,
        subject: Subject,
        images: Mapping[str, KnownImage],
        standing: Standing,
        now: datetime,
    ) -> None:
        self._index = index
        self._subject = subject
        self._images = images
        self._standing = standing
        self._now = now
        self._reached: dict[PolicyRef, tuple[CompiledException, ...]] = {}
        self._used: set[str] = set()

    def waived(self, problem: Problem, ref: PolicyRef) -> Problem:
        """The problem, waived if an exception for the policy whose rule it is says so."""
        if problem.code not in WAIVABLE:
            return problem
        fitting = [one for one in self._reaching(ref) if self._fits(one, problem)]
        if not fitting or self._is_beyond_waiving(problem):
            return problem
        best = max(fitting, key=self._preference)
        issues = best.exception.spec.tokens == "Issue" and problem.code not in NEVER_ISSUED
        if not issues and not problem.denies:
            return problem  # it keeps nobody out as it is
        self._used.add(best.exception.metadata.uid)
        blocks = problem.blocks_identity and not issues
        return problem._replace(denies=False, blocks_identity=blocks, waiver=_waiver(best, self._now))

    def _reaching(self, ref: PolicyRef) -> tuple[CompiledException, ...]:
        found = self._reached.get(ref)
        if found is None:
            subject = self._subject
            namespace, labels = subject.namespace.name, dict(subject.namespace.labels)
            found = self._reached[ref] = tuple(
                one
                for one in self._index.of(ref.kind, ref.namespace, ref.name)
                if one.until(self._now) is not None
                and one.reaches(namespace, labels, subject.pod.metadata.labels, account_of(subject))
            )
        return found

    def _fits(self, one: CompiledException, problem: Problem) -> bool:
        if not one.waives(problem.code, problem.predicate_type):
            return False
        if one.exception.metadata.uid not in self._used and len(self._used) >= MAX_WAIVERS:
            return False
        if not one.of_images:
            return True
        concerned = [self._images.get(problem.image)] if problem.image else list(self._images.values())
        return bool(concerned) and all(
            image is not None and one.covers(image.name, image.digest) for image in concerned
        )

    def _is_beyond_waiving(self, problem: Problem) -> bool:
        """Whether a Revocation may be behind the problem."""
        image = self._images.get(problem.image)
        if problem.code == "ImageNotCovered":
            # Nobody has asked what its tag stands for: a digest alone can be held against the revoked ones.
            return image is None or image.digest is None
        if problem.code in BY_SIGNERS:
            return image is None or image.facts is None or self._has_revoked_signer(image.facts, problem)
        return False

    def _has_revoked_signer(self, facts: ImageFacts, problem: Problem) -> bool:
        """Whether one who is revoked has signed the image, or has attested what is missing."""
        wanted = problem.predicate_type
        attested = [one.vouch for one in facts.attestations if one.predicate_type == wanted]
        return any(_is_revoked(vouch, self._standing) for vouch in (attested if wanted else facts.vouches))

    def _preference(self, one: CompiledException) -> tuple[bool, datetime, str]:
        """Tokens rather than none, then the longer time."""
        until = one.until(self._now)
        assert until is not None  # noqa: S101 - only those in force are asked
        return one.exception.spec.tokens == "Issue", until, one.exception.metadata.name


def _is_revoked(vouch: Vouch, standing: Standing) -> bool:
    identity = vouch.identity
    if identity is None:
        return vouch.key_fingerprint in standing.fingerprints
    return (identity.issuer, identity.subject) in standing.signers


def _waiver(one: CompiledException, now: datetime) -> Waiver:
    meta, spec, until = one.exception.metadata, one.exception.spec, one.until(now)
    ends = clock.format_time(until) if until is not None else spec.expires_at
    return Waiver(meta.name, meta.uid, spec.owner, spec.reason, ends, spec.tokens)
