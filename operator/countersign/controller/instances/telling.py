"""What people are told of a grant that changed: a line in the log, a count, an Event on its pod."""

from collections.abc import Mapping
from typing import Final

import structlog

from countersign.api.grant import GrantState, WorkloadGrant
from countersign.api.meta import Condition
from countersign.cluster.events import Events, ObjectReference, Urgency
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.pod_record import PodRecord
from countersign.grants.lifecycle import Transition
from countersign.grants.reasons import DRIFT_REMEDIES, REMEDIES, DriftReport
from countersign.runtime.logs import pod_keys

QUIET_REASONS: Final = frozenset({"Admitted", "Deleted"})
"""No Event: the one is ordinary, the other's pod is gone."""
ACTIONS: Final[Mapping[GrantState, str]] = {"Active": "Restore", "Suspended": "Suspend", "Revoked": "Revoke"}

_log = structlog.get_logger(__name__)


class Telling:
    """Called once for each change, after it was written."""

    def __init__(self, events: Events, metrics: ControllerMetrics) -> None:
        self._events = events
        self._metrics = metrics

    def transition(self, grant: WorkloadGrant, transition: Transition, record: PodRecord | None) -> None:
        """A state that was written."""
        state, reason = transition.state, transition.reason
        self._metrics.transitions.labels(state, reason).inc()
        _log.info(
            "grant changed", grant=name_of(grant),
            **pod_keys(grant.metadata.namespace, grant.spec.pod.name, grant.spec.pod.uid),
            policies=[f"{one.kind} {one.name}" for one in grant.spec.policies],
            state=state, reason=reason, message=transition.message, caused_by=transition.caused_by or None,
        )  # fmt: skip
        if reason in QUIET_REASONS or record is None or record.gone:
            return
        urgency: Urgency = "Normal" if state == "Active" or reason == "Completed" else "Warning"
        words = {"Active": "Identity restored", "Suspended": "Identity suspended", "Revoked": "Identity ended"}
        told = transition.caused_by not in ("", f"Pod {grant.metadata.namespace}/{grant.spec.pod.name}")
        cause = f" Caused by {transition.caused_by}." if told else ""
        note = f"{words[state]}. {transition.message}{cause} {REMEDIES[reason]}"
        self._events.emit(_pod(grant), urgency, reason, note, action=ACTIONS[state])

    def drift(self, grant: WorkloadGrant, drifted: Condition, record: PodRecord | None, *, is_answered: bool) -> None:
        """Once for each drift. Where it changed the state, that has been told already."""
        is_clear = drifted.status == "True"
        self._metrics.drifts.labels("drifted" if is_clear else "unclear").inc()
        _log.info(
            "drift", grant=name_of(grant),
            **pod_keys(grant.metadata.namespace, grant.spec.pod.name, grant.spec.pod.uid),
            clear=is_clear, message=drifted.message,
        )  # fmt: skip
        if is_answered or record is None or record.gone:
            return
        reason: DriftReport = "DriftReported" if is_clear else "DriftUnclear"
        urgency: Urgency = "Warning" if is_clear else "Normal"
        note = f"{drifted.message} {DRIFT_REMEDIES[reason]}"
        self._events.emit(_pod(grant), urgency, reason, note, action="Report")


def name_of(grant: WorkloadGrant) -> str:
    """As logs call it."""
    return f"{grant.metadata.namespace}/{grant.metadata.name}"


def _pod(grant: WorkloadGrant) -> ObjectReference:
    return ObjectReference.to_pod(grant.metadata.namespace, grant.spec.pod.name, grant.spec.pod.uid)
