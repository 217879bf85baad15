"""`countersign policy findings`: the running pods that a policy would refuse, and what would help each."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from countersign.api.names import SYSTEM_NAMESPACE
from countersign.cli.cluster.kube import ApiError, ContextOption, KubeconfigOption, NamespaceOption, connected, ended_by
from countersign.cli.image.registries import (
    AddressRangeOption,
    DockerConfigOption,
    InsecureRegistryOption,
    OfflineOption,
    Registries,
    RegistryCAOption,
)
from countersign.cli.pods.running import ClusterView, Running
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows
from countersign.cli.verdicts.judging import Case, Judged, judge_again
from countersign.trust.policies.policy import Policy
from countersign.trust.policies.scope import governing
from countersign.trust.verdicts.outlook import speaking, weigh

COLUMNS: Final = ("namespace", "pod", "controller", "verdict", "reason", "container", "found", "wayOut")
VERDICTS: Final = {"wouldDeny": "refused", "unknown": "unknown"}


def findings(
    name: Annotated[str, typer.Argument(help="Name of a ClusterTrustPolicy; with -n of a TrustPolicy there.")],
    *,
    namespace: NamespaceOption = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Ask registries about every image, also where a pod's admission receipt answers."),
    ] = False,
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
    """Name the running pods that a policy would refuse if they were created now, by owner, with reason and way out.

    Whatever its mode: so it is the list to work through before the policy enforces. By the policies in the cluster, and
    by what the registries say from here. With -n a ClusterTrustPolicy's pods of that namespace, if it has no
    TrustPolicy of that name.

    Exit code 0: it would refuse none. 1: it would refuse some. 3: of some it could not be found out.
    """
    if live and offline:
        fail("--live asks registries, --offline asks none: use one of them")
    kube = connected(kubeconfig, context)
    registries = Registries(
        registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config, offline
    )
    try:
        view = ClusterView(kube, system_namespace)
        policy = _find(view, name, namespace)
        where = view.reached(policy)
        if namespace is not None:
            where &= {namespace}
        governed = [one for one in view.running(where) if policy in governing(view.snapshot, one.subject)]
    except ApiError as error:
        ended_by(error, f"looking for the pods of policy {name}")
    judged = judge_again([Case(view.snapshot, one.subject, one.receipt) for one in governed], registries, fresh=live)
    rows = [row for one, verdict in zip(governed, judged, strict=True) for row in _rows(policy, one, verdict)]
    refused, unknown = (
        len({(row["namespace"], row["pod"]) for row in rows if row["verdict"] == wanted})
        for wanted in ("refused", "unknown")
    )
    summary = {"policy": str(policy.ref), "governed": len(governed), "refused": refused, "unknown": unknown}
    if output is Format.JSON:
        print_json({**summary, "findings": rows})
    else:
        print_rows(COLUMNS, rows, output, empty="it would refuse none of the pods that run")
        note(f"{policy.ref}: {len(governed)} pods governed, {refused} would be refused, {unknown} unknown")
    raise typer.Exit(Exit.NO if refused else Exit.UNKNOWN if unknown else Exit.YES)


def _find(view: ClusterView, name: str, namespace: str | None) -> Policy:
    found = {policy.ref.namespace: policy for policy in view.snapshot.policies if policy.ref.name == name}
    policy = found.get(namespace or "") or found.get("")
    if policy is None:
        elsewhere = [one for one in found if one]
        hint = f"; there is a TrustPolicy of that name: use -n {elsewhere[0]}" if elsewhere else ""
        fail(f"there is no ClusterTrustPolicy {name}{hint}")
    return policy


def _rows(policy: Policy, one: Running, judged: Judged) -> Iterator[dict[str, Any]]:
    word = next((word for word in weigh(judged.verdict, one.subject) if word.policy.uid == policy.ref.uid), None)
    if word is None or word.outcome == "allowed":
        return
    for finding in speaking(judged.verdict, policy.ref.uid, one.subject):
        if finding.code in word.reasons:
            yield {
                "namespace": one.pod.metadata.namespace,
                "pod": one.pod.metadata.name,
                "controller": one.controller,
                "verdict": VERDICTS[word.outcome],
                "reason": finding.code,
                "mode": finding.mode,
                "container": finding.container,
                "image": finding.image,
                "expected": finding.expected,
                "found": finding.found,
                "wayOut": finding.remedy,
            }
