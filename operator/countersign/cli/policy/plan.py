"""`countersign policy plan`: what a change of policies would do to the pods that run, before it is applied."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.names import SYSTEM_NAMESPACE
from countersign.api.revocation import Revocation
from countersign.cli.cluster.kube import ApiError, ContextOption, KubeconfigOption, NamespaceOption, connected, ended_by
from countersign.cli.files.manifests import declarations
from countersign.cli.image.registries import (
    AddressRangeOption,
    DockerConfigOption,
    InsecureRegistryOption,
    OfflineOption,
    Registries,
    RegistryCAOption,
)
from countersign.cli.pods.running import ClusterView, Running
from countersign.cli.policy.proposal import Proposal, propose
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows, say
from countersign.cli.verdicts.judging import Case, Judged, judge_again
from countersign.grants.foresight import Foreseen, Instance, foresee
from countersign.grants.impact import DEFAULT_LIMITS, Impact, Limits
from countersign.grants.judgement import requalify
from countersign.grants.reasons import REMEDIES
from countersign.trust.policies.composition import accept
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.outlook import weigh

COLUMNS: Final = ("namespace", "pod", "controller", "creation", "grant", "tokens", "reason", "wayOut")


def plan(
    file: Annotated[
        list[Path] | None,
        typer.Option("--filename", "-f", help="YAML file of policies and audiences to apply; - for stdin. Repeatable."),
    ] = None,
    *,
    delete: Annotated[
        list[str] | None,
        typer.Option(help="ClusterTrustPolicy NAME, or TrustPolicy NAMESPACE/NAME, to delete. Repeatable."),
    ] = None,
    namespace: NamespaceOption = None,
    impact_grants: Annotated[int, typer.Option(help="The controller's --impact-grants.")] = DEFAULT_LIMITS.grants,
    impact_share: Annotated[float, typer.Option(help="The controller's --impact-share.")] = DEFAULT_LIMITS.share,
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
    """Say what applying files, or deleting policies, would admit, refuse, suspend and restore. Nothing is changed.

    Every running pod of a namespace that the policies reach, now or then, is judged under both: as if it were created
    anew, and by its grant as it lives. Told are the pods for which that differs, what webhooks would cover, and whether
    the controller would hold the change until acceptImpact.

    Exit code 0: no pod would be refused and no grant suspended that is not now. 1: some would. 3: of some it could not
    be found out.
    """
    if not file and not delete:
        fail("nothing to plan: name a file (-f) or a policy to delete (--delete)")
    kube = connected(kubeconfig, context)
    registries = Registries(
        registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config, offline
    )
    declared = declarations(file or [], namespace or kube.namespace)
    try:
        view = ClusterView(kube, system_namespace)
        proposal = propose(view.snapshot, declared, delete or [])
        where = {name for uid in proposal.changes for name in _reached(view, proposal, uid)}
        if any(isinstance(one, ProtectedAudience | Revocation | EvidenceRoot | TrustException) for one in declared):
            where |= {name for one in proposal.snapshot.policies for name in view.reached(one)}
        running = list(view.running(where))
    except ApiError as error:
        ended_by(error, "looking at the cluster")
    acceptance = accept(proposal.snapshot, view.namespaces)
    changed = {one.metadata.name for one in declared if isinstance(one, ProtectedAudience)}
    for one in acceptance.audiences:
        if one.name in changed and not one.accepted:
            note(f"ProtectedAudience {one.name}: Accepted=False {one.accepted_reason}: {one.accepted_message}")
    for judgement in acceptance.policies:
        if judgement.ref.uid in proposal.changes and not judgement.accepted:
            note(f"{judgement.ref}: Accepted=False {judgement.accepted_reason}: {judgement.accepted_message}")
        if judgement.ref.uid in proposal.changes and not judgement.resolved_refs:
            note(f"{judgement.ref}: ResolvedRefs=False {judgement.resolved_reason}: {judgement.resolved_message}")
    cases = [Case(one, pod.subject, pod.receipt) for one in (view.snapshot, proposal.snapshot) for pod in running]
    judged = judge_again(cases, registries)
    before, after = judged[: len(running)], judged[len(running) :]
    instances = [
        _instance(view.snapshot, proposal.snapshot, pod, now, then)
        for pod, now, then in zip(running, before, after, strict=True)
    ]
    policies = {policy.ref.uid: policy for policy in proposal.snapshot.policies}
    foreseen, impacts = foresee(instances, policies, Limits(impact_grants, impact_share))
    rows = [
        _row(pod, instance, found)
        for pod, instance, found in zip(running, instances, foreseen, strict=True)
        if found.changes
    ]
    told = {
        "policies": list(_policies(view, proposal, running, before, after)),
        "reach": _reach(view, proposal),
        "held": [_impact(one) for one in impacts.values() if one.held],
        "totals": _totals(foreseen),
        "pods": rows,
    }
    if output is Format.JSON:
        print_json(told)
    elif output is Format.CSV:
        print_rows(COLUMNS, rows, output)
    else:
        _print(told, rows)
    raise typer.Exit(_exit(foreseen))


def _reached(view: ClusterView, proposal: Proposal, uid: str) -> set[str]:
    both = (*view.snapshot.policies, *proposal.snapshot.policies)
    return {name for policy in both if policy.ref.uid == uid for name in view.reached(policy)}


def _instance(now: PolicySnapshot, then: PolicySnapshot, pod: Running, before: Judged, after: Judged) -> Instance:
    at = datetime.now(UTC)
    return Instance(
        uid=pod.pod.metadata.uid,
        now=before.verdict,
        then=after.verdict,
        grant=pod.grant,
        qualified_now=requalify(now, pod.subject, pod.receipt, at),
        qualified_then=requalify(then, pod.subject, pod.receipt, at),
    )


def _row(pod: Running, instance: Instance, found: Foreseen) -> dict[str, Any]:
    finding = _cause(instance, found)
    tokens = [*(f"-{audience}" for audience in found.lost), *(f"+{audience}" for audience in found.gained)]
    reason, remedy = (finding.code, finding.remedy) if finding else ("", "")
    if finding is None and found.grant == "suspended":
        reason, remedy = "NoLongerQualifies", REMEDIES["NoLongerQualifies"]
    return {
        "namespace": pod.pod.metadata.namespace,
        "pod": pod.pod.metadata.name,
        "controller": pod.controller,
        "creation": found.admission,
        "grant": f"{found.grant} (held)" if found.held else found.grant,
        "tokens": tokens,
        "reason": str(reason),
        "policy": str(finding.policy) if finding and finding.policy else "",
        "found": finding.found if finding else "",
        "message": instance.qualified_then.message if found.grant == "suspended" and instance.qualified_then else "",
        "wayOut": remedy,
    }


def _cause(instance: Instance, found: Foreseen) -> Finding | None:
    """The finding of then that explains best what changes for the worse."""
    if found.admission in ("refused", "unknown"):
        return next(iter(instance.then.denials), None)
    if found.lost or found.grant == "suspended":
        return next((one for one in instance.then.findings if one.blocks_identity), None)
    return None


def _policies(
    view: ClusterView, proposal: Proposal, running: list[Running], before: list[Judged], after: list[Judged]
) -> Iterable[dict[str, Any]]:
    """What each policy that the proposal names makes of the pods, whatever its mode: now and then."""
    now = {policy.ref.uid: policy for policy in view.snapshot.policies}
    then = {policy.ref.uid: policy for policy in proposal.snapshot.policies}
    counted = [_counts(running, judged) for judged in (before, after)]
    for uid, change in proposal.changes.items():
        policy = then.get(uid) or now[uid]
        yield {
            "policy": str(policy.ref),
            "change": change,
            "mode": {
                "now": now[uid].spec.mode if uid in now else "",
                "then": then[uid].spec.mode if uid in then else "",
            },
            "now": counted[0].get(uid, _NOBODY),
            "then": counted[1].get(uid, _NOBODY),
        }


_NOBODY: Final[Mapping[str, int]] = {"governed": 0, "failing": 0, "unknown": 0}


def _counts(running: list[Running], judged: list[Judged]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for pod, one in zip(running, judged, strict=True):
        for word in weigh(one.verdict, pod.subject):
            counts = found.setdefault(word.policy.uid, dict(_NOBODY))
            counts["governed"] += 1
            counts["failing"] += word.outcome == "wouldDeny"
            counts["unknown"] += word.outcome == "unknown"
    return found


def _reach(view: ClusterView, proposal: Proposal) -> dict[str, list[str]]:
    """Namespaces whose pods the API server would ask the gate about, or would refuse while no gate answers."""
    asked_now, closed_now = _covered(view, view.snapshot)
    asked_then, closed_then = _covered(view, proposal.snapshot)
    return {
        "newlyGoverned": sorted(asked_then - asked_now),
        "noLongerGoverned": sorted(asked_now - asked_then),
        "newlyEnforced": sorted(closed_then - closed_now),
        "noLongerEnforced": sorted(closed_now - closed_then),
    }


def _covered(view: ClusterView, snapshot: PolicySnapshot) -> tuple[set[str], set[str]]:
    reached = [(policy, name) for policy in snapshot.policies for name in view.reached(policy)]
    return {name for _, name in reached}, {name for policy, name in reached if policy.mode_in(name) == "Enforce"}


def _impact(one: Impact) -> dict[str, Any]:
    return {
        "policy": str(one.policy),
        "losing": one.losing,
        "active": one.active,
        "acceptImpact": one.policy.generation,
    }


def _totals(foreseen: list[Foreseen]) -> dict[str, int]:
    return {
        "pods": len(foreseen),
        "refused": sum(one.admission == "refused" for one in foreseen),
        "admitted": sum(one.admission == "admitted" for one in foreseen),
        "unknown": sum(one.admission == "unknown" for one in foreseen),
        "suspended": sum(one.grant == "suspended" for one in foreseen),
        "held": sum(one.held for one in foreseen),
        "resumed": sum(one.grant == "resumed" for one in foreseen),
        "losingTokens": sum(bool(one.lost) for one in foreseen),
        "gainingTokens": sum(bool(one.gained) for one in foreseen),
    }


def _print(told: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    print_rows(
        ("policy", "change", "mode", "governed", "failing", "unknown"),
        [
            {
                "policy": one["policy"],
                "change": one["change"],
                **{key: f"{one['now'][key]} -> {one['then'][key]}" for key in _NOBODY},
                "mode": f"{one['mode']['now'] or 'none'} -> {one['mode']['then'] or 'none'}",
            }
            for one in told["policies"]
        ],
        Format.TABLE,
        empty="no policy changes",
    )
    words = {
        "newlyGoverned": "newly governed",
        "noLongerGoverned": "no longer governed",
        "newlyEnforced": "newly enforced (pods are refused while no gate answers)",
        "noLongerEnforced": "no longer enforced",
    }
    for key, names in told["reach"].items():
        if names:
            say(f"namespaces {words[key]}: {', '.join(names)}")
    for one in told["held"]:
        say(
            f"held: {one['policy']} would suspend {one['losing']} of {one['active']} active grants; they stay until "
            f"spec.acceptImpact is {one['acceptImpact']}"
        )
    totals = told["totals"]
    say(
        f"\nof {totals['pods']} running pods, at their next creation: {totals['refused']} more refused, "
        f"{totals['admitted']} more admitted, {totals['unknown']} unknown; {totals['losingTokens']} lose and "
        f"{totals['gainingTokens']} gain tokens"
    )
    say(f"of their grants: {totals['suspended']} suspended ({totals['held']} held), {totals['resumed']} resumed\n")
    print_rows(COLUMNS, rows, Format.TABLE, empty="nothing changes for the pods that run")


def _exit(foreseen: list[Foreseen]) -> Exit:
    if any(one.admission == "refused" or one.grant == "suspended" for one in foreseen):
        return Exit.NO
    return Exit.UNKNOWN if any(one.admission == "unknown" for one in foreseen) else Exit.YES
