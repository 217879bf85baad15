"""`countersign doctor`: is everything in place that a verdict rests on? One line a check, with what to do."""

from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Final

import typer

from countersign.api.names import SYSTEM_NAMESPACE
from countersign.cli.cluster.kube import ApiError, ContextOption, KubeconfigOption, connected, ended_by
from countersign.cli.diagnosis import api_server, evidence_roots, exceptions, grants, pauses, policies, services
from countersign.cli.diagnosis.check import Check, Cluster
from countersign.cli.terminal.exits import Exit, fail
from countersign.cli.terminal.output import Format, OutputOption, print_rows

CHECKS: tuple[Callable[[Cluster, str], Iterator[Check]], ...] = (
    api_server.api_server,
    api_server.kinds,
    api_server.guards,
    services.deployments,
    services.controller,
    services.webhooks,
    services.certificates,
    services.gate,
    pauses.pauses,
    exceptions.exceptions,
    policies.policies,
    policies.coverage,
    evidence_roots.evidence_roots,
    grants.suspended,
)

NAMES: Final = {one.__name__.replace("_", "-"): one for one in CHECKS}
"""As `--skip` names them."""


def doctor(
    *,
    system_namespace: Annotated[str, typer.Option(help="Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help=f"Leave a check out, repeatable: {', '.join(NAMES)}."),
    ] = None,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Look for trouble: API, guards, services, certificates, clocks, versions, policies, ungoverned namespaces.

    Changes nothing: the gate is tried by a server-side dry run. Exit code 0: nothing failed. 1: something did.
    3: something could not be looked at.
    """
    if unknown := set(skip or ()) - NAMES.keys():
        fail(f"--skip: no check is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    cluster = connected(kubeconfig, context)
    try:
        found = list(examine(cluster, system_namespace, without=skip or ()))
    except ApiError as error:
        ended_by(error, "examining the cluster")
    print_rows(Check._fields, [check._asdict() for check in found], output)
    results = {check.result for check in found}
    raise typer.Exit(Exit.NO if "fail" in results else Exit.UNKNOWN if "unknown" in results else Exit.YES)


def examine(cluster: Cluster, system_namespace: str, *, without: Collection[str] = ()) -> Iterator[Check]:
    """Run every check but those that `without` names. Raises ApiError if no cluster answers.

    A check that cannot be run says so, and the others go on.
    """
    for check in (check for name, check in NAMES.items() if name not in without):
        try:
            yield from check(cluster, system_namespace)
        except ApiError as error:
            if error.status in (0, 401):
                raise
            name = check.__name__.replace("_", " ")
            remedy = "run this as somebody who may read it" if error.status == 403 else "see the checks above"
            yield Check(name, "unknown", f"could not look: {error.message}", remedy)
