"""etcd restored from an old snapshot: what it brings back is inactive in another epoch until it was judged anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from countersign.cluster.lease import RENEW_DEADLINE
from tests.lab.lab import Lab
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation, Service, introspect
from tests.stack.objects import Object

pytestmark = pytest.mark.lab
EPOCH = "2026-11-25-restore"


@pytest.fixture(scope="module")
def own(programs: None) -> Iterator[Installation]:
    """A control plane of the module's own: its last test restores etcd."""
    with Lab.start() as lab, Installation.start(lab, revives=False) as running:
        yield running


def order(scene: Governed, pod: Object) -> None:
    """Revoke the pod's grant by order."""
    name = scene.countersign.grant_of(pod)["metadata"]["name"]
    made: dict[str, Any] = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "Revocation",
        "metadata": {"generateName": "leak-", "namespace": scene.namespace},
        "spec": {"target": {"grant": {"name": name}}, "reason": "stolen"},
    }
    answer = scene.countersign.create(made)
    assert answer.status == 201, answer.message
    scene.countersign.grant_of(pod, state="Revoked")


def await_end(service: Service) -> None:
    """Wait until the process has ended by itself, for which it may wait for the API server, and tell people."""
    deadline = time.monotonic() + 60
    while service.process.running:
        assert time.monotonic() < deadline, service.process.log_tail(40)
        time.sleep(0.1)


def answered(own: Installation, token: str, asker: str) -> bool:
    """Whether the relying party would serve it; 503 is a no."""
    answer = introspect(own.verifier_client(), token, asker)
    return answer.status == 200 and bool(answer.body["active"])


def test_the_first_start_of_an_epoch_named_nothing_changes_nothing(own: Installation) -> None:
    scene = govern(own)
    pod = scene.running()
    token = scene.token(pod)
    before = own.grant_of(pod)["status"]
    assert "epoch" not in before
    own.stop_all()
    own.start_all()
    own.lab.wait_for(lambda: answered(own, token, scene.asker), what="the token is active")
    assert {**own.grant_of(pod)["status"], "uses": None} == {**before, "uses": None}


def test_an_epoch_that_is_no_name_is_refused(own: Installation) -> None:
    own.stop("verifier")
    service = own.start_service("verifier", wait=False, epoch="two words")
    own.lab.wait_for(lambda: not service.process.running, what="the verifier refuses to start")
    assert "two words" in service.process.log.read_text()
    own.services.pop("verifier")
    own.start_service("verifier")


def test_what_a_restore_brings_back_is_inactive_until_it_was_judged_anew(
    own: Installation, record_property: Callable[[str, object], None]
) -> None:
    scene = govern(own)
    with scene.node.beating():
        healthy, stolen = scene.running(), scene.running()
        tokens = {name: scene.token(pod) for name, pod in (("healthy", healthy), ("stolen", stolen))}
        own.stop_all()  # a copy of etcd's data takes longer than the controller may go without its Lease
        snapshot = own.lab.control_plane.save_etcd()
        own.start_all()
        order(scene, stolen)
        scene.await_inactive(tokens["stolen"])
        standby = own.start_service("controller", key="standby")
        time.sleep(2)  # it looks at the Lease meanwhile

        # Long enough for the leader to have lost its Lease before it can see anything.
        own.lab.control_plane.restore_etcd(snapshot, away_seconds=RENEW_DEADLINE + 1)
        restored = time.perf_counter()
        own.await_guards()
        print(f"the API server minted again after {time.perf_counter() - restored:.1f} s")
        assert own.grant_of(stolen)["status"]["state"] == "Active", "etcd has forgotten the order"

        # Those that ran before know more than etcd does, and none goes on.
        await_end(standby)
        assert "etcd went back in time" in standby.process.log.read_text()
        await_end(own.services["controller"])
        path = f"/apis/events.k8s.io/v1/namespaces/{own.namespace}/events"
        events = own.lab.admin.get(path, expect=200).body["items"]
        told = {one["reportingInstance"] for one in events if one["reason"] == "EtcdRestoreSuspected"}
        assert len(told) == 2, f"a person is told, by each of them: {told}"

        def refused() -> bool:
            return introspect(own.verifier_client(), tokens["stolen"], scene.asker).status == 503

        def suspects() -> bool:
            return "countersign_verifier_etcd_restore_suspected 1.0" in own.services["verifier"].metrics()

        own.lab.wait_for(suspects, what="the verifier that ran before notices")
        assert refused()
        own.services.pop("standby")
        own.services.pop("controller")
        # Its own Lease comes back to life; a verifier that saw it go back does not.
        own.start_service("controller")
        time.sleep(1)
        assert refused()

        # Another epoch: at once, though the controller that runs is of the old one and says Active.
        own.stop("verifier")
        own.stop("gate")
        own.start_service("gate", epoch=EPOCH)
        own.start_service("verifier", epoch=EPOCH)
        began = time.perf_counter()
        assert own.grant_of(stolen)["status"]["state"] == "Active"
        for token in tokens.values():
            assert not scene.active(token)
        assert 'reason="EpochChanged"' in own.services["verifier"].metrics()
        minted = scene.node.tokens(healthy)[scene.audience]
        assert minted.status == 403
        assert "EpochChanged" in minted.message

        # With no controller the order is given again, then one of the new epoch judges.
        own.stop("controller")
        name = own.grant_of(stolen)["metadata"]["name"]
        made = {
            "apiVersion": "countersign.dev/v1alpha1",
            "kind": "Revocation",
            "metadata": {"name": "again", "namespace": scene.namespace},
            "spec": {"target": {"grant": {"name": name}}, "reason": "stolen, as the audit log says"},
        }
        assert own.create(made).status == 201
        own.start_service("controller", epoch=EPOCH)
        started = time.perf_counter()
        own.grant_of(stolen, state="Revoked")
        own.grant_of(healthy, state="Active")

        def back() -> bool:
            assert not answered(own, tokens["stolen"], scene.asker)
            return answered(own, tokens["healthy"], scene.asker)

        own.lab.wait_for(back, what="the healthy are active again", timeout=60)
        now = time.perf_counter()
        record_property("seconds from the new verifier's start to active again", round(now - began, 1))
        record_property("seconds from the new controller's readiness to active again", round(now - started, 1))
        print(f"inactive for {now - began:.1f} s, of which {now - started:.1f} s after the controller was ready")
        assert own.grant_of(healthy)["status"]["epoch"] == EPOCH
        assert own.grant_of(healthy)["status"]["reason"] in {"QualifiesAgain", "Admitted"}
        fresh = scene.running()
        assert scene.active(scene.token(fresh))
