"""Requests, each in its turn, sent again where that may help and only while the answer is of use.

A 429, a 5xx, a broken connection and a try without an answer are worth another try; what a registry refuses or does not
have is not. Waits are random up to a bound that doubles ("full jitter": they come apart where many were turned away at
once); a Retry-After is waited for if it fits, and told at once if it does not.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec
from yarl import URL

from countersign.registry.circuits import Circuits
from countersign.registry.errors import CircuitOpenError, RateLimitedError, RegistryError
from countersign.registry.fairness import Share, Traffic
from countersign.registry.lru import LRU
from countersign.registry.observer import Observer, RequestKind, Unobserved, outcome_of, outcome_of_error
from countersign.registry.status import retry_after
from countersign.registry.transport import Answer, Transport

MAX_PAUSE_SECONDS: Final = 60.0
"""Longest time that a registry's Retry-After keeps us from asking it at all."""
MIN_TRY_SECONDS: Final = 1.0
SPREAD_SECONDS: Final = 0.5
"""After a Retry-After those that waited for it come back within so much time, not all at once."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How often a request is sent, and how long it waits in between (seconds)."""

    tries: int = 16
    """A registry that answers 429 to half of all requests then fails one in 65,536 of them."""
    first_wait: float = 0.05
    longest_wait: float = 1.0


class Courier:
    """Sends for one process. Must be used within one event loop."""

    def __init__(
        self,
        transport: Transport,
        traffic: Traffic,
        circuits: Circuits,
        *,
        patience: Patience | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._transport = transport
        self._traffic = traffic
        self._circuits = circuits
        self._patience = patience or Patience()
        self._observer = observer or Unobserved()
        self._pauses: LRU[tuple[str, str], float] = LRU(1024)

    async def send(
        self,
        kind: RequestKind,
        method: str,
        url: URL,
        *,
        share: Share,
        scope: str,
        limit: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> Answer:
        """One request without a body, as Transport.send. `scope`: whose rate limit it counts against (scope_of).

        The last answer, whatever its status, or the last error. Raises RegistryError.
        """
        key = (url.authority, scope)
        tries = self._patience.tries
        for tried in range(1, tries + 1):
            await self._wait_for_pause(key, share)
            wait = self._patience.first_wait * 2 ** (tried - 1)
            wait = random.uniform(0.0, min(wait, self._patience.longest_wait))  # noqa: S311 - no secret
            try:
                send = partial(
                    self._transport.send, method, url, limit=limit, headers=headers, authorization=authorization
                )
                answer = await self._once(kind, url.authority, share, send)
            except RegistryError as error:
                if not _worth_another_try(error) or tried == tries or not self._fits(wait, share):
                    raise
            else:
                if not _may_mend(answer.status):
                    return answer
                wait += self._pause(key, answer)
                if tried == tries or not self._fits(wait, share):
                    return answer
            self._observer.retried(kind)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(self, kind: RequestKind, host: str, share: Share, send: Callable[..., Awaitable[Answer]]) -> Answer:
        loop = asyncio.get_running_loop()
        async with self._traffic.turn(host, share):
            started = loop.time()
            try:
                probe = self._circuits.enter(host, share.names)
            except CircuitOpenError:
                self._observer.requested(kind, "circuit_open", 0.0)
                raise
            told = False
            try:
                answer = await send(seconds=self._try(share))
                told = True
                if _means_down(answer.status):
                    self._circuits.failed(host, share.names, f"it answers {answer.status}", probe=probe)
                else:
                    self._circuits.answered(host)
                self._observer.requested(kind, outcome_of(answer.status), loop.time() - started)
                return answer
            except RegistryError as error:
                self._observer.requested(kind, outcome_of_error(error), loop.time() - started)
                if error.transient:
                    told = True
                    self._circuits.failed(host, share.names, str(error), probe=probe)
                raise
            finally:
                if not told:
                    self._circuits.left(host, probe=probe)

    def _try(self, share: Share) -> float | None:
        """Seconds for one try: half of what is left, so that a connection that hangs does not use it all up."""
        if share.until == math.inf:
            return None
        return max(MIN_TRY_SECONDS, (share.until - asyncio.get_running_loop().time()) / 2)

    def _fits(self, wait: float, share: Share) -> bool:
        return asyncio.get_running_loop().time() + wait < share.until

    def _pause(self, key: tuple[str, str], answer: Answer) -> float:
        """Seconds for which the answer asks us to stay away; remembered for all requests of this scope."""
        seconds = retry_after(answer.headers.get("Retry-After", ""))
        if answer.status not in (429, 503) or not seconds:  # RFC 9110, section 10.2.3; RFC 6585, section 4
            return 0.0
        if answer.status == 429:
            until = asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_SECONDS)
            self._pauses.put(key, until, until)
        return seconds

    async def _wait_for_pause(self, key: tuple[str, str], share: Share) -> None:
        now = asyncio.get_running_loop().time()
        until = self._pauses.get(key, now)
        if until is None:
            return
        if until >= share.until:
            raise RateLimitedError(f"{key[0]} limits the rate of requests and asked to wait {until - now:.0f} s more")
        spread = min(SPREAD_SECONDS, share.until - until)
        await asyncio.sleep(until - now + random.uniform(0.0, spread))  # noqa: S311 - no secret


def _worth_another_try(error: RegistryError) -> bool:
    # A full queue and an open circuit are our own refusals: asking ourselves again at once changes nothing.
    return error.transient and not isinstance(error, (RateLimitedError, CircuitOpenError))


def _may_mend(status: int) -> bool:
    return status == 429 or _means_down(status)


def _means_down(status: int) -> bool:
    return status == 408 or (status >= 500 and status != 501)  # 501: an API that the registry does not have
