"""The verifier's decision, made here: the same functions over what the API server tells the person who asks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from countersign.access.claims import MalformedClaimsError, TokenClaims, parse_claims
from countersign.access.decision import Asker, decide
from countersign.access.pod_view import PodObject, view
from countersign.access.rules import Facts, weigh
from countersign.access.use import UNTOLD, Use
from countersign.api.audience import ProtectedAudience
from countersign.api.exception import TrustException
from countersign.api.meta import condition
from countersign.api.revocation import Revocation
from countersign.cli.cluster.kube import ApiError, Kube
from countersign.cli.cluster.paths import collection
from countersign.cli.pods.instances import grant_of
from countersign.cli.pods.workloads import POD
from countersign.trust.allow.rules import admitting, compiled
from countersign.verifier.tokens import RejectedTokenError, TokenReader


class TokenJudgement(NamedTuple):
    """What came out."""

    active: bool | None
    """None: it cannot be told."""
    reason: str
    message: str
    claims: TokenClaims | None = None
    facts: Facts | None = None
    """What the audience's rules are about, as far as it came to that."""
    rule: str = ""
    """The rule that admits it, if the audience has rules."""


class _Discovery(msgspec.Struct, frozen=True):
    issuer: str


class _Jwks(msgspec.Struct, frozen=True):
    keys: tuple[dict[str, Any], ...] = ()


class _PublishedKeys:
    """`verifier.tokens.KeySource`: the issuer's keys as the API server publishes them now."""

    def __init__(self, issuer: str, keys: Mapping[str, PyJWK]) -> None:
        self.issuer: str | None = issuer
        self._keys = keys

    def key(self, key_id: str) -> PyJWK | None:
        return self._keys.get(key_id)

    async def find(self, key_id: str) -> PyJWK | None:
        return self._keys.get(key_id)


async def judge_token(
    kube: Kube,
    token: str,
    system_namespace: str,
    now: datetime,
    *,
    use: Use = UNTOLD,
    relying_party: Asker | None = None,
) -> TokenJudgement:
    """Judge a token as the verifier would for an introspector of its audience. Raises ApiError on what must be read.

    `relying_party`: which introspector; else the audience's first.

    The epoch that counts is a setting of the verifier's, which is not known here: the grant's own is taken for it.
    """
    try:
        verified = await TokenReader(_published_keys(kube)).read(token)
    except RejectedTokenError as error:
        return TokenJudgement(False, error.reason, error.message)
    claims = verified.claims
    audience = _audience(kube, claims.audiences[0]) if claims.audiences else None
    pod = grant = None
    if claims.pod is not None:
        found = kube.find(POD.path(claims.namespace, claims.pod.name), PodObject)
        pod = view(found) if found else None
        grant = grant_of(kube, claims.namespace, claims.pod.uid)
    orders, unread = _revocations(kube, (claims.namespace, system_namespace))
    rests = grant is not None and grant.status.exceptions
    introspectors = audience.spec.introspectors if audience else ()
    asker = relying_party or (Asker(introspectors[0].namespace, introspectors[0].name) if introspectors else None)
    decision = decide(
        claims,
        audience=audience,
        asker=asker,
        pod=pod,
        grant=grant,
        revocations=orders,
        exceptions=list(kube.items(collection(TrustException), TrustException)) if rests else (),
        system_namespace=system_namespace,
        epoch=grant.status.epoch if grant else "",
        now=now,
    )
    facts, rule = None, ""
    if audience and asker and pod and grant:
        facts = Facts(claims=claims, pod=pod, grant=grant, asker=asker, use=use, now=now)
        rules = compiled(audience.spec.allow)
        decision = weigh(decision, audience, rules, facts.read, explain=True)
        admitted_by = admitting(rules, facts.read) if decision.active else None
        rule = admitted_by.name if admitted_by else ""
    if decision.active and unread:
        message = f"active, unless a Revocation in {' or '.join(unread)} ends it, which you may not read"
        return TokenJudgement(None, "RevocationsUnread", message, claims, facts)
    return TokenJudgement(decision.active, decision.reason, decision.message, claims, facts, rule)


def unverified_claims(token: str) -> TokenClaims | None:
    """What the token says of itself, with nobody to vouch for it; None if it is no service-account token."""
    import base64
    import binascii

    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return parse_claims(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (MalformedClaimsError, binascii.Error, ValueError):
        return None


def _published_keys(kube: Kube) -> _PublishedKeys:
    issuer = kube.get("/.well-known/openid-configuration", _Discovery).issuer
    keys: dict[str, PyJWK] = {}
    for one in kube.get("/openid/v1/jwks", _Jwks).keys:
        try:
            keys[str(one["kid"])] = PyJWK(one)
        except (KeyError, PyJWTError):
            continue  # of a kind that this release cannot read: a token by it is one of an unknown key
    return _PublishedKeys(issuer, keys)


def _audience(kube: Kube, name: str) -> ProtectedAudience | None:
    """The one that is accepted, if several claim it."""
    found = [one for one in kube.items(collection(ProtectedAudience), ProtectedAudience) if one.spec.audience == name]
    return min(found, key=lambda one: (not _accepted(one), one.metadata.creation_timestamp or ""), default=None)


def _accepted(audience: ProtectedAudience) -> bool:
    found = condition(audience.status.conditions, "Accepted")
    return found is not None and found.status == "True"


def _revocations(kube: Kube, namespaces: Sequence[str]) -> tuple[list[Revocation], list[str]]:
    """The orders that could reach the grant, and the namespaces whose orders may not be read."""
    orders: list[Revocation] = []
    unread = []
    for namespace in dict.fromkeys(namespaces):
        try:
            orders += kube.items(collection(Revocation, namespace), Revocation)
        except ApiError as error:
            if error.status != 403:
                raise
            unread.append(namespace)
    return orders, unread
