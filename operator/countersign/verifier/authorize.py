"""The hook for proxies: nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`, Envoy HTTP `ext_authz`.

    ANY /authorize[?audience=A]     the proxy tells of the client's request by headers (X-Original-*, X-Forwarded-*)
    ANY /authorize/PATH?QUERY       the client's own method and path, after the prefix (Envoy's `path_prefix`)

`Authorization` is the client's, with the token to be judged; the asker shows its own in `Countersign-Asker`. A proxy
that forwards the client's headers replaces that one, so a client cannot ask in the proxy's place.

    200  active: every header of IDENTITY, so that a proxy which copies them overwrites whatever a client sent
    401  the token is missing or not active (RFC 6750 section 3)
    403  nobody who may ask, or a request of which it cannot be said what it is; nothing of the token shows
    429, 503 with Retry-After: no answer

A body is never read: the query of a prefixed path is the client's, and so says nothing.

What a proxy does not set, a client can: Caddy and Traefik pass its headers on. So whatever is told twice must agree,
and what servers read in different ways (`..` in a path, in any spelling) is refused, not left out: an audience's rule
may say what must not be, and would hold of what is not told.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import msgspec
from aiohttp import hdrs

from countersign.access.answer import Members
from countersign.access.use import Use, canonical_address, use_of
from countersign.verifier.introspection import Answer

PREFIX: Final = "/authorize"
ASKER_HEADER: Final = "Countersign-Asker"
"""The asker's token, with or without `Bearer `: some proxies put a file's content into a header, and no more."""
DEMAND_HEADER: Final = "Countersign-Require-Audience"
"""As `?audience=`, where the query is the client's. Each demand can only refuse, so a forged one lets nobody in."""
REALM: Final = "countersign.dev"

IDENTITY: Final[Mapping[str, Callable[[Members], str]]] = {
    "Countersign-Subject": lambda one: one.sub,
    "Countersign-Namespace": lambda one: one.workload.pod.namespace,
    "Countersign-Service-Account": lambda one: one.workload.service_account.name,
    "Countersign-Pod": lambda one: one.workload.pod.name,
    "Countersign-Pod-Uid": lambda one: one.workload.pod.uid,
    "Countersign-Grant": lambda one: one.workload.grant.name,
    "Countersign-Owner": lambda one: one.workload.owner,
    "Countersign-Audience": lambda one: one.aud,
    "Countersign-Token-Id": lambda one: one.jti,
}
"""What an upstream is told. Removing one, or leaving one out of an answer, would let a client's own value through."""

_METHOD: Final = re.compile(r"[A-Za-z][A-Za-z-]{0,31}")
_DOTS: Final = re.compile(r"(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\;]|%2f|%5c|%3b)", re.IGNORECASE)
"""`.` or `..` as a segment, as any server might decode it; `..;` is one to servlet containers."""
_PLAIN: Final = re.compile(r"[!-$&-~](?:[ -$&-~]*[!-$&-~])?")
_KEPT: Final = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""With letters, digits and `_.-~`: what percent-encoding leaves as it is."""


class AmbiguousError(Exception):
    """It cannot be said for sure what the client wants. The message is for the proxy's operator."""


class Headers(Protocol):
    """A request's headers: names in any case."""

    def getall(self, key: str, default: tuple[str, ...]) -> list[str] | tuple[str, ...]:
        """Every value under that name."""


class Question(NamedTuple):
    """What a proxy asks."""

    asker: str
    """As an Authorization header would say it; empty: nobody."""
    token: str
    """Empty: the client showed none."""
    use: Use
    demanded: tuple[str, ...]
    """Each must be the token's audience."""


def question(method: str, target: str, headers: Headers) -> Question:
    """What is asked. `target`: path and query as they came. Raises AmbiguousError."""
    path, _, query = target.partition("?")
    inner = path.removeprefix(PREFIX)
    if inner == path:
        raise AmbiguousError("the request's target is not in origin form")
    methods = [*_each(headers, "X-Original-Method", "X-Forwarded-Method"), *([method] if inner else ())]
    paths = [*_each(headers, "X-Original-URI", "X-Forwarded-Uri"), *([inner] if inner else ())]
    return Question(
        _bearer(_single(headers, ASKER_HEADER)),
        _token(_single(headers, hdrs.AUTHORIZATION)),
        use_of(source_address=_address(headers), method=_method(methods), path=_path(paths)),
        (*headers.getall(DEMAND_HEADER, ()), *(() if inner else _audiences(query))),
    )


def held_to(answer: Answer, demanded: tuple[str, ...]) -> Answer:
    """The answer, not active if a demand names another audience than the token's."""
    if answer.decision is None or answer.decision.members is None or not demanded:
        return answer
    audience = answer.decision.members.aud
    if all(one == audience for one in demanded):
        return answer
    message = f"the proxy demands the audience {' and '.join(demanded)[:300]!r}; the token's is {audience!r}"
    return msgspec.structs.replace(answer, reason="AudienceNotDemanded", message=message, decision=None)


def identity(members: Members) -> dict[str, str]:
    """The headers of a 200: all of IDENTITY, none of them empty."""
    return {name: header_value(told(members)) for name, told in IDENTITY.items()}


def challenge(*, shown: bool) -> str:
    """The WWW-Authenticate header of a 401 (RFC 6750 section 3: no error code for a client that showed no token)."""
    return f'Bearer realm="{REALM}", error="invalid_token"' if shown else f'Bearer realm="{REALM}"'


def header_value(text: str) -> str:
    """The text as printable ASCII, by percent-encoding of all else and of `%` itself; `-` for none."""
    if _PLAIN.fullmatch(text):
        return text
    return quote(text, safe=_KEPT) or "-"


def _bearer(value: str) -> str:
    return value if not value or value[:7].lower() == "bearer " else f"Bearer {value}"


def _token(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _audiences(query: str) -> Iterator[str]:
    # An audience has no character that would have to be encoded; one that is encoded all the same matches nothing.
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name == "audience":
            yield value


def _each(headers: Headers, *names: str) -> list[str]:
    found = (_single(headers, name) for name in names)
    return [one for one in found if one]


def _single(headers: Headers, name: str) -> str:
    found = headers.getall(name, ())
    if len(found) > 1:
        raise AmbiguousError(f"{name} stands {len(found)} times: have the proxy replace what its clients send")
    return found[0].strip() if found else ""


def _method(told: list[str]) -> str:
    if not told:
        return ""
    if len({one.upper() for one in told}) > 1:
        raise AmbiguousError(
            "X-Original-Method and X-Forwarded-Method differ: have the proxy remove what it does not set"
        )
    if not _METHOD.fullmatch(told[0]):
        raise AmbiguousError("the method is none")
    return told[0]


def _path(told: list[str]) -> str:
    if not told:
        return ""
    paths = {one.partition("?")[0] for one in told}
    if len(paths) > 1:
        raise AmbiguousError("X-Original-URI and X-Forwarded-Uri differ: have the proxy remove what it does not set")
    path = paths.pop()
    if not (path.startswith("/") or path == "*") or not path.isprintable() or " " in path:
        raise AmbiguousError("the path is none")
    if _DOTS.search(path):
        raise AmbiguousError("the path has a segment `.` or `..`, which servers read in different ways")
    return path


def _address(headers: Headers) -> str:
    """What the proxy itself saw: in a chain that is the last, all before it is hearsay."""
    chain = ",".join(headers.getall("X-Forwarded-For", ()))
    told = [_single(headers, "X-Real-IP"), chain.rpartition(",")[2]]
    addresses = {canonical_address(one) for one in told if one.strip()}
    if len(addresses) > 1:
        raise AmbiguousError("X-Real-IP and X-Forwarded-For differ: have the proxy remove what it does not set")
    return addresses.pop() if addresses else ""
