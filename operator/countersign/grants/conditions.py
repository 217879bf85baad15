"""Conditions of a status (metav1.Condition), changed only where something changed."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from countersign.api import clock
from countersign.api.meta import Condition

MAX_MESSAGE: Final = 1024
"""The CRD's bound on a condition's message and on the message of a grant."""


def with_condition(
    conditions: tuple[Condition, ...],
    kind: str,
    status: bool | None,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """`conditions` with this one set. `status` None is Unknown; the transition time moves only with the status."""
    text = {True: "True", False: "False", None: "Unknown"}[status]
    before = next((one for one in conditions if one.type == kind), None)
    since = before.last_transition_time if before and before.status == text else clock.format_time(now)
    fresh = msgspec.convert(
        {
            "type": kind,
            "status": text,
            "reason": reason,
            "message": bounded(message),
            "lastTransitionTime": since,
            "observedGeneration": generation,
        },
        Condition,
    )
    if before is None:
        return (*conditions, fresh)
    return tuple(fresh if one.type == kind else one for one in conditions)


def without_condition(conditions: Iterable[Condition], kind: str) -> tuple[Condition, ...]:
    """`conditions` without the one of that type."""
    return tuple(one for one in conditions if one.type != kind)


def bounded(message: str) -> str:
    """The message within the CRD's bound."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 3] + "..."
