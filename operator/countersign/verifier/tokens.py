"""From the bytes of a token to verified claims: signature, algorithm, issuer. No request leaves for it, except for an
unknown key id, and that rarely (the key source sees to it).

Verified claims are facts, so they are remembered until the keys are replaced; whether a token is *active* is not.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec
from jwt import PyJWK, PyJWS
from jwt.exceptions import InvalidSignatureError, PyJWTError

from countersign.access.claims import MalformedClaimsError, TokenClaims, parse_claims
from countersign.cluster.jwks import ALGORITHMS

MAX_TOKEN_CHARACTERS: Final = 8 * 1024
"""Six times the length of a token bound to a pod. Header limits of common proxies are 8 KiB, too."""
MAX_REMEMBERED: Final = 10_000
"""Tokens whose claims are remembered: about 1.5 KiB each."""

RejectReason = Literal["TokenMalformed", "KeyUnknown", "SignatureInvalid", "IssuerUnknown"]


class RejectedTokenError(Exception):
    """Not a token of this cluster. `reason` is for logs and metrics."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason: RejectReason = reason
        self.message = message


class KeySource(Protocol):
    """The issuer's public keys, as `cluster.jwks.JwksCache` holds them."""

    @property
    def issuer(self) -> str | None:
        """The published issuer."""

    def key(self, key_id: str) -> PyJWK | None:
        """The key in use under that id; another object after each replacement."""

    async def find(self, key_id: str) -> PyJWK | None:
        """The same, but an unknown id may be asked for."""


class VerifiedToken(msgspec.Struct, frozen=True, gc=False):
    """A token of this cluster."""

    digest: bytes
    """SHA-256 of the token: what caches are keyed by, so that none of them holds a credential."""
    claims: TokenClaims


class _Remembered(msgspec.Struct, frozen=True, gc=False):
    key_id: str
    key: PyJWK
    token: VerifiedToken


class TokenReader:
    """Verifies tokens, and remembers the claims of those that were good."""

    def __init__(self, keys: KeySource, *, issuers: Sequence[str] = (), capacity: int = MAX_REMEMBERED) -> None:
        """`issuers` are accepted besides the published one."""
        self._keys = keys
        self._issuers = frozenset(issuers)
        self._capacity = capacity
        self._remembered: dict[bytes, _Remembered] = {}
        self._jws = PyJWS(algorithms=list(ALGORITHMS))

    def __len__(self) -> int:
        return len(self._remembered)

    async def read(self, token: str) -> VerifiedToken:
        """The claims of a token that this cluster's issuer has signed. Raises RejectedTokenError."""
        if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise RejectedTokenError("TokenMalformed", "not a JWT: it is empty, too long or not ASCII")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._remembered.get(digest)
        # The key source makes new key objects at each replacement: a memory does not outlive the keys it rests on.
        if known is not None and self._keys.key(known.key_id) is known.key:
            return known.token
        return await self._verify(token, digest)

    async def _verify(self, token: str, digest: bytes) -> VerifiedToken:
        try:
            header = self._jws.get_unverified_header(token)
        except (PyJWTError, ValueError) as error:
            raise RejectedTokenError("TokenMalformed", f"not a JWT: {str(error)[:100]}") from None
        key_id = header.get("kid")
        if header.get("alg") not in ALGORITHMS or not isinstance(key_id, str):
            raise RejectedTokenError("TokenMalformed", f"the JWT names no key id or none of {', '.join(ALGORITHMS)}")
        key = await self._keys.find(key_id)
        if key is None:
            raise RejectedTokenError("KeyUnknown", "the API server publishes no key of this id: not its token")
        try:
            payload = self._jws.decode_complete(token, key, algorithms=list(ALGORITHMS))["payload"]
        except InvalidSignatureError:
            raise RejectedTokenError("SignatureInvalid", "the signature is not the issuer's") from None
        except (PyJWTError, ValueError) as error:
            raise RejectedTokenError("TokenMalformed", f"not a JWT: {str(error)[:100]}") from None
        try:
            claims = parse_claims(payload)
        except MalformedClaimsError as error:
            raise RejectedTokenError("TokenMalformed", str(error)) from None
        if claims.issuer != self._keys.issuer and claims.issuer not in self._issuers:
            raise RejectedTokenError(
                "IssuerUnknown",
                f"the token's issuer is {claims.issuer[:200]!r}, the cluster's {self._keys.issuer!r}: "
                "name a former issuer in the verifier's setting `issuers`",
            )
        verified = VerifiedToken(digest, claims)
        self._remember(_Remembered(key_id, key, verified))
        return verified

    def _remember(self, found: _Remembered) -> None:
        self._remembered.pop(found.token.digest, None)
        while len(self._remembered) >= self._capacity:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[found.token.digest] = found
