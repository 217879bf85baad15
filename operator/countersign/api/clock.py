"""Times as the API server writes them. Pure: nothing here reads a clock."""

from datetime import UTC, datetime


def parse(text: str) -> datetime:
    """An RFC 3339 time (metav1.Time, MicroTime) as an aware datetime. Raises ValueError on anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write an RFC 3339 time such as 2026-01-02T03:04:05Z")
    return moment.astimezone(UTC)


def format_time(moment: datetime) -> str:
    """A metav1.Time: whole seconds, UTC, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro(moment: datetime) -> str:
    """A metav1.MicroTime: microseconds, UTC, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_seconds(seconds: float) -> datetime:
    """Seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)
