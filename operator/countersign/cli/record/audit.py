"""Lines of the API server's audit log (audit.k8s.io/v1 Event) as sightings. Pure.

What webhooks annotate stands under the name of their entry (apiserver, pkg/admission/plugin/webhook, dispatcher.go:
`<webhook>/<key>`); ours end in `.countersign.dev`. Which token came of a request, and which one was used for it, the
API server says itself (KEP-4193: `authentication.kubernetes.io/issued-credential-id` and `/credential-id`, `JTI=<id>`).
Times are those at which a request was received: what one caused comes after it, which its completion might not.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import unquote

import msgspec

from countersign.api import clock
from countersign.cli.record.audit_event import (
    AuditEvent,
    BadLineError,
    BindingBody,
    BoundRef,
    GrantBody,
    GrantStatus,
    Reference,
    TokenBody,
)
from countersign.cli.record.timeline import Sighting
from countersign.trust.verdicts.denial import clean

ISSUED: Final = "authentication.kubernetes.io/issued-credential-id"
CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
USER_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
JTI: Final = "JTI="
_OURS: Final = ".countersign.dev/"
_FAILED_OPEN: Final = "failed-open."
MAX_TEXT: Final = 600

_T = TypeVar("_T")

_SHOWN: Final = (
    *("verdict", "entry", "mint", "reason", "policy", "policies", "revocation"),
    *("audiences", "digests", "exceptions", "findings", "paused"),
)
"""Annotations of ours that are told, in this order."""


def sightings(event: AuditEvent) -> tuple[Sighting, ...]:
    """What an event says: of the object that was asked about, and of whose token asked. Raises BadLineError."""
    if event.stage == "RequestReceived":
        return ()
    try:
        at = clock.parse(event.request_received_timestamp)
    except (ValueError, OverflowError) as error:
        raise BadLineError(str(error)[:200]) from None
    base = Sighting(at=at, source="audit log", what="", who=_who(event))
    found = _of_object(event, base)
    user = _of_user(event, base)
    return tuple(one for one in (found, user) if one is not None)


def _of_object(event: AuditEvent, base: Sighting) -> Sighting | None:
    reference = event.object_ref
    if reference is None:
        return None
    teller = _TELLERS.get((reference.resource, reference.subresource))
    return teller(event, reference, base) if teller else None


def _of_user(event: AuditEvent, base: Sighting) -> Sighting | None:
    extra = event.user.extra or {}
    used = next((one.removeprefix(JTI) for one in extra.get(CREDENTIAL, ()) if one.startswith(JTI)), "")
    uid = next(iter(extra.get(USER_POD_UID, ())), "")
    if not used and not uid:
        return None
    detail = _joined(f"{event.verb} {event.request_uri.partition('?')[0]}", _outcome(event), _origin(event))
    return msgspec.structs.replace(base, what="token used at the API server", detail=detail, jti=used, pod_uid=uid)


def _pod(event: AuditEvent, reference: Reference, base: Sighting) -> Sighting | None:
    refused = _code(event) >= 400
    told = _annotations(event)
    match event.verb:
        case "create":
            what, rank = ("admission refused" if refused else "admitted"), 0
        case "update" | "patch":
            what, rank = "pod change refused" if refused else "pod changed", 1
        case "delete" | "deletecollection":
            what, rank = "deletion refused" if refused else "deletion asked for", 6
        case _:
            return None
    detail = _joined(*_told(told), _message(event) if refused else "", _origin(event))
    return msgspec.structs.replace(
        base, what=what, detail=detail, rank=rank, pod=_named(reference), pod_uid=told.get("pod-uid", "")
    )


def _pod_access(event: AuditEvent, reference: Reference, base: Sighting) -> Sighting | None:
    refused = _code(event) >= 400
    query = unquote(event.request_uri.partition("?")[2]).replace("&", " ")
    told = _annotations(event)
    detail = _joined(query, *_told(told), _message(event) if refused else "", _origin(event))
    what = f"{reference.subresource}{' refused' if refused else ''}"
    order = f"Revocation {told['revocation']}" if "revocation" in told else ""
    return msgspec.structs.replace(
        base, what=what, detail=detail, pod=_named(reference), pod_uid=told.get("pod-uid", ""), order=order
    )


def _binding(event: AuditEvent, reference: Reference, base: Sighting) -> Sighting | None:
    target = _body(event, BindingBody, BindingBody()).target.name
    what = "binding refused" if _code(event) >= 400 else "bound to a node"
    return msgspec.structs.replace(base, what=what, detail=_joined(target), rank=1, pod=_named(reference))


def _token(event: AuditEvent, reference: Reference, base: Sighting) -> Sighting | None:
    if event.verb != "create":
        return None
    refused = _code(event) >= 400
    told = _annotations(event)
    spec = _body(event, TokenBody, TokenBody()).spec
    bound = spec.bound_object_ref if spec.bound_object_ref and spec.bound_object_ref.kind == "Pod" else BoundRef()
    issued = (event.annotations or {}).get(ISSUED, "").removeprefix(JTI)
    audiences = "" if "audiences" in told or not spec.audiences else "audiences: " + ", ".join(spec.audiences)
    return msgspec.structs.replace(
        base,
        what="token refused" if refused else "token given",
        detail=_joined(
            f"service account {_named(reference)}",
            f"id {issued}" if issued else "",
            audiences,
            *_told(told),
            _message(event) if refused else "",
            _origin(event),
        ),
        pod=told.get("pod") or (f"{reference.namespace}/{bound.name}" if bound.name else ""),
        pod_uid=told.get("pod-uid") or bound.uid,
        grant=told.get("grant", ""),
        jti=issued,
        # Of a token that was given the API server has compared pod and UID (registry/core/serviceaccount, token.go).
        claimed=refused,
        rank=4,
    )


def _grant(event: AuditEvent, reference: Reference, base: Sighting) -> Sighting | None:
    words = {"create": "grant made", "delete": "grant deleted", "deletecollection": "grant deleted"}
    written = {"update": "grant written", "patch": "grant written"}
    what = (words | written).get(event.verb)
    if what is None:
        return None
    status = _body(event, GrantBody, GrantBody()).status or GrantStatus()
    if event.verb in written and status.state:
        what = f"grant {status.state}"
    reason = f"{status.reason}: {status.message or ''}" if status.reason else ""
    cause = f"caused by {status.caused_by}" if status.caused_by else ""
    refused = _code(event) >= 400
    return msgspec.structs.replace(
        base,
        what=f"{what}, refused" if refused else what,
        detail=_joined(reason, cause, _message(event) if refused else ""),
        grant=_named(reference),
        order="" if refused else status.caused_by or "",
        claimed=refused,
        rank=2 if event.verb == "create" else 4,
    )


def _order(kind: str) -> "_Teller":
    def tell(event: AuditEvent, reference: Reference, base: Sighting) -> Sighting | None:
        if event.verb not in ("create", "update", "patch", "delete"):
            return None
        refused = ", refused" if _code(event) >= 400 else ""
        order = f"{kind} {_named(reference)}"
        return msgspec.structs.replace(
            base, what=f"order: {event.verb}{refused}", detail=_joined(order, _origin(event)), order=order, rank=3
        )

    return tell


_Teller = Callable[[AuditEvent, Reference, Sighting], Sighting | None]

_TELLERS: Final[Mapping[tuple[str, str], _Teller]] = {
    ("pods", ""): _pod,
    ("pods", "ephemeralcontainers"): _pod,
    ("pods", "resize"): _pod,
    ("pods", "binding"): _binding,
    ("pods", "exec"): _pod_access,
    ("pods", "attach"): _pod_access,
    ("pods", "portforward"): _pod_access,
    ("pods", "eviction"): _pod_access,
    ("serviceaccounts", "token"): _token,
    ("workloadgrants", ""): _grant,
    ("workloadgrants", "status"): _grant,
    ("revocations", ""): _order("Revocation"),
    ("trustexceptions", ""): _order("TrustException"),
}


def _annotations(event: AuditEvent) -> dict[str, str]:
    """Those of our webhooks, by key: of several entries, the last that says it (`validate` after `mutate`)."""
    found = {}
    for key, value in sorted((event.annotations or {}).items()):
        entry, _, name = key.rpartition("/")
        if f"{entry}/".endswith(_OURS):
            found[name] = value
        elif entry.startswith(_FAILED_OPEN) and _OURS[1:-1] in value:
            found["paused"] = "the gate did not answer, and its webhook failed open"
    return found


def _told(annotations: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}: {annotations[key]}" for key in _SHOWN if annotations.get(key))


def _body(event: AuditEvent, type_: type[_T], otherwise: _T) -> _T:
    """The request's object, as far as the audit policy keeps it and it is what it should be."""
    try:
        return (
            otherwise
            if bytes(event.request_object) == b"null"
            else msgspec.json.decode(event.request_object, type=type_)
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return otherwise


def _named(reference: Reference) -> str:
    return f"{reference.namespace}/{reference.name}" if reference.namespace else reference.name


def _who(event: AuditEvent) -> str:
    other = event.impersonated_user
    return clean(f"{event.user.username} as {other.username}" if other else event.user.username, 300)


def _code(event: AuditEvent) -> int:
    return event.response_status.code if event.response_status else 0


def _outcome(event: AuditEvent) -> str:
    return str(_code(event) or "")


def _message(event: AuditEvent) -> str:
    return event.response_status.message if event.response_status else ""


def _origin(event: AuditEvent) -> str:
    return f"from {event.source_ips[0]}" if event.source_ips else ""


def _joined(*parts: str) -> str:
    return "; ".join(clean(part, MAX_TEXT) for part in parts if part)
