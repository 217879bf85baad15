"""Reconciling: for each pod, the grant that it should have and the state that the grant should be in.

Level-triggered: `reconcile` looks at all that is known of one pod and does what is missing, whatever the event was that
called it. What it decides is decided in `grants`; here it is put together and written.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from countersign.api.grant import GrantException, WorkloadGrant, WorkloadGrantSpec, WorkloadGrantStatus
from countersign.api.meta import Condition, UTCTime, condition
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.node import Node
from countersign.api.pod import Pod
from countersign.cluster.events import Events
from countersign.cluster.owners import OwnerLookup
from countersign.controller.instances.judging import Judging, NotYetError
from countersign.controller.instances.telling import Telling, name_of
from countersign.controller.instances.uses import UseKeeper
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.store import NameTakenError, StaleError
from countersign.controller.watches.contact import NodeContact
from countersign.controller.watches.pod_record import PodRecord
from countersign.controller.watches.watching import Sighting, slim
from countersign.controller.watches.world import Account, World
from countersign.grants.collection import collectable_at
from countersign.grants.drift import CONDITION as DRIFTED
from countersign.grants.drift import drift, on_record, same_labels
from countersign.grants.judgement import (
    InstanceJudgement,
    ReceiptProblem,
    SpentReceipt,
    judge_instance,
    refuse_instance,
)
from countersign.grants.lifecycle import (
    Observation,
    Transition,
    is_pending,
    next_deadline,
    next_status,
    rested_on,
    status_after,
    to_be_replaced,
)
from countersign.grants.naming import is_refused
from countersign.grants.nodes import NodeSight, node_facts, sight_of
from countersign.runtime.logs import pod_keys
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.scope import governing

_log = structlog.get_logger(__name__)


class GrantStore(OwnerLookup, Protocol):
    """What reconciling writes, and reads live (`controller.store.Store`)."""

    async def create_grant(self, namespace: str, name: str, spec: WorkloadGrantSpec) -> WorkloadGrant:
        """Raises NameTakenError."""

    async def write_grant_status(self, grant: WorkloadGrant, status: WorkloadGrantStatus) -> WorkloadGrant:
        """Raises StaleError."""

    async def delete_grant(self, grant: WorkloadGrant) -> None:
        """Raises StaleError."""

    async def read_grant(self, namespace: str, name: str) -> WorkloadGrant | None:
        """Live; None: there is none."""

    async def read_pod(self, namespace: str, name: str) -> Pod | None:
        """Live; None: there is none."""

    async def read_account(self, namespace: str, name: str) -> Account | None:
        """Live; None: there is none."""

    async def read_node(self, name: str) -> Node | None:
        """Live; None: there is none."""

    async def node_lease(self, name: str) -> str | None:
        """resourceVersion of a node's Lease, live; None: there is none."""


class PodReconciler:
    """Follows pods. `later` plans another look at a pod in so many seconds; `changed` is told of each grant written."""

    def __init__(
        self,
        world: World,
        store: GrantStore,
        judging: Judging,
        events: Events,
        metrics: ControllerMetrics,
        *,
        uses: UseKeeper,
        retention: timedelta,
        epoch: str,
        clock: Callable[[], datetime],
        later: Callable[[str, float], None],
        changed: Callable[[], None],
    ) -> None:
        self._world = world
        self._store = store
        self._judging = judging
        self._telling = Telling(events, metrics)
        self._metrics = metrics
        self._uses = uses
        self._retention = retention
        self._epoch = epoch
        self._contact = NodeContact(store.node_lease, time.monotonic)
        self._clock = clock
        self._later = later
        self._changed = changed

    async def reconcile(self, uid: str) -> None:
        """Do for one pod whatever is missing. Raises to be called again later."""
        started = time.perf_counter()
        grants = self._world.grants_of(uid)
        open_grants = [grant for grant in grants if grant.status.state != "Revoked"]
        record = self._world.pods.get(uid) or await self._unseen(open_grants)
        exists = record is not None and not record.gone
        if not grants:
            if record is None or not exists:
                self._world.forget_pod(uid)
                return
            await self._make(record)
        for grant in self._world.grants_of(uid):
            await self._follow(grant, record)
        if not exists:
            self._world.forget_pod(uid)
        self._metrics.reconcile_seconds.observe(time.perf_counter() - started)

    async def _unseen(self, grants: list[WorkloadGrant]) -> PodRecord | None:
        """A pod that has a grant and that no watch has shown: is it gone, or only not seen yet?"""
        for grant in grants:
            meta, pod = grant.metadata, grant.spec.pod
            found = await self._store.read_pod(meta.namespace, pod.name)
            if found is not None and found.metadata.uid == pod.uid:
                self._world.see(Sighting(slim(found), gone=False, listed=False))
                return self._world.pods.get(pod.uid)
        return None

    async def _make(self, record: PodRecord) -> None:
        """Make the grant of a pod that has none, if it is due one."""
        version, pod = record.version, record.pod()
        carries = RECEIPT_ANNOTATION in pod.metadata.annotations
        subject = self._judging.subject(pod)
        if not carries and (record.track.ended or not governing(self._world.rules.snapshot(), subject)):
            # Over before a policy asked for a receipt, or nobody's business.
            record.judged, record.qualification = True, None
            return
        subject = await self._judging.subject_with_controller(record, None)
        name = (pod.metadata.namespace, pod.spec.service_account_name)
        found = self._world.accounts.get(name) or await self._store.read_account(*name)
        # An account that is younger than the pod is not the one that it was admitted under.
        account = found.uid if found and found.created <= record.track.created_at else ""
        presented = await self._judging.present(pod)
        judgement = judge_instance(self._world.rules.snapshot(), subject, presented, account, self._clock())
        # Labels may have moved it already, and anything meanwhile: then it is judged again as one that has its grant.
        record.judged = record.version == version and _labels_stand(record, pod, presented)
        record.qualification = judgement.qualification if judgement else None
        if judgement is not None:
            await self._create(judgement, subject, record, account)

    async def _create(self, judgement: InstanceJudgement, subject: Subject, record: PodRecord, account: str) -> None:
        namespace, uid = record.track.namespace, record.track.uid
        try:
            grant = await self._store.create_grant(namespace, judgement.name, judgement.spec)
        except NameTakenError:
            held = await self._store.read_grant(namespace, judgement.name)
            if held is None:
                raise NotYetError(f"grant {judgement.name} was there and is not any more") from None
            if held.spec.pod.uid == uid:
                self._learn(held)
                return
            spent = f"Its receipt was spent by pod {held.spec.pod.name} ({held.spec.pod.uid})."
            problem = ReceiptProblem("ReceiptSpent", spent, caused_by=f"Pod {namespace}/{held.spec.pod.name}")
            refused = refuse_instance(self._world.rules.snapshot(), subject, problem, account, self._clock())
            if refused is not None:
                await self._create(refused, subject, record, account)
            return
        self._learn(grant)
        # A final grant that somebody deleted comes back as it was.
        at_once = record.final or judgement.refusal
        if at_once is not None:
            await self._go(grant, at_once, record)

    async def _follow(self, grant: WorkloadGrant, record: PodRecord | None) -> None:
        """Take one grant where it should be."""
        if grant.status.state == "Revoked":
            if record is not None and record.final is None:
                record.final = final_transition(grant)
            await self._collect(await self._record_uses(grant, record), record)
            return
        if grant.status.state is None and is_refused(grant.metadata.name) and record is not None and not record.gone:
            refusal = await self._refusal_again(grant, record)
            if refusal is not None:
                await self._go(grant, refusal, record)
                return
        seen = await self._observe(grant, record)
        now = self._clock()
        transition = next_status(grant, seen, now)
        if record is not None and to_be_replaced(grant, seen, now):
            await self._replace(grant, record)
            return
        await self._go(
            grant,
            transition,
            record,
            epoch=self._epoch if seen.reconfirmed else None,
            exceptions=rested_on(grant, seen),
            evidence_good_until=seen.evidence_good_until if seen.qualification is not None else UNSET,
            conditions=on_record(grant, seen.drift, seen.drift_unclear, now),
        )
        if is_pending(grant, seen) and not seen.gone and record is not None:
            self._later(grant.spec.pod.uid, self._contact.pause(record.track.node_name))
        name = (grant.metadata.namespace, grant.metadata.name)
        deadline = next_deadline(self._world.grants.get(name, grant), seen)
        if deadline is not None and (transition is None or transition.state != "Revoked"):
            self._later(grant.spec.pod.uid, max((deadline - now).total_seconds(), 0.0))

    async def _observe(self, grant: WorkloadGrant, record: PodRecord | None) -> Observation:
        gone = record is None or record.gone
        track = record.track if record else None
        orders = self._world.rules.order_book().against(grant, node=track.node_name if track else "")
        order = next(iter(orders), None)
        seen = Observation(
            track=track,
            gone=gone,
            revocation=f"Revocation {order.metadata.namespace}/{order.metadata.name}" if order else "",
            revocation_reason=order.spec.reason if order else "",
            epoch=self._epoch,
            reconfirmed=False,
        )
        if record is None or gone or order is not None or record.track.ended:
            return seen  # it is over whatever else holds, and every call would cost time
        if not self._judging.is_judged(record):
            await self._judging.judge(record, grant)
        evidence = record.evidence
        namespace, account = grant.metadata.namespace, grant.spec.service_account.name
        live: str | None = grant.spec.service_account.uid
        known = self._world.accounts.get((namespace, account))
        if known is None or known.uid != live:
            read = await self._store.read_account(namespace, account)
            live = read.uid if read else None
        drifted = drift(grant, record.track, record.moved)
        return msgspec.structs.replace(
            seen,
            qualification=record.qualification,
            service_account_uid=live,
            service_account_gone=live is None,
            node=await self._node(record),
            reconfirmed=await self._reconfirmed(grant, record),
            receipt_key_revoked=self._judging.revoked_key(grant, record),
            drift=drifted.found,
            drift_caused_by=drifted.caused_by,
            drift_unclear=drifted.unclear,
            exception_over=self._judging.exception_over(grant),
            misuse=self._uses.misuse(grant, record),
            held=self._judging.is_held(grant, record),
            evidence_withdrawn=evidence.withdrawn if evidence is not None else "",
            evidence_good_until=evidence.good_until if evidence is not None else None,
        )

    async def _reconfirmed(self, grant: WorkloadGrant, record: PodRecord) -> bool:
        """Whether what etcd says of the pod can be believed in this epoch. In the grant's own nobody is asked."""
        if grant.status.epoch == self._epoch or record.fresh:
            return True
        return await self._contact.heard(record.track.node_name)

    async def _node(self, record: PodRecord) -> NodeSight | None:
        """How the pod's node stands. One that no watch has shown is asked for live: it may be very young."""
        name = record.track.node_name
        if not name:
            return None
        node = self._world.nodes.get(name)
        if node is None:
            found = await self._store.read_node(name)
            node = node_facts(found) if found else None
        sight = sight_of(record.track, node, record.bound_to)
        if node is not None and not record.bound_to:
            record.bound_to = node.uid
        return sight

    async def _refusal_again(self, grant: WorkloadGrant, record: PodRecord) -> Transition | None:
        """The refusal that a crash left unwritten."""
        pod = record.pod()
        subject = self._judging.subject(pod)
        presented = await self._judging.present(pod)
        if isinstance(presented, SpentReceipt):
            presented = ReceiptProblem("ReceiptInvalid", "Its admission receipt was not made for this pod.")
        judgement = refuse_instance(
            self._world.rules.snapshot(), subject, presented, grant.spec.service_account.uid, self._clock()
        )
        if judgement is None:
            return Transition(state="Revoked", reason=presented.reason, message=presented.message)
        return judgement.refusal

    async def _replace(self, grant: WorkloadGrant, record: PodRecord) -> None:
        """Make way for a grant with other tokens, and make it."""
        try:
            await self._store.delete_grant(grant)
        except StaleError:
            await self._reread(grant)
            raise
        self._world.see(Sighting(grant, gone=True, listed=False))
        keys = pod_keys(grant.metadata.namespace, grant.spec.pod.name, grant.spec.pod.uid)
        _log.info("grant replaced", grant=name_of(grant), **keys)
        await self._make(record)
        for made in self._world.grants_of(record.track.uid):
            await self._follow(made, record)

    async def _go(
        self,
        grant: WorkloadGrant,
        transition: Transition | None,
        record: PodRecord | None,
        *,
        epoch: str | None = None,
        exceptions: tuple[GrantException, ...] | None = None,
        evidence_good_until: UTCTime | UnsetType | None = UNSET,
        conditions: tuple[Condition, ...] | None = None,
    ) -> None:
        track = record.track if record else None
        status = status_after(
            grant.status, transition, track, self._clock(),
            epoch=epoch, exceptions=exceptions, evidence_good_until=evidence_good_until, conditions=conditions,
        )  # fmt: skip
        if transition is None and status == grant.status:
            await self._record_uses(grant, record)
            return
        status = self._uses.recorded(grant, status, record)
        if status == grant.status:
            return
        written = await self._write(grant, status)
        self._learn(written)
        self._uses.written(grant, written, record)
        if transition is not None:
            if transition.state == "Revoked" and record is not None:
                record.final = transition
            self._telling.transition(grant, transition, record)
        drifted = condition(status.conditions, DRIFTED)
        if drifted is not None and drifted != condition(grant.status.conditions, DRIFTED):
            self._telling.drift(grant, drifted, record, is_answered=transition is not None)

    async def _record_uses(self, grant: WorkloadGrant, record: PodRecord | None) -> WorkloadGrant:
        """Write how its tokens are used, if that is due. Its state stays as it is, whatever it is."""
        status = self._uses.recorded(grant, grant.status, record)
        if status == grant.status:
            return grant
        written = await self._write(grant, status)
        self._metrics.use_writes.inc()
        # No figure in anybody's status depends on it.
        self._world.see(Sighting(written, gone=False, listed=False))
        self._uses.written(grant, written, record)
        return written

    async def _write(self, grant: WorkloadGrant, status: WorkloadGrantStatus) -> WorkloadGrant:
        try:
            return await self._store.write_grant_status(grant, status)
        except StaleError:
            await self._reread(grant)
            raise

    async def _collect(self, grant: WorkloadGrant, record: PodRecord | None) -> None:
        exists = record is not None and not record.gone
        due = collectable_at(grant, pod_exists=exists, retention=self._retention)
        if due is None:
            return
        wait = (due - self._clock()).total_seconds()
        if wait > 0:
            self._later(grant.spec.pod.uid, wait)
            return
        if await self._unseen([grant]) is not None:
            return
        await self._store.delete_grant(grant)
        self._world.see(Sighting(grant, gone=True, listed=False))

    async def _reread(self, grant: WorkloadGrant) -> None:
        """The grant as it is now, since it is not what it was."""
        found = await self._store.read_grant(grant.metadata.namespace, grant.metadata.name)
        if found is None:
            self._world.see(Sighting(grant, gone=True, listed=False))
        else:
            self._learn(found)

    def _learn(self, grant: WorkloadGrant) -> None:
        self._world.see(Sighting(grant, gone=False, listed=False))
        self._changed()


def final_transition(grant: WorkloadGrant) -> Transition:
    """The transition that made a grant final, as its status tells it."""
    status = grant.status
    told = {"state": "Revoked", "reason": status.reason, "message": status.message, "caused_by": status.caused_by}
    return msgspec.convert(told, Transition)


def _labels_stand(record: PodRecord, pod: Pod, presented: SpentReceipt | ReceiptProblem) -> bool:
    """Whether the pod still has the labels that it was admitted with, and never had others."""
    if isinstance(presented, ReceiptProblem):
        return True
    return not record.labels_seen and same_labels(pod.metadata.labels, presented.receipt.labels)
