"""What is known about a pod's images, and what a judgement takes from it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from countersign.trust.evidence.facts import ImageFacts, Unverifiable, Vouch
from countersign.trust.evidence.signers import Weights
from countersign.trust.images.extraction import ImageUse, read_reference
from countersign.trust.images.reference import ImageReference
from countersign.trust.policies.compiled import CompiledRule

Evidence = Mapping[str, ImageFacts | Unverifiable]
"""By the image's text as it stands in the pod."""


class Ages(NamedTuple):
    """When an attestation, with all others that do as well, grows too old. In whole seconds since the epoch."""

    too_old_at: int
    """The first second in which it does not do any more."""
    old_at: int
    """A tenth of `maxAgeSeconds` before: when to tell people."""


class RuleEvidence(NamedTuple):
    """Why a rule held for an image."""

    policy_uid: str
    rule: str
    authority: str
    """Empty if the digest is listed."""
    key_fingerprint: str
    """Empty if the digest is listed, or a certificate vouches."""
    digest_listed: bool
    issuer: str = ""
    subject: str = ""
    attestation: str = ""
    """Name of the attestation that the rule asks for; empty: a signature of the image."""
    predicate_type: str = ""
    signed_digest: str = ""
    """What was signed, where it is not the image's own digest: the manifest of a platform."""
    ages: Ages | None = None
    """When the attestation grows too old; None: it never does."""


class ImageEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A verified image of the pod, and all that vouched for it."""

    container: str
    image: str
    """As it stands in the pod."""
    digest: str
    runtime_digests: tuple[str, ...]
    evidence: tuple[RuleEvidence, ...]


class Case(NamedTuple):
    """One image rule and the facts that it is held against."""

    policy_uid: str
    rule: CompiledRule
    facts: ImageFacts
    weights: Weights


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


def signed_digest(vouch: Vouch, facts: ImageFacts) -> str:
    """What was signed, where it is not the image's own digest; empty: the image itself."""
    return "" if vouch.digest == facts.digest else vouch.digest
