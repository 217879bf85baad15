"""How a registry is told who asks: not at all, Basic, or with a token from the service that it names.

Source: distribution's docs/spec/auth/token.md. A registry chooses its token service freely, so credentials are sent
only to a service on the registry's own host or to one listed for it: anything else could be a thief.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from yarl import URL

from countersign.registry.challenge import Challenge, parse_challenges
from countersign.registry.credentials import Credential
from countersign.registry.errors import MalformedError, UnauthorizedError
from countersign.registry.fairness import Share
from countersign.registry.flight import Flights
from countersign.registry.lru import LRU
from countersign.registry.status import error_for
from countersign.registry.transport import REQUEST_SECONDS, Answer

MAX_TOKEN_ANSWER_BYTES: Final = 64 * 1024
MAX_TOKEN_LENGTH: Final = 32 * 1024
DEFAULT_TOKEN_SECONDS: Final = 60  # token.md: what a token service means that does not say
MAX_TOKEN_SECONDS: Final = 3600
TOKEN_LEEWAY_SECONDS: Final = 10.0
"""A token is not used when it expires this soon: the request may wait for its turn."""
MAX_REMEMBERED: Final = 4096

NAMED_REALMS: Final[Mapping[str, Collection[str]]] = MappingProxyType(
    {
        "registry-1.docker.io": ("auth.docker.io",),
        "registry.gitlab.com": ("gitlab.com",),
        "docker.elastic.co": ("docker-auth.elastic.co",),
    }
)
"""Registries whose token service is on another host of the same owner."""


class Send(Protocol):
    """Sends one request in its turn (Transport.send, with the share already given)."""

    def __call__(
        self,
        method: str,
        url: URL,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> Awaitable[Answer]:
        """As Transport.send."""


class Way(msgspec.Struct, frozen=True):
    """One way to authenticate: what the registry offered, with one credential or none."""

    scheme: str
    credential: Credential | None
    realm: str = ""
    service: str = ""
    scope: str = ""


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: int = DEFAULT_TOKEN_SECONDS


class Authenticator:
    """Tokens and what worked before, for one process."""

    def __init__(self, token_realms: Mapping[str, Collection[str]] = NAMED_REALMS) -> None:
        """`token_realms`: by a registry's host, further hosts whose token service may be given its credentials."""
        self._token_realms = token_realms
        self._tokens: LRU[Way, str] = LRU(MAX_REMEMBERED)
        self._ways: LRU[tuple[str, str, str], Way] = LRU(MAX_REMEMBERED)
        self._flights: Flights[Way, str] = Flights(seconds=2 * REQUEST_SECONDS)

    async def close(self) -> None:
        """Cancel token requests in flight."""
        await self._flights.close()

    def remembered(self, key: tuple[str, str, str]) -> Way | None:
        """What worked before for this registry, repository and credential scope."""
        return self._ways.get(key, asyncio.get_running_loop().time())

    def remember(self, key: tuple[str, str, str], way: Way) -> None:
        """Remember what worked."""
        self._ways.put(key, way, asyncio.get_running_loop().time() + MAX_TOKEN_SECONDS)

    def reject(self, key: tuple[str, str, str]) -> None:
        """What worked before, if anything did, no longer does."""
        way = self._ways.pop(key)
        if way is not None:
            self.forget_token(way)

    def ways(self, base: URL, repository: str, headers: Iterable[str], credentials: Sequence[Credential]) -> list[Way]:
        """What to try, in order, after a 401 with these WWW-Authenticate headers.

        Without credentials only a token for anybody; with credentials each of them, and never nobody, as the kubelet
        does. Raises UnauthorizedError if nothing can be tried.
        """
        challenges = parse_challenges(headers)
        bearer = next((challenge for challenge in challenges if challenge.scheme == "bearer"), None)
        if bearer is not None:
            return [self._bearer(base, repository, bearer, credential) for credential in credentials or (None,)]
        if any(challenge.scheme == "basic" for challenge in challenges):
            if not credentials:
                raise UnauthorizedError(f"{base.host} asks for a password; give the pod an image pull secret for it")
            return [Way("basic", credential) for credential in credentials]
        raise UnauthorizedError(f"{base.host} refuses access and offers neither Basic nor Bearer authentication")

    async def header(self, way: Way, sender: Callable[[Share], Send], share: Share) -> str:
        """The Authorization header for a way; fetches a token if none is at hand. Raises RegistryError.

        `sender` makes the function that sends on behalf of a share: one token request may serve several askers.
        """
        if way.scheme == "basic":
            return way.credential.basic if way.credential else ""
        now = asyncio.get_running_loop().time()
        token = self._tokens.get(way, now)
        if token is None:

            async def fetch(on_behalf: Share) -> str:
                return await self._fetch_token(way, sender(on_behalf))

            token = await self._flights.result(way, share.names[0], fetch, now + 2 * REQUEST_SECONDS)
        return "Bearer " + token

    def forget_token(self, way: Way) -> None:
        """The registry does not accept the token: get another next time."""
        self._tokens.pop(way)

    def _bearer(self, base: URL, repository: str, challenge: Challenge, credential: Credential | None) -> Way:
        realm = self._judge_realm(base, challenge.parameters.get("realm", ""), credential)
        return Way(
            "bearer", credential, realm, challenge.parameters.get("service", ""), _pull_scope(challenge, repository)
        )

    def _judge_realm(self, base: URL, text: str, credential: Credential | None) -> str:
        try:
            realm = URL(text)
            host, credentials_in_url = realm.host, realm.user or realm.password
        except ValueError:
            host, credentials_in_url, realm = None, None, URL()
        same_host = host == base.host
        if (
            not host
            or credentials_in_url
            or not (realm.scheme == "https" or (same_host and realm.scheme == base.scheme))
        ):
            raise UnauthorizedError(
                f"{base.host} names a token service that is no https URL of a host; ask its operator"
            )
        if credential is not None and not same_host and host not in self._token_realms.get(base.host or "", ()):
            raise UnauthorizedError(
                f"{base.host} wants its credentials sent to {host}, which is not done; "
                f"if both have the same owner, list {host} as a token realm of {base.host}"
            )
        return str(realm)

    async def _fetch_token(self, way: Way, send: Send) -> str:
        query = {name: value for name, value in (("service", way.service), ("scope", way.scope)) if value}
        answer = await send(
            "GET",
            URL(way.realm).update_query(query),
            limit=MAX_TOKEN_ANSWER_BYTES,
            authorization=way.credential.basic if way.credential else None,
        )
        if answer.status in (400, 404):
            raise UnauthorizedError(f"the token service {answer.url.host} gives no token for {way.scope}")
        if answer.status != 200:
            raise error_for(answer, f"a token for {way.scope}")
        try:
            content = msgspec.json.decode(answer.body, type=_TokenAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedError(f"the token service {answer.url.host} sent no token") from None
        token = content.token or content.access_token
        if not 0 < len(token) <= MAX_TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
            raise MalformedError(f"the token service {answer.url.host} sent no usable token")
        seconds = min(max(content.expires_in, 0), MAX_TOKEN_SECONDS) - TOKEN_LEEWAY_SECONDS
        if seconds > 0:
            self._tokens.put(way, token, asyncio.get_running_loop().time() + seconds)
        return token


def _pull_scope(challenge: Challenge, repository: str) -> str:
    # The challenge names the repository as the registry knows it behind a proxy; of the actions only pull is asked for.
    kind, _, rest = challenge.parameters.get("scope", "").partition(":")
    name, colon, _ = rest.rpartition(":")
    if kind == "repository" and colon and name and " " not in name:
        return f"repository:{name}:pull"
    return f"repository:{repository}:pull"
