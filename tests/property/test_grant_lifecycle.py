"""The grant's state machine under any order of events: what was final stays so, and Active means that all is well."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from countersign.api.pod import ContainerStatus, Pod
from countersign.api.responses import Responses
from countersign.grants.drift import NO_DRIFT, drift, on_record
from countersign.grants.judgement import requalify
from countersign.grants.lifecycle import Observation, next_deadline, next_status, status_after
from countersign.grants.nodes import NodeSight
from countersign.grants.tracking import PodTrack, first_sight, sighted
from tests.unit.grants.build import (
    ACCOUNT_UID,
    BORN,
    admitted,
    at,
    changed,
    judged,
    recorded,
    stamp,
    with_debugger,
    with_image,
)
from tests.unit.trust.build import cluster_policy, snapshot, token

UNKNOWN = "sha256:" + "f" * 64
SWAPPED = "registry.example.com/payments/api:9@sha256:" + "e" * 64
LIFETIME = 900
DRAIN = 60
PATIENCE = 300


def _policies(response: Any) -> Any:
    good = cluster_policy(
        tokens=(token(),), max_lifetime_seconds=LIFETIME, responses=Responses(ephemeral_container=response)
    )
    bad = msgspec.structs.replace(good, spec=msgspec.structs.replace(good.spec, images=(), tokens=()))
    return snapshot(good), snapshot(bad), snapshot()


class GrantLifecycle(RuleBasedStateMachine):
    """One pod, one grant, a controller that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.good, self.bad, self.none = _policies("Suspend")
        self.policies = self.good
        self.subject, self.receipt = admitted(self.good)
        self.original: Pod = self.subject.pod
        self.pod: Pod | None = self.original
        self.last: Pod = self.original
        self.track: PodTrack | None = first_sight(self.original)
        self.grant = recorded(judged(self.good))
        self.account: str | None = ACCOUNT_UID
        self.order = ""
        self.key_revoked = ""
        self.node = NodeSight(name="n1")
        self.epoch = ""
        self.heard = True
        self.over = ""
        """Why the instance is over in truth, whoever has seen it."""
        self.strayed = False
        """Whether this controller has seen its node report another image."""
        self.known_over = False
        self.was_revoked_as: tuple[str, str] | None = None
        self.step()

    # What happens in the cluster

    def change(self, pod: Pod) -> None:
        self.last = pod
        if self.pod is not None:
            self.pod = pod
        if self.track is not None:
            self.track = sighted(self.track, pod)

    @rule(phase=st.sampled_from(["Succeeded", "Failed"]))
    def finish(self, phase: str) -> None:
        if self.pod is None:
            return
        self.over = self.over or phase
        self.change(changed(self.last, phase=phase))

    @rule()
    def node_takes_it_back(self) -> None:
        # A node cannot undo the end of a pod that was seen to end. Unseen, the API has forgotten it.
        if self.pod is None or (self.track is None and self.over in ("Succeeded", "Failed")):
            return
        self.change(changed(self.last, phase="Running"))

    @rule()
    def swap_image(self) -> None:
        if self.pod is None:
            return
        self.over = self.over or "image"
        generation = self.last.metadata.generation
        self.change(changed(with_image(self.last, SWAPPED), generation=generation + 1))

    @rule()
    def put_image_back(self) -> None:
        if self.pod is None or self.last.spec.containers[0].image != SWAPPED:
            return
        generation = self.last.metadata.generation
        image = self.original.spec.containers[0].image
        self.change(changed(with_image(self.last, image), generation=generation + 1))

    @rule(what=st.sampled_from(["image", "phase"]))
    def there_and_back_before_anybody_decides(self, what: str) -> None:
        if what == "image":
            self.swap_image()
            self.put_image_back()
        elif self.track is not None:
            self.finish("Succeeded")
            self.node_takes_it_back()
        self.step()

    @rule(right=st.booleans())
    def node_reports(self, right: bool) -> None:
        if self.pod is None:
            return
        image = self.grant.spec.images[0]
        told = ContainerStatus(name=image.container, image_id=image.runtime_digests[-1] if right else UNKNOWN)
        status = msgspec.structs.replace(self.last.status, container_statuses=(told,))
        self.change(msgspec.structs.replace(self.last, status=status))
        self.strayed = self.strayed or (not right and self.track is not None)

    @rule()
    def debug(self) -> None:
        if self.pod is None:
            return
        generation = self.last.metadata.generation
        self.change(changed(with_debugger(self.last, "debug"), generation=generation + 1))

    @precondition(lambda self: self.last.metadata.deletion_timestamp is None)
    @rule(grace=st.integers(1, 3600))
    def delete(self, grace: int) -> None:
        if self.pod is None:
            return
        generation = self.last.metadata.generation
        self.change(
            changed(
                self.last, generation=generation + 1,
                deletion_timestamp=stamp(int(self.now) + grace), deletion_grace_period_seconds=grace,
            )
        )  # fmt: skip

    @rule()
    def vanish(self) -> None:
        self.over = self.over or "gone"
        self.pod = None

    @rule(account=st.sampled_from([ACCOUNT_UID, "another", None]))
    def account_becomes(self, account: str | None) -> None:
        if account != ACCOUNT_UID:
            self.account = account
        elif self.account != ACCOUNT_UID:
            return  # a UID never comes back

    @rule()
    def order_it_ended(self) -> None:
        self.order = "Revocation payments/leak"

    @rule(key=st.sampled_from(["", "key-1"]))
    def receipt_key_becomes(self, key: str) -> None:
        self.key_revoked = key

    @rule(ready=st.booleans())
    def node_becomes(self, ready: bool) -> None:
        since = None if ready else self.node.unready_since or at(self.now)
        self.node = msgspec.structs.replace(self.node, unready_since=since)

    @rule(epoch=st.sampled_from(["", "e1", "e2"]))
    def etcd_is_restored(self, epoch: str) -> None:
        self.epoch = epoch
        self.heard = False

    @rule()
    def node_is_heard_from(self) -> None:
        self.heard = True

    @rule()
    def node_is_replaced(self) -> None:
        self.node = msgspec.structs.replace(self.node, replaced="it is another")

    @rule(which=st.sampled_from(["good", "bad", "none"]))
    def policies_become(self, which: str) -> None:
        self.policies = {"good": self.good, "bad": self.bad, "none": self.none}[which]

    @rule(seconds=st.sampled_from([1, 30, 61, 600]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def controller_goes(self) -> None:
        self.track = None

    # What the controller does about it

    @rule()
    def step(self) -> None:
        if self.track is None and self.pod is not None:
            self.track = first_sight(self.pod)
            self.strayed = any(one.image_id == UNKNOWN for one in self.pod.status.container_statuses)
        seen = self.observation()
        before = self.grant.status
        transition = next_status(self.grant, seen, at(self.now))
        judged_in = self.epoch if seen.reconfirmed else None
        conditions = on_record(self.grant, seen.drift, seen.drift_unclear, at(self.now))
        status = status_after(before, transition, seen.track, at(self.now), epoch=judged_in, conditions=conditions)
        if before.state == "Revoked":
            assert transition is None
        self.grant = msgspec.structs.replace(self.grant, status=status)
        if status.state == "Active":
            self.is_well(seen)
        assert next_status(self.grant, seen, at(self.now)) is None, "a second look changes nothing"
        deadline = next_deadline(self.grant, seen)
        if deadline is not None and deadline <= at(self.now):
            assert self.grant.status.state != "Active"

    def observation(self) -> Observation:
        subject = msgspec.structs.replace(self.subject, pod=self.pod or self.last)
        drifted = NO_DRIFT if self.track is None else drift(self.grant, self.track)
        return Observation(
            drift=drifted.found,
            drift_caused_by=drifted.caused_by,
            drift_unclear=drifted.unclear,
            track=self.track,
            gone=self.pod is None,
            qualification=requalify(self.policies, subject, self.receipt.receipt, BORN),
            service_account_uid=self.account,
            service_account_gone=self.account is None,
            revocation=self.order,
            receipt_key_revoked=self.key_revoked,
            node=self.node,
            epoch=self.epoch,
            reconfirmed=self.heard or self.grant.status.epoch == self.epoch,
        )

    def is_well(self, seen: Observation) -> None:
        """Active: nothing that was ever true of the instance speaks against it."""
        assert not self.over
        assert not self.strayed
        assert not self.order
        assert not self.key_revoked
        assert self.grant.status.epoch == self.epoch
        assert not self.node.replaced
        assert self.node.unready_since is None or at(self.now) < self.node.unready_since + timedelta(seconds=PATIENCE)
        assert self.account == ACCOUNT_UID
        assert self.now < LIFETIME
        assert self.policies is self.good
        assert not self.last.spec.ephemeral_containers
        assert seen.qualification is not None
        assert seen.qualification.qualifies

    @invariant()
    def revoked_is_final(self) -> None:
        status = self.grant.status
        if self.was_revoked_as is not None:
            assert status.state == "Revoked"
            assert (status.reason, status.caused_by) == self.was_revoked_as
        elif status.state == "Revoked":
            self.was_revoked_as = (status.reason, status.caused_by)

    @invariant()
    def the_seen_generation_never_falls(self) -> None:
        assert self.grant.status.pod_generation <= max(self.last.metadata.generation, 1)


GrantLifecycle.TestCase.settings = settings(max_examples=150, stateful_step_count=10, deadline=None)
TestGrantLifecycle = GrantLifecycle.TestCase
