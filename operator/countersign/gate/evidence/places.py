"""Where signatures and attestations of a digest are listed: among its referrers, under the tag that stands for them in
registries without the API, and under cosign's classic tags.

What is examined is decided by content, not by what a list says about it. A list's word decides the order, and it may
spare a request where it could not have made evidence of it: cosign writes the predicate type beside each bundle, and
where that names one that nobody asks about, the statement inside would be refused for that very type.

Sources: OCI distribution specification 1.1 ("Referrers Tag Schema"); sigstore/cosign pkg/oci/remote (options.go and
remote.go: suffixes, COSIGN_REPOSITORY, which moves tags and referrers alike to another repository; write.go).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Literal, TypeVar

from countersign.registry.manifest import Descriptor

BUNDLE_MEDIA_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"
PAYLOAD_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE_MEDIA_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
PREDICATE_TYPE_ANNOTATION: Final = "dev.sigstore.bundle.predicateType"
SIGN_PREDICATE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"

MAX_CANDIDATES: Final = 256
"""Referrers, and likewise layers of a manifest, that are examined for one digest: half of them from either end of the
list, so that neither the oldest nor the newest can be pushed out of sight."""
MAX_TAGGED_HEX: Final = 116
"""A tag has at most 128 characters (distribution specification), so no SHA-512 digest fits with prefix and suffix."""
EMPTY_BLOB: Final = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
"""Of `{}`: what stands where a manifest must have a layer and has nothing to say (image specification, "Guidance for an
Empty Descriptor")."""

Form = Literal["bundle", "simple-signing", "dsse"]

_UNTELLING: Final = frozenset(
    {"", "application/json", "application/octet-stream", "application/vnd.oci.empty.v1+json", "text/plain"}
)

T = TypeVar("T")


def signature_tag(digest: str) -> str | None:
    """The tag under which cosign keeps a digest's classic signatures; None where it would be too long to be a tag."""
    return _tag(digest, "sig")


def attestation_tag(digest: str) -> str | None:
    """The tag under which cosign keeps a digest's classic attestations."""
    return _tag(digest, "att")


def worth_fetching(referrers: Sequence[Descriptor], predicates: Collection[str]) -> list[Descriptor]:
    """The referrers that may be evidence, the likeliest first, at most MAX_CANDIDATES of each likelihood.

    `predicates`: types of the attestations that are asked about.
    """
    wanted = {SIGN_PREDICATE_TYPE, *predicates}
    ranked: tuple[list[Descriptor], ...] = ([], [], [])
    seen: set[str] = set()
    for descriptor in referrers:
        predicate = descriptor.annotation(PREDICATE_TYPE_ANNOTATION)
        if descriptor.digest in seen or (predicate and predicate not in wanted):
            continue
        seen.add(descriptor.digest)
        kind = descriptor.artifact_type
        if predicate or kind.startswith((BUNDLE_MEDIA_TYPE_PREFIX, "application/vnd.dev.cosign.")):
            ranked[0].append(descriptor)
        elif kind in _UNTELLING:
            ranked[1].append(descriptor)
        else:
            ranked[2].append(descriptor)
    return list(_first(MAX_CANDIDATES, (one for several in ranked for one in both_ends(several, MAX_CANDIDATES))))


def layers_to_examine(layers: Sequence[Descriptor]) -> dict[str, list[Descriptor]]:
    """The layers that may be evidence, by digest: equal ones are fetched once."""
    found: dict[str, list[Descriptor]] = {}
    worth = [layer for layer in layers if layer.digest != EMPTY_BLOB and _may_be_evidence(layer)]
    for layer in both_ends(worth, MAX_CANDIDATES):
        found.setdefault(layer.digest, []).append(layer)
    return found


def form_of(layer: Descriptor, data: bytes) -> Form | None:
    """How to read a layer. Where its type does not tell, its first bytes do; None: it is no evidence."""
    if layer.media_type == PAYLOAD_MEDIA_TYPE:
        return "simple-signing"
    if layer.media_type == ENVELOPE_MEDIA_TYPE:
        return "dsse"
    if layer.media_type.startswith(BUNDLE_MEDIA_TYPE_PREFIX) or b'"verificationMaterial"' in data:
        return "bundle"
    if b'"payloadType"' in data and b'"signatures"' in data:
        return "dsse"
    return None


def both_ends(several: Sequence[T], limit: int) -> Iterable[T]:
    """All of them, or half of the limit from either end."""
    if len(several) <= limit:
        return several
    return (*several[: limit // 2], *several[-(limit // 2) :])


def _tag(digest: str, suffix: str) -> str | None:
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}-{encoded}.{suffix}" if len(encoded) <= MAX_TAGGED_HEX else None


def _may_be_evidence(layer: Descriptor) -> bool:
    kind = layer.media_type
    return (
        kind in (PAYLOAD_MEDIA_TYPE, ENVELOPE_MEDIA_TYPE)
        or kind.startswith(BUNDLE_MEDIA_TYPE_PREFIX)
        or kind in _UNTELLING
    )


def _first(limit: int, several: Iterator[T]) -> Iterator[T]:
    for _, one in zip(range(limit), several, strict=False):
        yield one
