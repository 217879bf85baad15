"""Manifests, indexes and configs: bytes in, typed content out.

Sources: OCI image specification (manifest.md, image-index.md, config.md); Docker's image manifest version 2, schema 2.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from countersign.registry.errors import MalformedError
from countersign.trust.images.reference import is_digest
from countersign.trust.strict_json import BadJSON, parse, parse_as

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED: Final = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)
_INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})

MAX_INDEX_ENTRIES: Final = 1024
"""Of an image's index (the largest official images have about 40) and of a list of referrers."""
MAX_VALUES: Final = 200_000
"""Of one document, counted before it is read: each takes up to 100 bytes then, and many documents are read at once."""
MAX_LAYERS: Final = 1000  # cosign's own limit for the layers of a signature manifest


class Platform(msgspec.Struct, frozen=True):
    """For what a manifest was built."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A reference to other content. Its digest is well-formed; all else is the pusher's or the registry's word."""

    digest: str
    size: int = 0
    media_type: str = ""
    artifact_type: str = ""
    platform: Platform | None = None
    annotations: dict[str, str] | None = None

    def annotation(self, name: str) -> str:
        """The annotation's value, empty if there is none."""
        return (self.annotations or {}).get(name, "")


class Manifest(msgspec.Struct, frozen=True):
    """A manifest or an index, whose bytes had the digest that stands here."""

    digest: str
    kind: Literal["manifest", "index"]
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    artifact_type: str
    subject: Descriptor | None


class ImageConfig(msgspec.Struct, frozen=True):
    """The members of an image's config that say what it runs."""

    platform: Platform
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    working_dir: str = ""
    path: tuple[str, ...] = ()
    """The folders of the PATH that it sets."""


class _Manifest(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    manifests: tuple[Descriptor, ...] | None = None
    subject: Descriptor | None = None


class _Execution(msgspec.Struct, rename="pascal"):
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str | None = None
    env: tuple[str, ...] | None = None


class _Config(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    config: _Execution | None = None


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """`algorithm:hex` over the bytes; algorithm is sha256 or sha512."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def verify_digest(data: bytes, wanted: str) -> None:
    """Raise MalformedError unless the bytes have the (well-formed) digest."""
    found = digest_of(data, wanted.partition(":")[0])
    if found != wanted:
        raise MalformedError(f"the registry sent content of digest {found} where {wanted} was asked for")


def parse_manifest(data: bytes, digest: str) -> Manifest:
    """Read a manifest or index whose bytes are known to have this digest. Raises MalformedError.

    What a document is follows from its members, and its media type must agree: one that could be read as both a
    manifest and an index is refused (CVE-2021-41190). So is one with members that another reader would take for the
    known ones: Go's encoding/json, by which runtimes read (containerd core/images/image.go), minds no case and takes
    the last of several, so that they would run what `Manifests` lists and we had judged what `manifests` does.
    """
    _refuse_many_values(data, digest)
    try:
        value = parse(data)
        _refuse_lookalikes(value, digest)
        document = msgspec.convert(value, _Manifest)
    except (BadJSON, msgspec.ValidationError) as error:
        raise MalformedError(f"the manifest {digest} cannot be read: {str(error)[:200]}") from None
    is_index = document.manifests is not None
    if is_index and (document.layers is not None or document.config is not None):
        raise MalformedError(f"{digest} can be read as a manifest and as an index; rebuild and push it again")
    if document.schema_version != 2 or not (is_index or document.config is not None):
        raise MalformedError(
            f"{digest} is no manifest of OCI or of Docker's schema 2: push the image again with a tool of this decade"
        )
    if document.media_type and (document.media_type in _INDEXES) != is_index:
        raise MalformedError(f"{digest} says that it is {document.media_type[:100]!r} but has another form")
    manifests, layers = document.manifests or (), document.layers or ()
    if len(manifests) > MAX_INDEX_ENTRIES or len(layers) > MAX_LAYERS:
        raise MalformedError(f"{digest} lists more than {MAX_INDEX_ENTRIES} manifests or {MAX_LAYERS} layers")
    for descriptor in (*manifests, *layers, document.config, document.subject):
        if descriptor is not None and not is_digest(descriptor.digest):
            raise MalformedError(f"{digest} refers to {descriptor.digest[:100]!r}, which is no sha256 or sha512 digest")
    return Manifest(
        digest=digest,
        kind="index" if is_index else "manifest",
        config=document.config,
        layers=layers,
        manifests=manifests,
        artifact_type=document.artifact_type,
        subject=document.subject,
    )


def _refuse_many_values(data: bytes, name: str) -> None:
    # No more values than commas and opening brackets, plus one.
    if data.count(b",") + data.count(b"[") + data.count(b"{") >= MAX_VALUES:
        raise MalformedError(f"{name} may have more than {MAX_VALUES} values")


def _refuse_lookalikes(document: Any, digest: str) -> None:
    for value, wanted in _objects(document):
        names = wanted.__struct_encode_fields__
        folded = {name.casefold() for name in names}
        for name in value.keys() - names:
            if name.casefold() in folded:
                raise MalformedError(
                    f"{digest} has a member {name[:80]!r}, which differs from a known one only in upper and lower "
                    "case: programs would read it differently; build the image again"
                )


def _objects(document: Any) -> Iterator[tuple[dict[str, Any], type[msgspec.Struct]]]:
    """The objects of which members are read, and as what."""
    if not isinstance(document, dict):
        return
    yield document, _Manifest
    lists = [document.get("manifests"), document.get("layers"), [document.get("config"), document.get("subject")]]
    for descriptor in (one for several in lists if isinstance(several, list) for one in several):
        if isinstance(descriptor, dict):
            yield descriptor, Descriptor
            if isinstance(descriptor.get("platform"), dict):
                yield descriptor["platform"], Platform


def parse_config(data: bytes) -> ImageConfig:
    """Read an image's config. Raises MalformedError."""
    _refuse_many_values(data, "the image's config")
    try:
        document = parse_as(data, _Config)
    except BadJSON as error:
        raise MalformedError(f"the image's config cannot be read: {error}") from None
    execution = document.config or _Execution()
    return ImageConfig(
        platform=Platform(document.os, document.architecture, document.variant),
        entrypoint=execution.entrypoint or (),
        cmd=execution.cmd or (),
        working_dir=execution.working_dir or "",
        path=_search_path(execution.env or ()),
    )


def _search_path(env: tuple[str, ...]) -> tuple[str, ...]:
    found = [entry.removeprefix("PATH=") for entry in env if entry.startswith("PATH=")]
    return tuple(dict.fromkeys(found[-1].split(":"))) if found else ()
