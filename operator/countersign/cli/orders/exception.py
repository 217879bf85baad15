"""`countersign exception`: create, list and end TrustExceptions.

The order is a TrustException. Gate, controller and verifier each know by themselves when one is over.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, get_args

import msgspec
import typer

from countersign.api import clock
from countersign.api.exception import (
    ExceptionMatch,
    ExceptionPolicyRef,
    TrustException,
    TrustExceptionSpec,
    WaivableCheck,
    Waive,
)
from countersign.api.meta import ObjectMeta
from countersign.api.objects import to_object
from countersign.api.policy import ServiceAccountBinding
from countersign.cli.cluster.kube import ApiError, ContextOption, KubeconfigOption, connected, ended_by
from countersign.cli.cluster.paths import collection
from countersign.cli.files.schema_check import problems
from countersign.cli.orders.pause import parse_length, server_time
from countersign.cli.orders.revoke import requester
from countersign.cli.terminal.exits import fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows
from countersign.trust.orders.exceptions import MAX_EXCEPTION, ends_at, in_force_until

app = typer.Typer(help="Exempt workloads from single checks of policies, for a time.", no_args_is_help=True)

CHECKS: Final = get_args(WaivableCheck)
COLUMNS: Final = ("name", "active", "until", "tokens", "waives", "policies", "pods", "owner", "by", "reason")

_EXCEPTIONS: Final = collection(TrustException)


class Tokens(StrEnum):
    """What becomes of the tokens of a pod that is let in."""

    WITHHOLD = "Withhold"
    ISSUE = "Issue"


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    policy: Annotated[
        list[str], typer.Option(help="NAME of a ClusterTrustPolicy or NAMESPACE/NAME of a TrustPolicy. Repeatable.")
    ],
    waive: Annotated[
        list[str],
        typer.Option(
            help=f"Check to waive, repeatable: {', '.join(CHECKS)}; one of attestations also as CHECK=PREDICATE_TYPE."
        ),
    ],
    duration: Annotated[str, typer.Option("--for", help="For how long: 12h, 7d or 1d12h; at most 90d.")],
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why; stands on the record.")],
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Only pods of this namespace. Repeatable.")
    ] = None,
    image: Annotated[list[str] | None, typer.Option(help="Only images that this glob matches. Repeatable.")] = None,
    digest: Annotated[list[str] | None, typer.Option(help="Only images of this digest. Repeatable.")] = None,
    service_account: Annotated[
        list[str] | None, typer.Option(help="Only pods of this account, NAMESPACE/NAME. Repeatable.")
    ] = None,
    tokens: Annotated[
        Tokens, typer.Option(case_sensitive=False, help="Issue: such pods receive their tokens, too.")
    ] = Tokens.WITHHOLD,
    dry_run: Annotated[bool, typer.Option(help="Only let the API server say whether it would take it.")] = False,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Exempt pods from checks of policies for a time: they are let in, without tokens unless you say otherwise.

    It ends by itself; the ClusterRole `countersign-exceptions` may do this. For selectors write the object in YAML.
    Exit code 0: it is in force. 2: it is not.
    """
    length = parse_length(duration, MAX_EXCEPTION)
    if length is None:
        fail("--for says how long: 12h, 7d or 1d12h, and at most 90d")
    kube = connected(kubeconfig, context)
    try:
        made = TrustException(
            metadata=ObjectMeta(name=name),
            spec=TrustExceptionSpec(
                policy_refs=tuple(_policy(text) for text in policy),
                match=ExceptionMatch(
                    namespaces=tuple(namespace or ()),
                    images=tuple(image or ()),
                    digests=tuple(digest or ()),
                    service_accounts=tuple(_account(text) for text in service_account or ()),
                ),
                waives=tuple(_waive(text) for text in dict.fromkeys(waive)),
                tokens=tokens.value,
                owner=owner,
                reason=reason,
                expires_at=clock.format_time(server_time(kube) + length),
                requested_by=requester(kube),
            ),
        )
        body = msgspec.json.decode(msgspec.json.encode(to_object(made)))
        if found := problems(TrustException, body):
            fail("\n       ".join(map(str, found)))
        kube.create(_EXCEPTIONS, body, dry_run=dry_run)
    except ApiError as error:
        ended_by(error, f"creating TrustException {name}")
    until = made.spec.expires_at
    if output is Format.JSON:
        print_json({"name": name, "until": until, "created": not dry_run})
    if dry_run:
        note(f"TrustException {name} would be in force until {until}")
    else:
        note(f"created TrustException {name}: until {until}; to end it: countersign exception end {name}")


@app.command("list")
def list_(
    *,
    over: Annotated[bool, typer.Option("--over", help="Those that are over, too.")] = False,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List the TrustExceptions, the one that ends first on top."""
    kube = connected(kubeconfig, context)
    try:
        now = server_time(kube)
        rows = [row(one, in_force_until(one, now) is not None) for one in kube.items(_EXCEPTIONS, TrustException)]
    except ApiError as error:
        ended_by(error, "listing TrustExceptions")
    shown = sorted((one for one in rows if over or one["active"] == "yes"), key=lambda one: (one["until"], one["name"]))
    print_rows(COLUMNS, shown, output, empty="no TrustException is in force" if not over else "there is none")


@app.command("end")
def end(
    name: Annotated[str, typer.Argument(help="The TrustException.")],
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """End a TrustException now. It stays as a record; what rested on it is judged without it at once.

    Exit code 0: it is over.
    """
    kube = connected(kubeconfig, context)
    try:
        now = server_time(kube)
        found = kube.get(f"{_EXCEPTIONS}/{name}", TrustException)
        if in_force_until(found, now) is None:
            note(f"TrustException {name} is over")
            return
        kube.merge_patch(f"{_EXCEPTIONS}/{name}", {"spec": {"expiresAt": clock.format_time(now)}})
    except ApiError as error:
        ended_by(error, f"ending TrustException {name}")
    note(f"TrustException {name} is over; {found.status.pods} running pods had findings that it waived")


def row(one: TrustException, active: bool) -> dict[str, Any]:
    """An exception for people and scripts."""
    spec, until = one.spec, ends_at(one)
    return {
        "name": one.metadata.name,
        "active": "yes" if active else "no",
        "until": clock.format_time(until) if until else spec.expires_at,
        "tokens": spec.tokens,
        "waives": [_said(waived) for waived in spec.waives],
        "policies": [f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name for ref in spec.policy_refs],
        "pods": one.status.pods,
        "owner": spec.owner,
        "by": spec.requested_by,
        "reason": spec.reason,
    }


def _policy(text: str) -> ExceptionPolicyRef:
    namespace, slash, name = text.rpartition("/")
    if slash:
        return ExceptionPolicyRef(kind="TrustPolicy", namespace=namespace, name=name)
    return ExceptionPolicyRef(kind="ClusterTrustPolicy", name=name)


def _account(text: str) -> ServiceAccountBinding:
    namespace, slash, name = text.partition("/")
    if not slash:
        fail(f"--service-account {text!r}: write NAMESPACE/NAME")
    return ServiceAccountBinding(namespace=namespace, name=name)


def _said(one: Waive) -> str:
    return f"{one.check}={one.predicate_type}" if one.predicate_type else one.check


def _waive(text: str) -> Waive:
    check, _, predicate_type = text.partition("=")
    return Waive(check=_check(check), predicate_type=predicate_type)


def _check(text: str) -> WaivableCheck:
    try:
        check: WaivableCheck = msgspec.convert(text, WaivableCheck)
    except msgspec.ValidationError:
        fail(f"--waive {text!r}: can be waived: {', '.join(CHECKS)}")
    return check
