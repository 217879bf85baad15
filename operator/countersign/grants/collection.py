"""Which grants may be deleted: those of pods long gone. While a pod exists, its record does."""

from datetime import datetime, timedelta
from typing import Final

from countersign.api import clock
from countersign.api.grant import WorkloadGrant

DEFAULT_RETENTION: Final = timedelta(days=1)
"""How long a final grant outlives its pod, for people to read. A receipt cannot be spent again afterwards either: it
counts only for a pod created within seconds of it (trust.receipt)."""


def collectable_at(grant: WorkloadGrant, *, pod_exists: bool, retention: timedelta) -> datetime | None:
    """When the grant may be deleted; None while it must stay. Only Revoked grants ever go."""
    if pod_exists or grant.status.state != "Revoked":
        return None
    since = grant.status.changed_at or grant.metadata.creation_timestamp
    return clock.parse(since) + retention if since else None


def is_collectable(grant: WorkloadGrant, *, pod_exists: bool, retention: timedelta, now: datetime) -> bool:
    """Whether its time is over."""
    due = collectable_at(grant, pod_exists=pod_exists, retention=retention)
    return due is not None and due <= now
