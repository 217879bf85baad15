"""When a TrustException is in force and whom it reaches: a function of the object and of the time, and of nothing else.

So it ends by itself wherever somebody asks, without a write and without a controller. Where a time cannot be read, the
exception is none. What a grant records of its exceptions is weighed against the objects as they are (`over`).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from countersign.api import clock
from countersign.api.exception import ExceptionTokens, TrustException
from countersign.api.grant import GrantException
from countersign.trust.images.globs import Glob

MAX_EXCEPTION: Final = timedelta(days=90)
"""Whatever `expiresAt` says, an exception is over so long after its creation. (The guard `countersign-exceptions`
refuses more; that could be switched off.)"""
MAX_WAIVERS: Final = 16
"""Exceptions that may count for one pod: as many as its grant can list. Any further one waives nothing."""
WARN_BEFORE: Final = timedelta(days=3)
WARN_SHARE: Final = 5
"""People are told so long before the end, or when a fifth of its time is left, whichever is later."""


class Waiver(NamedTuple):
    """An exception, as a finding that it waives names it."""

    name: str
    uid: str
    owner: str
    reason: str
    ends: str
    """RFC 3339."""
    tokens: ExceptionTokens


def ends_at(exception: TrustException) -> datetime | None:
    """When it is, or was, over; None: it never was in force."""
    try:
        created = clock.parse(exception.metadata.creation_timestamp or "")
        expires = clock.parse(exception.spec.expires_at)
    except ValueError:
        return None
    # Whole seconds, as they are recorded: what is over by the record is over.
    end = min(expires, created + MAX_EXCEPTION).replace(microsecond=0)
    return end if end > created else None


def in_force_until(exception: TrustException, now: datetime) -> datetime | None:
    """Until when it is in force; None: it is not. Being deleted, it is over, whatever it waits for."""
    end = ends_at(exception)
    return end if end is not None and now < end and exception.metadata.deletion_timestamp is None else None


def warns_at(exception: TrustException) -> datetime | None:
    """From when on people are told that it runs out; None: it never was in force."""
    end = ends_at(exception)
    if end is None:
        return None
    created = clock.parse(exception.metadata.creation_timestamp or "")
    return end - min(WARN_BEFORE, (end - created) / WARN_SHARE)


def over(recorded: Iterable[GrantException], exceptions: Iterable[TrustException], now: datetime) -> str:
    """Name of an exception that the identity rests on and that is over; empty: there is none.

    `recorded`: what the grant's status lists. `exceptions`: those that exist; one that is not among them is over, and
    so is one whose recorded end has come, should the object not be as new as the record.
    """
    resting = [one for one in recorded if one.tokens == "Issue"]
    if not resting:
        return ""
    known = {one.metadata.uid: one for one in exceptions}
    for one in resting:
        found = known.get(one.uid)
        if found is None or in_force_until(found, now) is None or not _is_before(now, one.expires_at):
            return one.name
    return ""


def _is_before(now: datetime, end: str) -> bool:
    try:
        return now < clock.parse(end)
    except ValueError:
        return False


class CompiledException:
    """An exception, ready to be asked about many pods."""

    __slots__ = ("_accounts", "_checks", "_digests", "_globs", "_namespaces", "_selects", "exception", "of_images")

    def __init__(self, exception: TrustException) -> None:
        match = exception.spec.match
        self.exception: Final = exception
        self._checks: Final = frozenset((one.check, one.predicate_type) for one in exception.spec.waives)
        self._namespaces: Final = frozenset(match.namespaces)
        self._accounts: Final = frozenset((one.namespace, one.name) for one in match.service_accounts)
        selector = match.namespace_selector
        self._selects: Final = selector is not None and bool(selector.match_labels or selector.match_expressions)
        self._globs: Final = tuple(Glob(text) for text in match.images)
        self._digests: Final = frozenset(match.digests)
        self.of_images: Final = bool(match.images or match.digests)
        """Whether it is for certain images only."""

    def waives(self, code: str, predicate_type: str) -> bool:
        """Whether it is about that check; `predicate_type`: of the attestation that is asked for, if one is."""
        return (code, "") in self._checks or (predicate_type != "" and (code, predicate_type) in self._checks)

    def reaches(
        self, namespace: str, namespace_labels: dict[str, str], pod_labels: dict[str, str], account: tuple[str, str]
    ) -> bool:
        """Whether it is for pods like this; images are asked about by `covers`."""
        match = self.exception.spec.match
        if not (self._namespaces or self._accounts or self._selects or self.of_images):
            return False  # the CRD refuses it: labels of the pod's author alone bound nothing
        return (
            (not self._namespaces or namespace in self._namespaces)
            and (match.namespace_selector is None or match.namespace_selector.matches(namespace_labels))
            and (match.pod_selector is None or match.pod_selector.matches(pod_labels))
            and (not self._accounts or account in self._accounts)
        )

    def covers(self, name: str | None, digest: str | None) -> bool:
        """Whether it is for that image; None: not known, and so not for one that it would have to know."""
        if self._globs and not (name is not None and any(glob.matches(name) for glob in self._globs)):
            return False
        return not self._digests or digest in self._digests

    def until(self, now: datetime) -> datetime | None:
        """As `in_force_until`."""
        return in_force_until(self.exception, now)


class ExceptionIndex:
    """The exceptions of a snapshot, by the policy that they are about."""

    __slots__ = ("_by_policy",)

    def __init__(self, exceptions: Iterable[TrustException]) -> None:
        by_policy: dict[tuple[str, str, str], list[CompiledException]] = {}
        for exception in exceptions:
            one = CompiledException(exception)
            for ref in dict.fromkeys((ref.kind, ref.namespace, ref.name) for ref in exception.spec.policy_refs):
                by_policy.setdefault(ref, []).append(one)
        self._by_policy: Final = {ref: tuple(found) for ref, found in by_policy.items()}

    def __bool__(self) -> bool:
        return bool(self._by_policy)

    def of(self, kind: str, namespace: str, name: str) -> tuple[CompiledException, ...]:
        """Those that name this policy, in force or not."""
        return self._by_policy.get((kind, namespace, name), ())
