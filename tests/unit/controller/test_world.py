from __future__ import annotations

from typing import Any

import msgspec

from countersign.api.admission import Namespace, ServiceAccount
from countersign.api.evidence_root import ConfigMapKeyRef, EvidenceRoot, EvidenceRootStatus, source_of
from countersign.api.exception import TrustException, TrustExceptionStatus
from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta
from countersign.api.pause import AdmissionPause
from countersign.api.pod import Pod
from countersign.api.policy import ClusterTrustPolicy
from countersign.api.revocation import ObjectTarget, Revocation, RevocationSpec, Target
from countersign.controller.watches.touched import NOTHING, Touched
from countersign.controller.watches.watching import Sighting, slim
from countersign.controller.watches.world import World
from countersign.signatures.roots.trust_root import public_good_root
from countersign.trust.policies.policy import DEFAULT_ROOT
from tests.unit.controller.cluster import GOOD, resource_of
from tests.unit.grants.build import active, changed, live, stamp, with_image
from tests.unit.trust.build import audience, evidence_root, exception, pause


def world() -> World:
    return World("countersign-system")


def see(to: World, found: Any, version: int = 1, *, gone: bool = False) -> Touched:
    meta = msgspec.structs.replace(found.metadata, resource_version=str(version))
    return to.see(Sighting(msgspec.structs.replace(found, metadata=meta), gone, listed=False))


def namespace(**labels: str) -> Namespace:
    return Namespace(metadata=ObjectMeta(name="payments", uid="ns", labels=labels))


def account(uid: str = "account-uid") -> ServiceAccount:
    return ServiceAccount(metadata=ObjectMeta(name="api", namespace="payments", uid=uid))


def test_an_older_state_of_a_pod_changes_nothing() -> None:
    known = world()
    see(known, changed(live(), phase="Succeeded"), 5)
    assert see(known, live(), 4) == NOTHING
    assert known.pods["pod-uid"].track.ended == "Completed"


def test_an_end_is_urgent() -> None:
    known = world()
    see(known, live())
    assert see(known, changed(live(), phase="Succeeded"), 2) == Touched(pods=("pod-uid",), ended=True, status=True)
    assert see(known, live(), 3, gone=True).ended


def test_a_status_that_means_nothing_to_us_touches_nothing() -> None:
    known = world()
    see(known, live())
    assert see(known, changed(live(), phase="Running"), 2) == NOTHING


def test_a_change_of_what_is_judged_asks_for_another_judgement() -> None:
    known = world()
    see(known, live())
    known.pods["pod-uid"].judged = True
    see(known, changed(live(), phase="Running"), 2)
    assert known.pods["pod-uid"].judged
    see(known, changed(with_image(live(), "other"), generation=2), 3)
    assert not known.pods["pod-uid"].judged


def test_a_list_begun_before_a_deletion_does_not_revive_a_pod() -> None:
    known = world()
    see(known, live())
    see(known, live(), 2, gone=True)
    known.forget_pod("pod-uid")
    assert see(known, live()) == NOTHING
    assert not known.pods


def test_the_last_state_of_a_deleted_pod_counts() -> None:
    known = world()
    see(known, live())
    see(known, changed(live(), phase="Succeeded"), 2, gone=True)
    record = known.pods["pod-uid"]
    assert (record.gone, record.track.ended) == (True, "Completed")


def test_what_a_complete_list_does_not_show_is_gone() -> None:
    known = world()
    for uid in ("a", "b"):
        see(known, live(uid))
    before = known.uids(Pod)
    see(known, live("c"))
    touched = known.vanished(Pod, before, {"a"})
    assert touched.pods == ("b",)
    assert touched.ended
    assert {record.track.uid for record in known.live()} == {"a", "c"}


def test_a_pod_that_vanished_unseen_still_ends_its_grant() -> None:
    known = world()
    grant, _ = active()
    see(known, grant)
    assert known.everyone() == ["pod-uid"]
    assert known.grants_of("pod-uid")[0].metadata.name == grant.metadata.name


def test_a_policy_counts_when_its_spec_changes_and_not_when_its_status_does() -> None:
    known = world()
    assert see(known, resource_of(GOOD)).policies
    first = known.rules.snapshot()
    assert not see(known, resource_of(GOOD), 2).policies
    assert known.rules.snapshot() is first
    assert see(known, resource_of(GOOD, generation=2), 3).policies
    assert known.rules.snapshot().policies[0].ref.generation == 2


def test_a_policy_of_the_same_generation_is_compiled_once() -> None:
    known = world()
    see(known, resource_of(GOOD))
    policy = known.rules.snapshot().policies[0]
    see(known, audience())
    assert known.rules.snapshot().policies[0] is policy


def test_a_deleted_policy_is_gone_from_the_snapshot() -> None:
    known = world()
    see(known, resource_of(GOOD))
    assert see(known, resource_of(GOOD), 2, gone=True).policies
    assert known.rules.snapshot().policies == ()
    see(known, resource_of(GOOD, generation=1), 1)
    assert known.rules.snapshot().policies == ()


def test_labels_of_a_namespace_count_only_when_they_change() -> None:
    known = World("countersign-system")
    see(known, live())
    assert see(known, namespace(team="a")).policies
    assert see(known, namespace(team="a"), 2) == Touched()
    assert see(known, namespace(team="b"), 3).policies
    assert known.vanished(Namespace, {"ns"}, set()).policies
    assert known.namespaces == {}


def test_a_namespace_without_pods_has_nobody_judged_anew() -> None:
    known = World("countersign-system")
    assert see(known, namespace(team="a")) == Touched(namespaces=True)
    assert see(known, namespace(team="b"), 2) == Touched(namespaces=True)
    assert known.vanished(Namespace, {"ns"}, set()) == Touched(namespaces=True)
    assert known.namespaces == {}


def test_another_account_of_a_name_concerns_the_pods_under_it() -> None:
    known = world()
    grant, _ = active()
    see(known, grant)
    assert see(known, account()) == NOTHING
    assert see(known, account("another"), 2).pods == ("pod-uid",)
    assert see(known, account("another"), 3, gone=True).pods == ("pod-uid",)


def test_the_deletion_of_an_account_that_was_replaced_is_old_news() -> None:
    known = world()
    see(known, account("new"), 5)
    assert see(known, account("old"), 6, gone=True) == NOTHING
    assert known.accounts["payments", "api"].uid == "new"


def test_our_own_write_comes_back_as_no_news() -> None:
    known = world()
    grant, _ = active()
    see(known, grant, 7)
    assert see(known, grant, 7) == NOTHING


def test_a_vanished_grant_concerns_its_pod() -> None:
    known = world()
    grant, _ = active()
    see(known, grant)
    assert known.vanished(WorkloadGrant, known.uids(WorkloadGrant), set()).pods == ("pod-uid",)
    assert not known.grants_of("pod-uid")


def test_uids_are_told_by_kind() -> None:
    known = world()
    see(known, resource_of(GOOD))
    see(known, account())
    assert known.uids(ClusterTrustPolicy) == {"uid-payments"}
    assert known.uids(ServiceAccount) == {"account-uid"}
    assert known.uids(Pod) == set()


def test_of_a_pods_annotations_only_ours_are_kept() -> None:
    noted = changed(live(), annotations={"countersign.dev/receipt": "x", "kubectl.kubernetes.io/last-applied": "y" * 9})
    kept = slim(noted)
    assert kept.metadata.annotations == {"countersign.dev/receipt": "x"}


def test_a_pause_concerns_the_door_and_no_judgement_and_one_that_vanished_unseen_is_over() -> None:
    known = world()
    assert see(known, pause()) == Touched(pauses=True)
    assert see(known, pause(expires="2026-03-01T12:10:00Z"), 2) == Touched(pauses=True)
    assert known.rules.pauses["uid-pause-1"].spec.expires_at == "2026-03-01T12:10:00Z"
    assert known.vanished(AdmissionPause, known.uids(AdmissionPause), set()) == Touched(pauses=True)
    assert known.rules.pauses == {}
    assert see(known, pause(), 3) == NOTHING, "a list that was begun before it went does not open the door again"


def test_an_evidence_root_concerns_judgement_when_its_content_is_another_and_not_when_it_was_only_refreshed() -> None:
    known = world()
    root = evidence_root(config_map_ref=ConfigMapKeyRef(name="sigstore"))
    assert see(known, root) == Touched(policies=True, status=True, roots=True)
    first = known.rules.snapshot()
    assert first.roots["private"].problem
    content = public_good_root().decode()
    status = EvidenceRootStatus(trusted_root=content, source=source_of(root.spec), fetched_at="2026-03-01T12:00:00Z")
    fetched = msgspec.structs.replace(root, status=status)
    assert see(known, fetched, 2) == Touched(policies=True, status=True, roots=True)
    second = known.rules.snapshot()
    assert second.roots["private"] == second.roots[DEFAULT_ROOT]
    again = msgspec.structs.replace(root, status=msgspec.structs.replace(status, fetched_at="2026-03-02T12:00:00Z"))
    assert see(known, again, 3) == Touched(roots=True)
    assert known.rules.snapshot() is second
    gone = known.vanished(EvidenceRoot, known.uids(EvidenceRoot), set())
    assert gone == Touched(policies=True, status=True, roots=True)
    assert "private" not in known.rules.snapshot().roots
    assert see(known, root, 4) == NOTHING, "a list that was begun before it went does not bring it back"


def test_an_exception_is_part_of_what_is_judged_by_and_its_status_is_not() -> None:
    known = world()
    assert see(known, exception()) == Touched(policies=True, status=True)
    before = known.rules.snapshot()
    assert [one.metadata.name for one in before.exceptions] == ["legacy"]
    told = msgspec.structs.replace(exception(), status=TrustExceptionStatus(pods=3))
    assert see(known, told, 2) == Touched()
    assert known.rules.snapshot() is before
    assert see(known, exception(expires="2026-03-01T12:10:00Z"), 3).policies
    assert see(known, exception(expires="2026-03-01T12:10:00Z", deleted="2026-03-01T12:00:00Z"), 4).policies
    assert known.vanished(TrustException, known.uids(TrustException), set()).policies
    assert known.rules.snapshot().exceptions == ()


def order(**target: Any) -> Revocation:
    meta = ObjectMeta(name="leak", namespace="countersign-system", uid="order-uid", creation_timestamp=stamp(3600))
    return Revocation(metadata=meta, spec=RevocationSpec(target=Target(**target), reason="leaked"))


def test_an_order_to_end_what_exists_concerns_those_alone_whom_it_ends() -> None:
    known = world()
    grant, _ = active()
    see(known, live())
    see(known, grant)
    before = known.rules.snapshot()
    theirs = order(pod=ObjectTarget(namespace="payments", name=grant.spec.pod.name))
    touched = see(known, theirs)
    assert (touched.pods, touched.ended, touched.policies) == (("pod-uid",), True, False)
    assert see(known, theirs, 2) == NOTHING, "its status alone"
    assert known.rules.snapshot() is before
    assert known.rules.order_book().against(grant)


def test_a_standing_order_has_everything_judged_anew() -> None:
    known = world()
    before = known.rules.snapshot()
    assert see(known, order(digest="sha256:" + "a" * 64)).policies
    assert known.rules.snapshot() is not before
    assert see(known, order(digest="sha256:" + "a" * 64), 2, gone=True).policies
    assert not known.rules.order_book()


def test_what_is_over_is_what_has_ended_is_not_there_or_was_ordered_to_end() -> None:
    known = world()
    grant, _ = active()
    see(known, grant)
    assert list(known.over()) == ["pod-uid"], "no such pod"
    see(known, live(), 2)
    assert list(known.over()) == []
    see(known, order(pod=ObjectTarget(namespace="payments", name=grant.spec.pod.name)))
    assert list(known.over()) == ["pod-uid"], "an order"
    see(known, order(pod=ObjectTarget(namespace="payments", name=grant.spec.pod.name)), 2, gone=True)
    see(known, changed(live(), phase="Failed"), 3)
    assert list(known.over()) == ["pod-uid"], "it has failed"
    revoked = msgspec.structs.replace(grant, status=msgspec.structs.replace(grant.status, state="Revoked"))
    see(known, revoked, 4)
    assert list(known.over()) == []
