"""What rules make of an image, and what each signature and attestation on it is worth to them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from countersign.api import clock
from countersign.api.pod import Container, Pod, PodSpec
from countersign.cli.image.registries import Registries
from countersign.cli.image.search import Look, look
from countersign.gate.evidence.inquiry import request_for
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.evidence.facts import Attestation, ImageFacts, Vouch
from countersign.trust.evidence.image_evidence import KnownImage, RuleEvidence
from countersign.trust.evidence.image_verdict import judge_image
from countersign.trust.evidence.needs import needs_compiled
from countersign.trust.evidence.signers import Objection, Weights, objection, signer
from countersign.trust.images.reference import ImageReference
from countersign.trust.orders.standing import Standing
from countersign.trust.policies.authorities import CompiledAuthority
from countersign.trust.policies.compiled import CompiledAttestation, CompiledPolicy, CompiledRule
from countersign.trust.policies.policy import PolicyRef
from countersign.trust.verdicts import denial
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.outcome import UNGOVERNED
from countersign.trust.verdicts.problem import Problem

_PHRASES: Final[Mapping[Objection, str]] = {
    "Revoked": "it is revoked",
    "OtherRepository": "it names another repository",
    "RootMissing": "the evidence root {root} is not at hand",
    "RootUnusable": "the evidence root {root} cannot be used",
    "OtherRoot": "it does not go back to the evidence root {root}",
    "NoTrustedTime": "nobody trusted says when it was signed",
    "ProofMissing": "a proof that is required is missing",
}


class Judged(NamedTuple):
    """The outcome."""

    look: Look
    policies: Sequence["PolicyOutcome"]
    rows: tuple[dict[str, Any], ...]
    """Each signature, attestation and candidate that counts for nothing."""

    @property
    def verified(self) -> bool | None:
        """Whether every rule that matches holds; None: it could not be found out."""
        if any(problem.transient for one in self.policies for problem in one.problems):
            return None
        return all(not one.problems for one in self.policies)


class PolicyOutcome(NamedTuple):
    """What one policy makes of the image."""

    ref: PolicyRef
    problems: tuple[Problem, ...]
    evidence: tuple[RuleEvidence, ...]

    @property
    def message(self) -> str:
        """The problems, as a denial words them."""
        findings = tuple(
            Finding(
                code=one.code,
                policy=self.ref,
                mode="Enforce",
                expected=one.expected,
                found=one.found,
                remedy=one.remedy,
                transient=False,
            )
            for one in self.problems
        )
        return denial.message(msgspec.structs.replace(UNGOVERNED, findings=findings))


def judge(
    image: ImageReference,
    policies: Sequence[CompiledPolicy],
    roots: KnownRoots,
    standing: Standing,
    registries: Registries,
) -> Judged:
    """Look at the image, and judge it by every rule of these policies that matches it."""
    text = str(image)
    pod = Pod(spec=PodSpec(containers=(Container(name="image", image=text),)))
    needs = needs_compiled(policies, pod, roots)
    # Nothing needs to be asked about an image by a digest that every rule lists.
    found = Look(ImageFacts(image.name, image.digest or "", (), (), ()), ())
    for need in needs:
        found = look(request_for(need, pod, ""), registries, roots)
    known = KnownImage(text, found.facts)
    weights = Weights(standing, roots, datetime.now(UTC).timestamp())
    outcomes = []
    for policy in policies:
        problems, evidence = judge_image(policy, known, "mutate", weights)
        if revoked := sorted(standing.digests.intersection(known.digests)):
            problems = (_revoked(revoked[0]), *problems)
        outcomes.append(PolicyOutcome(policy.ref, tuple(one for one in problems if one.denies), evidence))
    rules = [rule for policy in policies for rule in policy.matching(image.name)]
    return Judged(found, outcomes, tuple(_rows(found, rules, image.name, weights)))


def _revoked(digest: str) -> Problem:
    return Problem("ImageRevoked", "an image that is not revoked", f"a Revocation of {digest}", "use another image")


def _rows(found: Look, rules: Sequence[CompiledRule], name: str, weights: Weights) -> Iterator[dict[str, Any]]:
    own = found.facts.digest if isinstance(found.facts, ImageFacts) else ""
    for seen in found.seen:
        base = {
            "type": seen.predicate_type,
            "form": seen.form,
            "candidate": seen.blob,
            "on": "" if seen.signed == own else seen.signed,
        }
        nobody = not (seen.examined.vouches or seen.examined.attestations)
        if nobody:
            yield {"what": "candidate", **base, **_nobody(), "why": seen.examined.problem}
        for vouch in seen.examined.vouches:
            counts, why = _weighed(vouch, _vouching(rules), name, weights)
            yield {"what": "signature", **base, **_signer(vouch), "counts": counts, "why": why or seen.examined.problem}
        for attestation in seen.examined.attestations:
            counts, why = _weighed_attestation(attestation, rules, name, weights)
            yield {"what": "attestation", **base, **_signer(attestation.vouch), "counts": counts, "why": why}


def _vouching(rules: Sequence[CompiledRule]) -> list[CompiledAuthority]:
    return [authority for rule in rules for authority in rule.authorities]


def _weighed(
    vouch: Vouch, authorities: Sequence[CompiledAuthority], name: str, weights: Weights
) -> tuple[list[str], str]:
    """The authorities that it counts for; if for none, why not."""
    counts: dict[str, None] = {}
    why: dict[str, None] = {}
    for authority in authorities:
        found = objection(authority, vouch, name, weights)
        if not found:
            counts[authority.name] = None
        elif found != "Stranger":
            why[f"not for {authority.name}: {_PHRASES[found].format(root=authority.root)}"] = None
    if counts:
        return list(counts), ""
    if not authorities:
        return [], "no rule asks for a signature"
    return [], "; ".join(why) or "by nobody that a rule names"


def _weighed_attestation(
    attestation: Attestation, rules: Sequence[CompiledRule], name: str, weights: Weights
) -> tuple[list[str], str]:
    wants = [want for rule in rules for want in rule.attestations if want.predicate_type == attestation.predicate_type]
    if not wants:
        return [], "no rule asks for this type"
    counts, why = _weighed(attestation.vouch, [one for want in wants for one in want.authorities], name, weights)
    failed = list(dict.fromkeys(phrase for want in wants for phrase in _failing(want, attestation)))
    return ([], "; ".join(failed)) if counts and failed else (counts, why)


def _failing(want: CompiledAttestation, attestation: Attestation) -> Iterator[str]:
    claims = {claim.condition: claim for claim in attestation.claims}
    for condition in want.conditions:
        claim = claims.get(condition.name)
        if claim is not None and not claim.holds:
            yield f"{condition.message or condition.expression}: {claim.found}"


def _signer(vouch: Vouch) -> dict[str, Any]:
    identity, proof = vouch.identity, vouch.proof
    at = proof.signed_at if proof is not None else None
    return {
        "by": signer(vouch),
        "key": vouch.key_fingerprint,
        "issuer": identity.issuer if identity is not None else "",
        "subject": identity.subject if identity is not None else "",
        "extensions": dict(identity.extensions) if identity is not None else {},
        "at": clock.format_time(clock.from_seconds(at)) if at is not None else "",
        "proofs": list(proof.kinds) if proof is not None else [],
    }


def _nobody() -> dict[str, Any]:
    return {
        "by": "",
        "key": "",
        "issuer": "",
        "subject": "",
        "extensions": {},
        "at": "",
        "proofs": [],
        "counts": [],
    }
