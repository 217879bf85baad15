"""`countersign revoke`: order that grants end. Shows first how many it will end, then creates a Revocation."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta
from countersign.api.names import SYSTEM_NAMESPACE
from countersign.api.objects import to_object
from countersign.api.revocation import (
    NamespaceTarget,
    NodeTarget,
    ObjectTarget,
    Revocation,
    RevocationSpec,
    SignerTarget,
    Target,
)
from countersign.cli.cluster.kube import ApiError, ContextOption, Kube, KubeconfigOption, connected, ended_by
from countersign.cli.cluster.paths import collection
from countersign.cli.pods.grants import COLUMNS, row
from countersign.cli.terminal.exits import fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows
from countersign.trust.orders.reach import ends


class What(StrEnum):
    """What can be revoked."""

    GRANT = "grant"
    POD = "pod"
    SERVICE_ACCOUNT = "serviceaccount"
    NODE = "node"
    NAMESPACE = "namespace"
    DIGEST = "digest"
    KEY = "key"
    SIGNER = "signer"


CLUSTER_WIDE = frozenset({What.NODE, What.NAMESPACE, What.DIGEST, What.KEY, What.SIGNER})
"""What people mean for the whole cluster, unless they name a namespace."""


def target(what: What, name: str, namespace: str, issuer: str = "") -> Target:
    """The target of a Revocation. `namespace` is the object's own, empty if the Revocation stands beside it.

    `issuer` is a signer's.
    """
    match what:
        case What.GRANT:
            return Target(grant=ObjectTarget(namespace=namespace, name=name))
        case What.POD:
            return Target(pod=ObjectTarget(namespace=namespace, name=name))
        case What.SERVICE_ACCOUNT:
            return Target(service_account=ObjectTarget(namespace=namespace, name=name))
        case What.NODE:
            return Target(node=NodeTarget(name=name))
        case What.NAMESPACE:
            return Target(namespace=NamespaceTarget(name=name))
        case What.DIGEST:
            return Target(digest=name)
        case What.KEY:
            return Target(key_fingerprint=name)
        case What.SIGNER:
            return Target(signer=SignerTarget(issuer=issuer, subject=name))


def revoke(
    what: Annotated[What, typer.Argument(help=f"What to revoke: {', '.join(What)}.")],
    name: Annotated[
        str,
        typer.Argument(
            help="Its name; for digest and key: sha256:<hex> (a key's fingerprint, as grants show it); for signer: the "
            "subject of its certificates."
        ),
    ],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands on the record.")],
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Namespace of the object, and the reach of the order. Node, namespace, "
            "digest, key and signer reach the whole cluster without it.",
        ),
    ] = None,
    issuer: Annotated[str, typer.Option("--issuer", help="For signer: the issuer of its OIDC tokens.")] = "",
    system_namespace: Annotated[str, typer.Option(help="Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would end.")] = False,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """End identities now: of a grant, pod, account, node or namespace, or all that rest on a digest, key or signer."""
    if (what is What.SIGNER) != bool(issuer):
        fail("revoke signer needs --issuer, and nothing else takes it: a subject alone means another with each issuer")
    if namespace is None and what not in CLUSTER_WIDE:
        fail(f"revoke {what} needs --namespace: the namespace that the {what} is in")
    if what is What.NAMESPACE and namespace not in (None, name, system_namespace):
        fail(f"an order in {namespace} reaches that namespace only: leave --namespace out")
    home = namespace or (name if what is What.NAMESPACE else system_namespace)
    everywhere = home == system_namespace
    kube = connected(kubeconfig, context)
    try:
        spec = RevocationSpec(
            target=target(what, name, home if everywhere else "", issuer), reason=reason, requested_by=requester(kube)
        )
        order = Revocation(metadata=ObjectMeta(generate_name=f"{what}-", namespace=home), spec=spec)
        listed = kube.items(collection(WorkloadGrant, None if everywhere else home), WorkloadGrant)
        ending = [row(one) for one in listed if one.status.state != "Revoked" and ends(order, one, system_namespace)]
    except ApiError as error:
        ended_by(error, "listing the grants that this would end")
    if output is not Format.JSON:
        print_rows(COLUMNS, ending, output, empty="no grant stands that this would end")
    note(
        f"{len(ending)} grant(s) {'would' if dry_run else 'will'} end, for good. "
        "Pods keep running; new ones are judged anew."
    )
    if not (yes or dry_run):
        if not sys.stdin.isatty():
            fail("refusing to revoke without being asked to: pass --yes (or --dry-run to look first)")
        typer.confirm("Revoke?", abort=True, err=True)
    try:
        created = kube.create(collection(Revocation, home), to_object(order), dry_run=dry_run)
    except ApiError as error:
        ended_by(error, "creating the Revocation")
    if output is Format.JSON:
        print_json({"revocation": created, "dryRun": dry_run, "ending": ending})
    if not dry_run:
        note(f"created Revocation {home}/{created['metadata']['name']}: kubectl get revocations -n {home}")


def requester(kube: Kube) -> str:
    """Who we are to the API server. It lets nobody order in another's name, and not every cluster fills the name in."""
    created = kube.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", _WHO_AM_I)
    return str(created["status"]["userInfo"]["username"])


_WHO_AM_I = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
