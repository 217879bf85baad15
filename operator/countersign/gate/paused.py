"""Break-glass: what the gate answers about pods while an AdmissionPause is in force.

No pod is refused. None is patched either: without a receipt it gets no grant, and without volumes no tokens, so nothing
that is created meanwhile has an identity. A receipt that its author wrote is removed as ever. The verdict is found out
all the same, within PAUSED_SECONDS, and told by warnings and in the audit log. Token requests are no business of a
pause: they are judged as ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

import structlog

from countersign.api.admission import AdmissionRequest
from countersign.api.clock import format_time
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.gate.answers import Answer, RefuseNow, allow, as_warnings, failed
from countersign.gate.app import Asked, Handler
from countersign.gate.metrics import GateMetrics
from countersign.gate.mirror import as_mirror
from countersign.gate.state import GateState
from countersign.gate.subjects import pod_of
from countersign.injection.patch import Injection, with_receipt
from countersign.trust.orders.pause import InForce

PAUSED_SECONDS: Final = 2.0
"""Nobody waits longer for the sake of a warning: a registry that is down may be why the door was opened."""
PAUSED: Final = "Paused"

_AS_EVER: Final = frozenset({"NotGoverned", "BeingDeleted", "MirrorPod", "MirrorForged", "NothingToJudge"})
"""Reasons of answers that a pause does not change: nobody's business, or forged. A pod that passes for the shadow of a
static one would be governed by nothing for as long as it lives, and no emergency needs one."""

_log = structlog.get_logger()


class OpenDoor:
    """Stands before the handlers of pods. `told`: handlers whose answers are told, and bind nobody."""

    def __init__(
        self,
        state: GateState,
        told: Mapping[Asked, Handler],
        metrics: GateMetrics,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._told = told
        self._metrics = metrics
        self._clock = clock

    def around_mutate(self, routes: Mapping[Asked, Handler]) -> dict[Asked, Handler]:
        """The handlers of `/mutate`: pods stay as they came, but for a receipt of their author's."""
        return {asked: self._unless_paused(handler, self._bare) for asked, handler in routes.items()}

    def around_validate(self, routes: Mapping[Asked, Handler]) -> dict[Asked, Handler]:
        """The handlers of `/validate`: what would have been refused is admitted with a warning."""
        return {
            asked: self._unless_paused(handler, self._admit(self._told[asked])) for asked, handler in routes.items()
        }

    def _unless_paused(self, handler: Handler, instead: "_Instead") -> Handler:
        async def serve(request: AdmissionRequest, until: float) -> Answer:
            pause = self._state.paused(self._clock())
            return await (handler(request, until) if pause is None else instead(request, until, pause))

        return serve

    async def _bare(self, request: AdmissionRequest, _until: float, _pause: InForce) -> Answer:
        try:
            pod = pod_of(request)
        except RefuseNow:
            return allow(PAUSED)  # `/validate` reads it, too, and tells
        if request.operation != "CREATE":
            return allow(PAUSED)
        forged = as_mirror(pod, request.user_info)
        if forged is not None:
            return forged
        if RECEIPT_ANNOTATION not in pod.metadata.annotations:
            return allow(PAUSED)
        self._metrics.receipt("removed")
        return Answer(allowed=True, reason=PAUSED, patch=with_receipt(Injection((), pod), None).patch)

    def _admit(self, told: Handler) -> "_Instead":
        async def admit(request: AdmissionRequest, until: float, pause: InForce) -> Answer:
            until = min(until, asyncio.get_running_loop().time() + PAUSED_SECONDS)
            try:
                answer = await told(request, until)
            except RefuseNow as refused:
                answer = refused.answer
            except Exception:
                _log.exception("review failed while admission is paused", review=request.uid)
                answer = failed()
            if answer.reason in _AS_EVER:
                return answer
            return _admitted(answer, pause, created=request.operation == "CREATE")

        return admit


_Instead = Callable[[AdmissionRequest, float, InForce], Awaitable[Answer]]


def _admitted(answer: Answer, pause: InForce, *, created: bool) -> Answer:
    """Let in, whatever the verdict; with what it was."""
    what = "admitted without identity" if created else "let through"
    lead = f"countersign: AdmissionPause {pause.name} ends at {format_time(pause.ends)}: {what}"
    refused = () if answer.allowed else (f"would have been refused: {answer.message}",)
    audit = {key: value for key, value in answer.audit.items() if key != "audiences"}
    return Answer(
        allowed=True,
        reason=PAUSED,
        message=answer.message,
        warnings=as_warnings((lead, *refused, *answer.warnings)),
        audit={**audit, "paused": str(pause)},
        facts={**answer.facts, "pause": pause.name, "verdict": answer.reason},
    )
