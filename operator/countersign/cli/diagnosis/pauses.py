"""Check of break-glass: whether the door is open now, and whether it stayed open by mistake."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from countersign.api.names import CLOSED_ANNOTATION, WEBHOOK_CONFIGURATION
from countersign.api.pause import AdmissionPause
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.check import Anything, Check, Cluster
from countersign.trust.orders.pause import in_force

WEBHOOKS: Final = tuple(
    f"/apis/admissionregistration.k8s.io/v1/{plural}/{WEBHOOK_CONFIGURATION}"
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
)


def pauses(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether admission is paused, by whom and until when."""
    found = in_force(cluster.items(collection(AdmissionPause), AdmissionPause), datetime.now(UTC))
    if found is not None:
        yield Check(
            "pause", "warn", f"admission is paused: {found}", f"when it is no longer needed: resume {found.name}"
        )
        return
    opened = [configuration for path in WEBHOOKS if (configuration := cluster.find(path, Anything)) is not None]
    if any(CLOSED_ANNOTATION in one.metadata.annotations for one in opened):
        remedy = "start the controller, which shuts the door; while gates run they refuse pods as ever"
        yield Check("pause", "fail", "no pause is in force, yet the webhooks still fail open from one", remedy)
    else:
        yield Check("pause", "ok", "admission is not paused")
