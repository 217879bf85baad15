"""An event of the API server's audit log (audit.k8s.io/v1), and what a request's body says where the policy keeps it.

Only the members that are read: a line has many more.
"""

from typing import Final

import msgspec


class BadLineError(ValueError):
    """Not a line of the kind that it should be."""


class User(msgspec.Struct, frozen=True):
    """Who asked; `extra` holds the credential's id."""

    username: str = ""
    extra: dict[str, tuple[str, ...]] | None = None


class Reference(msgspec.Struct, frozen=True):
    """What was asked about."""

    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Status(msgspec.Struct, frozen=True):
    """What came of it."""

    code: int = 0
    message: str = ""


class AuditEvent(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The members that are read."""

    audit_id: str = msgspec.field(name="auditID")
    stage: str
    verb: str
    user: User
    impersonated_user: User | None = None
    request_uri: str = msgspec.field(name="requestURI", default="")
    source_ips: tuple[str, ...] | None = msgspec.field(name="sourceIPs", default=None)
    object_ref: Reference | None = None
    response_status: Status | None = None
    request_received_timestamp: str
    annotations: dict[str, str] | None = None
    request_object: msgspec.Raw = msgspec.Raw(b"null")


class GrantStatus(msgspec.Struct, frozen=True, rename="camel"):
    """As in a merge patch, where null takes a member away (RFC 7396)."""

    state: str | None = None
    reason: str | None = None
    message: str | None = None
    caused_by: str | None = None


class GrantBody(msgspec.Struct, frozen=True):
    """A write of a grant."""

    status: GrantStatus | None = None


class Target(msgspec.Struct, frozen=True):
    """A node."""

    name: str = ""


class BindingBody(msgspec.Struct, frozen=True):
    """A pods/binding."""

    target: Target = Target()


class BoundRef(msgspec.Struct, frozen=True):
    """What a token is bound to."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class TokenSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked for."""

    audiences: tuple[str, ...] = ()
    bound_object_ref: BoundRef | None = None


class TokenBody(msgspec.Struct, frozen=True):
    """A TokenRequest."""

    spec: TokenSpec = TokenSpec()


_decode: Final = msgspec.json.Decoder(AuditEvent).decode


def read(line: bytes) -> AuditEvent:
    """The event of a line. Raises BadLineError."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadLineError(str(error)[:200]) from None
