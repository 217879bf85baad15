"""`countersign pause` and `resume`: break-glass.

The order is an AdmissionPause; controller and gates act on it. Where no controller does, which is when one needs it
most, `pause` opens the webhook configurations itself, with the rights of whoever runs it, and leaves the mark by which
the controller shuts them when it is back.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final

import typer

from countersign.api import clock
from countersign.api.meta import ObjectMeta, condition
from countersign.api.names import CLOSED_ANNOTATION, POD_ENTRIES
from countersign.api.objects import to_object
from countersign.api.pause import AdmissionPause, AdmissionPauseSpec
from countersign.cli.cluster.kube import ApiError, ContextOption, Kube, KubeconfigOption, connected, ended_by
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.check import Anything
from countersign.cli.diagnosis.pauses import WEBHOOKS
from countersign.cli.orders.revoke import requester
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows
from countersign.trust.orders.pause import MAX_PAUSE, ends_at, in_force, open_until

WAIT_SECONDS: Final = 10.0
"""A controller that runs reports within about two seconds."""
POLL_SECONDS: Final = 0.5
ATTEMPTS: Final = 5
"""At changing a webhook configuration that somebody else is writing, too."""
COLUMNS: Final = ("name", "open", "since", "until", "by", "reason")

_DURATION: Final = re.compile(r"(?:(\d{1,3})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
_PAUSES: Final = collection(AdmissionPause)


def pause(
    *,
    duration: Annotated[str, typer.Option("--for", help="For how long: 90s, 30m, 2h or 1h30m; at most 24h.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; stands on the record.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Only show the pauses, those that are over, too.")] = False,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Break-glass: for a while no pod is refused anywhere, and none that is created gets an identity.

    Pods that run keep theirs. It ends by itself. If no controller reports the door open within 10 s, the command opens
    the webhook configurations itself, with your own rights; the ClusterRole `countersign-breakglass` allows all but
    that. Exit code 0: the door is open (with --list: shown). 2: it is not, or not everywhere; the message says why.
    """
    kube = connected(kubeconfig, context)
    try:
        if list_:
            now = server_time(kube)
            shown = sorted((row(one, now) for one in kube.items(_PAUSES, AdmissionPause)), key=lambda one: one["since"])
            print_rows(COLUMNS, shown, output, empty="admission was never paused")
            return
        made = _order(kube, duration, reason)
    except ApiError as error:
        ended_by(error, "pausing admission")
    name = made.metadata.name
    note(f"created AdmissionPause {name}: until {made.spec.expires_at}; to end it: countersign resume {name}")
    by_hand = not _reported(kube, name, "True")
    if by_hand:
        _open_by_hand(kube, name)
        note(
            f"no controller reported within {WAIT_SECONDS:g} s, so this command has opened the webhook configurations. "
            "The controller shuts them when it is back; until then nobody does, though gates that run refuse pods as "
            "ever from the end of the pause on"
        )
    if output is Format.JSON:
        print_json({"name": name, "until": made.spec.expires_at, "openedByHand": by_hand})
    note("the door is open: no pod is refused, and none that is created now gets an identity")


def resume(
    name: Annotated[
        str | None, typer.Argument(help="The AdmissionPause; without it every one that is in force.")
    ] = None,
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """End a pause early: pods are judged and refused as ever from now on.

    Exit code 0: the controller reports the door shut, or it was. 1: another pause keeps it open. 3: no controller has
    reported; gates that run shut it by themselves.
    """
    kube = connected(kubeconfig, context)
    try:
        now = server_time(kube)
        known = [kube.get(f"{_PAUSES}/{name}", AdmissionPause)] if name else list(kube.items(_PAUSES, AdmissionPause))
        ending = [one.metadata.name for one in known if open_until(one, now) is not None]
        others = [one for one in kube.items(_PAUSES, AdmissionPause) if one.metadata.name not in ending]
        for one in ending:
            kube.merge_patch(f"{_PAUSES}/{one}", {"spec": {"expiresAt": clock.format_time(now)}})
            note(f"AdmissionPause {one} ends now")
    except ApiError as error:
        ended_by(error, "ending the pause")
    still = in_force(others, now)
    if still is not None:
        fail(f"the door stays open until {clock.format_time(still.ends)}, by AdmissionPause {still.name}", Exit.NO)
    if not ending:
        note(f"AdmissionPause {name} is over" if name else "admission is not paused")
        return
    if not all(_reported(kube, one, "False") for one in ending):
        text = "no controller has reported the door shut: gates that run refuse pods as ever, but where none answers "
        fail(f"{text}pods still come in until a controller is back (countersign doctor)", Exit.UNKNOWN)
    note("the door is shut. What was created meanwhile has no identity: countersign adopt --all-namespaces")


def parse_duration(text: str) -> timedelta | None:
    """`90s`, `30m`, `2h`, `1h30m`; None for anything else, for nothing at all, and for more than 24 h."""
    return parse_length(text, MAX_PAUSE)


def parse_length(text: str, longest: timedelta) -> timedelta | None:
    """A length of time, such as `1d12h` or `90s`; None for anything else, for nothing at all, and for more."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    return length if timedelta(0) < length <= longest else None


def server_time(kube: Kube) -> datetime:
    """The API server's time: the pause is judged in the cluster, and this machine's clock may be another. May raise."""
    _, date = kube.version()
    return parsedate_to_datetime(date).astimezone(UTC) if date else datetime.now(UTC)


def row(one: AdmissionPause, now: datetime) -> dict[str, Any]:
    """A pause for people and scripts."""
    end = ends_at(one)
    return {
        "name": one.metadata.name,
        "open": "yes" if open_until(one, now) else "no",
        "since": one.metadata.creation_timestamp or "",
        "until": clock.format_time(end) if end else one.spec.expires_at,
        "by": one.spec.requested_by,
        "reason": one.spec.reason,
    }


def _order(kube: Kube, duration: str, reason: str) -> AdmissionPause:
    length = parse_duration(duration)
    if length is None:
        fail("--for says how long: 90s, 30m, 2h or 1h30m, and at most 24h")
    if not reason:
        fail("--reason says why; it stands on the record")
    end = clock.format_time(server_time(kube) + length)
    spec = AdmissionPauseSpec(reason=reason, expires_at=end, requested_by=requester(kube))
    wanted = AdmissionPause(metadata=ObjectMeta(generate_name="pause-"), spec=spec)
    created = kube.create(_PAUSES, to_object(wanted))
    return kube.get(f"{_PAUSES}/{created['metadata']['name']}", AdmissionPause)


def _reported(kube: Kube, name: str, status: str) -> bool:
    """Whether the controller reports the door in that state, of the pause as it is now, within WAIT_SECONDS."""

    def told() -> bool:
        try:
            one = kube.find(f"{_PAUSES}/{name}", AdmissionPause)
        except ApiError:
            return False
        found = condition(one.status.conditions, "Open") if one else None
        return bool(one and found and found.status == status and found.observed_generation >= one.metadata.generation)

    return _within(WAIT_SECONDS, told)


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _open_by_hand(kube: Kube, name: str) -> None:
    """Make the entries about pods fail open in both configurations. Ends the command if that may not be done."""
    for path in WEBHOOKS:
        for attempt in range(ATTEMPTS):
            try:
                stored = kube.find(path, Anything)
                operations = opening(stored) if stored else []
                if operations:
                    kube.json_patch(path, operations)
                break
            except ApiError as error:
                if error.status in (409, 422) and attempt < ATTEMPTS - 1:
                    continue  # somebody wrote it meanwhile
                fail(
                    f"AdmissionPause {name} stands and gates that run let pods in, but no controller has reported, and "
                    f"{path.rpartition('/v1/')[2]} cannot be changed: {error.message}. Have somebody who may patch "
                    "webhook configurations run `countersign pause`"
                )


def opening(configuration: Anything) -> list[dict[str, Any]]:
    """The JSON patch that makes its entries about pods fail open, and marks that they did not; empty: they do."""
    operations: list[dict[str, Any]] = []
    for index, entry in enumerate(configuration.webhooks):
        if str(entry.get("name", "")).startswith(POD_ENTRIES) and entry.get("failurePolicy") == "Fail":
            operations += [
                {"op": "test", "path": f"/webhooks/{index}/name", "value": entry["name"]},
                {"op": "replace", "path": f"/webhooks/{index}/failurePolicy", "value": "Ignore"},
            ]
    if not operations:
        return []
    annotations = {**configuration.metadata.annotations, CLOSED_ANNOTATION: "true"}
    return [*operations, {"op": "add", "path": "/metadata/annotations", "value": annotations}]
