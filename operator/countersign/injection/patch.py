"""The patch: what a verdict changes in a pod, as few RFC 6902 operations as it takes, and the pod that results.

Nothing is compared with a finished object: each change writes its own operation, in an order in which no operation
moves what a later one names. What stands there already as it should be stays, so a second call changes nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from countersign.api.admission import PatchOperation
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Container, EnvVar, Pod, PodSpec, Volume
from countersign.trust.pods.api_token import SHORT_SECONDS, api_tokens, is_default_volume, is_long
from countersign.trust.pods.tokens import TokenGrant
from countersign.trust.verdicts.verdict import Verdict

_KINDS: Final = (
    ("containers", "/spec/containers"),
    ("init_containers", "/spec/initContainers"),
    ("ephemeral_containers", "/spec/ephemeralContainers"),
)
_replace = msgspec.structs.replace
_encoder = msgspec.json.Encoder()


class Injection(msgspec.Struct, frozen=True):
    """The operations, and the pod as they leave it."""

    operations: tuple[PatchOperation, ...]
    pod: Pod

    @property
    def patch(self) -> bytes:
        """The operations as JSON, for `AdmissionResponse.patch`. An empty list: nothing is to be changed."""
        return _encoder.encode(self.operations)


def inject(pod: Pod, verdict: Verdict, pins: Mapping[str, str], *, only_images: bool = False) -> Injection:
    """The patch for the pod.

    `pins` maps JSON pointers to pinned references (`trust.images.pins`). `only_images`: leave all else alone, as on
    UPDATE, where nothing else of a pod's spec may be changed. The verdict is one of stage `mutate` about this very pod.
    """
    operations: list[PatchOperation] = []
    spec = _pinned(pod.spec, pins, operations) if pins else pod.spec
    if not only_images and verdict.governed:
        spec = _injected(spec, verdict, operations)
    return Injection(tuple(operations), pod if spec is pod.spec else _replace(pod, spec=spec))


def with_receipt(injection: Injection, text: str | None) -> Injection:
    """The same with the receipt annotation set to `text`; None: without one, whoever wrote it."""
    metadata = injection.pod.metadata
    present = metadata.annotations.get(RECEIPT_ANNOTATION)
    if present == text:
        return injection
    annotations = {key: value for key, value in metadata.annotations.items() if key != RECEIPT_ANNOTATION}
    pointer = "/metadata/annotations/" + escape(RECEIPT_ANNOTATION)
    if text is None:
        operation = PatchOperation(op="remove", path=pointer)
    else:
        annotations[RECEIPT_ANNOTATION] = text
        if metadata.annotations:
            operation = PatchOperation(op="replace" if present is not None else "add", path=pointer, value=text)
        else:
            operation = PatchOperation(op="add", path="/metadata/annotations", value=annotations)
    pod = _replace(injection.pod, metadata=_replace(metadata, annotations=annotations))
    return Injection((*injection.operations, operation), pod)


def escape(token: str) -> str:
    """One reference token of a JSON pointer (RFC 6901, section 3)."""
    return token.replace("~", "~0").replace("/", "~1")


def _pinned(spec: PodSpec, pins: Mapping[str, str], operations: list[PatchOperation]) -> PodSpec:
    changes: dict[str, Any] = {}
    for kind, parent in _KINDS:
        containers: tuple[Container, ...] = getattr(spec, kind)
        pinned = []
        for index, container in enumerate(containers):
            pointer = f"{parent}/{index}/image"
            image = pins.get(pointer, container.image)
            if image == container.image:
                pinned.append(container)
                continue
            operations.append(PatchOperation(op="replace", path=pointer, value=image))
            pinned.append(_replace(container, image=image))
            changes[kind] = pinned
    volumes = []
    for index, volume in enumerate(spec.volumes):
        pointer = f"/spec/volumes/{index}/image/reference"
        if volume.image is None or pins.get(pointer, volume.image.reference) == volume.image.reference:
            volumes.append(volume)
            continue
        operations.append(PatchOperation(op="replace", path=pointer, value=pins[pointer]))
        volumes.append(_replace(volume, image=_replace(volume.image, reference=pins[pointer])))
        changes["volumes"] = volumes
    return _replace(spec, **{name: tuple(items) for name, items in changes.items()}) if changes else spec


class _Leaving(NamedTuple):
    """What is taken out: volumes by name with all their mounts, and variables."""

    volumes: frozenset[str]
    env: tuple[EnvVar, ...]


def _injected(spec: PodSpec, verdict: Verdict, operations: list[PatchOperation]) -> PodSpec:
    changes: dict[str, Any] = {}
    leaving = _leaving(spec, verdict)
    if verdict.settings.api_token == "Remove" and spec.automount_service_account_token is not False:  # noqa: S105 - a setting
        # Or the ServiceAccount plug-in puts the volume back when it is called again after us.
        operations.append(PatchOperation(op="add", path="/spec/automountServiceAccountToken", value=False))
        changes["automount_service_account_token"] = False
    for kind, parent in _KINDS:
        containers: tuple[Container, ...] = getattr(spec, kind)
        tokens = verdict.tokens if kind != "ephemeral_containers" else ()
        patched = tuple(
            [
                _container(container, f"{parent}/{index}", tokens, leaving, operations)
                for index, container in enumerate(containers)
            ]
        )
        if any(new is not old for new, old in zip(patched, containers, strict=True)):
            changes[kind] = patched
    volumes = _volumes(spec.volumes, verdict, leaving, operations)
    if volumes is not spec.volumes:
        changes["volumes"] = volumes
    return _replace(spec, **changes) if changes else spec


def _leaving(spec: PodSpec, verdict: Verdict) -> _Leaving:
    # Of two policies that clash in all of a token, one may be due what the other is refused: the same volume.
    due = {token.name for token in verdict.tokens}
    tokens = [token.shape for token in verdict.withheld if token.name not in due and token.shape.volume in spec.volumes]
    volumes = [shape.volume.name for shape in tokens]
    if verdict.settings.api_token == "Remove":  # noqa: S105 - a setting
        volumes += [volume.name for volume in spec.volumes if is_default_volume(volume)]
    return _Leaving(frozenset(volumes), tuple([shape.env for shape in tokens if shape.env is not None]))


def _container(
    container: Container,
    pointer: str,
    tokens: tuple[TokenGrant, ...],
    leaving: _Leaving,
    operations: list[PatchOperation],
) -> Container:
    shapes = [token.shape for token in tokens if container.name in token.containers]
    mounts, env = container.volume_mounts, container.env
    if leaving.volumes:
        leaves = [mount.name in leaving.volumes for mount in mounts]
        mounts = _without(mounts, leaves, f"{pointer}/volumeMounts", operations)
    if leaving.env:
        env = _without(env, [variable in leaving.env for variable in env], f"{pointer}/env", operations)
    if shapes:
        wanted_env = [shape.env for shape in shapes if shape.env is not None]
        wanted = [shape.mount for shape in shapes]
        mounts = _with(mounts, wanted, f"{pointer}/volumeMounts", container.volume_mounts, operations)
        env = _with(env, wanted_env, f"{pointer}/env", container.env, operations)
    if mounts is container.volume_mounts and env is container.env:
        return container
    return _replace(container, volume_mounts=mounts, env=env)


def _volumes(
    volumes: tuple[Volume, ...], verdict: Verdict, leaving: _Leaving, operations: list[PatchOperation]
) -> tuple[Volume, ...]:
    changed = volumes
    if verdict.settings.api_token == "Shorten":  # noqa: S105 - a setting
        changed = tuple([_shortened(volume, index, operations) for index, volume in enumerate(volumes)])
        if all(new is old for new, old in zip(changed, volumes, strict=True)):
            changed = volumes
    if leaving.volumes:
        leaves = [volume.name in leaving.volumes for volume in changed]
        changed = _without(changed, leaves, "/spec/volumes", operations)
    wanted = [token.shape.volume for token in verdict.tokens]
    return _with(changed, wanted, "/spec/volumes", volumes, operations)


def _shortened(volume: Volume, position: int, operations: list[PatchOperation]) -> Volume:
    long = {index: token for index, token in api_tokens(volume) if is_long(token)}
    if not long or volume.projected is None:
        return volume
    sources = list(volume.projected.sources)
    for index, token in long.items():
        path = f"/spec/volumes/{position}/projected/sources/{index}/serviceAccountToken/expirationSeconds"
        operations.append(PatchOperation(op="replace", path=path, value=SHORT_SECONDS))
        shorter = _replace(token, expiration_seconds=SHORT_SECONDS)
        sources[index] = _replace(sources[index], service_account_token=shorter)
    return _replace(volume, projected=_replace(volume.projected, sources=tuple(sources)))


def _without(
    items: tuple[Any, ...], leaves: list[bool], pointer: str, operations: list[PatchOperation]
) -> tuple[Any, ...]:
    """The items without those that leave, written from the last to the first: no index moves before its turn."""
    if True not in leaves:
        return items
    for index in range(len(items) - 1, -1, -1):
        if leaves[index]:
            operations.append(PatchOperation(op="remove", path=f"{pointer}/{index}"))
    return tuple([item for item, leaving in zip(items, leaves, strict=True) if not leaving])


def _with(
    items: tuple[Any, ...],
    wanted: Iterable[Any],
    pointer: str,
    before: tuple[Any, ...],
    operations: list[PatchOperation],
) -> tuple[Any, ...]:
    """The items with what is wanted and not there yet. `before`: the array as it came; empty, it may be missing."""
    new = [item for item in wanted if item not in items]
    if not new:
        return items
    if before:
        operations.extend(PatchOperation(op="add", path=f"{pointer}/-", value=item) for item in new)
    else:
        operations.append(PatchOperation(op="add", path=pointer, value=new))
    return (*items, *new)
