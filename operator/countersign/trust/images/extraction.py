"""The one extractor: every image that a pod brings, and where it stands.

Whatever runs or is mounted from an image is listed here once: containers, init containers (sidecars among them),
ephemeral containers and image volumes (KEP-4639). A test fails when the pod model learns of another place.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

from countersign.api.pod import Container, Pod, PodSpec
from countersign.trust.images.reference import MAX_REFERENCE_LENGTH, BadReference, ImageReference

ImageKind = Literal["container", "init", "ephemeral", "volume"]


class ImageUse(NamedTuple):
    """One image at one place."""

    container: str
    """Name of the container, or `volume/<name>` for an image volume."""
    kind: ImageKind
    image: str
    """As it stands in the pod; may be empty or malformed."""
    pointer: str
    """JSON pointer (RFC 6901) of the image's text in the pod object."""


def extract(pod: Pod) -> tuple[ImageUse, ...]:
    """Every image of the pod, in the order containers, init, ephemeral, volumes."""
    spec = pod.spec
    found = [
        ImageUse(container.name, "container", container.image, f"/spec/containers/{index}/image")
        for index, container in enumerate(spec.containers)
    ]
    for index, container in enumerate(spec.init_containers):
        found.append(ImageUse(container.name, "init", container.image, f"/spec/initContainers/{index}/image"))
    for index, container in enumerate(spec.ephemeral_containers):
        found.append(ImageUse(container.name, "ephemeral", container.image, f"/spec/ephemeralContainers/{index}/image"))
    for index, volume in enumerate(spec.volumes):
        if volume.image is not None:
            pointer = f"/spec/volumes/{index}/image/reference"
            found.append(ImageUse(f"volume/{volume.name}", "volume", volume.image.reference, pointer))
    return tuple(found)


def changed(old: Pod, new: Pod) -> tuple[ImageUse, ...]:
    """The images of `new` that `old` has not at the same place: what an UPDATE brings in."""
    before = {(use.kind, use.container): use.image for use in extract(old)}
    return tuple(use for use in extract(new) if before.get((use.kind, use.container)) != use.image)


def all_containers(spec: PodSpec) -> tuple[Container, ...]:
    """Containers of every kind, ephemeral ones last."""
    if not spec.init_containers and not spec.ephemeral_containers:
        return spec.containers
    return (*spec.containers, *spec.init_containers, *spec.ephemeral_containers)


def read_reference(image: str) -> ImageReference | str:
    """The reference, or what is wrong with the text."""
    return _remembered(image) if len(image) <= MAX_REFERENCE_LENGTH else _read(image)


def _read(image: str) -> ImageReference | str:
    try:
        return ImageReference.parse(image)
    except BadReference as error:
        return str(error)


_remembered = lru_cache(maxsize=2048)(_read)
"""A pure function with a memory: the same few images come with most pods, and each step of a judgement asks again."""


def image_name(image: str) -> str | None:
    """Normalised `registry/repository`, or None for what is no image reference."""
    reference = read_reference(image)
    return reference.name if isinstance(reference, ImageReference) else None
