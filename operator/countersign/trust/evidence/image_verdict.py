"""What one policy makes of one image: every rule that matches must hold, and at least one must match.

A rule holds by a listed digest or by one authority that vouches. Facts are believed only about the very image that the
pod names.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from countersign.trust.evidence.facts import ImageFacts, Unverifiable, Vouch
from countersign.trust.images.extraction import ImageUse, image_name, read_reference
from countersign.trust.images.reference import ImageReference
from countersign.trust.orders.standing import Standing
from countersign.trust.policies.compiled import CompiledAuthority, CompiledPolicy, CompiledRule
from countersign.trust.verdicts.problem import Problem, Stage

Evidence = Mapping[str, ImageFacts | Unverifiable]


class RuleEvidence(NamedTuple):
    """Why a rule held for an image."""

    policy_uid: str
    rule: str
    authority: str
    """Empty if the digest is listed."""
    key_fingerprint: str
    digest_listed: bool


class ImageEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A verified image of the pod, and all that vouched for it."""

    container: str
    image: str
    """As it stands in the pod."""
    digest: str
    runtime_digests: tuple[str, ...]
    evidence: tuple[RuleEvidence, ...]


class KnownImage:
    """An image string of the pod with what is known about it."""

    __slots__ = ("digest", "facts", "image", "name", "problem", "reference", "unverifiable")

    def __init__(self, image: str, evidence: ImageFacts | Unverifiable | None) -> None:
        self.image = image
        self.reference: ImageReference | None = None
        self.name: str | None = None
        self.digest: str | None = None
        self.facts: ImageFacts | None = None
        self.unverifiable: Unverifiable | None = None
        self.problem: str = ""
        reference = read_reference(image)
        if isinstance(reference, str):
            self.problem = reference
            return
        self.reference = reference
        self.name = reference.name
        self.digest = reference.digest
        if isinstance(evidence, Unverifiable):
            self.unverifiable = evidence
        elif evidence is not None:
            if evidence.image != reference.name or (reference.digest and evidence.digest != reference.digest):
                self.problem = f"the evidence at hand is about {evidence.image}@{evidence.digest}"
            else:
                self.facts = evidence
                self.digest = evidence.digest

    @property
    def digests(self) -> tuple[str, ...]:
        """Every digest by which the image is known: its own and those of its platforms."""
        if self.facts is not None:
            return self.facts.runtime_digests
        return (self.digest,) if self.digest else ()


def known_images(uses: Iterable[ImageUse], evidence: Evidence) -> dict[str, KnownImage]:
    """Each distinct image string of the pod, looked at once."""
    return {use.image: KnownImage(use.image, evidence.get(use.image)) for use in uses}


def judge_image(
    policy: CompiledPolicy, image: KnownImage, stage: Stage, standing: Standing
) -> tuple[tuple[Problem, ...], tuple[RuleEvidence, ...]]:
    """The problems of the image under the policy, and the evidence that its rules rest on. Neither: no rule asked."""
    rules = policy.matching(image.name) if image.name is not None else ()
    if not rules:
        problem = _unmatched(policy, image)
        return ((problem,) if problem is not None else (), ())
    reference = image.reference
    if stage != "mutate" and reference is not None and reference.digest is None:
        return (_NOT_PINNED,), ()
    problems: list[Problem] = []
    evidence: list[RuleEvidence] = []
    for rule in rules:
        found = _judge_rule(policy, rule, image, standing)
        if isinstance(found, Problem):
            if found not in problems:
                problems.append(found)
        else:
            evidence.extend(found)
    return tuple(problems), tuple(evidence)


_NOT_PINNED = Problem(
    "ImageNotPinned",
    "an image by digest",
    "a tag, which may mean another image tomorrow",
    "name the image by digest, or have the cluster's admins see why Countersign did not pin it (countersign doctor)",
)


_REMEDIES: dict[str, str] = {
    "Unauthorized": "give the pod or its service account an imagePullSecret that may read the repository",
    "Malformed": "push the image and its signatures anew: what the registry holds is damaged",
    "AddressDenied": "use a registry at a public address, or have the cluster's admins allow this one",
    "TooLarge": "use an image with fewer signatures or a smaller manifest",
}
_OTHERWISE = "try again once the registry answers"


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


def _judge_rule(
    policy: CompiledPolicy, rule: CompiledRule, image: KnownImage, standing: Standing
) -> list[RuleEvidence] | Problem:
    """All that the rule can go by for this image: should one key be revoked, the others still stand."""
    uid = policy.ref.uid
    evidence: list[RuleEvidence] = []
    if image.digest is not None and image.digest in rule.digests:
        evidence.append(RuleEvidence(uid, rule.name, "", "", True))
    facts = image.facts
    if facts is not None:
        evidence.extend(
            [
                RuleEvidence(uid, rule.name, authority.name, vouch.key_fingerprint, False)
                for authority in rule.authorities
                for vouch in facts.vouches
                if _counts(authority, vouch, facts.image, standing)
            ]
        )
    if evidence:
        return evidence if len(evidence) == 1 else list(dict.fromkeys(evidence))
    return _unanswered(rule, image) if facts is None else _unsigned(rule, facts, standing)


def _counts(authority: CompiledAuthority, vouch: Vouch, name: str, standing: Standing) -> bool:
    return (
        vouch.key_fingerprint in authority.fingerprints
        and vouch.key_fingerprint not in standing.fingerprints
        and (not authority.require_reference or _names_repository(vouch, name))
    )


def _names_repository(vouch: Vouch, name: str) -> bool:
    if vouch.format != "classic":
        return False
    return image_name(vouch.reference) == name


def _unanswered(rule: CompiledRule, image: KnownImage) -> Problem:
    expected = _expectation(rule)
    unverifiable = image.unverifiable
    if unverifiable is None:
        found = image.problem or "no evidence about it"
        return Problem("ImageUnverifiable", expected, found, "create the pod anew, so that the image is verified")
    if unverifiable.reason == "NotFound":
        return Problem("ImageNotFound", expected, unverifiable.message, "push the image first, or correct its name")
    remedy = "nothing needs to be done" if unverifiable.transient else _REMEDIES.get(unverifiable.reason, _OTHERWISE)
    return Problem("ImageUnverifiable", expected, unverifiable.message, remedy, transient=unverifiable.transient)


def _unsigned(rule: CompiledRule, facts: ImageFacts, standing: Standing) -> Problem:
    expected = _expectation(rule)
    if not rule.authorities:
        remedy = "use a listed digest, or ask the policy's owner to list this one"
        return Problem("ImageUnsigned", expected, f"digest {facts.digest}", remedy)
    ours = [vouch for vouch in facts.vouches if vouch.key_fingerprint in rule.keys]
    if any(vouch.key_fingerprint in standing.fingerprints for vouch in ours):
        remedy = "have the image signed with a key that is not revoked"
        return Problem("ImageUnsigned", expected, "only signatures by a revoked key", remedy)
    if ours:
        remedy = "sign it under its own name in the classic format (cosign sign --new-bundle-format=false)"
        return Problem("ImageUnsigned", expected, "signatures that name another repository or none", remedy)
    if not rule.keys.keys() <= set(facts.checked_keys):
        remedy = "create the pod anew, so that the image is verified by the keys of today"
        return Problem("ImageUnverifiable", expected, "evidence from before the policy had these keys", remedy)
    remedy = "sign the image (cosign sign --key ...) or use a signed one"
    return Problem("ImageUnsigned", expected, "none by its keys", remedy)


def _expectation(rule: CompiledRule) -> str:
    ways = []
    if rule.authorities:
        names = " or ".join(authority.name for authority in rule.authorities[:4])
        more = " or another" if len(rule.authorities) > 4 else ""
        ways.append(f"a signature by {names}{more}")
    if rule.digests or not ways:
        ways.append("a listed digest")
    return f"{' or '.join(ways)} (rule {rule.name})"
