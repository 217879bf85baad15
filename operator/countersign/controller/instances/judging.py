"""Judging pods for the controller: who and what is judged, by the receipt that it shows, under the policies of now.

A change of policy is judged for every pod before it suspends any (`survey`), because the brake counts first.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from countersign.api.grant import WorkloadGrant
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.cluster.errors import ClusterError
from countersign.cluster.owners import ControllerLinks, OwnerLookup
from countersign.controller.evidence.reverified import Reverified
from countersign.controller.instances.receipts import UnknownKeyError, present, remember
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.pod_record import PodRecord
from countersign.controller.watches.world import World
from countersign.grants import impact
from countersign.grants.drift import moved_by_labels
from countersign.grants.judgement import ReceiptProblem, SpentReceipt, requalify
from countersign.grants.withdrawal import EvidenceNow, evidence_now, questions
from countersign.keys.receipts import ReceiptVerifier, resting_key
from countersign.runtime.logs import pod_keys
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.reverification import Inquiry, with_later
from countersign.trust.orders.exceptions import over
from countersign.trust.pods.subject import ControllerLink, Subject
from countersign.trust.policies.policy import NamespaceFacts, PolicySnapshot
from countersign.trust.policies.scope import DEFAULT_ACCOUNT
from countersign.trust.receipt import Receipt

LINK_SECONDS: Final = 5.0
"""For the whole chain of a pod's controllers."""
SURVEY_BATCH: Final = 10
"""Pods that are judged in one go; in between the loop takes care of what ends. About 10 ms."""

_log = structlog.get_logger(__name__)


class NotYetError(Exception):
    """Something that the judgement needs is not known yet: try again."""


class ReceiptKeysSource(Protocol):
    """The receipt keys of the moment (`controller.keys.certificates.KeyKeeper`)."""

    @property
    def receipts(self) -> ReceiptVerifier:
        """The verifier."""

    async def refresh_receipt_keys(self) -> None:
        """Read them anew."""


class Judging:
    """Keeps the qualification of each pod, and what the policies as they stand would suspend."""

    def __init__(
        self,
        world: World,
        lookup: OwnerLookup,
        keys: ReceiptKeysSource,
        metrics: ControllerMetrics,
        limits: impact.Limits,
        *,
        clock: Callable[[], datetime],
        reverified: Reverified | None = None,
        turned: Callable[[PodRecord, bool], None] = lambda _record, _withdrawn: None,
    ) -> None:
        """`turned` is told of a pod whose evidence stands otherwise now, and whether it was withdrawn just now."""
        self._turned = turned
        self.impacts: Mapping[str, impact.Impact] = {}
        self._weighed: PolicySnapshot | None = None
        """The snapshot that `impacts` is about."""
        self._world = world
        self._keys = keys
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._reverified = Reverified(refresh=math.inf) if reverified is None else reverified
        self._links = ControllerLinks(lookup)

    async def survey(self) -> None:
        """Judge every pod under the policies of now. Only then may anything be suspended: the brake counts first."""
        started = time.perf_counter()
        snapshot = self._world.rules.snapshot()
        for index, record in enumerate(list(self._world.live())):
            record.judged = False
            grant = self.judged_grant(record.track.uid)
            if grant is not None and not record.track.ended:
                try:
                    await self.judge(record, grant)
                except (ClusterError, NotYetError) as error:
                    track = record.track
                    keys = pod_keys(track.namespace, track.name, track.uid)
                    _log.warning("pod not judged", **keys, error=str(error))
            if index % SURVEY_BATCH == 0:
                await asyncio.sleep(0)
        if self._world.rules.snapshot() is snapshot:
            self.weigh()
            self._weighed = snapshot
        self._metrics.survey_seconds.observe(time.perf_counter() - started)

    def weigh(self) -> None:
        """Count what each policy as it stands would suspend, and hold what is too much."""
        policies = {policy.ref.uid: policy for policy in self._world.rules.snapshot().policies}
        losing: dict[str, set[str]] = {}
        active: dict[str, set[str]] = {}
        for grant in self._world.grants.values():
            if grant.status.state != "Active":
                continue
            pod_uid = grant.spec.pod.uid
            for resting in grant.spec.policies:
                active.setdefault(resting.uid, set()).add(pod_uid)
            record = self._world.pods.get(pod_uid)
            if record is None or record.gone or not record.judged or record.track.ended:
                continue
            if self.exception_over(grant):
                continue  # no policy's doing, and nothing that could wait
            qualified = record.qualification
            if record.evidence is not None and record.evidence.feared is not None:
                qualified = record.evidence.feared
            if impact.loses(grant, qualified):
                for uid in impact.blamed(grant, qualified, policies):
                    losing.setdefault(uid, set()).add(pod_uid)
        before, self.impacts = self.impacts, impact.weigh(losing, active, policies, self._limits)
        for uid, found in self.impacts.items():
            if found.held and not (uid in before and before[uid].held):
                _log.warning("impact held", policy=str(found.policy), losing=found.losing, active=found.active)
        self._metrics.impact_held.set(sum(one.held for one in self.impacts.values()))

    def weigh_again(self) -> bool:
        """Count anew what the policies would suspend, since evidence was found out; whether other ones are held now."""
        if self._world.rules.snapshot() is not self._weighed:
            return False  # the survey is still to come
        before = {uid for uid, one in self.impacts.items() if one.held}
        self.weigh()
        return before != {uid for uid, one in self.impacts.items() if one.held}

    def subject(self, pod: Pod) -> Subject:
        """The pod as it can be judged without any call. Raises NotYetError if its namespace is not known yet."""
        name = pod.metadata.namespace
        labels = self._world.namespaces.get(name)
        if labels is None:
            raise NotYetError(f"namespace {name} is not known yet")
        return Subject(pod=pod, namespace=NamespaceFacts(name, labels))

    def is_judged(self, record: PodRecord) -> bool:
        """Whether its qualification is of the policies, the pod and the time of now."""
        qualified = record.qualification
        if not record.judged or (qualified is not None and qualified.may_turn and record.evidence is None):
            return False
        until = qualified.until if qualified is not None else None
        return until is None or self._clock() < until

    def exception_over(self, grant: WorkloadGrant) -> str:
        """Name of an exception that the grant rests on and that is over; else empty."""
        if not grant.status.exceptions:
            return ""
        return over(grant.status.exceptions, self._world.rules.exceptions.values(), self._clock())

    def judged_grant(self, uid: str) -> WorkloadGrant | None:
        """The grant by which a pod is judged: one that is not final, if there is one."""
        return min(self._world.grants_of(uid), key=lambda grant: grant.status.state == "Revoked", default=None)

    def is_held(self, grant: WorkloadGrant, record: PodRecord) -> bool:
        """Whether the suspension that the policies of now mean for it waits for consent, or for the survey."""
        if grant.status.state != "Active" or not impact.loses(grant, record.qualification):
            return False
        snapshot = self._world.rules.snapshot()
        if snapshot is not self._weighed:
            return True  # until the survey has counted what else the change would suspend
        policies = {policy.ref.uid: policy for policy in snapshot.policies}
        return impact.is_held(impact.blamed(grant, record.qualification, policies), self.impacts)

    async def judge(self, record: PodRecord, grant: WorkloadGrant) -> None:
        """Bring the pod's qualification up to date."""
        subject = await self.subject_with_controller(record, grant)
        # From here on nobody is waited for, so that all is of one moment.
        found = remember(subject.pod, grant.spec.pod.receipt_hash)
        snapshot, now = self._world.rules.snapshot(), self._clock()
        record.qualification = requalify(snapshot, subject, found, now)
        before, record.evidence = record.evidence, None
        if record.qualification is not None and record.qualification.may_turn:
            self._weigh_evidence(record, grant, subject, found, now)
        was, stands = _telling(before), _telling(record.evidence)
        if was != stands:
            self._turned(record, bool(stands.withdrawn) and not was.withdrawn)
        record.judged = True
        moved = moved_by_labels(snapshot, subject, found, record.labels_seen, self._world.rules.policy_arrivals)
        record.moved = record.moved if record.moved.found else moved
        record.labels_seen = ()

    def _weigh_evidence(
        self, record: PodRecord, grant: WorkloadGrant, subject: Subject, receipt: Receipt | None, now: datetime
    ) -> None:
        """How the evidence stands now, by what gates have found out besides. From here on they are asked about it."""
        assert record.qualification is not None  # noqa: S101 - the caller's condition
        if receipt is None:
            record.evidence = EvidenceNow(qualification=record.qualification)
            return
        uid, snapshot, spec = record.track.uid, self._world.rules.snapshot(), subject.pod.spec
        inquiries = {
            image: Inquiry(
                namespace=subject.namespace.name,
                service_account=spec.service_account_name or DEFAULT_ACCOUNT,
                pull_secrets=tuple(one.name for one in spec.image_pull_secrets if one.name),
                need=need,
            )
            for image, need in questions(snapshot, subject, receipt).items()
        }
        known = self._reverified.found(uid, inquiries)
        found = evidence_now(
            snapshot, subject, receipt,
            admitted=record.qualification, grant=grant, asked=inquiries, found=known, now=now,
        )  # fmt: skip
        record.evidence, record.qualification = found, found.qualification
        self._reverified.judged(uid, withdrawn=bool(found.withdrawn), too_old_at=found.too_old_at, now=now)

    def facts_of(self, uid: str, receipt: Receipt) -> dict[str, ImageFacts]:
        """What its receipt says of a pod's images, and gates have found out since, by image string."""
        known = self._reverified.known(uid)
        later = {image: known.get(f"{facts.image}@{facts.digest}") for image, facts in receipt.images.items()}
        return {image: with_later(facts, later[image]) for image, facts in receipt.images.items()}

    def revoked_key(self, grant: WorkloadGrant, record: PodRecord) -> str:
        """Id of the receipt key that the grant rests on, if that key is revoked; else empty."""
        revoked = self._keys.receipts.keys.revoked
        if not revoked:
            return ""
        key = _key_of(grant, record)
        return key if key in revoked else ""

    def resting_on(self, keys: AbstractSet[str]) -> list[str]:
        """UIDs of the pods whose receipts were signed by one of these keys."""
        found = []
        for grant in self._world.grants.values():
            record = self._world.pods.get(grant.spec.pod.uid)
            if record is None or grant.status.state == "Revoked":
                continue
            if _key_of(grant, record) in keys:
                found.append(grant.spec.pod.uid)
        return found

    async def present(self, pod: Pod) -> SpentReceipt | ReceiptProblem:
        """What the pod shows. Raises NotYetError while no receipt keys are known: all would look forged."""
        try:
            return present(pod, self._keys.receipts, keys_are_fresh=False)
        except UnknownKeyError:
            await self._keys.refresh_receipt_keys()
            if not self._keys.receipts.keys.keys:
                raise NotYetError("the receipt keys are not known yet") from None
            return present(pod, self._keys.receipts, keys_are_fresh=True)

    async def subject_with_controller(self, record: PodRecord, grant: WorkloadGrant | None) -> Subject:
        """The pod as it is once its top-level controller is known, which is asked for once in the life of a pod."""
        if record.controller is None:
            asked = self.subject(record.pod())
            found = await self._links.resolve(asked.pod, asked.namespace.name, LINK_SECONDS)
            link, known = found.link, found.known
            if not known and grant is not None and grant.spec.controller is not None:
                # A link may be deleted by now; it was resolved when the grant was made, and links never change.
                made = grant.spec.controller
                link = ControllerLink(api_group=made.api_group, kind=made.kind, name=made.name, uid=made.uid)
                known = True
            record.controller = (link, known)
        link, known = record.controller
        return msgspec.structs.replace(self.subject(record.pod()), controller=link, controller_known=known)


class _Telling(NamedTuple):
    """What people are told of evidence."""

    withdrawn: str = ""
    expiring: frozenset[str] = frozenset()
    withdrawn_for: frozenset[str] = frozenset()


def _telling(found: EvidenceNow | None) -> _Telling:
    return _Telling() if found is None else _Telling(found.withdrawn, found.expiring, found.withdrawn_for)


def _key_of(grant: WorkloadGrant, record: PodRecord) -> str:
    spent = grant.spec.pod
    text = "" if spent.receipt_key_id else record.pod().metadata.annotations.get(RECEIPT_ANNOTATION, "")
    return resting_key(spent.receipt_key_id, spent.receipt_hash, text)
