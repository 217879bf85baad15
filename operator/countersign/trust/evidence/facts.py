"""Facts about images: what was found out, and for which question. They carry no verdict."""

from typing import Literal

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


class Vouch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key has signed this digest."""

    key_fingerprint: str
    """`sha256:<hex>` over the key's SubjectPublicKeyInfo in DER."""
    format: Literal["classic", "bundle"]
    """cosign's simple-signing payload under a `.sig` tag, or a Sigstore bundle among the referrers."""
    reference: str
    """The docker-reference that a classic payload claims, as written there; empty in a bundle, which names none."""


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


class ImageFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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

    @property
    def runtime_digests(self) -> tuple[str, ...]:
        """Every digest that a node may report for this image: its own, and its platforms' manifests and configs."""
        below = (digest for config in self.configs for digest in (config.digest, config.config_digest))
        return tuple(dict.fromkeys((self.digest, *below)))


def joined(one: ImageFacts, other: ImageFacts) -> ImageFacts:
    """The answers to two questions about one digest. About two digests there is nothing to join: the latter's."""
    if (one.image, one.digest) != (other.image, other.digest):
        return other
    return msgspec.structs.replace(
        one,
        vouches=tuple(dict.fromkeys((*one.vouches, *other.vouches))),
        checked_keys=tuple(dict.fromkeys((*one.checked_keys, *other.checked_keys))),
        configs=one.configs or other.configs,
    )


class Unverifiable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The question could not be answered. Never a reason to admit, and never to be remembered."""

    image: str
    """The reference as normalised, with its tag or digest."""
    reason: UnverifiableReason
    message: str
    """One phrase for a person: what happened, and what to do about it."""
    transient: bool
    """The same question may well be answered at the retry."""
