"""`countersign adopt`: pods that run without an identity that a policy would give them, restarted one by one."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, NamedTuple

import typer

from countersign.api.grant import WorkloadGrant
from countersign.api.meta import OwnerReference
from countersign.api.names import EXEMPT_NAMESPACES, SYSTEM_NAMESPACE
from countersign.api.pause import AdmissionPause
from countersign.api.pod import Pod
from countersign.cli.cluster.kube import (
    ApiError,
    ContextOption,
    Kube,
    KubeconfigOption,
    NamespaceOption,
    connected,
    ended_by,
)
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.policies import governed_namespaces
from countersign.cli.image.registries import (
    AddressRangeOption,
    DockerConfigOption,
    InsecureRegistryOption,
    Registries,
    RegistryCAOption,
)
from countersign.cli.orders.pause import server_time
from countersign.cli.pods.evictions import Adopted, Workload, restart
from countersign.cli.pods.instances import namespace_facts, policies_in_force, top_controller
from countersign.cli.pods.workloads import KINDS, POD, planned
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_rows
from countersign.cli.verdicts.judging import Judged, judge_creation
from countersign.cli.verdicts.report import message
from countersign.cluster.owners import controller_of
from countersign.grants.adoption import lacks_identity, obstacle
from countersign.trust.orders.pause import in_force
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import Policy
from countersign.trust.policies.scope import governing

COLUMNS: Final = ("namespace", "pod", "controller", "policy", "grant", "restart", "why")
NONE: Final = "no pod lacks an identity that it should have"

_UNSURE: Final = frozenset({Adopted.BUDGET, Adopted.LATE, Adopted.GONE})
"""Outcomes after which another run may well do better."""


class Candidate(NamedTuple):
    """A pod without the identity that it should have."""

    pod: Pod
    row: dict[str, Any]
    workload: Workload | None
    """What makes it again; None: it is not to be restarted."""
    unknown: bool = False
    """Whether the next pod would get its identity could not be found out."""


def adopt(
    *,
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Every namespace that a policy governs.")
    ] = False,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Only pods that this ClusterTrustPolicy or TrustPolicy governs.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Restart them; without it they are only shown.")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", min=1, help="Seconds for one pod: its budget, its replacement, its grant.")
    ] = 300,
    output: OutputOption = Format.TABLE,
    system_namespace: Annotated[str, typer.Option(help="Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    registry_ca: RegistryCAOption = None,
    insecure_registry: InsecureRegistryOption = None,
    allow_address_range: AddressRangeOption = None,
    docker_config: DockerConfigOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show the pods that run without an identity though a policy would give them one; with --yes restart them.

    They are evicted, so that PodDisruptionBudgets hold, one pod of a controller at a time, and each is waited for. Pods
    of ReplicaSets (and so Deployments), StatefulSets and DaemonSets are restarted if the pod that comes next would get
    its identity, by the policies in the cluster and by what the registries say from here. Bare pods, pods of Jobs, and
    pods whose grant was ended by an order or for something that was done to them are shown only.

    Exit code 0: no pod lacks its identity (any more). 1: some do. 3: of some it could not be found out, or they were
    not ready in time.
    """
    kube = connected(kubeconfig, context)
    registries = Registries(registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config, False)
    try:
        if yes:
            _insist_on_a_shut_door(kube)
        where = governed_namespaces(kube, system_namespace) if all_namespaces else [namespace or kube.namespace]
        if set(where) & {*EXEMPT_NAMESPACES, system_namespace}:
            fail(f"no policy governs pods of {where[0]}, and none is restarted there")
        found = [one for name in where for one in _Surveyor(kube, name, system_namespace, registries, policy).found()]
        if not yes:
            print_rows(COLUMNS, [one.row for one in found], output, empty=NONE)
            raise typer.Exit(_exit(found, ()))
        outcomes = _restart(kube, found, timeout)
    except ApiError as error:
        ended_by(error, "looking for pods without their identity")
    rows = [{**one.row, "outcome": outcomes.get(one.pod.metadata.uid, "not restarted")} for one in found]
    print_rows((*COLUMNS, "outcome"), rows, output, empty=NONE)
    left = [one for one in found if outcomes.get(one.pod.metadata.uid) != Adopted.YES]
    raise typer.Exit(_exit(left, outcomes.values()))


class _Surveyor:
    """One namespace."""

    def __init__(
        self, kube: Kube, namespace: str, system_namespace: str, registries: Registries, policy: str | None
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._registries = registries
        self._policy = policy
        self._facts = namespace_facts(kube, namespace)
        self._snapshot = policies_in_force(kube, namespace, system_namespace)
        self._workloads: dict[str, tuple[Workload | None, Judged | None, str]] = {}

    def found(self) -> Iterator[Candidate]:
        """Its pods without their identity, those of one controller together."""
        grants: dict[str, list[WorkloadGrant]] = {}
        for grant in self._kube.items(collection(WorkloadGrant, self._namespace), WorkloadGrant):
            grants.setdefault(grant.spec.pod.uid, []).append(grant)
        pods = list(self._kube.items(POD.path(self._namespace), Pod))
        for pod in sorted(pods, key=lambda one: (_owner_name(one), one.metadata.name)):
            policies = governing(self._snapshot, Subject(pod=pod, namespace=self._facts))
            if self._policy is not None and all(one.ref.name != self._policy for one in policies):
                continue
            mine = grants.get(pod.metadata.uid, [])
            if lacks_identity(pod, policies, mine):
                yield self._candidate(pod, policies, mine)

    def _candidate(self, pod: Pod, policies: tuple[Policy, ...], grants: list[WorkloadGrant]) -> Candidate:
        owner = controller_of(pod.metadata)
        why = obstacle(pod, grants)
        workload, judged, chain = self._workload(owner) if owner else (None, None, "none")
        unknown = False
        if not why and (workload is None or judged is None):
            why = "its controller is gone, or going"
        if not why and judged is not None and not judged.verdict.qualifies:
            why = f"the next pod would get none either: {message(judged) or _withheld(judged)}"
            unknown = judged.outcome == "unknown"
        row = {
            "namespace": self._namespace,
            "pod": pod.metadata.name,
            "controller": chain,
            "policy": [str(one.ref) for one in policies if one.spec.tokens],
            "grant": _state(grants),
            "restart": "no" if why else "yes",
            "why": why or "the next pod would get its identity",
        }
        return Candidate(pod, row, None if why else workload, unknown)

    def _workload(self, owner: OwnerReference) -> tuple[Workload | None, Judged | None, str]:
        """What makes such pods, what would become of the next one, and the chain for people. Asked once for each."""
        if owner.uid not in self._workloads:
            self._workloads[owner.uid] = self._looked_up(owner)
        return self._workloads[owner.uid]

    def _looked_up(self, owner: OwnerReference) -> tuple[Workload | None, Judged | None, str]:
        top = top_controller(self._kube, self._namespace, owner)
        names = [f"{owner.kind} {owner.name}"]
        if top.link is not None and top.link.uid != owner.uid:
            names.insert(0, f"{top.link.kind} {top.link.name}")
        chain = " / ".join(names) if top.known else f"{names[0]}, which nobody vouches for"
        kind = next((one for one in KINDS if (one.kind, one.api_version) == (owner.kind, owner.api_version)), None)
        if kind is None or kind is POD or not top.known:
            return None, None, chain
        obj = self._kube.find(kind.path(self._namespace, owner.name), dict[str, Any])
        if obj is None or obj["metadata"]["uid"] != owner.uid or obj["metadata"].get("deletionTimestamp"):
            return None, None, chain
        obj |= {"kind": kind.kind, "apiVersion": kind.api_version}
        plan = planned(obj, self._namespace)
        subject = Subject(
            pod=plan.pod,
            namespace=self._facts,
            requester=plan.requester,
            controller=top.link,
            controller_known=top.known,
        )
        judged = judge_creation(self._snapshot, subject, self._registries)
        return Workload(self._namespace, owner.kind, owner.name, owner.uid), judged, chain


def _restart(kube: Kube, found: list[Candidate], timeout: int) -> dict[str, str]:
    """Restart what may be, one after the other; the outcome by pod UID."""
    outcomes: dict[str, str] = {}
    stuck: set[str] = set()
    for one in found:
        if one.workload is None:
            continue
        uid = one.pod.metadata.uid
        if one.workload.uid in stuck:
            outcomes[uid] = Adopted.SKIPPED
            continue
        note(f"restarting {one.row['namespace']}/{one.row['pod']} ({one.row['controller']})")
        outcomes[uid] = outcome = restart(kube, one.pod, one.workload, timeout)
        if outcome not in (Adopted.YES, Adopted.GONE):
            # What went wrong with one pod of a controller is not tried on the next.
            stuck.add(one.workload.uid)
            note(f"{one.row['namespace']}/{one.row['pod']}: {outcome}")
    return outcomes


def _exit(left: list[Candidate], outcomes: Any) -> Exit:
    if not left:
        return Exit.YES
    unsure = any(one.unknown for one in left) or any(one in _UNSURE for one in outcomes)
    return Exit.UNKNOWN if unsure else Exit.NO


def _insist_on_a_shut_door(kube: Kube) -> None:
    try:
        paused = in_force(kube.items(collection(AdmissionPause), AdmissionPause), server_time(kube))
    except ApiError as error:
        if error.status != 403:
            raise
        return  # nothing is lost but the time
    if paused is not None:
        fail(f"admission is paused ({paused}): what is restarted now gets no identity. First: countersign resume")


def _owner_name(pod: Pod) -> str:
    owner = controller_of(pod.metadata)
    return f"{owner.kind}/{owner.name}" if owner else ""


def _state(grants: list[WorkloadGrant]) -> str:
    if not grants:
        return "none"
    status = min(grants, key=lambda one: one.metadata.name).status
    return f"{status.state or 'Pending'} ({status.reason})" if status.reason else status.state or "Pending"


def _withheld(judged: Judged) -> str:
    first = next((one for one in judged.verdict.findings if one.blocks_identity), None)
    return (
        f"{first.code}: expected {first.expected}, found {first.found}" if first else "no token is for its containers"
    )
