"""`countersign explain`: what Countersign makes of a pod, or of the pods that a workload would have, and why."""

from typing import Annotated, Any

import msgspec
import typer

from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta, OwnerReference
from countersign.api.names import SYSTEM_NAMESPACE
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
from countersign.cli.image.registries import (
    AddressRangeOption,
    DockerConfigOption,
    InsecureRegistryOption,
    OfflineOption,
    Registries,
    RegistryCAOption,
)
from countersign.cli.pods import grants
from countersign.cli.pods.instances import (
    below,
    failed_creations,
    grant_of,
    namespace_facts,
    policies_in_force,
    receipt_of,
    top_controller,
)
from countersign.cli.pods.workloads import KINDS, POD, Kind, Planned, find_kind, planned
from countersign.cli.terminal.exits import Exit, fail
from countersign.cli.terminal.output import Format, OutputOption, print_fields, print_json, print_rows, say
from countersign.cli.verdicts.judging import judge_creation, judge_live
from countersign.cli.verdicts.report import as_members, print_verdict
from countersign.cluster.owners import controller_of
from countersign.grants.reasons import REMEDIES
from countersign.trust.pods.subject import Subject
from countersign.trust.receipt import as_admitted

Object = dict[str, Any]


def explain(
    kind: Annotated[str, typer.Argument(help="pod, deploy, rs, sts, ds, job or cronjob.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    namespace: NamespaceOption = None,
    offline: OfflineOption = False,
    output: OutputOption = Format.TABLE,
    system_namespace: Annotated[str, typer.Option(help="Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    registry_ca: RegistryCAOption = None,
    insecure_registry: InsecureRegistryOption = None,
    allow_address_range: AddressRangeOption = None,
    docker_config: DockerConfigOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Say what Countersign makes of a pod now, and why; of a workload, what becomes of the pods that it makes.

    By the policies in the cluster, and by what the registries say from here. A workload is explained whether or not it
    ever got a pod. Exit code 0: admitted, or the pod's grant is Active. 1: denied, or it has none. 3: unknown.
    """
    wanted = find_kind(kind)
    if wanted is None:
        fail(f"{kind!r} makes no pods: use {', '.join((one.aliases or (one.kind.lower(),))[0] for one in KINDS)}")
    kube = connected(kubeconfig, context)
    registries = Registries(
        registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config, offline
    )
    home = namespace or kube.namespace
    try:
        obj = kube.get(wanted.path(home, name), dict[str, Any])
        # Objects are read one by one without their type.
        obj |= {"kind": wanted.kind, "apiVersion": wanted.api_version}
        explainer = _Explainer(kube, home, system_namespace, registries, output)
        code = explainer.pod(obj) if wanted is POD else explainer.workload(wanted, obj)
    except ApiError as error:
        ended_by(error, f"explaining {wanted.kind} {home}/{name}")
    raise typer.Exit(code)


class _Explainer:
    """What all explanations share."""

    def __init__(
        self, kube: Kube, namespace: str, system_namespace: str, registries: Registries, output: Format
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._registries = registries
        self._output = output
        self._facts = namespace_facts(kube, namespace)
        self._snapshot = policies_in_force(kube, namespace, system_namespace)

    def pod(self, obj: Object) -> Exit:
        """A pod that exists."""
        pod = msgspec.convert(obj, Pod)
        meta = pod.metadata
        grant = grant_of(self._kube, self._namespace, meta.uid)
        receipt = receipt_of(pod, grant)
        subject = self._subject(pod, controller_of(meta))
        if receipt.receipt is not None:
            subject = as_admitted(receipt.receipt, subject)
        judged = judge_live(self._snapshot, subject, self._registries, receipt.receipt)
        if self._output is Format.JSON:
            shown = {"pod": _name(meta), "uid": meta.uid, "grant": grants.row(grant) if grant else None}
            print_json({**shown, "receipt": receipt.found, **as_members(judged)})
        elif self._output is Format.CSV:
            print_verdict(judged, self._output)
        else:
            fields = {"pod": _name(meta), "phase": pod.status.phase, **_controller(subject)}
            print_fields(
                {**fields, **_grant(grant, governed=judged.outcome != "not governed"), "receipt": receipt.found}
            )
            print_verdict(judged, self._output)
        if grant is None:
            return Exit.YES if judged.outcome == "not governed" else Exit.NO
        return Exit.YES if grant.status.state == "Active" else Exit.NO

    def workload(self, kind: Kind, obj: Object) -> Exit:
        """An object that makes pods: the pod that it would make next, those that it has, and what went wrong."""
        plan = planned(obj, self._namespace)
        meta = msgspec.convert(obj["metadata"], ObjectMeta)
        judged = judge_creation(self._snapshot, self._of_plan(plan, meta), self._registries)
        made = below(self._kube, kind, self._namespace, meta.uid)
        pods = [self._row(pod) for pod in made.pods]
        events = [
            {"when": one.when, "by": f"{one.involved_object.kind} {one.involved_object.name}", "message": one.message}
            for one in failed_creations(self._kube, self._namespace, made.uids)
        ]
        if self._output is Format.JSON:
            shown = {kind.kind.lower(): _name(meta), "uid": meta.uid, "pods": pods, "failedCreations": events}
            print_json({**shown, **as_members(judged)})
        elif self._output is Format.CSV:
            print_verdict(judged, self._output)
        else:
            print_fields({kind.kind.lower(): _name(meta), "pods": str(len(pods))})
            print_verdict(judged, self._output, title="its next pod")
            for event in events:
                say(f"\nFailedCreate at {event['when']}, {event['by']}:\n  {event['message']}")
            if pods:
                say("")
                print_rows(("pod", "phase", "grant", "state", "reason", "message"), pods, self._output)
        return judged.exit

    def _of_plan(self, plan: Planned, meta: ObjectMeta) -> Subject:
        owner = OwnerReference(
            api_version=plan.kind.api_version, kind=plan.kind.kind, name=plan.name, uid=meta.uid, controller=True
        )
        subject = self._subject(plan.pod, owner)
        return msgspec.structs.replace(subject, requester=plan.requester)

    def _subject(self, pod: Pod, owner: OwnerReference | None) -> Subject:
        found = top_controller(self._kube, self._namespace, owner)
        return Subject(pod=pod, namespace=self._facts, controller=found.link, controller_known=found.known)

    def _row(self, pod: Pod) -> dict[str, Any]:
        grant = grant_of(self._kube, self._namespace, pod.metadata.uid)
        return {
            "pod": pod.metadata.name,
            "phase": pod.status.phase,
            "grant": grant.metadata.name if grant else "",
            "state": (grant.status.state or grants.State.PENDING.value) if grant else "",
            "reason": grant.status.reason if grant else "",
            "message": grant.status.message if grant else "",
        }


def _name(meta: ObjectMeta) -> str:
    return f"{meta.namespace}/{meta.name}"


def _controller(subject: Subject) -> dict[str, str]:
    if not subject.controller_known:
        return {"controller": "one that nobody vouches for"}
    return {"controller": f"{subject.controller.kind} {subject.controller.name}" if subject.controller else "none"}


def _grant(grant: WorkloadGrant | None, *, governed: bool) -> dict[str, str]:
    if grant is None:
        waiting = "none yet: is the controller running? (countersign doctor)"
        return {"grant": waiting if governed else "none: no policy governs this pod"}
    status = grant.status
    fields = {
        "grant": grant.metadata.name,
        "state": f"{status.state or grants.State.PENDING.value} ({status.reason})" if status.reason else "Pending",
        "since": status.changed_at or "",
        "message": status.message,
        "caused by": status.caused_by,
        "way out": next((remedy for reason, remedy in REMEDIES.items() if reason == status.reason), ""),
        "audiences": ", ".join(token.audience for token in grant.spec.tokens),
        "exceptions": ", ".join(f"{one.name} until {one.expires_at}" for one in status.exceptions),
        "owner": grant.spec.owner,
        "requester": grant.spec.requester,
    }
    return {name: value for name, value in fields.items() if value}
