"""The state machine of a grant: what the sight of its pod, the policies of now and the orders of people make of it.

    (none) ──► Active ◄──► Suspended
                  │            │
                  └──► Revoked ◄┘        final

Revoked: the instance itself is over or spoilt, or a person said so. Suspended: policy or evidence turned against it,
which can be repaired. The rules are tried in the order in which they stand in `next_status`; the first that holds
decides. Whatever ends an instance goes before whatever suspends it; and what no policy says (`_withheld`) goes before
what the policies say, since only a change of policy is ever held back by the brake.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from countersign.api import clock
from countersign.api.grant import GrantException, GrantState, GrantToken, WorkloadGrant, WorkloadGrantStatus
from countersign.api.meta import Condition, UTCTime
from countersign.grants.conditions import bounded, with_condition
from countersign.grants.naming import is_refused
from countersign.grants.nodes import NodeSight, lost_at
from countersign.grants.reasons import REMEDIES, Reason
from countersign.grants.tracking import PodTrack, image_difference, unseen_change
from countersign.trust.policies.profiles import NO_SETTINGS, SERVICE, Settings

MAX_IMAGES: Final = 64
MAX_IMAGE: Final = 512
MAX_CONTAINER: Final = 80
"""Bounds of WorkloadGrant.spec.images (api.grant)."""
DRAINED: Final = "The pod is being deleted, and the time that its policy leaves it is over."
"""The message of a grant that ended before its pod did."""
MAX_CAUSE: Final = 512
"""Bound of WorkloadGrant.status.causedBy."""


class PolicyFinding(NamedTuple):
    """A finding, as far as counting and blaming go."""

    policy_uid: str
    code: str
    blocks_identity: bool


class Qualification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an instance stands with the policies of now, in a few words. Made by `judgement.qualification`."""

    qualifies: bool
    message: str
    """What is missing, for people; empty if it qualifies."""
    policies: tuple[str, ...] = ()
    """UIDs of the policies that govern it."""
    findings: tuple[PolicyFinding, ...] = ()
    not_injected: bool = False
    """It would be given tokens, but was created without them."""
    tokens: tuple[GrantToken, ...] = ()
    settings: Settings = SERVICE
    blamed: str = ""
    """The policies whose findings take its identity, as people write them; empty if it qualifies."""
    exceptions: tuple[GrantException, ...] = ()
    """TrustExceptions that waive some of the findings."""
    may_turn: bool = False
    """Evidence that does today may not do tomorrow (`grants.withdrawal`)."""
    look_again: datetime | None = None
    """When an attestation grows old, or too old; None: time alone does nothing to its evidence."""

    @property
    def until(self) -> datetime | None:
        """When it must be judged anew, since an exception that counts here, or evidence, is over; None: it stands."""
        moments = [clock.parse(one.expires_at) for one in self.exceptions]
        if self.look_again is not None:
            moments.append(self.look_again)
        return min(moments, default=None)


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """All that a grant's next status depends on, besides the grant and the time."""

    track: PodTrack | None
    """The pod as seen; None: it is not known."""
    gone: bool = False
    """The pod does not exist any more, which somebody made sure of."""
    qualification: Qualification | None = None
    """None: no policy governs it (any more)."""
    service_account_uid: str | None = None
    """UID of the account of that name, as it is now; None: not known."""
    service_account_gone: bool = False
    """There is no account of that name, which somebody made sure of."""
    revocation: str = ""
    """The order that reaches it, as `Revocation namespace/name`; empty: none does."""
    revocation_reason: str = ""
    receipt_key_revoked: str = ""
    """Id of the key that signed its receipt, if that key was revoked."""
    node: NodeSight | None = None
    """How its node stands; None: it is bound to none."""
    epoch: str = ""
    """The epoch that counts (api.epoch)."""
    reconfirmed: bool = True
    """Its node was heard from since this epoch began, or it was made in it: what etcd says of it can be believed."""
    exception_over: str = ""
    """An exception that the identity rests on and that is over (`trust.orders.exceptions.over`); empty: none is."""
    drift: str = ""
    """How what runs was seen to differ from what was admitted (grants.drift), for people; empty: it does not."""
    drift_caused_by: str = ""
    """Who told of it, or what was written."""
    drift_unclear: str = ""
    """What might be drift and is only reported; empty: nothing is."""
    evidence_withdrawn: str = ""
    """What of the evidence does not hold any more, for people; empty: it holds, or nobody could tell."""
    evidence_good_until: UTCTime | None = None
    """What the grant's status should say of that (`grants.withdrawal`)."""
    misuse: str = ""
    """How a token of it was misused (access.misuse), for people; empty: none was."""
    held: bool = False
    """The change of policy that would suspend it is held (grants.impact)."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """The state that a grant should be in, and why."""

    state: GrantState
    reason: Reason
    message: str
    caused_by: str = ""


def next_status(grant: WorkloadGrant, seen: Observation, now: datetime) -> Transition | None:
    """Where the grant goes from its present state; None: nowhere. Revoked is final."""
    if grant.status.state == "Revoked":
        return None
    over = ending(grant, seen, now)
    if over is not None:
        return over
    track = seen.track
    if is_refused(grant.metadata.name) or track is None:
        return None  # a refusal waits for its pod's end only, and of what is not known nothing follows
    withheld = _withheld(grant, seen, now)
    if is_pending(grant, seen) and grant.status.state != "Suspended":
        withheld = withheld or _suspended("EpochChanged", _other_epoch(grant, seen), f"epoch {seen.epoch}")
    wanted = withheld or _suspension(grant, seen, track)
    if wanted is None and is_pending(grant, seen):
        return None
    if wanted is None:
        again: Reason = "QualifiesAgain" if grant.status.state == "Suspended" else "Admitted"
        return None if grant.status.state == "Active" else Transition(state="Active", reason=again, message="")
    if grant.status.state == "Active" and seen.held and withheld is None and not seen.exception_over:
        return None
    status = grant.status
    if (status.state, status.reason, status.message) == (wanted.state, wanted.reason, bounded(wanted.message)):
        return None
    return wanted


def ending(grant: WorkloadGrant, seen: Observation, now: datetime) -> Transition | None:
    """What ends the instance for good, if anything does."""
    track = seen.track
    if seen.revocation:
        return _revoked("RevokedByOrder", f"Revoked by order: {seen.revocation_reason}", seen.revocation)
    pod = f"Pod {grant.metadata.namespace}/{grant.spec.pod.name}"
    if track is not None and track.ended:
        said = f" ({track.ended_as})" if track.ended_as else ""
        if track.deletion_timestamp is not None:
            # How its containers exit says nothing of its work: they were told to.
            return _revoked("Deleted", f"The pod was deleted, and its containers have ended{said}.", pod)
        how = "completed" if track.ended == "Completed" else "failed"
        return _revoked(track.ended, f"The pod has {how}{said}.", _node(track) or pod)
    if seen.gone:
        return _revoked("Deleted", "The pod is gone.", pod)
    if track is None:
        return None
    drained = drain_end(track, seen.qualification)
    if drained is not None and drained <= now:
        return _revoked("Deleted", DRAINED, pod)
    changed = track.image_change or _changed_since_grant(grant, track)
    if changed:
        return _revoked("ImageChanged", f"Not what was admitted: {changed}.", pod)
    settings = seen.qualification.settings if seen.qualification else NO_SETTINGS
    if track.ephemeral and settings.ephemeral_container in ("Revoke", "Deny"):
        return _revoked("EphemeralContainerAdded", f"{_ephemeral(track)} after admission.", pod)
    if seen.drift and settings.drift == "Revoke":
        return _revoked("Drifted", seen.drift, seen.drift_caused_by)
    if seen.misuse and settings.misuse == "Revoke":
        return _revoked("Misused", seen.misuse, pod)
    if seen.evidence_withdrawn and settings.evidence_withdrawn == "Revoke":
        return _revoked("EvidenceWithdrawn", seen.evidence_withdrawn, policies_of(grant))
    account = grant.spec.service_account
    named = f"ServiceAccount {grant.metadata.namespace}/{account.name}"
    if seen.service_account_gone:
        said = f"Its service account {account.name} was deleted: expected UID {account.uid}, found none."
        return _revoked("ServiceAccountChanged", said, named)
    if seen.service_account_uid is not None and seen.service_account_uid != account.uid:
        said = f"expected UID {account.uid or 'of before the pod'}, found {seen.service_account_uid}"
        return _revoked("ServiceAccountChanged", f"Its service account {account.name} is another: {said}.", named)
    if grant.spec.expires_at is not None and clock.parse(grant.spec.expires_at) <= now:
        return _revoked("LifetimeOver", f"Its lifetime ended at {grant.spec.expires_at}.", policies_of(grant))
    return None


def next_deadline(grant: WorkloadGrant, seen: Observation) -> datetime | None:
    """When time alone will change the grant: its lifetime or drain time is over, or its node lost. None: never."""
    if grant.status.state == "Revoked" or seen.track is None:
        return None
    moments = [drain_end(seen.track, seen.qualification)]
    if seen.qualification is not None:
        moments.append(seen.qualification.until)
    if grant.status.state == "Active":
        patience = seen.qualification.settings.node_lost_seconds if seen.qualification else None
        moments.append(lost_at(seen.node, patience))
    if grant.spec.expires_at is not None:
        moments.append(clock.parse(grant.spec.expires_at))
    return min((moment for moment in moments if moment is not None), default=None)


def drain_end(track: PodTrack, qualification: Qualification | None) -> datetime | None:
    """When the identity of a pod that is being deleted ends; None while it is not.

    `metadata.deletionTimestamp` is the request to delete *plus* the grace period. Immediate: at the request.
    GracePeriod: with the grace period, or `drain_seconds` after the request if that is sooner.
    """
    if track.deletion_timestamp is None:
        return None
    end = clock.parse(track.deletion_timestamp)
    asked = end - timedelta(seconds=max(track.deletion_grace_seconds, 0))
    if qualification is None:
        return min(end, asked + timedelta(seconds=NO_SETTINGS.drain_seconds))
    if qualification.settings.on_termination == "Immediate":
        return asked
    return min(end, asked + timedelta(seconds=qualification.settings.drain_seconds))


def to_be_replaced(grant: WorkloadGrant, seen: Observation, now: datetime) -> bool:
    """Whether a suspended grant must make way for a new one: all is well, but for other tokens than it lists.

    The spec of a grant is immutable. A Revoked grant is never replaced, nor is the record of a refusal, but for that of
    a pod whose receipt named a key that was restored since: it is judged anew.
    """
    if grant.status.state != "Suspended" or _withheld(grant, seen, now) is not None or is_pending(grant, seen):
        return False
    if seen.track is None or seen.qualification is None or ending(grant, seen, now) is not None:
        return False
    if is_refused(grant.metadata.name):
        return grant.status.reason == "ReceiptKeyRevoked"
    is_well = _turned_against(grant, seen.qualification, seen.track) is None
    return is_well and set(seen.qualification.tokens) != set(grant.spec.tokens)


def is_pending(grant: WorkloadGrant, seen: Observation) -> bool:
    """Whether it was judged in another epoch, and what etcd says of it now cannot be believed yet."""
    return grant.status.epoch != seen.epoch and not seen.reconfirmed


def _other_epoch(grant: WorkloadGrant, seen: Observation) -> str:
    return (
        f"It was judged in epoch {grant.status.epoch!r}, and this is {seen.epoch!r}: etcd was restored, "
        "and its node has not been heard from since."
    )


def covers(qualification: Qualification, tokens: tuple[GrantToken, ...]) -> bool:
    """Whether the policies of now still give every one of these tokens. A shorter bound counts for new pods only."""
    given = {(token.audience, token.policy_uid) for token in qualification.tokens}
    return all((token.audience, token.policy_uid) in given for token in tokens)


def status_after(
    status: WorkloadGrantStatus,
    transition: Transition | None,
    track: PodTrack | None,
    now: datetime,
    *,
    epoch: str | None = None,
    exceptions: tuple[GrantException, ...] | None = None,
    evidence_good_until: UTCTime | msgspec.UnsetType | None = msgspec.UNSET,
    conditions: tuple[Condition, ...] | None = None,
) -> WorkloadGrantStatus:
    """The status with the transition carried out and the pod's generation noted as far as it was seen.

    `epoch`: the one in which it was judged to the end; None: it was not. `exceptions`: what `rested_on` says;
    `conditions`: what `grants.drift.on_record` says; None: as they were. `evidence_good_until`: UNSET: as it was.
    """
    seen = max(status.pod_generation, track.writes if track else 0)
    judged_in = status.epoch if epoch is None else epoch
    if exceptions is not None:
        status = msgspec.structs.replace(status, exceptions=exceptions)
    if evidence_good_until is not msgspec.UNSET:
        status = msgspec.structs.replace(status, evidence_good_until=evidence_good_until)
    if conditions is not None:
        status = msgspec.structs.replace(status, conditions=conditions)
    if transition is None:
        return msgspec.structs.replace(status, pod_generation=seen, epoch=judged_in)
    ready = with_condition(
        status.conditions,
        "Ready",
        transition.state == "Active",
        transition.reason,
        transition.message or REMEDIES[transition.reason],
        generation=1,  # the spec is immutable
        now=now,
    )
    return msgspec.structs.replace(
        status,
        state=transition.state,
        reason=transition.reason,
        message=bounded(transition.message),
        caused_by=transition.caused_by,
        changed_at=clock.format_time(now) if status.state != transition.state else status.changed_at,
        pod_generation=seen,
        epoch=judged_in,
        conditions=ready,
    )


def rested_on(grant: WorkloadGrant, seen: Observation) -> tuple[GrantException, ...]:
    """The exceptions that the grant's status should list.

    What an Active grant was given for stays listed until it has been judged to qualify by others, or by none: so a
    verifier knows when it is over, even while the brake holds it or no controller runs.
    """
    recorded, qualified = grant.status.exceptions, seen.qualification
    if qualified is None:
        return recorded
    if qualified.qualifies and (grant.status.state != "Active" or covers(qualified, grant.spec.tokens)):
        return qualified.exceptions
    if grant.status.state == "Active" or seen.exception_over:
        return recorded
    return qualified.exceptions


def _withheld(grant: WorkloadGrant, seen: Observation, now: datetime) -> Transition | None:
    """What suspends an instance though its policies are the same as ever."""
    if seen.receipt_key_revoked:
        key = seen.receipt_key_revoked
        said = f"The key that signed its admission receipt ({key}) was revoked."
        return _suspended("ReceiptKeyRevoked", said, f"receipt key {key}")
    settings = seen.qualification.settings if seen.qualification else NO_SETTINGS
    if seen.drift and settings.drift == "Suspend":
        return _suspended("Drifted", seen.drift, seen.drift_caused_by)
    if seen.evidence_withdrawn and settings.evidence_withdrawn == "Suspend":
        return _suspended("EvidenceWithdrawn", seen.evidence_withdrawn, policies_of(grant))
    node, patience = seen.node, settings.node_lost_seconds
    if node is None or patience is None:
        return None
    if node.replaced:
        said = f"It is not the machine that the pod was bound to: {node.replaced}."
        return _suspended("NodeReplaced", said, f"Node {node.name}")
    lost = lost_at(node, patience)
    if lost is not None and lost <= now and node.unready_since is not None:
        since = clock.format_time(node.unready_since)
        said = f"Node {node.name} has not been Ready since {since}, for more than {patience} s."
        return _suspended("NodeLost", said, f"Node {node.name}")
    return None


def _suspension(grant: WorkloadGrant, seen: Observation, track: PodTrack) -> Transition | None:
    if seen.qualification is None:
        return _suspended(_unqualified(grant), "No policy governs this pod any more.", policies_of(grant))
    turned = _turned_against(grant, seen.qualification, track)
    if turned is None and not covers(seen.qualification, grant.spec.tokens):
        given = {token.audience for token in seen.qualification.tokens}
        lost = [token.audience for token in grant.spec.tokens if token.audience not in given]
        said = f" (not {lost[0]})" if lost else ""
        message = f"Its policies no longer give it every audience that it was granted{said}."
        turned = _suspended(_unqualified(grant), message, policies_of(grant))
    if turned is not None and turned.reason == "NoLongerQualifies" and seen.exception_over:
        ended = f"TrustException {seen.exception_over}, on which it rested, is over. {turned.message}"
        return _suspended("ExceptionEnded", ended, f"TrustException {seen.exception_over}")
    return turned


def _turned_against(grant: WorkloadGrant, qualification: Qualification, track: PodTrack) -> Transition | None:
    """What speaks against the instance itself, whatever tokens it was granted."""
    if track.ephemeral and qualification.settings.ephemeral_container == "Suspend":
        pod = f"Pod {grant.metadata.namespace}/{grant.spec.pod.name}"
        return _suspended("EphemeralContainerAdded", f"{_ephemeral(track)} after admission.", pod)
    if not qualification.qualifies:
        return _suspended(_unqualified(grant), qualification.message, qualification.blamed)
    return None


def _unqualified(grant: WorkloadGrant) -> Reason:
    never = grant.status.state is None or grant.status.reason == "NotQualified"
    return "NotQualified" if never else "NoLongerQualifies"


def recorded_images(track: PodTrack) -> tuple[tuple[str, str], ...]:
    """The images of a pod within the bounds of what a grant can list. A grant's own list is made of it."""
    return tuple((container[:MAX_CONTAINER], image[:MAX_IMAGE]) for container, image in track.images[:MAX_IMAGES])


def _changed_since_grant(grant: WorkloadGrant, track: PodTrack) -> str:
    """The grant's own record against the first sight, for a process that did not see what came between."""
    if is_refused(grant.metadata.name):
        return ""
    granted = tuple((image.container, image.image) for image in grant.spec.images)
    return image_difference(granted, recorded_images(track)) or unseen_change(
        grant.status.pod_generation, track.first_writes, bool(track.ephemeral)
    )


def _ephemeral(track: PodTrack) -> str:
    return f"Ephemeral container {', '.join(track.ephemeral)} was added"


def policies_of(grant: WorkloadGrant) -> str:
    """The policies that it was judged by, as a cause; as many as there is room for."""
    named = [f"{one.kind} {f'{one.namespace}/' if one.namespace else ''}{one.name}" for one in grant.spec.policies]
    return listed(named)


def listed(names: Iterable[str]) -> str:
    """Names in one line, within the bound of `status.causedBy`."""
    text = ", ".join(dict.fromkeys(names))
    return text if len(text) <= MAX_CAUSE else text[: MAX_CAUSE - 3] + "..."


def _node(track: PodTrack) -> str:
    return f"Node {track.node_name}" if track.node_name else ""


def _suspended(reason: Reason, message: str, caused_by: str = "") -> Transition:
    return Transition(state="Suspended", reason=reason, message=message, caused_by=caused_by)


def _revoked(reason: Reason, message: str, caused_by: str = "") -> Transition:
    return Transition(state="Revoked", reason=reason, message=message, caused_by=caused_by)
