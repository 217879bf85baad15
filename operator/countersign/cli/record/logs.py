"""Lines of our services' logs, the verifier's access log among them, as sightings. Pure.

A line may come as the service wrote it, behind what `kubectl logs --prefix --timestamps` or a node's log file (CRI)
puts before it, or inside the member `log` of Docker's json-file.
"""

from typing import Final, Unpack

import msgspec

from countersign.api import clock
from countersign.cli.record.audit_event import BadLineError
from countersign.cli.record.timeline import Keys, Sighting, Source
from countersign.trust.verdicts.denial import clean

MAX_TEXT: Final = 600


class _Line(msgspec.Struct, frozen=True):
    """Members of any line of ours; each is missing where it says nothing."""

    log: str = ""
    time: str = ""
    timestamp: str = ""
    event: str = ""
    decision: str = ""
    endpoint: str = ""
    active: bool = False
    reason: str = ""
    message: str = ""
    asker: str = ""
    jti: str = ""
    audience: str = ""
    pod: str = ""
    pod_uid: str = ""
    grant: str = ""
    source_address: str = ""
    method: str = ""
    path: str = ""
    state: str = ""
    kind: str = ""
    caused_by: str | None = None
    result: str = ""
    resource: str = ""
    operation: str = ""
    namespace: str = ""
    name: str = ""
    user: str = ""


_decode: Final = msgspec.json.Decoder(_Line).decode


class Read(msgspec.Struct, frozen=True):
    """A line that tells something, and the name by which the same line is known when it is met again."""

    sighting: Sighting
    identity: str


def read(line: bytes) -> Read | None:
    """What a line tells; None: nothing of a pod's history. Raises BadLineError."""
    start = line.find(b"{")
    if start < 0:
        return None
    try:
        found = _decode(line[start:])
        if found.log.startswith("{"):
            found = _decode(found.log)
        return _told(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise BadLineError(str(error)[:200]) from None


def _told(line: _Line) -> Read | None:
    keys = Keys(pod=line.pod, pod_uid=line.pod_uid, grant=line.grant, jti=line.jti)
    if line.log == "access" and line.event == "decision":
        what = "used: active" if line.active else "used: not active"
        if line.endpoint == "explain":
            what = "asked about"
        detail = _joined(
            "" if line.active else f"{line.reason}: {line.message}".removesuffix(": "),
            f"audience {line.audience}" if line.audience else "",
            f"{line.method} {line.path}".strip(),
            f"from {line.source_address}" if line.source_address else "",
        )
        return Read(_sighting(line.time, "access log", what, line.asker, detail, **keys), line.decision)
    at = line.timestamp or line.time
    if line.event in ("grant changed", "grant replaced"):
        what = f"grant {line.state}" if line.event == "grant changed" else line.event
        detail = _joined(f"{line.reason}: {line.message}".removesuffix(": ").removeprefix(": "))
        order = line.caused_by or ""
        found = _sighting(at, "log", what, order, detail, **(keys | Keys(order=order)))
        return Read(found, f"{at} {line.event} {line.grant}")
    if line.event in ("drift", "misuse found"):
        detail = _joined(line.message, f"audience {line.audience}" if line.audience else "")
        found = _sighting(at, "log", f"{line.event} {line.kind}".strip(), "", detail, **keys)
        return Read(found, f"{at} {line.event} {line.kind} {line.pod_uid}")
    if line.event == "review":
        if not line.pod and line.resource.partition("/")[0] == "pods":
            keys["pod"] = f"{line.namespace}/{line.name}"
        what = f"gate: {line.operation.lower()} {line.resource} {line.result}"
        found = _sighting(at, "log", what, line.user, _joined(f"{line.reason}: {line.message}"), **keys)
        claimed = line.resource.endswith("/token")  # the pod is the one that the asker named
        return Read(msgspec.structs.replace(found, claimed=claimed), f"{at} {line.resource} {line.pod_uid}")
    return None


def _sighting(at: str, source: Source, what: str, who: str, detail: str, **keys: Unpack[Keys]) -> Sighting:
    return Sighting(
        at=clock.parse(at), source=source, what=clean(what, MAX_TEXT), who=clean(who, MAX_TEXT), detail=detail, **keys
    )


def _joined(*parts: str) -> str:
    return "; ".join(clean(part, MAX_TEXT) for part in parts if part)
