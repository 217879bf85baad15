"""Whether an image has an attestation that a rule asks for: of its type, by one who may make it, saying what it must.

Everything here is asked about one digest, the image's own or that of a platform's manifest.
"""

from typing import Literal, NamedTuple

from countersign.trust.evidence.facts import Attestation, Claim, ImageFacts
from countersign.trust.evidence.image_evidence import signed_digest
from countersign.trust.evidence.signers import Objection, Weights, objection, signer, trusted_time
from countersign.trust.policies.authorities import CompiledAuthority
from countersign.trust.policies.compiled import CompiledAttestation, CompiledCondition


class Candidate(NamedTuple):
    """An attestation of the type, by one who may make it."""

    authority: CompiledAuthority
    attestation: Attestation
    signed_at: int | None
    """By a trusted time, in seconds since the epoch."""


class Flaw(NamedTuple):
    """Why a candidate does not do."""

    kind: Literal["Unanswered", "Failed", "TooOld"]
    candidate: Candidate
    condition: CompiledCondition | None = None
    found: str = ""


class Shortcoming(NamedTuple):
    """Why there is no attestation that does."""

    flaw: Flaw | None
    """Of the newest candidate; None: there is no candidate."""
    objections: tuple[tuple[Objection, CompiledAuthority, Attestation], ...] = ()
    """Attestations of the type that are no candidates, and why."""


def attested(
    want: CompiledAttestation, facts: ImageFacts, digest: str, weights: Weights
) -> tuple[Candidate, ...] | Shortcoming:
    """The attestations that do, or what is wrong with those that there are.

    `Any`: one that does is enough. `Latest`: the one with the latest trusted time must do, and where several bear that
    same second each of them; one without a trusted time is none of them, however new it may be.
    """
    candidates: list[Candidate] = []
    objections: list[tuple[Objection, CompiledAuthority, Attestation]] = []
    for attestation in facts.attestations:
        if attestation.predicate_type != want.predicate_type or signed_digest(attestation.vouch, facts) != digest:
            continue
        named = False
        for authority in want.signers.naming(attestation.vouch):
            named = True
            found = objection(authority, attestation.vouch, facts.image, weights)
            if found:
                objections.append((found, authority, attestation))
            else:
                time = trusted_time(authority, attestation.vouch, weights)
                candidates.append(Candidate(authority, attestation, time))
        if not named and want.authorities:
            objections.append(("Stranger", want.authorities[0], attestation))
    if want.latest:
        latest = max((one.signed_at for one in candidates if one.signed_at is not None), default=None)
        if latest is None:
            undated = max((Flaw("TooOld", one) for one in candidates), key=_telling, default=None)
            return Shortcoming(undated, tuple(objections))
        candidates = [one for one in candidates if one.signed_at == latest]
    flaws = [flaw for one in candidates if (flaw := _flaw(want, one, weights)) is not None]
    if candidates and (not flaws or (len(flaws) < len(candidates) and not want.latest)):
        spoilt = {id(flaw.candidate) for flaw in flaws}
        return tuple(one for one in candidates if id(one) not in spoilt)
    return Shortcoming(max(flaws, key=_telling, default=None), tuple(objections))


def _flaw(want: CompiledAttestation, candidate: Candidate, weights: Weights) -> Flaw | None:
    claims: dict[str, Claim] = {}
    for claim in candidate.attestation.claims:
        known = claims.get(claim.condition)
        # One that was evaluated twice, and ran out of time once, holds.
        if known is None or (claim.holds, known.found) > (known.holds, claim.found):
            claims[claim.condition] = claim
    for condition in want.conditions:
        answer = claims.get(condition.name)
        if answer is None:
            return Flaw("Unanswered", candidate, condition)
        if not answer.holds:
            return Flaw("Failed", candidate, condition, answer.found)
    if want.max_age is None:
        return None
    if candidate.signed_at is None or weights.found_at >= too_old_at(candidate.signed_at, want.max_age):
        return Flaw("TooOld", candidate)
    return None


def too_old_at(signed_at: int, max_age: int) -> int:
    """The first second in which it does not do any more: at that age to the second it still does."""
    return signed_at + max_age + 1


def _telling(flaw: Flaw) -> tuple[bool, int, str, str, str]:
    """Sort key: what could still turn out well comes last, then the newest; the rest makes the order total."""
    one = flaw.candidate
    unanswered, signed_at = flaw.kind == "Unanswered", one.signed_at or 0
    return (unanswered, signed_at, one.attestation.statement, one.authority.name, signer(one.attestation.vouch))
