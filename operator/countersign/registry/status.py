"""What an HTTP status of a registry or a token service means for us."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from countersign.registry.errors import (
    MalformedError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    RegistryUnavailableError,
    UnauthorizedError,
)
from countersign.registry.transport import Answer

MAX_RETRY_AFTER_SECONDS: Final = 3600.0


def error_for(answer: Answer, subject: str) -> RegistryError:
    """The error for an answer that is not the wanted one. `subject`: what was asked for, as a phrase."""
    host, status = answer.url.host, answer.status
    if status in (401, 403):
        return UnauthorizedError(f"{host} refuses access to {subject} ({status}); check the pod's image pull secrets")
    if status == 404:
        return NotFoundError(f"{host} has no {subject}")
    if status == 429:
        seconds = retry_after(answer.headers.get("Retry-After", ""))
        wait = f"; it asks to wait {seconds:.0f} s" if seconds else ""
        return RateLimitedError(f"{host} limits the rate of requests{wait}", retry_after=seconds)
    if status >= 500 or status == 408:
        return RegistryUnavailableError(f"{host} cannot answer now ({status})")
    return MalformedError(f"{host} answers {status} when asked for {subject}")


def retry_after(value: str) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, section 10.2.3: seconds or a date), bounded; None if it has none."""
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(value[:40])
        seconds = (date.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
