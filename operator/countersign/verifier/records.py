"""What is made of each answer besides giving it: each recorder is told of every one, in turn, and must not wait."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from countersign.access.use import Use
from countersign.runtime.tracing.spans import current
from countersign.verifier.introspection import Answer

MAX_NOTED: Final = 10_000
"""Active tokens whose first use by an asker is remembered, so that it is logged once."""

_log: FilteringBoundLogger = structlog.get_logger()


class Record(msgspec.Struct, frozen=True, gc=False):
    """An answer that was given."""

    endpoint: str
    answer: Answer
    use: Use
    seconds: float
    """From the whole request read to the answer."""


Recorder = Callable[[Record], None]


def traced(record: Record) -> None:
    """A Recorder: puts the correlation keys onto the span that is current. Of what strangers ask, the reason only."""
    span = current()
    if not span.recorded:
        return
    answer, claims = record.answer, record.answer.claims
    span.set({"countersign.active": answer.active, "countersign.reason": answer.reason})
    if answer.asker is None:
        return
    span.set({"countersign.asker": str(answer.asker), "countersign.grant": answer.grant})
    if claims is not None:
        span.set({"countersign.jti": claims.jti, "countersign.audience": " ".join(claims.audiences)})
    if claims is not None and claims.pod is not None:
        span.set(
            {
                "k8s.namespace.name": claims.namespace,
                "k8s.pod.name": claims.pod.name,
                "k8s.pod.uid": claims.pod.uid,
            }
        )


class DecisionLog:
    """Logs what came out, where there is no access log (`access_log`) to do so.

    Strangers do not fill the log, nor does each use of a token that is active.
    """

    def __init__(self) -> None:
        self._noted: dict[tuple[str, str], None] = {}

    def __call__(self, record: Record) -> None:
        """A Recorder."""
        answer = record.answer
        if answer.asker is None or (answer.active and not self._first(answer)):
            if not _log.is_enabled_for(logging.DEBUG):
                return
            level = _log.debug
        else:
            level = _log.info
        claims = answer.claims
        level(
            "token",
            endpoint=record.endpoint,
            active=answer.active,
            reason=answer.reason,
            message=answer.message,
            asker=str(answer.asker) if answer.asker else "",
            jti=claims.jti if claims else "",
            audience=" ".join(claims.audiences) if claims else "",
            pod=f"{claims.namespace}/{claims.pod.name}" if claims and claims.pod else "",
            pod_uid=claims.pod.uid if claims and claims.pod else "",
            grant=answer.grant,
            seconds=round(record.seconds, 4),
        )

    def _first(self, answer: Answer) -> bool:
        use = (answer.claims.jti if answer.claims else "", str(answer.asker))
        if use in self._noted:
            return False
        while len(self._noted) >= MAX_NOTED:
            del self._noted[next(iter(self._noted))]
        self._noted[use] = None
        return True
