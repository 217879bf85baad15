"""Whether admission is paused: a function of the AdmissionPauses that exist and of the time, and of nothing else.

So a pause ends by itself wherever somebody asks, without a write and without a controller. Where a time cannot be read,
the pause is none: the door stays shut.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from countersign.api import clock
from countersign.api.pause import AdmissionPause

MAX_PAUSE: Final = timedelta(hours=24)
"""Whatever `expiresAt` says, a pause is over so long after its creation. (The guard `countersign-pauses` refuses more;
that could be switched off.)"""


class InForce(NamedTuple):
    """The pause that holds the door open."""

    name: str
    requested_by: str
    reason: str
    ends: datetime

    def __str__(self) -> str:
        """For the audit log."""
        asker = self.requested_by or "somebody unknown"
        return f"AdmissionPause {self.name} by {asker} until {clock.format_time(self.ends)}: {self.reason}"


def ends_at(pause: AdmissionPause) -> datetime | None:
    """When it is, or was, over; None: it never was in force."""
    try:
        created = clock.parse(pause.metadata.creation_timestamp or "")
        expires = clock.parse(pause.spec.expires_at)
    except ValueError:
        return None
    end = min(expires, created + MAX_PAUSE)
    return end if end > created else None


def open_until(pause: AdmissionPause, now: datetime) -> datetime | None:
    """Until when it holds the door open; None: it does not. Being deleted, it is over, whatever it waits for."""
    end = ends_at(pause)
    return end if end is not None and now < end and pause.metadata.deletion_timestamp is None else None


def in_force(pauses: Iterable[AdmissionPause], now: datetime) -> InForce | None:
    """Of the pauses in force the one that ends last; None: the door is shut."""
    found = [(end, one.metadata.name, one.spec) for one in pauses if (end := open_until(one, now)) is not None]
    if not found:
        return None
    end, name, spec = max(found, key=lambda each: each[:2])
    return InForce(name, spec.requested_by, spec.reason, end)


def next_end(pauses: Iterable[AdmissionPause], now: datetime) -> datetime | None:
    """When the next of the pauses in force ends; None: none is in force."""
    return min((end for one in pauses if (end := open_until(one, now)) is not None), default=None)
