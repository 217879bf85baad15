"""The pod, as far as a verdict depends on it (core/v1). Undeclared members are skipped, which keeps decoding cheap.

The encoded `PodSpec` is also what a receipt's spec hash covers, so a member that a verdict reads must stand here.
"""

from typing import Any, Literal

import msgspec

from countersign.api.meta import ObjectMeta, UTCTime
from countersign.api.names import MIRROR_ANNOTATION
from countersign.api.schema import Model

Opaque = dict[str, Any]
"""A member whose presence and content count (they are hashed), but whose shape no rule reads."""


class EnvVar(Model, frozen=True, kw_only=True):
    """A variable of a container."""

    name: str
    value: str = ""
    value_from: Opaque | None = None


class EnvFromSource(Model, frozen=True, kw_only=True):
    """A ConfigMap or Secret whose every key becomes a variable: its names are not known at admission."""

    prefix: str = ""
    config_map_ref: Opaque | None = None
    secret_ref: Opaque | None = None


class VolumeMount(Model, frozen=True, kw_only=True):
    """Where a volume stands in a container."""

    name: str
    mount_path: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False


class VolumeDevice(Model, frozen=True, kw_only=True):
    """A raw block device in a container."""

    name: str
    device_path: str = ""


class ExecAction(Model, frozen=True, kw_only=True):
    """A command that the kubelet runs inside the container."""

    command: tuple[str, ...] = ()


class Handler(Model, frozen=True, kw_only=True):
    """A probe or a lifecycle hook; only `exec` runs something inside the container."""

    exec: ExecAction | None = None


class Lifecycle(Model, frozen=True, kw_only=True):
    """Hooks of a container."""

    post_start: Handler | None = None
    pre_stop: Handler | None = None


class Capabilities(Model, frozen=True, kw_only=True):
    """Linux capabilities added to or dropped from the runtime's default set."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class WindowsOptions(Model, frozen=True, kw_only=True):
    """Settings for nodes that run Windows."""

    host_process: bool | None = None


class SecurityContext(Model, frozen=True, kw_only=True):
    """The members of a container's security context that decide who can read another container's files."""

    privileged: bool | None = None
    capabilities: Capabilities | None = None
    proc_mount: str | None = None
    windows_options: WindowsOptions | None = None


class PodSecurityContext(Model, frozen=True, kw_only=True):
    """The members of a pod's own security context that containers inherit and a rule reads."""

    windows_options: WindowsOptions | None = None


class Container(Model, frozen=True, kw_only=True):
    """A container of any kind. `restart_policy: Always` on an init container makes it a sidecar (KEP-753)."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    volume_devices: tuple[VolumeDevice, ...] = ()
    liveness_probe: Handler | None = None
    readiness_probe: Handler | None = None
    startup_probe: Handler | None = None
    lifecycle: Lifecycle | None = None
    security_context: SecurityContext | None = None
    restart_policy: str | None = None
    target_container_name: str = ""


class ServiceAccountTokenProjection(Model, frozen=True, kw_only=True):
    """A token that the kubelet mints and rotates."""

    audience: str = ""
    expiration_seconds: int | None = None
    path: str = ""


class VolumeProjection(Model, frozen=True, kw_only=True):
    """One source of a projected volume."""

    service_account_token: ServiceAccountTokenProjection | None = None
    config_map: Opaque | None = None
    downward_api: Opaque | None = msgspec.field(name="downwardAPI", default=None)
    secret: Opaque | None = None
    cluster_trust_bundle: Opaque | None = None
    pod_certificate: Opaque | None = None


class ProjectedVolume(Model, frozen=True, kw_only=True):
    """A projected volume (core/v1)."""

    sources: tuple[VolumeProjection, ...] = ()
    default_mode: int | None = None


class ImageVolume(Model, frozen=True, kw_only=True):
    """An OCI image mounted as a volume (KEP-4639): one more image that must be verified."""

    reference: str = ""
    pull_policy: str = ""


class Volume(Model, frozen=True, kw_only=True):
    """A volume. Sources that no rule reads are kept raw, so that the spec hash still covers them."""

    name: str
    projected: ProjectedVolume | None = None
    image: ImageVolume | None = None
    host_path: Opaque | None = None
    secret: Opaque | None = None
    config_map: Opaque | None = None
    csi: Opaque | None = None
    persistent_volume_claim: Opaque | None = None
    ephemeral: Opaque | None = None
    flex_volume: Opaque | None = None
    nfs: Opaque | None = None
    iscsi: Opaque | None = None


class LocalObjectReference(Model, frozen=True, kw_only=True):
    """A reference by name within the namespace."""

    name: str = ""


class PodSpec(Model, frozen=True, kw_only=True):
    """The part of a pod's spec that a verdict reads."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    service_account_name: str = ""
    automount_service_account_token: bool | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    node_name: str = ""
    share_process_namespace: bool | None = None
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_network: bool = False
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    host_users: bool | None = None
    runtime_class_name: str | None = None
    security_context: PodSecurityContext | None = None
    termination_grace_period_seconds: int | None = None


class ContainerStateTerminated(Model, frozen=True, kw_only=True):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""


class ContainerState(Model, frozen=True, kw_only=True):
    """The member that is present tells the state."""

    running: Opaque | None = None
    terminated: ContainerStateTerminated | None = None
    waiting: Opaque | None = None


class ImageVolumeStatus(Model, frozen=True, kw_only=True):
    """What the node says of an image volume."""

    image_ref: str = ""


class VolumeStatus(Model, frozen=True, kw_only=True):
    """What the node says of a mounted volume."""

    image: ImageVolumeStatus | None = None


class VolumeMountStatus(Model, frozen=True, kw_only=True):
    """A volume as it is mounted into a container."""

    name: str
    volume_status: VolumeStatus | None = None


class ContainerStatus(Model, frozen=True, kw_only=True):
    """What the node says of a container. What its images mean: `grants.reports`."""

    name: str
    image: str = ""
    image_id: str = msgspec.field(name="imageID", default="")
    state: ContainerState | None = None
    restart_count: int = 0
    volume_mounts: tuple[VolumeMountStatus, ...] = ()


PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown", ""]


class PodCondition(Model, frozen=True, kw_only=True):
    """One condition of a pod. `PodScheduled` is written by the API server with the binding to a node."""

    type: str = ""
    status: str = ""
    last_transition_time: UTCTime | None = None


class PodIP(Model, frozen=True, kw_only=True):
    """One address of the pod on the cluster's network."""

    ip: str = ""


class PodStatus(Model, frozen=True, kw_only=True):
    """The part of a pod's status that we follow."""

    phase: PodPhase = ""
    reason: str = ""
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Model, frozen=True, kw_only=True):
    """A pod (core/v1)."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


def is_terminal(pod: Pod) -> bool:
    """Whether all of the pod's work is over (pod lifecycle: a terminal phase is final for the kubelet)."""
    return pod.status.phase in TERMINAL_PHASES


def is_mirror(pod: Pod) -> bool:
    """Whether this is the API shadow of a static pod, or says so.

    No kubelet runs it for what the API says, and the API server lets nobody add the annotation to a pod that exists.
    """
    return MIRROR_ANNOTATION in pod.metadata.annotations
