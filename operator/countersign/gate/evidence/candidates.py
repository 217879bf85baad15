"""Where signatures of a digest are found: among its referrers, and under cosign's classic tag.

What is examined is decided by content, not by what a list says about it; a list's word may only spare a request where
it could not have made a signature of it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from countersign.gate.evidence.together import both, together
from countersign.registry.client import Access, RegistryClient
from countersign.registry.errors import RegistryError
from countersign.registry.manifest import Descriptor, Manifest
from countersign.signatures.bundle import (
    BUNDLE_MEDIA_TYPE_PREFIX,
    PREDICATE_TYPE_ANNOTATION,
    SIGN_PREDICATE_TYPE,
    verify_bundle,
)
from countersign.signatures.classic import PAYLOAD_MEDIA_TYPE, SIGNATURE_ANNOTATION, signature_tag, verify_classic
from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import PublicKey
from countersign.trust.evidence.facts import Vouch
from countersign.trust.images.reference import ImageReference

MAX_CANDIDATES: Final = 32
"""Referrers, and likewise classic layers, that are examined for one digest: half of them from either end of the list,
so that neither the oldest nor the newest can be pushed out of sight."""
MAX_FETCHES_AT_ONCE: Final = 8
MAX_KEYS_ON_LOOP: Final = 4
MAX_BYTES_ON_LOOP: Final = 64 * 1024
"""More keys or larger documents are judged in a thread; below this a judgement takes about 1 ms at the most."""

_log = structlog.get_logger()


async def find_vouches(
    client: RegistryClient, image: ImageReference, digest: str, keys: Sequence[PublicKey], access: Access
) -> tuple[Vouch, ...]:
    """All vouches of these keys for the digest that the image's repository holds, in a stable order.

    A candidate that is no signature, or cannot be read for good, counts for nothing. Raises RegistryError if the
    registry cannot tell now: then nothing is known.
    """
    tag = signature_tag(digest)
    referrers, classic = await both(
        client.referrers(image, digest, access),
        client.tagged_manifest(image, tag, access) if tag else _nothing(),
    )
    examination = _Examination(client, image, digest, keys, access)
    worth = [descriptor for descriptor in referrers if _may_be_signature(descriptor)]
    found = await together(
        *(examination.referrer(descriptor) for descriptor in _both_ends(worth)),
        *([examination.manifest(classic)] if classic is not None else []),
    )
    vouches = {vouch for several in found for vouch in several}
    return tuple(sorted(vouches, key=lambda vouch: (vouch.key_fingerprint, vouch.format, vouch.reference)))


class _Examination:
    """One digest's candidates, fetched a few at a time."""

    def __init__(
        self, client: RegistryClient, image: ImageReference, digest: str, keys: Sequence[PublicKey], access: Access
    ) -> None:
        self._client = client
        self._image = image
        self._digest = digest
        self._keys = keys
        self._access = access
        self._fetches = asyncio.Semaphore(MAX_FETCHES_AT_ONCE)

    async def referrer(self, descriptor: Descriptor) -> list[Vouch]:
        """What a referrer's manifest holds."""
        try:
            async with self._fetches:
                manifest = await self._client.manifest(self._image, descriptor.digest, self._access)
        except RegistryError as error:
            self._dismiss(descriptor.digest, error)
            return []
        return await self.manifest(manifest)

    async def manifest(self, manifest: Manifest) -> list[Vouch]:
        """What the layers of a manifest hold; equal layers are fetched once."""
        layers: dict[str, list[Descriptor]] = {}
        for layer in _both_ends([layer for layer in manifest.layers if _is_signature_layer(layer)]):
            layers.setdefault(layer.digest, []).append(layer)
        found = await together(*(self._blob(digest, several) for digest, several in layers.items()))
        return [vouch for vouches in found for vouch in vouches]

    async def _blob(self, digest: str, layers: list[Descriptor]) -> list[Vouch]:
        try:
            async with self._fetches:
                data = await self._client.blob(self._image, digest, self._access)
        except RegistryError as error:
            self._dismiss(digest, error)
            return []
        if len(self._keys) * len(layers) > MAX_KEYS_ON_LOOP or len(data) > MAX_BYTES_ON_LOOP:
            return await asyncio.to_thread(self._judge, data, layers)
        return self._judge(data, layers)

    def _judge(self, data: bytes, layers: list[Descriptor]) -> list[Vouch]:
        vouches: list[Vouch] = []
        for layer in layers:
            try:
                if layer.media_type == PAYLOAD_MEDIA_TYPE:
                    signature = layer.annotation(SIGNATURE_ANNOTATION)
                    vouches.append(verify_classic(data, signature, self._digest, self._keys))
                else:
                    vouches.append(verify_bundle(data, self._digest, self._keys))
            except SignatureError as error:
                _log.debug(
                    "candidate does not vouch",
                    image=self._image.name,
                    digest=self._digest,
                    candidate=layer.digest,
                    problem=error.problem,
                    message=str(error),
                )
        return vouches

    def _dismiss(self, digest: str, error: RegistryError) -> None:
        """A candidate that is missing, too large or lies about its digest will not get better; a time-out may."""
        if error.transient:
            raise error
        _log.debug("candidate cannot be read", image=self._image.name, candidate=digest, message=str(error))


async def _nothing() -> None:
    return None


def _may_be_signature(descriptor: Descriptor) -> bool:
    # cosign writes the predicate type beside each bundle. Where it names an attestation the statement inside would be
    # refused for that very type; where it is missing, only the content tells.
    return descriptor.annotation(PREDICATE_TYPE_ANNOTATION) in ("", SIGN_PREDICATE_TYPE)


def _is_signature_layer(layer: Descriptor) -> bool:
    return layer.media_type == PAYLOAD_MEDIA_TYPE or layer.media_type.startswith(BUNDLE_MEDIA_TYPE_PREFIX)


def _both_ends(descriptors: Sequence[Descriptor]) -> Iterable[Descriptor]:
    if len(descriptors) <= MAX_CANDIDATES:
        return descriptors
    half = MAX_CANDIDATES // 2
    return (*descriptors[:half], *descriptors[-half:])
