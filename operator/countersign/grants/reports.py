"""What a node says of the images that it runs, read from a pod's status into one form.

Of the CRI's two answers (`ContainerStatus.image_ref`, `.image.image`) the kubelet makes `imageID` and `image`
(pkg/kubelet/kubelet_pods.go, convertToAPIContainerStatuses: "ImageID: cs.ImageRef"; while a container waits the one is
empty and the other the spec's own). What runtimes put there:

- containerd (internal/cri/server/container_status.go). `imageID`: `name@sha256:...`, the *first in order* of all names
  by digest under which the node knows an image with this config; the config's digest where it knows none. `image`: the
  first tag of that config; where it knows none the config's digest, since that is what the kubelet asks it for
  (kuberuntime_container.go, generateContainerConfig).
- CRI-O (internal/oci/container.go, NewContainer). `imageID`: `name@sha256:...`, a name of that image which "may have
  NO RELATIONSHIP" to what was asked for and "may be a repo@digest combination which has never existed on a registry";
  where there is none the id that the storage gives it, 64 hex digits. `image`: some name of that image.
- Docker, by cri-dockerd as before by the dockershim. `imageID`: `docker-pullable://name@sha256:...`; where none is,
  `docker://sha256:...`, the image's id. `image`: a tag, or `sha256:...`.

So a *name by digest* proves that the image is what it was admitted as, where that digest is known of it, and proves
nothing where it is not: whoever runs another index over the same content on the same node puts that index there. Only
an *id* (`sha256:...`, the digest of the config, which names every layer) says what does run. CRI-O's 64 digits do not:
for an image that was pulled in parts they are a hash of something else (go.podman.io/image, storage_dest.go,
computeID).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from countersign.api.pod import ContainerStatus, Pod

Report = tuple[str, str]
"""Container, or `volume/<name>` for an image volume; and the image that is told of it, as `told` writes it."""

MAX_REPORTS: Final = 8
"""Different ids, and as many names, that are kept of one container: the first ones. An honest node tells of one id."""
MAX_NAME: Final = 256
"""Characters that are kept of a name besides its digest; what the API allows for the image of a volume."""

_SCHEME: Final = re.compile(r"[a-z-]{1,32}://", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def told(image_id: str, image: str = "") -> str:
    """What a status says: `sha256:...` for an id, `name@sha256:...`, 64 hex digits, or empty where it says nothing.

    The id goes before a name, in whichever of the two it stands.
    """
    first, second = _form(image_id), _form(image)
    if first and not is_id(first) and is_id(second):
        return second
    return first


def is_id(text: str) -> bool:
    """Whether it says what runs, and not under which name somebody knows it."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(text: str) -> str:
    """The digest in what `told` wrote."""
    return f"sha256:{text}" if _HEX.fullmatch(text) else text.rpartition("@")[2]


def reports(pod: Pod) -> tuple[Report, ...]:
    """What the node tells of the containers and image volumes that it has begun to run."""
    return _same(tuple(dict.fromkeys(_reports(pod))))


def gathered(before: tuple[Report, ...], now: tuple[Report, ...]) -> tuple[Report, ...]:
    """All that was told up to now, within MAX_REPORTS a container: what was told once stays."""
    if before is now or not now:
        return before
    kept = dict.fromkeys(before)
    for place, image in now:
        alike = sum(1 for other, one in kept if other == place and is_id(one) == is_id(image))
        if alike < MAX_REPORTS:
            kept[place, image] = None
    return before if len(kept) == len(before) else _same(tuple(kept))


def undeclared(pod: Pod) -> tuple[str, ...]:
    """Containers that the node tells of and that are not in the spec."""
    status = pod.status
    if not (status.container_statuses or status.init_container_statuses or status.ephemeral_container_statuses):
        return ()
    spec = pod.spec
    found = [
        one.name
        for statuses, declared in (
            (status.container_statuses, spec.containers),
            (status.init_container_statuses, spec.init_containers),
            (status.ephemeral_container_statuses, spec.ephemeral_containers),
        )
        for one in statuses
        if not any(container.name == one.name for container in declared)
    ]
    return tuple(dict.fromkeys(found))[:MAX_REPORTS]


def _reports(pod: Pod) -> Iterator[Report]:
    volumes = {volume.name for volume in pod.spec.volumes if volume.image is not None}
    for one in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if image := told(one.image_id, one.image):
            yield one.name, image
        if volumes:
            yield from _volume_reports(one, volumes)


def _volume_reports(status: ContainerStatus, volumes: set[str]) -> Iterator[Report]:
    """Image volumes, where the kubelet tells of them (ImageVolumeWithDigest, KEP-4639; off by default in 1.36)."""
    for mount in status.volume_mounts:
        found = mount.volume_status.image if mount.volume_status is not None else None
        if found is not None and mount.name in volumes and (image := told(found.image_ref)):
            yield f"volume/{mount.name}", image


def _form(text: str) -> str:
    scheme = _SCHEME.match(text)  # never sought: over what a node writes, that would take quadratic time
    text = text[scheme.end() :] if scheme else text
    if is_id(text) or _HEX.fullmatch(text):
        return text
    name, at, digest = text.rpartition("@")
    return f"{name[:MAX_NAME]}@{digest}" if at and is_id(digest) else ""


@lru_cache(maxsize=4096)
def _same(found: tuple[Report, ...]) -> tuple[Report, ...]:
    """One object for all pods of which the same is told, as of replicas."""
    return found
