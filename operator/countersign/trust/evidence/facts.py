"""Facts about images: what was found out, and for which question. They carry no verdict."""

from collections.abc import Iterable
from typing import Final, Literal, TypeVar

import msgspec

UnverifiableReason = Literal[
    "Timeout",
    "RegistryUnavailable",
    "NotFound",
    "Unauthorized",
    "RateLimited",
    "Malformed",
    "AddressDenied",
    "TooLarge",
]
ProofKind = Literal["log", "timestamp", "sct"]

T = TypeVar("T")

BESIDE: Final = ("",)
"""The places where signatures are looked for unless a rule names another repository."""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom a certificate was issued to."""

    issuer: str
    """Issuer of the OIDC token that it was issued for."""
    subject: str
    """Its one subject alternative name."""
    extensions: tuple[tuple[str, str], ...] = ()
    """Name (`api.image_rule.CertificateExtension`) and value, sorted."""


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of an evidence root vouches for the time, and the certificate, of a signature."""

    root: str
    """`sha256:<hex>` of the content of the evidence root that it was verified by."""
    anchors: tuple[str, ...]
    """Names (`signatures.roots`) of all certificates and logs of that root which it rests on. It still holds under
    another content of the root that has them all."""
    kinds: tuple[ProofKind, ...] = ()
    signed_at: int | None = None
    """The earliest trusted time of the signature, in seconds since the epoch; None: nobody trusted says when."""


class Vouch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Somebody has signed this digest: a key, or whoever a certificate was issued to."""

    key_fingerprint: str
    """`sha256:<hex>` over the key's SubjectPublicKeyInfo in DER; empty if a certificate vouches."""
    format: Literal["classic", "bundle"]
    """cosign's simple-signing payload under a `.sig` tag, or a Sigstore bundle among the referrers."""
    reference: str
    """The docker-reference that a classic payload claims, as written there; empty in a bundle, which names none."""
    identity: Identity | None = None
    digest: str = ""
    """The digest that was signed, where it is not the image's own: a platform's manifest."""
    proof: Proof | None = None
    """Always there with an identity; with a key, if an evidence root was asked about and knows the signature's time."""


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one condition makes of one statement."""

    condition: str
    """Its name (`conditions.condition_name`)."""
    holds: bool
    found: str = ""
    """A phrase: the value that made it false, or why it could not be evaluated. Empty if it holds."""


class Attestation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An in-toto statement about this digest, and who signed it."""

    predicate_type: str
    statement: str
    """`sha256:<hex>` of the signed payload."""
    vouch: Vouch
    claims: tuple[Claim, ...] = ()
    """One for each condition that was asked about."""


class PlatformConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one runnable manifest of an image was built to run (OCI image specification, config)."""

    platform: str
    """`os/architecture` or `os/architecture/variant`."""
    digest: str
    """Digest of the platform's manifest: equal to the image's own where the image is no index."""
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    config_digest: str
    """Digest of the config blob. Some runtimes report it, and not the manifest's, as the image ID."""
    working_dir: str = ""
    """Where relative names start; empty: at the root."""
    path: tuple[str, ...] = ()
    """The folders of the image's PATH; empty: it sets none, and the runtime's default holds."""


class ImageFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that was asked about one image was answered, for good or ill."""

    image: str
    """`registry/repository`, normalised, without tag and digest."""
    digest: str
    """Of the manifest or index that the reference stands for; this is what gets pinned."""
    vouches: tuple[Vouch, ...]
    checked_keys: tuple[str, ...]
    """Fingerprints that were asked about. A key in here without a vouch has definitely not signed."""
    configs: tuple[PlatformConfig, ...]
    """One for each runnable platform, in the index's order. Empty: not asked for, and nothing may be read from it."""
    attestations: tuple[Attestation, ...] = ()
    checked_roots: tuple[str, ...] = ()
    """Hashes of the evidence roots that certificates were held against. None of theirs without a vouch has signed."""
    checked_predicates: tuple[str, ...] = ()
    """Predicate types that were looked for, with the signers above."""
    checked_conditions: tuple[str, ...] = ()
    """Conditions that were put to every attestation of their type."""
    platforms_checked: bool = False
    """Signatures and attestations on the platforms' manifests were looked for, too."""
    repositories: tuple[str, ...] = ()
    """Where signatures were looked for, as `registry/repository`, `""` for beside the image; empty: beside it only."""
    stale_seconds: int = 0
    """How long ago this was found out, if the registry could not be asked again; 0: it is as fresh as it should be."""
    left_out: int = 0
    """Signatures and attestations that were found and are not kept here (`abridged`): they may be anybody's."""

    @property
    def searched(self) -> tuple[str, ...]:
        """Where signatures were looked for; `""`: beside the image."""
        return self.repositories or BESIDE

    @property
    def runtime_digests(self) -> tuple[str, ...]:
        """Every digest that a node may report for this image: its own, and its platforms' manifests and configs."""
        below = (digest for config in self.configs for digest in (config.digest, config.config_digest))
        return tuple(dict.fromkeys((self.digest, *below)))


def elsewhere(repositories: tuple[str, ...]) -> tuple[str, ...]:
    """As `ImageFacts.repositories` has it. What is empty is left out of receipts, which older releases then read."""
    return () if repositories == BESIDE else repositories


def joined(one: ImageFacts, other: ImageFacts) -> ImageFacts:
    """The answers to two questions about one digest. About two digests there is nothing to join: the latter's."""
    if (one.image, one.digest) != (other.image, other.digest):
        return other
    return msgspec.structs.replace(
        one,
        vouches=_union(one.vouches, other.vouches),
        checked_keys=_union(one.checked_keys, other.checked_keys),
        configs=one.configs or other.configs,
        attestations=_joined_attestations((*one.attestations, *other.attestations)),
        checked_roots=_union(one.checked_roots, other.checked_roots),
        checked_predicates=_union(one.checked_predicates, other.checked_predicates),
        checked_conditions=_union(one.checked_conditions, other.checked_conditions),
        platforms_checked=one.platforms_checked or other.platforms_checked,
        repositories=elsewhere(_union(one.searched, other.searched)),
        stale_seconds=max(one.stale_seconds, other.stale_seconds),
        left_out=max(one.left_out, other.left_out),
    )


def _union(one: tuple[T, ...], other: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _joined_attestations(attestations: Iterable[Attestation]) -> tuple[Attestation, ...]:
    """One for each statement and signer, with the claims of both questions."""
    found: dict[tuple[str, str, Vouch], Attestation] = {}
    for one in attestations:
        key = (one.predicate_type, one.statement, one.vouch)
        known = found.get(key)
        found[key] = one if known is None else msgspec.structs.replace(known, claims=_union(known.claims, one.claims))
    return tuple(found.values())


class Unverifiable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The question could not be answered. Never a reason to admit, and never to be remembered."""

    image: str
    """The reference as normalised, with its tag or digest."""
    reason: UnverifiableReason
    message: str
    """One phrase for a person: what happened, and what to do about it."""
    transient: bool
    """The same question may well be answered at the retry."""
