"""`countersign trace`: one timeline of an identity: admission, evidence, grant, token requests, uses, its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from countersign.api.clock import format_micro, format_time
from countersign.cli.cluster.kube import (
    ApiError,
    ContextOption,
    Kube,
    KubeconfigOption,
    NamespaceOption,
    connected,
    ended_by,
)
from countersign.cli.record.gathering import Gathered, gather
from countersign.cli.record.objects import Cluster
from countersign.cli.record.timeline import Instance, Known, Shown, Sighting, coalesced, instances, learn, timeline
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_fields, print_json, print_rows, say

COLUMNS = ("time", "source", "what", "who", "detail")

_NO_AUDIT = "no audit log given (--audit-log): admissions, execs, token requests and deletions are not shown"
_NO_ACCESS = "no log of the verifiers given (--log): uses are not shown"
_NO_CLUSTER = "the cluster was not asked: grant, evidence and Events are not shown"

LogOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--log",
        help="Log of verifiers, controllers or gates, as `kubectl logs` gives it or a log store exports it; plain or "
        "gzip. May be repeated.",
        exists=True,
        dir_okay=False,
    ),
]
AuditLogOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--audit-log",
        help="Audit log of the API server (JSON lines), plain or gzip; all its rotated files. May be repeated.",
        exists=True,
        dir_okay=False,
    ),
]


def trace(
    target: Annotated[
        str,
        typer.Argument(help="Pod or grant, by name or by the pod's UID; or a token's id (jti). NAMESPACE/NAME, too."),
    ],
    *,
    namespace: NamespaceOption = None,
    audit_log: AuditLogOption = None,
    log: LogOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="By the files alone: the cluster is not asked.")] = False,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show the history of one pod's identity, out of the cluster, the API server's audit log and the services' logs.

    Works with what is there, and says what is missing: a pod that is gone is found by its UID, its grant or a token's
    id, a namespace that is gone in files alone. Exit code 0: found. 1: nothing is known of it. 2: several instances
    bore that name: choose one by its UID.
    """
    given, _, name = target.rpartition("/")
    name = name.removeprefix("JTI=")
    kube = None if offline else connected(kubeconfig, context)
    home = given or namespace or (kube.namespace if kube else "")
    if not name:
        fail(f"{target!r} names nothing: give a pod, a grant, a pod's UID or a token's id")
    if not home:
        fail("without a cluster the namespace has to be said: NAMESPACE/NAME, or -n")
    tracer = _Tracer(kube, home, name, audit_log or (), log or ())
    try:
        tracer.search()
    except ApiError as error:
        ended_by(error, f"tracing {home}/{name}")
    except OSError as error:
        fail(f"a log cannot be read: {error}")
    raise typer.Exit(tracer.show(output))


class _Tracer:
    """One search."""

    def __init__(
        self, kube: Kube | None, namespace: str, target: str, audit_logs: Sequence[Path], logs: Sequence[Path]
    ) -> None:
        self._cluster = Cluster(kube) if kube else None
        self._namespace = namespace
        self._target = target
        self._audit_logs = audit_logs
        self._logs = logs
        self._found = Gathered(Known(), (), ())
        self._several: tuple[Instance, ...] = ()

    def search(self) -> None:
        """Find all there is. Raises ApiError, OSError."""
        target, named = self._target, f"{self._namespace}/{self._target}"
        # A UID and a token's id look alike, and so do names: whichever of them is met is what was meant.
        first = Known(
            pods=frozenset({named}), pod_uids=frozenset({target}), grants=frozenset({named}), jtis=frozenset({target})
        )
        objects = self._cluster.find(self._namespace, target) if self._cluster else []
        found = gather(learn(first, objects), objects, self._audit_logs, self._logs)
        by_name = instances({named}, found.sightings)
        if len(by_name) > 1:
            self._several = by_name
            return
        if by_name:
            found = self._follow(first, by_name[0].pod_uid, found)
        if self._cluster:
            found = self._with_cluster(found)
        self._found = found

    def _follow(self, first: Known, pod_uid: str, found: Gathered) -> Gathered:
        """Again, by the UID that the name led to."""
        known = msgspec.structs.replace(first, pod_uids=first.pod_uids | {pod_uid})
        given = tuple(one for one in found.sightings if one.source in ("object", "event"))
        return gather(learn(known, given), given, self._audit_logs, self._logs)

    def _with_cluster(self, found: Gathered) -> Gathered:
        """What the cluster knows of whom the files named: of a token's id alone it knows nothing."""
        assert self._cluster is not None  # noqa: S101 - asked for by the caller
        objects = [one for one in found.sightings if one.source == "object"]
        for uid in sorted(found.known.pod_uids - {one.pod_uid for one in objects}):
            objects += self._cluster.find(self._namespace, uid)
        known = learn(found.known, objects)
        objects += self._cluster.around(self._namespace, known)
        return gather(known, tuple(dict.fromkeys(objects)), self._audit_logs, self._logs)

    def show(self, output: Format) -> Exit:
        """Print it."""
        if self._several:
            return self._show_instances(output)
        entries = timeline(self._found.known, self._found.sightings)
        remarks = self._remarks()
        if output is Format.JSON:
            print_json({**self._subject(), "timeline": [_members(one) for one in entries], "missing": remarks})
        elif output is Format.CSV:
            print_rows(COLUMNS, [_row(Shown(one, 1, one.at)) for one in entries], output)
        elif entries:
            print_fields({key: _text(value) for key, value in self._subject().items() if value})
            say("")
            print_rows(COLUMNS, [_row(one) for one in coalesced(entries)], output)
        if output is not Format.JSON:
            for remark in remarks:
                note(remark)
        if not entries:
            note(f"nothing is known of {self._namespace}/{self._target}")
        return Exit.YES if entries else Exit.NO

    def _show_instances(self, output: Format) -> Exit:
        rows = [
            {"podUID": one.pod_uid, "first": format_time(one.first), "last": format_time(one.last)}
            for one in self._several
        ]
        if output is Format.JSON:
            print_json({"pod": f"{self._namespace}/{self._target}", "instances": rows})
        else:
            print_rows(("podUID", "first", "last"), rows, output)
        note(f"{len(rows)} instances bore the name {self._target}: choose one by its UID: countersign trace UID")
        return Exit.USAGE

    def _subject(self) -> dict[str, Any]:
        """By what it was found: only what some sighting bears, not what was tried."""
        entries = timeline(self._found.known, self._found.sightings)
        found = {"pods": "pod", "podUIDs": "pod_uid", "grants": "grant", "tokens": "jti"}
        return {
            shown: sorted({getattr(one, member) for one in entries if not one.claimed} - {""})
            for shown, member in found.items()
        }

    def _remarks(self) -> list[str]:
        missing = [] if self._audit_logs else [_NO_AUDIT]
        missing += [] if self._logs else [_NO_ACCESS]
        missing += self._cluster.remarks if self._cluster else [_NO_CLUSTER]
        if self._cluster and not self._cluster.grants:
            missing.append(
                "no grant of it is in the cluster: there was none, or it went with its namespace or its time"
            )
        return [*dict.fromkeys((*missing, *self._found.remarks))]


def _members(one: Sighting) -> dict[str, Any]:
    members = {
        "time": _time(one), "toTheSecond": one.to_the_second, "source": one.source, "what": one.what, "who": one.who,
        "detail": one.detail, "pod": one.pod, "podUID": one.pod_uid, "grant": one.grant, "jti": one.jti,
        "order": one.order, "claimed": one.claimed,
    }  # fmt: skip
    return {key: value for key, value in members.items() if value not in ("", False)}


def _row(shown: Shown) -> dict[str, str]:
    one = shown.first
    repeated = f" ({shown.count} times, until {format_time(shown.last)})" if shown.count > 1 else ""
    claim = " (only claimed to be about it)" if one.claimed else ""
    return {
        "time": _time(one), "source": one.source, "what": one.what + repeated + claim, "who": one.who,
        "detail": one.detail,
    }  # fmt: skip


def _time(one: Sighting) -> str:
    return format_time(one.at) if one.to_the_second else format_micro(one.at)


def _text(values: Sequence[str]) -> str:
    return ", ".join(values)
