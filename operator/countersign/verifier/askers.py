"""Who asks: a relying party shows a service-account token of its own, with the verifier's audience.

Its signature is checked here first, so that junk never reaches the API server; then the API server confirms it
(TokenReview), since only that knows of every binding. A confirmation serves for CONFIRMED_SECONDS, and is renewed in
the background before it runs out. A pod's token also ends with the pod's work, which TokenReview does not see.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Literal

import msgspec
import structlog

from countersign.access.claims import TokenClaims
from countersign.access.decision import CLOCK_SKEW_SECONDS, Asker
from countersign.access.pod_view import PodView
from countersign.api.names import VERIFIER_AUDIENCE
from countersign.cluster.errors import ClusterError
from countersign.cluster.reviews import TokenReviewResult, UserInfo
from countersign.verifier.tokens import RejectedTokenError, RejectReason, TokenReader, VerifiedToken

CONFIRMED_SECONDS: Final = 10.0
"""How long a confirmation serves: as long as the API server's own cache keeps one."""
RENEW_SECONDS: Final = 5.0
REFUSED_SECONDS: Final = 1.0
"""How long a refusal serves."""
MAX_ASKERS: Final = 4096
MAX_IN_FLIGHT: Final = 64
MAX_IN_FLIGHT_PER_NAMESPACE: Final = 16
"""Everyone may mint tokens for the accounts of their own namespace: a flood of them must leave turns for others."""
SCHEME: Final = "Bearer "

_log = structlog.get_logger(__name__)

AskerReason = (
    RejectReason | Literal["AskerMissing", "AskerWrongAudience", "AskerExpired", "AskerPodGone", "AskerNotConfirmed"]
)

Review = Callable[[str], Awaitable[TokenReviewResult]]
"""What the API server says of a token for the verifier's audience. Raises ClusterError."""
FindPod = Callable[[str, str, str], Awaitable[PodView | None]]
"""The pod of a namespace, name and UID, from the watch or live."""


class NotAuthenticatedError(Exception):
    """The asker showed no token that counts. `reason` is for logs and metrics: it gets the same answer as everyone."""

    def __init__(self, reason: AskerReason, message: str) -> None:
        super().__init__(message)
        self.reason: AskerReason = reason
        self.message = message


class CannotTellError(Exception):
    """The API server cannot say whether the asker's token still counts: no answer is better than either."""


class KnownAsker(msgspec.Struct, frozen=True):
    """An asker who is who it says."""

    asker: Asker
    user: UserInfo
    """As the API server knows it, for what it may do besides."""

    def __str__(self) -> str:
        return f"{self.asker.namespace}/{self.asker.name}"


class _Confirmation(msgspec.Struct, frozen=True):
    at: float
    known: KnownAsker | None


class Askers:
    """Authenticates askers."""

    def __init__(
        self,
        tokens: TokenReader,
        review: Review,
        pod: FindPod,
        *,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._tokens = tokens
        self._review = review
        self._pod = pod
        self._clock = clock
        self._wall = wall
        self._confirmations: dict[bytes, _Confirmation] = {}
        self._running: dict[bytes, asyncio.Task[_Confirmation]] = {}
        self._running_for: Counter[str] = Counter()
        """How many of them are about accounts of a namespace."""

    async def authenticate(self, authorization: str) -> KnownAsker:
        """The asker behind an Authorization header. Raises NotAuthenticatedError or CannotTellError."""
        scheme, token = authorization[: len(SCHEME)], authorization[len(SCHEME) :]
        if scheme.lower() != SCHEME.lower() or not token:
            raise NotAuthenticatedError("AskerMissing", "no bearer token in the Authorization header")
        try:
            verified = await self._tokens.read(token)
        except RejectedTokenError as error:
            raise NotAuthenticatedError(error.reason, error.message) from None
        self._in_time(verified.claims)
        await self._pod_lives(verified.claims)
        known = await self._confirmed(verified, token)
        if known is None:
            raise NotAuthenticatedError("AskerNotConfirmed", "the API server does not accept the asker's token")
        return known

    def _in_time(self, claims: TokenClaims) -> None:
        if claims.audiences != (VERIFIER_AUDIENCE,):
            raise NotAuthenticatedError(
                "AskerWrongAudience", f"the asker's token must have the one audience {VERIFIER_AUDIENCE}"
            )
        now = self._wall().timestamp()
        if now >= claims.expires_at or claims.not_before > now + CLOCK_SKEW_SECONDS:
            raise NotAuthenticatedError("AskerExpired", "the asker's token has expired, or is from the future")

    async def _pod_lives(self, claims: TokenClaims) -> None:
        if claims.pod is None:
            return
        pod = await self._pod(claims.namespace, claims.pod.name, claims.pod.uid)
        if pod is None or not pod.alive(self._wall()) or pod.service_account != claims.service_account.name:
            raise NotAuthenticatedError("AskerPodGone", "the pod that the asker's token is bound to has ended")

    async def _confirmed(self, token: VerifiedToken, text: str) -> KnownAsker | None:
        found = self._confirmations.get(token.digest)
        if found is not None:
            age = self._clock() - found.at
            if found.known is None and age < REFUSED_SECONDS:
                return None
            if found.known is not None and age < CONFIRMED_SECONDS:
                if age >= RENEW_SECONDS and self._may_ask(token):
                    self._ask(token, text)
                return found.known
        if token.digest not in self._running and not self._may_ask(token):
            raise CannotTellError("too many askers are waiting for the API server")
        try:
            # One asker's disconnection must not end the question for the others.
            return (await asyncio.shield(self._ask(token, text))).known
        except ClusterError as error:
            raise CannotTellError(f"the API server does not say who asks: {error}") from error

    def _may_ask(self, token: VerifiedToken) -> bool:
        return (
            len(self._running) < MAX_IN_FLIGHT
            and self._running_for[token.claims.namespace] < MAX_IN_FLIGHT_PER_NAMESPACE
        )

    def _ask(self, token: VerifiedToken, text: str) -> asyncio.Task[_Confirmation]:
        task = self._running.get(token.digest)
        if task is None:
            task = self._running[token.digest] = asyncio.create_task(self._confirm(token, text))
            self._running_for[token.claims.namespace] += 1
            task.add_done_callback(lambda done: self._done(token, done))
        return task

    def _done(self, token: VerifiedToken, task: asyncio.Task[_Confirmation]) -> None:
        self._running.pop(token.digest, None)
        self._running_for[token.claims.namespace] -= 1
        self._running_for += Counter()  # forgets namespaces at zero
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("asker not confirmed", error=str(error))

    async def _confirm(self, token: VerifiedToken, text: str) -> _Confirmation:
        asked_at = self._clock()
        said = await self._review(text)
        claims = token.claims
        known = None
        if said.authenticated and said.user.username == claims.subject:
            known = KnownAsker(Asker(claims.namespace, claims.service_account.name), said.user)
        confirmation = _Confirmation(asked_at, known)
        self._confirmations.pop(token.digest, None)
        while len(self._confirmations) >= MAX_ASKERS:
            del self._confirmations[next(iter(self._confirmations))]
        self._confirmations[token.digest] = confirmation
        return confirmation
