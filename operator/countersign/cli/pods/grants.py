"""`countersign grants`: the inventory of workload identities."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from countersign.api.grant import WorkloadGrant
from countersign.cli.cluster.kube import ApiError, ContextOption, KubeconfigOption, connected, ended_by
from countersign.cli.cluster.paths import collection
from countersign.cli.terminal.output import Format, OutputOption, print_rows

COLUMNS = ("namespace", "name", "pod", "state", "reason", "audiences", "owner", "account", "lastUsed", "created")


class State(StrEnum):
    """States of a grant as they are shown."""

    ACTIVE = "Active"
    SUSPENDED = "Suspended"
    REVOKED = "Revoked"
    PENDING = "Pending"
    """The controller has not judged it to the end: it is not Active."""


def row(grant: WorkloadGrant) -> dict[str, Any]:
    """One line of the inventory; JSON shows the rest as well."""
    uses = grant.status.uses
    return {
        "namespace": grant.metadata.namespace,
        "name": grant.metadata.name,
        "pod": grant.spec.pod.name,
        "state": grant.status.state or State.PENDING.value,
        "reason": grant.status.reason,
        "audiences": [token.audience for token in grant.spec.tokens],
        "owner": grant.spec.owner,
        "account": grant.spec.service_account.name,
        "lastUsed": (uses.last_used_at if uses else None) or "",
        "created": grant.metadata.creation_timestamp or "",
        "message": grant.status.message,
        "causedBy": grant.status.caused_by,
        "expiresAt": grant.spec.expires_at,
        "podUID": grant.spec.pod.uid,
        "node": grant.spec.pod.node_name,
        "requester": grant.spec.requester,
        "policies": [f"{policy.kind}/{policy.name}" for policy in grant.spec.policies],
        "exceptions": [
            {"name": one.name, "checks": list(one.checks), "tokens": one.tokens, "expiresAt": one.expires_at}
            for one in grant.status.exceptions
        ],
        "uses": {
            "audiences": list(uses.audiences) if uses else [],
            "refused": uses.refused if uses else 0,
            "lastRefused": (uses.last_refused_at if uses else None) or "",
        },
        "misuse": [
            {"kind": one.kind, "audience": one.audience, "at": one.at, "message": one.message}
            for one in grant.status.misuse
        ],
        "images": [{"container": image.container, "digest": image.digest} for image in grant.spec.images],
    }


def grants(
    *,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace.")] = None,
    state: Annotated[
        State | None, typer.Option(case_sensitive=False, help=f"Only this state: {', '.join(State)}.")
    ] = None,
    audience: Annotated[str | None, typer.Option(help="Only grants that list this audience.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only grants of this owner.")] = None,
    pod: Annotated[str | None, typer.Option(help="Only grants of this pod name or UID.")] = None,
    digest: Annotated[str | None, typer.Option(help="Only grants of instances that run this digest.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only grants with this reason.")] = None,
    misused: Annotated[bool, typer.Option("--misused", help="Only grants whose tokens were misused.")] = False,
    exception: Annotated[
        str | None, typer.Option(help="Only grants of pods with a finding that this TrustException waives.")
    ] = None,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List workload grants: which instance holds which audiences, who answers for it, in what state and why."""
    kube = connected(kubeconfig, context)
    rows = []
    try:
        for grant in kube.items(collection(WorkloadGrant, namespace), WorkloadGrant):
            line = row(grant)
            kept = (
                (state is None or line["state"] == state)
                and (audience is None or audience in line["audiences"])
                and (owner is None or line["owner"] == owner)
                and (pod is None or pod in {line["pod"], line["podUID"]})
                and (digest is None or any(image["digest"] == digest for image in line["images"]))
                and (reason is None or line["reason"] == reason)
                and (not misused or line["misuse"])
                and (exception is None or any(one["name"] == exception for one in line["exceptions"]))
            )
            if kept:
                rows.append(line)
    except ApiError as error:
        ended_by(error, "listing workload grants")
    print_rows(COLUMNS, rows, output, empty="no workload grants match")
