"""From what people write and name to the pod that is judged: a Pod itself, or the pod that a workload would make."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from countersign.api.admission import UserInfo
from countersign.api.meta import ObjectMeta
from countersign.api.pod import Pod
from countersign.api.schema import Model
from countersign.gate.templates import PodTemplate, Workload
from countersign.trust.pods.subject import ControllerLink


class Kind(NamedTuple):
    """A kind that is, or makes, pods."""

    kind: str
    group: str
    plural: str
    aliases: tuple[str, ...]
    controller: str = ""
    """The account in kube-system under which kube-controller-manager creates its pods."""

    @property
    def api_version(self) -> str:
        """As it stands in objects."""
        return f"{self.group}/v1" if self.group else "v1"

    def path(self, namespace: str, name: str = "") -> str:
        """Of the collection in the API server, or of one object."""
        base = f"/apis/{self.group}/v1" if self.group else "/api/v1"
        return f"{base}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


POD: Final = Kind("Pod", "", "pods", ("po",))
REPLICA_SET: Final = Kind("ReplicaSet", "apps", "replicasets", ("rs",), "replicaset-controller")
JOB: Final = Kind("Job", "batch", "jobs", (), "job-controller")
KINDS: Final = (
    POD,
    # A Deployment's pods are made by its ReplicaSet, a CronJob's by its Job.
    Kind("Deployment", "apps", "deployments", ("deploy",), "replicaset-controller"),
    REPLICA_SET,
    Kind("StatefulSet", "apps", "statefulsets", ("sts",), "statefulset-controller"),
    Kind("DaemonSet", "apps", "daemonsets", ("ds",), "daemon-set-controller"),
    JOB,
    Kind("CronJob", "batch", "cronjobs", ("cj",), "job-controller"),
)


class Planned(NamedTuple):
    """A pod that is there or would be made."""

    kind: Kind
    name: str
    pod: Pod
    controller: ControllerLink | None
    """The object itself where it makes pods; for a bare pod None."""
    requester: UserInfo | None
    """Who creates such pods; None for a bare pod."""


class _Named(Model, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""


def find_kind(word: str) -> Kind | None:
    """The kind that somebody means by `deploy`, `Deployment` or `deployments`."""
    lower = word.lower()
    return next((kind for kind in KINDS if lower in (kind.kind.lower(), kind.plural, *kind.aliases)), None)


def planned(obj: Mapping[str, Any], namespace: str) -> Planned:
    """The pod of an object, in `namespace`. Raises msgspec.ValidationError, which names the path, or ValueError."""
    named = msgspec.convert(obj, _Named)
    kind = next((one for one in KINDS if (one.kind, one.api_version) == (named.kind, named.api_version)), None)
    if kind is None:
        known = ", ".join(f"{one.kind} ({one.api_version})" for one in KINDS)
        raise ValueError(
            f"{named.kind or 'no kind'} ({named.api_version or 'no apiVersion'}) makes no pods: use {known}"
        )
    if kind is POD:
        pod = msgspec.convert(obj, Pod)
        pod = msgspec.structs.replace(pod, metadata=_in(pod.metadata, namespace))
        return Planned(kind, pod.metadata.name or pod.metadata.generate_name, pod, None, None)
    workload = msgspec.convert(obj, Workload)
    template: PodTemplate = workload.spec.template
    if workload.spec.job_template is not None:
        template = workload.spec.job_template.spec.template
    name = workload.metadata.name
    metadata = msgspec.structs.replace(
        _in(template.metadata, namespace), name="", generate_name=f"{name}-", owner_references=()
    )
    link = ControllerLink(api_group=kind.group, kind=kind.kind, name=name, uid=workload.metadata.uid)
    return Planned(
        kind, name, Pod(metadata=metadata, spec=template.spec), link, account(f"kube-system/{kind.controller}")
    )


def account(namespace_and_name: str) -> UserInfo:
    """A service account as the API server knows it."""
    namespace, _, name = namespace_and_name.partition("/")
    return user(f"system:serviceaccount:{namespace}:{name}")


def user(username: str, groups: tuple[str, ...] = ()) -> UserInfo:
    """A user, with the groups that its name brings along (k8s.io/apiserver, MakeGroupNames)."""
    parts = username.split(":")
    if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{parts[2]}", *groups)
    return UserInfo(username=username, groups=(*groups, "system:authenticated"))


def _in(metadata: ObjectMeta, namespace: str) -> ObjectMeta:
    return msgspec.structs.replace(metadata, namespace=namespace)
