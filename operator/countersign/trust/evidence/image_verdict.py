"""What one policy makes of one image: every rule that matches must hold, and at least one must match.

A rule holds by a listed digest or by one authority that vouches, and by each attestation that it asks for. Facts are
believed only about the very image that the pod names, and stale ones only as long as the policy says.
"""

from countersign.trust.evidence.attestation_verdict import Candidate, Shortcoming, attested, too_old_at
from countersign.trust.evidence.facts import ImageFacts, Vouch
from countersign.trust.evidence.image_evidence import Ages, Case, KnownImage, RuleEvidence, signed_digest
from countersign.trust.evidence.shortfall import unanswered, unattested, unknown_platforms, unsigned
from countersign.trust.evidence.signers import Weights, objection
from countersign.trust.policies.authorities import CompiledAuthority
from countersign.trust.policies.compiled import CompiledAttestation, CompiledPolicy, CompiledRule
from countersign.trust.verdicts.problem import Problem, Stage

Place = tuple[str, ...]
"""Digests that must each bear what a rule asks for; empty text is the image's own."""
_ITSELF: Place = ("",)


def judge_image(
    policy: CompiledPolicy, image: KnownImage, stage: Stage, weights: Weights
) -> tuple[tuple[Problem, ...], tuple[RuleEvidence, ...]]:
    """The problems of the image under the policy, and the evidence that its rules rest on. Neither: no rule asked."""
    rules = policy.matching(image.name) if image.name is not None else ()
    if not rules:
        problem = _unmatched(policy, image)
        return ((problem,) if problem is not None else (), ())
    reference = image.reference
    if stage != "mutate" and reference is not None and reference.digest is None:
        return (_NOT_PINNED,), ()
    facts = image.facts
    if facts is not None and facts.stale_seconds > policy.spec.stale_evidence_seconds:
        facts = None
    problems: list[Problem] = []
    evidence: list[RuleEvidence] = []
    for rule in rules:
        missing, found = _judge_rule(policy, rule, image, facts, weights)
        if missing:
            problems.extend([problem for problem in missing if problem not in problems])
        else:
            evidence.extend(found)
    if facts is not None and facts.stale_seconds and not all(one.digest_listed for one in evidence):
        problems.append(_stale(policy, facts))
    return tuple(problems), tuple(evidence)


_NOT_PINNED = Problem(
    "ImageNotPinned",
    "an image by digest",
    "a tag, which may mean another image tomorrow",
    "name the image by digest, or have the cluster's admins see why Countersign did not pin it (countersign doctor)",
)


def _unmatched(policy: CompiledPolicy, image: KnownImage) -> Problem | None:
    if policy.spec.unmatched_images == "Deny":
        if image.name is None:
            return Problem("ImageMalformed", "an image reference", image.problem, "correct the image's name")
        return Problem(
            "ImageNotCovered",
            "an image that one of its rules covers" if policy.rules else "an image rule, of which it has none",
            f"no rule for {image.name}",
            "use an image that the policy covers, or ask its owner for a rule",
        )
    if not policy.rules and not policy.tokens:
        return None  # The policy says nothing about images.
    return Problem(
        "ImageNotCovered",
        "every image covered by a rule before the pod receives a token",
        f"no rule for {image.name or 'it'}; unmatchedImages lets it in without identity",
        "use an image that the policy covers, or ask its owner for a rule",
        denies=False,
    )


def _stale(policy: CompiledPolicy, facts: ImageFacts) -> Problem:
    """A report: it keeps nothing out, and withholds nothing."""
    return Problem(
        "EvidenceStale",
        "evidence of now",
        f"evidence of {facts.stale_seconds} s ago, for the registry does not answer",
        f"none needed yet: the policy takes it for {policy.spec.stale_evidence_seconds} s",
        denies=False,
        blocks_identity=False,
    )


def _judge_rule(
    policy: CompiledPolicy, rule: CompiledRule, image: KnownImage, facts: ImageFacts | None, weights: Weights
) -> tuple[list[Problem], list[RuleEvidence]]:
    """What is missing, or all that the rule can go by: should one signer be revoked, the others still stand."""
    evidence: list[RuleEvidence] = []
    listed = image.digest is not None and image.digest in rule.digests
    if listed:
        evidence.append(RuleEvidence(policy.ref.uid, rule.name, "", "", True))
    if facts is None:
        if listed and not rule.attestations:
            return [], evidence
        return [unanswered(rule, image, policy.spec.stale_evidence_seconds)], []
    case = Case(policy.ref.uid, rule, facts, weights)
    problems: list[Problem] = []
    places = (_ITSELF,) if rule.signature_on == "Digest" else _places(case)
    if not places:
        return [unknown_platforms(rule)], []
    if rule.authorities or not (listed or rule.attestations):
        signed = _signed(case)
        found = _borne(signed, places)
        evidence.extend(found)
        if not (found or listed):
            borne = {one.signed_digest for one in signed}
            problems.append(unsigned(case, next(digest for digest in places[0] if digest not in borne)))
    for want in rule.attestations:
        attestations = _attested(case, want, places)
        if isinstance(attestations, Problem):
            problems.append(attestations)
        else:
            evidence.extend(attestations)
    return problems, evidence if len(evidence) == 1 else list(dict.fromkeys(evidence))


def _places(case: Case) -> tuple[Place, ...]:
    """Where signatures and attestations may be, the place that is tried first in front. None: that is not known."""
    own = case.facts.digest
    platforms = tuple(dict.fromkeys("" if one.digest == own else one.digest for one in case.facts.configs))
    places = (platforms,) if case.rule.signature_on == "Platforms" else (_ITSELF, platforms)
    return tuple(dict.fromkeys(place for place in places if place))


def _signed(case: Case) -> list[RuleEvidence]:
    """Everybody of the rule's authorities who vouches for anything."""
    _, rule, facts, weights = case
    signed = [
        (authority, vouch)
        for vouch in facts.vouches
        for authority in rule.signers.naming(vouch)
        if not objection(authority, vouch, facts.image, weights)
    ]
    if len(signed) > 1:
        order = {id(authority): place for place, authority in enumerate(rule.authorities)}
        signed.sort(key=lambda one: order[id(one[0])])
    return [_evidence(case, authority, vouch) for authority, vouch in signed]


def _borne(signed: list[RuleEvidence], places: tuple[Place, ...]) -> list[RuleEvidence]:
    """What vouches for the first place whose every digest is vouched for; empty: there is none."""
    for place in places:
        here = [one for one in signed if one.signed_digest in place]
        if here and (len(place) == 1 or len({one.signed_digest for one in here}) == len(place)):
            return here
    return []


def _attested(case: Case, want: CompiledAttestation, places: tuple[Place, ...]) -> list[RuleEvidence] | Problem:
    """Who attests it, in the first place that bears it throughout; else what the first place lacks."""
    lacking: list[Problem] = []
    for place in places:
        evidence: list[RuleEvidence] = []
        for digest in place:
            found = attested(want, case.facts, digest, case.weights)
            if isinstance(found, Shortcoming):
                lacking.append(_of_attestation(unattested(case, want, digest, found), want))
                break
            ages = _ages(want, found)
            evidence += [_evidence(case, one.authority, one.attestation.vouch, want, ages) for one in found]
        else:
            return evidence
    return lacking[0]


def _ages(want: CompiledAttestation, found: tuple[Candidate, ...]) -> Ages | None:
    """The same for all that do: `Any` goes by the youngest, and those of `Latest` are of one time."""
    signed_at = max((one.signed_at for one in found if one.signed_at is not None), default=None)
    if want.max_age is None or signed_at is None:
        return None
    end = too_old_at(signed_at, want.max_age)
    return Ages(end, end - want.max_age // 10)


def _of_attestation(problem: Problem, want: CompiledAttestation) -> Problem:
    """The problem, said to be about that attestation: whoever waives a missing signature has not waived it."""
    code = "AttestationMissing" if problem.code == "ImageUnsigned" else problem.code
    return problem._replace(code=code, predicate_type=want.predicate_type)


def _evidence(
    case: Case,
    authority: CompiledAuthority,
    vouch: Vouch,
    want: CompiledAttestation | None = None,
    ages: Ages | None = None,
) -> RuleEvidence:
    identity = vouch.identity
    return RuleEvidence(
        case.policy_uid,
        case.rule.name,
        authority.name,
        vouch.key_fingerprint,
        False,
        identity.issuer if identity is not None else "",
        identity.subject if identity is not None else "",
        want.name if want is not None else "",
        want.predicate_type if want is not None else "",
        signed_digest(vouch, case.facts),
        ages,
    )
