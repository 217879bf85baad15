"""Who can read a token: only the containers that its policy names.

A file in a pod can be reached by mounting its volume, by another volume with the same audience, through the process
that has it mounted, and from the node. Each way is closed here for pods that receive tokens.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from countersign.api.pod import Container, Pod, Volume, WindowsOptions
from countersign.trust.images.extraction import all_containers
from countersign.trust.pods.covering import normal_path, within
from countersign.trust.pods.tokens import audiences_in, mount_path, volume_name
from countersign.trust.policies.compiled import CompiledToken
from countersign.trust.verdicts.problem import Problem, Stage

READING_CAPABILITIES: Final = frozenset(
    {
        "ALL",
        "SYS_ADMIN",
        "SYS_PTRACE",
        "SYS_MODULE",
        "SYS_RAWIO",
        "DAC_READ_SEARCH",
        "BPF",
        "PERFMON",
        "CHECKPOINT_RESTORE",
    }
)
"""Capabilities that reach into other processes, the kernel, or files by handle (capabilities(7))."""


def exposed_audiences(pod: Pod, protected: frozenset[str], ours: Iterable[Volume]) -> dict[str, str]:
    """Protected audiences that stand in volumes which are not ours: audience to volume name.

    A volume is ours if it equals one of `ours` in every member.
    """
    found: dict[str, str] = {}
    if not protected:
        return found
    accepted = {volume.name: volume for volume in ours}
    for volume in pod.spec.volumes:
        if volume.projected is None:
            continue
        hits = [audience for audience in audiences_in(volume) if audience in protected]
        if hits and accepted.get(volume.name) != volume:
            found.update(dict.fromkeys(hits, volume.name))
    return found


def mount_problems(pod: Pod, token_name: str, receiving: tuple[Container, ...]) -> Iterator[Problem]:
    """Other containers that mount the token's volume, in any way."""
    volume = volume_name(token_name)
    names = {container.name for container in receiving}
    for container in all_containers(pod.spec):
        if container.name not in names and any(mount.name == volume for mount in container.volume_mounts):
            yield Problem(
                "TokenExposed",
                f"token {token_name} only in {', '.join(sorted(names)[:3]) or 'no container'}",
                f"container {container.name} mounts its volume",
                "remove the mount, or ask the policy's owner to name the container in `containers`",
                container.name,
                container.image,
            )


def target_problems(pod: Pod, token_name: str, receiving: tuple[Container, ...]) -> Iterator[Problem]:
    """Ephemeral containers in the process namespace of a container that holds the token.

    There `/proc/PID/root` leads to its files (kubernetes.io/docs, ephemeral containers; proc(5)), by the rights of the
    same user alone.
    """
    names = {container.name for container in receiving}
    for container in pod.spec.ephemeral_containers:
        if container.target_container_name in names:
            yield Problem(
                "TokenExposed",
                f"token {token_name} only in {', '.join(sorted(names)[:3])}",
                f"ephemeral container {container.name} looks into {container.target_container_name} (--target)",
                "leave --target out, or debug a copy: kubectl debug --copy-to=NAME --share-processes=false",
                container.name,
                container.image,
            )


def clashes(pod: Pod, token: CompiledToken, receiving: tuple[Container, ...]) -> Iterator[Problem]:
    """What the author already uses otherwise: the volume's name, the mount path, the variable."""
    shape, name = token.shape, token.spec.name
    for volume in pod.spec.volumes:
        if volume.name == shape.volume.name and volume != shape.volume:
            yield _clash(name, f"volume {volume.name}", "another volume of that name", "rename the volume")
    for container in receiving:
        for mount in container.volume_mounts:
            if mount != shape.mount and (
                mount.name == shape.mount.name or within(normal_path(mount.mount_path), shape.mount.mount_path)
            ):
                yield _clash(
                    name,
                    f"mount path {shape.mount.mount_path}",
                    f"volume {mount.name} mounted at {mount.mount_path}",
                    "mount it elsewhere",
                    container,
                )
        if shape.env is not None:
            for variable in container.env:
                if variable.name == shape.env.name and variable != shape.env:
                    yield _clash(
                        name, f"variable {variable.name}", "another value for it", "rename the variable", container
                    )


def missing(pod: Pod, token: CompiledToken, receiving: tuple[Container, ...], stage: Stage) -> Problem | None:
    """Whether the pod really carries the token as decided.

    A live pod was admitted under the policy of that day: there audience, lifetime and recipients count, not the path.
    """
    shape, spec = token.shape, token.spec
    if stage == "live":
        carried = any(
            volume.name == shape.volume.name
            and audiences_in(volume) == (spec.audience,)
            and _longest(volume) <= spec.expiration_seconds
            for volume in pod.spec.volumes
        )
        return None if carried else _not_injected(spec.name, "no such volume, or one that asks for a longer lifetime")
    if shape.volume not in pod.spec.volumes:
        return _not_injected(spec.name, f"no volume {shape.volume.name}")
    for container in receiving:
        if shape.mount not in container.volume_mounts:
            return _not_injected(spec.name, f"no mount at {mount_path(spec.name)}", container)
        if shape.env is not None and shape.env not in container.env:
            return _not_injected(spec.name, f"no variable {shape.env.name}", container)
    return None


def privileges(pod: Pod) -> list[str]:
    """What lets a container of the pod, or all of them, read another container's files."""
    spec = pod.spec
    found = []
    if spec.share_process_namespace:
        found.append("shareProcessNamespace")
    if spec.host_pid:
        found.append("hostPID")
    if spec.security_context is not None and _is_host_process(spec.security_context.windows_options):
        found.append("hostProcess")
    found.extend(f"hostPath volume {volume.name}" for volume in spec.volumes if volume.host_path is not None)
    for container in all_containers(spec):
        if container.volume_devices:
            found.append(f"a block device in container {container.name}")
        context = container.security_context
        if context is None:
            continue
        if context.privileged:
            found.append(f"privileged container {container.name}")
        if _is_host_process(context.windows_options):
            found.append(f"hostProcess in container {container.name}")
        if context.proc_mount == "Unmasked":
            found.append(f"unmasked /proc in container {container.name}")
        if context.capabilities is not None:
            found.extend(
                f"capability {added} in container {container.name}"
                for added in context.capabilities.add
                if added.upper().removeprefix("CAP_") in READING_CAPABILITIES
            )
    return found


def _is_host_process(options: WindowsOptions | None) -> bool:
    """Whether it runs on a Windows node itself, all of whose files it reads (kubernetes.io/docs, HostProcess)."""
    return options is not None and bool(options.host_process)


def privilege_problem(found: list[str], *, debugged: bool = False) -> Problem:
    """The problem that these privileges are for a policy which hands out tokens.

    `debugged`: the pod has ephemeral containers. The default profile of `kubectl debug` adds SYS_PTRACE.
    """
    remedy = "remove it, or run what needs it in a pod without tokens"
    return Problem(
        "PodTooPrivileged",
        "a pod in which no container can read another's files",
        ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else ""),
        f"{remedy}; for a debug container: kubectl debug --profile=restricted" if debugged else remedy,
    )


def _longest(volume: Volume) -> int:
    sources = volume.projected.sources if volume.projected else ()
    return max(
        (
            source.service_account_token.expiration_seconds or 3600
            for source in sources
            if source.service_account_token is not None
        ),
        default=0,
    )


def _clash(token: str, what: str, found: str, remedy: str, container: Container | None = None) -> Problem:
    name, image = (container.name, container.image) if container else ("", "")
    return Problem("TokenClash", f"{what} free for token {token}", found, remedy, name, image)


def _not_injected(token: str, found: str, container: Container | None = None) -> Problem:
    name, image = (container.name, container.image) if container else ("", "")
    return Problem(
        "TokenNotInjected",
        f"token {token} as the policy hands it out",
        found,
        "create the pod anew, or have the cluster's admins see why it was not injected (countersign doctor)",
        name,
        image,
        blocks_identity=False,
    )


def ephemeral_problem(container: Container) -> Problem:
    """Under a policy that lets no ephemeral container in."""
    return Problem(
        "EphemeralContainerDenied",
        "no ephemeral container",
        f"ephemeral container {container.name}",
        "debug a copy, which is judged anew: kubectl debug --copy-to=NAME --share-processes=false --profile=restricted",
        container.name,
        container.image,
    )
