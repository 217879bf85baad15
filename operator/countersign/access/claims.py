"""What a service-account token says of itself, once its signature has been verified.

The API server issues these tokens as JWTs (RFC 7519) with a private claim `kubernetes.io` that names the namespace, the
service account and the objects that the token is bound to (KEP-1205; the node's name and UID: KEP-4193).
Verifying the signature is the caller's work: nothing in here makes a token trustworthy.
"""

from typing import Annotated, Final

import msgspec

MAX_PAYLOAD_BYTES: Final = 8 * 1024
"""A token bound to a pod, with names at their limits and one audience, has a payload under 3 KiB."""

_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
_UID = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Seconds since the epoch, up to the end of the year 9999: what a datetime can hold."""
_Audiences = Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=32)]


class MalformedClaimsError(ValueError):
    """The payload is not that of a bound service-account token. The message names the member, never its value."""


class ObjectClaim(msgspec.Struct, frozen=True, gc=False):
    """An object that the token names: bound to this instance, not to whatever bears the name later."""

    name: _Name
    uid: _UID


class NodeClaim(msgspec.Struct, frozen=True, gc=False):
    """The node of the bound pod. The API server leaves `uid` out if it did not find the node object."""

    name: _Name
    uid: Annotated[str, msgspec.Meta(max_length=128)] = ""


class TokenClaims(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The claims that a decision reads. Times are whole seconds since the epoch."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires_at: int
    issued_at: int
    not_before: int
    jti: str
    namespace: str
    service_account: ObjectClaim
    pod: ObjectClaim | None = None
    node: NodeClaim | None = None

    @property
    def lifetime_seconds(self) -> int:
        """`exp - iat`: exactly the `expirationSeconds` that was asked for, since the API server cuts both alike."""
        return self.expires_at - self.issued_at


class _Kubernetes(msgspec.Struct, gc=False):
    namespace: _Name
    serviceaccount: ObjectClaim
    pod: ObjectClaim | None = None
    node: NodeClaim | None = None


class _Payload(msgspec.Struct, gc=False):
    iss: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    sub: _Text
    aud: Annotated[str, msgspec.Meta(max_length=1024)] | _Audiences
    exp: _Seconds
    iat: _Seconds
    nbf: _Seconds
    kubernetes: _Kubernetes = msgspec.field(name="kubernetes.io")
    jti: Annotated[str, msgspec.Meta(max_length=128)] = ""


_decoder = msgspec.json.Decoder(_Payload)


def parse_claims(payload: bytes) -> TokenClaims:
    """The claims in a JWT's payload (UTF-8 JSON). Raises MalformedClaimsError."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedClaimsError(f"the token's payload is larger than {MAX_PAYLOAD_BYTES} bytes")
    try:
        found = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # msgspec names the member and the expected type, and never quotes a value; the length is bounded all the same.
        raise MalformedClaimsError(f"not the payload of a service-account token: {str(error)[:200]}") from None
    return _claims(found)


def _claims(found: _Payload) -> TokenClaims:
    account = found.kubernetes.serviceaccount
    subject = service_account_subject(found.kubernetes.namespace, account.name)
    if found.sub != subject:
        raise MalformedClaimsError(
            "`sub` does not name the service account that `kubernetes.io` names: "
            "only tokens that the API server issued for a service account are understood"
        )
    return TokenClaims(
        issuer=found.iss,
        subject=found.sub,
        audiences=(found.aud,) if isinstance(found.aud, str) else found.aud,
        expires_at=found.exp,
        issued_at=found.iat,
        not_before=found.nbf,
        jti=found.jti,
        namespace=found.kubernetes.namespace,
        service_account=account,
        pod=found.kubernetes.pod,
        node=found.kubernetes.node,
    )


def service_account_subject(namespace: str, name: str) -> str:
    """The user name of a service account (k8s.io/apiserver authentication/serviceaccount, MakeUsername)."""
    return f"system:serviceaccount:{namespace}:{name}"
