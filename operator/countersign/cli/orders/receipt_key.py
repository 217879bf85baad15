"""`countersign receipt-key`: which keys sign admission receipts, what rests on each, and what to do about a leaked one.

It writes the Secret of the receipt keys with the caller's own rights. Gate and controller watch it: the gate takes no
receipt of a revoked key from then on, the controller suspends what rests on it.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import typer

from countersign.api import clock
from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta
from countersign.api.names import GROUP, RECEIPT_ANNOTATION, RECEIPT_KEYS_SECRET, SYSTEM_NAMESPACE
from countersign.api.schema import Model
from countersign.cli.cluster.kube import ApiError, ContextOption, Kube, KubeconfigOption, connected, ended_by
from countersign.cli.cluster.paths import collection
from countersign.cli.orders.revoke import requester
from countersign.cli.pods.grants import COLUMNS, row
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_rows
from countersign.keys.errors import UnreadableKeysError
from countersign.keys.receipt_keys import ReceiptKeys, restore_receipt_key, revoke_receipt_key
from countersign.keys.receipts import resting_key
from countersign.keys.secrets import decode_receipt_keys, encode_receipt_keys, from_secret_data, to_secret_data

app = typer.Typer(
    no_args_is_help=True, help="Keys that sign admission receipts: list, revoke a leaked one, restore it."
)

MARK: Final = f"{GROUP}/revoked-"
"""Annotation of the Secret, followed by the key's id: when, by whom and why it was revoked."""
MAX_REASON: Final = 1024
ATTEMPTS: Final = 5
"""Writes of the Secret, each on what was read just before: the controller writes it, too."""
FIRST_PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 2.0

KEY_COLUMNS: Final = ("id", "state", "created", "age", "grants", "active", "remark")

SystemNamespace = Annotated[str, typer.Option(help="Countersign's own namespace.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait until the controller has followed.")]
KeyIds = Annotated[list[str], typer.Argument(metavar="KID...", help="Ids of keys, as `receipt-key list` shows them.")]


class _Secret(Model, frozen=True, kw_only=True):
    metadata: ObjectMeta
    data: dict[str, str] = msgspec.field(default_factory=dict)


class _Bearer(Model, frozen=True, kw_only=True):
    """A pod, as far as its receipt goes."""

    metadata: ObjectMeta


@app.command("list")
def list_keys(
    *,
    system_namespace: SystemNamespace = SYSTEM_NAMESPACE,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """List the keys: which one signs, which are retired or revoked, and how many grants rest on each."""
    kube = connected(kubeconfig, context)
    keys, secret = _read(kube, system_namespace)
    resting = _resting(kube)
    now = datetime.now(UTC)
    signing = keys.signing_key(now)
    created = {key.id: key.created_at for key in keys.keys}
    ids = dict.fromkeys((*created, *sorted(keys.revoked), *sorted(key for key in resting if key)))
    rows = []
    for key in ids:
        grants = resting.get(key, [])
        state = "revoked" if key in keys.revoked else "dropped" if key not in created else "retired"
        if key not in keys.revoked and any(key == one.id for one in keys.signers()):
            state = "signing" if signing is not None and key == signing.id else "standby"
        rows.append(
            {
                "id": key,
                "state": state,
                "created": clock.format_time(created[key]) if key in created else "",
                "age": _age((now - created[key]).total_seconds()) if key in created else "",
                "grants": len(grants),
                "active": sum(grant.status.state == "Active" for grant in grants),
                "remark": secret.metadata.annotations.get(MARK + key, ""),
            }
        )
    print_rows(KEY_COLUMNS, rows, output, empty="there are no receipt keys: is the controller running?")
    if resting.get(""):
        note(f"{len(resting[''])} grant(s) rest on a receipt that cannot be told any more")


@app.command()
def revoke(
    key_ids: KeyIds,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands on the Secret.")],
    system_namespace: SystemNamespace = SYSTEM_NAMESPACE,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it; without this, only show what rests on them.")
    ] = False,
    timeout: Timeout = 60.0,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Revoke leaked keys: no receipt of theirs counts any more, and every grant that rests on one is suspended.

    All keys stand in one Secret: if that was read, revoke every key in it. A fresh key signs from then on. Pods
    whose grants are suspended go on running; delete them, and their successors are admitted by the fresh key.
    """
    kube = connected(kubeconfig, context)
    if not reason.strip() or len(reason) > MAX_REASON:
        fail(f"--reason needs 1 to {MAX_REASON} characters")
    keys, _ = _read(kube, system_namespace)
    concerned = _concerned(kube, key_ids, keys)
    if not yes:
        print_rows(COLUMNS, map(row, concerned), output, empty="no grant stands that rests on this")
        note(f"{len(concerned)} grant(s) would be suspended. Nothing was done: pass --yes to do it.")
        raise typer.Exit(Exit.NO)

    def mark(current: ReceiptKeys) -> ReceiptKeys:
        for key in key_ids:
            current = revoke_receipt_key(current, key, datetime.now(UTC))
        return current

    try:
        who = requester(kube)
    except ApiError as error:
        ended_by(error, "asking who you are")
    remark = f"{clock.format_time(datetime.now(UTC))} {who}: {reason.strip()}"
    now = _write(kube, system_namespace, mark, {MARK + key: remark for key in key_ids})
    fresh = now.signing_key(datetime.now(UTC))
    note(f"revoked {', '.join(key_ids)}; key {fresh.id if fresh else 'none'} signs from now on")
    _await(kube, concerned, lambda grant: grant.status.state != "Active", "suspended", timeout=timeout, output=output)


@app.command()
def restore(
    key_ids: KeyIds,
    *,
    system_namespace: SystemNamespace = SYSTEM_NAMESPACE,
    timeout: Timeout = 60.0,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Take back a mistaken order: receipts of these keys count again, and the grants that rest on them come back."""
    kube = connected(kubeconfig, context)
    keys, _ = _read(kube, system_namespace)
    strangers = [key for key in key_ids if key not in keys.revoked]
    if strangers:
        fail(f"not revoked: {', '.join(strangers)} (see countersign receipt-key list)")
    concerned = [one for one in _concerned(kube, key_ids, keys) if one.status.reason == "ReceiptKeyRevoked"]

    def unmark(current: ReceiptKeys) -> ReceiptKeys:
        for key in key_ids:
            current = restore_receipt_key(current, key)
        return current

    _write(kube, system_namespace, unmark, dict.fromkeys(MARK + key for key in key_ids))
    note(f"restored {', '.join(key_ids)}")
    _await(
        kube,
        concerned,
        lambda grant: grant.status.reason != "ReceiptKeyRevoked",
        "judged anew",
        timeout=timeout,
        output=output,
    )


def _read(kube: Kube, namespace: str) -> tuple[ReceiptKeys, _Secret]:
    try:
        secret = kube.get(_path(namespace), _Secret)
        return decode_receipt_keys(from_secret_data(secret.data)), secret
    except ApiError as error:
        ended_by(error, "reading the receipt keys")
    except UnreadableKeysError as error:
        fail(f"Secret {namespace}/{RECEIPT_KEYS_SECRET}: {error}")


def _write(
    kube: Kube, namespace: str, change: Callable[[ReceiptKeys], ReceiptKeys], marks: Mapping[str, str | None]
) -> ReceiptKeys:
    for attempt in range(ATTEMPTS):
        keys, secret = _read(kube, namespace)
        try:
            changed = change(keys)
        except ValueError as error:
            fail(str(error))
        meta = {"resourceVersion": secret.metadata.resource_version, "annotations": marks}
        body = {"metadata": meta, "data": to_secret_data(encode_receipt_keys(changed))}
        try:
            kube.merge_patch(_path(namespace), body)
        except ApiError as error:
            if error.status != 409 or attempt == ATTEMPTS - 1:
                ended_by(error, "writing the receipt keys")
        else:
            break
    return changed


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{RECEIPT_KEYS_SECRET}"


def _concerned(kube: Kube, key_ids: Sequence[str], keys: ReceiptKeys) -> list[WorkloadGrant]:
    """The grants that rest on these keys and are not final. Ends the command for an id that nobody knows."""
    resting = _resting(kube)
    known = {key.id for key in keys.keys} | keys.revoked | resting.keys()
    strangers = [key for key in key_ids if not key or key not in known]
    if strangers:
        fail(f"no such receipt key: {', '.join(strangers)} (see countersign receipt-key list)")
    return [grant for key in dict.fromkeys(key_ids) for grant in resting.get(key, [])]


def _resting(kube: Kube) -> dict[str, list[WorkloadGrant]]:
    """The grants that are not final, by the id of the key that they rest on; empty id: it cannot be told."""
    found: dict[str, list[WorkloadGrant]] = {}
    try:
        grants = [one for one in kube.items(collection(WorkloadGrant), WorkloadGrant) if one.status.state != "Revoked"]
        receipts: dict[str, str] = {}
        if any(grant.spec.pod.receipt_hash and not grant.spec.pod.receipt_key_id for grant in grants):
            for pod in kube.items("/api/v1/pods", _Bearer):
                receipts[pod.metadata.uid] = pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")
    except ApiError as error:
        ended_by(error, "listing the grants that rest on receipt keys")
    for grant in grants:
        spent = grant.spec.pod
        if spent.receipt_hash or spent.receipt_key_id:
            key = resting_key(spent.receipt_key_id, spent.receipt_hash, receipts.get(spent.uid, ""))
            found.setdefault(key, []).append(grant)
    return found


def _await(
    kube: Kube,
    concerned: Iterable[WorkloadGrant],
    done: Callable[[WorkloadGrant], bool],
    what: str,
    *,
    timeout: float,
    output: Format,
) -> None:
    """Wait until the controller has followed, and print what became of the grants."""
    uids = {grant.spec.pod.uid for grant in concerned}
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            found = [one for one in kube.items(collection(WorkloadGrant), WorkloadGrant) if one.spec.pod.uid in uids]
        except ApiError as error:
            ended_by(error, "listing the grants")
        waiting = sum(not done(grant) for grant in found)
        if not waiting or time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(pause * 2, MAX_PAUSE_SECONDS)
    rows: list[dict[str, Any]] = [row(grant) for grant in found]
    print_rows(COLUMNS, rows, output, empty="no grant rests on this")
    if waiting:
        note(f"{waiting} of {len(found)} grant(s) are not {what} after {timeout:.0f} s: is the controller running?")
        sys.stdout.flush()
        raise typer.Exit(Exit.UNKNOWN)
    note(f"{len(found)} grant(s) are {what}")


def _age(seconds: float) -> str:
    """As kubectl shows it, to the largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(int(seconds), 0)}s"
