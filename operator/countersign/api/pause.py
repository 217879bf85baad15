"""AdmissionPause: break-glass. While one is in force, admission refuses no pod and gives none an identity.

It ends by itself, stays as a record, and can be made shorter but not longer (`trust.orders.pause` says when it is in force).
"""

from typing import Annotated, ClassVar

from countersign.api.meta import Condition, ObjectMeta, UTCTime
from countersign.api.schema import Column, Model, Rule, doc


class AdmissionPauseSpec(Model, frozen=True, kw_only=True):
    """The order. Immutable, but for an earlier end."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.reason == oldSelf.reason && has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)",
            "an AdmissionPause is a record: its reason and its asker stay as they are",
        ),
        Rule(
            "self.expiresAt <= oldSelf.expiresAt",
            "expiresAt may only be moved earlier: create another AdmissionPause to stay open longer",
            "expiresAt",
        ),
    )

    reason: Annotated[str, doc("Why, for people and for the record.", min_length=1, max_length=512)]
    expires_at: Annotated[
        UTCTime,
        doc(
            "When it ends, at most 24 h after its creation. May only ever be moved earlier; a time that has passed ends it now.",
            string_format="date-time",
        ),
    ]
    requested_by: Annotated[
        str, doc("Who asked: set by the cluster from the request's user. Leave it out.", max_length=253)
    ] = ""


class AdmissionPauseStatus(Model, frozen=True, kw_only=True):
    """Whether the door is open."""

    conditions: Annotated[tuple[Condition, ...], doc("Open.", max_length=8, map_keys=("type",))] = ()
    observed_generation: Annotated[int, doc("The metadata.generation that was judged.")] = 0


class AdmissionPause(Model, frozen=True, kw_only=True):
    """Break-glass: until it ends, admission refuses no pod and gives none an identity."""

    KIND: ClassVar[str] = "AdmissionPause"
    PLURAL: ClassVar[str] = "admissionpauses"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("apause",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Open", "string", '.status.conditions[?(@.type=="Open")].status', "Whether the door is open"),
        Column("Expires", "string", ".spec.expiresAt", "When it ends"),
        Column("By", "string", ".spec.requestedBy", "Who asked"),
        Column("Reason", "string", ".spec.reason", "Why"),
        Column("Age", "date", ".metadata.creationTimestamp", "When it began"),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[AdmissionPauseSpec, doc("The order. Immutable, but for an earlier end.")]
    status: Annotated[AdmissionPauseStatus, doc("Written by the controller.")] = AdmissionPauseStatus()
