"""Who is told what becomes of requests to registries. Names are few and fixed, fit for metrics."""

from typing import Literal, Protocol

from countersign.registry.errors import RegistryError

RequestKind = Literal["resolve", "manifest", "blob", "referrers", "token"]
"""What was asked for: a tag's digest, a manifest or index, a blob, a list of referrers, a token of a token service."""

RequestOutcome = Literal[
    "ok",
    "not_found",
    "unauthorized",
    "rate_limited",
    "unavailable",
    "timeout",
    "malformed",
    "address_denied",
    "too_large",
    "circuit_open",
]
"""`unauthorized` is also what opens each conversation with a registry that wants a token."""

_BY_REASON: dict[str, RequestOutcome] = {
    "Timeout": "timeout",
    "RegistryUnavailable": "unavailable",
    "NotFound": "not_found",
    "Unauthorized": "unauthorized",
    "RateLimited": "rate_limited",
    "Malformed": "malformed",
    "AddressDenied": "address_denied",
    "TooLarge": "too_large",
}


class Observer(Protocol):
    """Told of each HTTP request, of each second try, and of circuits that open and close."""

    def requested(self, kind: RequestKind, outcome: RequestOutcome, seconds: float) -> None:
        """One try has ended."""

    def retried(self, kind: RequestKind) -> None:
        """One request is about to be sent again."""

    def circuits(self, opened: int, open_now: int) -> None:
        """`opened` circuits (0 or 1) have just opened; `open_now` hosts are shut out at the moment."""


class Unobserved:
    """Nobody is told."""

    def requested(self, kind: RequestKind, outcome: RequestOutcome, seconds: float) -> None:
        """Nothing."""

    def retried(self, kind: RequestKind) -> None:
        """Nothing."""

    def circuits(self, opened: int, open_now: int) -> None:
        """Nothing."""


def outcome_of(status: int) -> RequestOutcome:
    """What an HTTP status counts as."""
    if status in (401, 403):
        return "unauthorized"
    if status == 404:
        return "not_found"
    if status == 429:
        return "rate_limited"
    if status >= 500 or status == 408:
        return "unavailable"
    return "ok" if status < 400 else "malformed"


def outcome_of_error(error: RegistryError) -> RequestOutcome:
    """What an error counts as."""
    return _BY_REASON[error.reason]
