"""One question from a relying party to its answer.

The order of work is the same for everyone: is what we know fresh, who asks, is its share used up, is the token this
cluster's, the decision. Only where that says that something is not known yet (and so only for an asker who may know)
is the pod looked up live, and the grant of a pod just born waited for; then it is decided anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from countersign.access.claims import TokenClaims
from countersign.access.decision import Asker, Decision, decide
from countersign.access.pod_view import PodView
from countersign.access.rules import Facts
from countersign.access.use import UNTOLD, Use
from countersign.cluster.errors import ClusterError
from countersign.cluster.reviews import UserInfo
from countersign.verifier.askers import Askers, CannotTellError, KnownAsker, NotAuthenticatedError
from countersign.verifier.freshness import Freshness
from countersign.verifier.limits import RateLimiter
from countersign.verifier.lookups import PodLookup
from countersign.verifier.rules import Rulebook
from countersign.verifier.state import ClusterState
from countersign.verifier.tokens import RejectedTokenError, TokenReader

YOUNG_POD_SECONDS: Final = 30.0
"""How old a pod may be for its grant to be waited for: the controller writes it within a second or two."""
RETRY_SECONDS: Final = 1.0
"""What an asker is told to wait after a 503."""

MayExplain = Callable[[UserInfo, str], Awaitable[bool]]
"""Whether somebody may read grants in a namespace, and so know why a token is inactive. Raises ClusterError."""


class Answer(msgspec.Struct, frozen=True):
    """What came out. Only `active` and `decision.members` are for every asker."""

    reason: str
    message: str = ""
    decision: Decision | None = None
    claims: TokenClaims | None = None
    asker: KnownAsker | None = None
    grant: str = ""
    may_know: bool = False
    """Whether this asker may be told the reason (`/explain` only)."""

    @property
    def active(self) -> bool:
        """Whether the token is active."""
        return self.decision is not None and self.decision.active


class NoAnswerError(Exception):
    """503: answering would be a guess. The message says what is missing."""

    reason = "NotFresh"
    status = 503
    retry_after = RETRY_SECONDS


class OverLimitError(NoAnswerError):
    """429: this asker has used up its share."""

    reason = "OverLimit"
    status = 429

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Question(NamedTuple):
    asker: KnownAsker
    claims: TokenClaims


class Introspection:
    """Answers questions. All it needs is passed in; it holds no state of its own."""

    def __init__(
        self,
        *,
        freshness: Freshness,
        askers: Askers,
        limiter: RateLimiter,
        tokens: TokenReader,
        state: ClusterState,
        pods: PodLookup,
        may_explain: MayExplain,
        grant_wait_seconds: float,
        epoch: str,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._freshness = freshness
        self._askers = askers
        self._limiter = limiter
        self._tokens = tokens
        self._state = state
        self._pods = pods
        self._may_explain = may_explain
        self._grant_wait = grant_wait_seconds
        self._epoch = epoch
        self._clock = clock
        self._wall = wall
        self._rules = Rulebook()

    async def introspect(self, authorization: str, token: str, use: Use = UNTOLD) -> Answer:
        """Answer about `token` to whoever shows `authorization`. Raises NoAnswerError (OverLimitError for a 429)."""
        question = await self._question(authorization, token)
        if isinstance(question, Answer):
            return question
        decision, grant = await self._decide(question.claims, question.asker.asker, use)
        return Answer(decision.reason, decision.message, decision, question.claims, question.asker, grant)

    async def explain(self, authorization: str, token: str, use: Use = UNTOLD) -> Answer:
        """As `introspect`, for an asker who may read grants where the token is from: it need not be an introspector.

        The decision is the one that an introspector of the audience would be given.
        """
        question = await self._question(authorization, token)
        if isinstance(question, Answer):
            # That a token is none of the cluster's, every known asker may hear: anyone can check it against the keys.
            return msgspec.structs.replace(question, may_know=question.asker is not None)
        asker, claims = question
        try:
            allowed = await self._may_explain(asker.user, claims.namespace)
        except ClusterError as error:
            raise NoAnswerError(f"the API server does not say what the asker may know: {error}") from error
        if not allowed:
            return Answer("ExplainNotAllowed", "the asker may not read grants there", claims=claims, asker=asker)
        audience = self._state.audience(claims.audiences[0])
        introspectors = audience.spec.introspectors if audience else ()
        stand_in = Asker(introspectors[0].namespace, introspectors[0].name) if introspectors else None
        decision, grant = await self._decide(claims, stand_in, use, explain=True)
        return Answer(decision.reason, decision.message, decision, claims, asker, grant, may_know=True)

    async def _question(self, authorization: str, token: str) -> "_Question | Answer":
        """Who asks about which claims; or the answer, where one of them is not what it should be."""
        try:
            asker = await self._ask(authorization)
        except NotAuthenticatedError as error:
            # Nothing is done with the token, so nothing about it can show, not even in the time that this takes.
            return Answer(error.reason, error.message)
        try:
            return _Question(asker, (await self._tokens.read(token)).claims)
        except RejectedTokenError as error:
            return Answer(error.reason, error.message, asker=asker)

    async def _ask(self, authorization: str) -> KnownAsker:
        if problem := self._freshness.problem():
            raise NoAnswerError(problem)
        try:
            asker = await self._askers.authenticate(authorization)
        except CannotTellError as error:
            raise NoAnswerError(str(error)) from error
        wait = self._limiter.delay(str(asker), self._clock())
        if wait:
            raise OverLimitError(f"{asker} asks too often", wait)
        return asker

    async def _decide(
        self, claims: TokenClaims, asker: Asker | None, use: Use, *, explain: bool = False
    ) -> tuple[Decision, str]:
        def judge(looked_up: PodView | None) -> tuple[Decision, str]:
            return self._judge(claims, asker, use, looked_up, explain=explain)

        decision, grant = judge(None)
        if claims.pod is None or decision.reason not in {"PodUnknown", "GrantMissing", "GrantPending"}:
            return decision, grant
        pod: PodView | None = None
        if decision.reason == "PodUnknown":
            pod = await self._pods.find(claims.namespace, claims.pod.name, claims.pod.uid)
            decision, grant = judge(pod)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grant_wait
        while decision.reason in {"GrantMissing", "GrantPending"} and self._is_young(claims.pod.uid, pod):
            if not await self._state.grant_change(claims.pod.uid, deadline - loop.time()):
                break
            decision, grant = judge(pod)
        # What was waited for may have taken long enough for the rest to grow old.
        if problem := self._freshness.problem():
            raise NoAnswerError(problem)
        return decision, grant

    def _judge(
        self, claims: TokenClaims, asker: Asker | None, use: Use, looked_up: PodView | None, *, explain: bool
    ) -> tuple[Decision, str]:
        audience = self._state.audience(claims.audiences[0]) if claims.audiences else None
        pod = grant = None
        if claims.pod is not None:
            pod = self._state.pod(claims.pod.uid) or looked_up
            grant = self._state.grant(claims.pod.uid)
        now = self._wall()
        decision = decide(
            claims,
            audience=audience,
            asker=asker,
            pod=pod,
            grant=grant,
            revocations=self._state.orders_against(grant, pod) if grant and pod else (),
            exceptions=self._state.exceptions_of(grant) if grant else (),
            system_namespace=self._state.system_namespace,
            epoch=self._epoch,
            now=now,
        )
        if decision.active and audience and audience.spec.allow:
            if not (asker and pod and grant):
                raise RuntimeError("nothing is active without an asker, a pod and a grant")
            facts = Facts(claims=claims, pod=pod, grant=grant, asker=asker, use=use, now=now)
            decision = self._rules.weigh(decision, audience, facts.read, explain=explain)
        return decision, f"{grant.metadata.namespace}/{grant.metadata.name}" if grant else ""

    def _is_young(self, uid: str, looked_up: PodView | None) -> bool:
        pod = self._state.pod(uid) or looked_up
        return pod is not None and (self._wall() - pod.created_at).total_seconds() < YOUNG_POD_SECONDS
