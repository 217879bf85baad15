from __future__ import annotations

import msgspec
import pytest

from countersign.api.names import DRY_RUN_RECEIPT, RECEIPT_ANNOTATION
from countersign.api.revocation import NamespaceTarget
from countersign.controller.instances.judging import NotYetError
from countersign.controller.store import StaleError
from countersign.controller.watches.world import Account
from countersign.grants.impact import Limits
from countersign.grants.naming import refused_name
from countersign.keys.receipt_keys import ReceiptKey, ReceiptKeys, plan_receipt_keys
from tests.unit.controller.cluster import GOOD, Cluster
from tests.unit.grants.build import at, changed, stamp, with_image
from tests.unit.trust.build import NAMESPACE, cluster_policy, token

BAD = cluster_policy(images=(), tokens=())
OTHER = "registry.example.com/payments/api:9@sha256:" + "e" * 64


async def ready(cluster: Cluster, *uids: str) -> None:
    for uid in uids or ("pod-uid",):
        cluster.admit(uid)
    await cluster.survey()
    for uid in uids or ("pod-uid",):
        assert cluster.state(uid) == ("Active", "Admitted")


async def test_an_admitted_pod_gets_its_grant() -> None:
    await ready(Cluster())


async def test_looking_again_writes_nothing() -> None:
    cluster = Cluster()
    await ready(cluster)
    writes = cluster.store.writes
    await cluster.settle()
    await cluster.survey()
    assert cluster.store.writes == writes


async def test_a_pod_that_no_policy_governs_costs_no_call() -> None:
    cluster = Cluster(policy=None)
    cluster.slip_in()
    await cluster.survey()
    assert (cluster.state(), cluster.store.writes) == (None, 0)


async def test_a_pod_around_the_gate_is_recorded() -> None:
    cluster = Cluster()
    cluster.slip_in()
    await cluster.survey()
    assert cluster.state() == ("Revoked", "ReceiptMissing")
    assert list(cluster.store.grants) == [refused_name("pod-uid")]


async def test_a_pod_of_a_dry_runs_answer_is_refused() -> None:
    cluster = Cluster()
    pod = cluster.admit()
    cluster.store_pod(changed(pod, annotations={RECEIPT_ANNOTATION: DRY_RUN_RECEIPT}))
    await cluster.survey()
    assert cluster.state() == ("Revoked", "ReceiptInvalid")


async def test_a_receipt_by_a_key_that_is_not_ours_is_refused_after_the_keys_were_read_anew() -> None:
    cluster = Cluster()
    strangers = plan_receipt_keys(None, at(-1000))
    assert strangers is not None
    cluster.admit(signer=strangers)
    await cluster.survey()
    assert cluster.state() == ("Revoked", "ReceiptInvalid")
    assert cluster.refreshes == 1


async def test_a_receipt_by_a_key_that_was_not_known_yet_is_accepted() -> None:
    cluster = Cluster()
    cluster.receipts.keys = ReceiptKeys(())
    cluster.admit()
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")


async def test_without_receipt_keys_nothing_is_refused_and_what_was_granted_stays() -> None:
    cluster = Cluster()
    await ready(cluster, "old")
    cluster.receipts.keys = cluster.key_ring = ReceiptKeys(())
    await cluster.survey()
    assert cluster.state("old") == ("Active", "Admitted")
    cluster.admit("new", signer=plan_receipt_keys(None, at(-1000)))
    with pytest.raises(NotYetError):
        await cluster.settle("new")
    assert cluster.state("new") is None


async def test_a_receipt_counts_once() -> None:
    cluster = Cluster()
    await ready(cluster)
    copy = changed(cluster.pods["pod-uid"], uid="copy-uid", name="copy")
    cluster.store_pod(copy)
    await cluster.settle("copy-uid")
    assert cluster.state("copy-uid") == ("Revoked", "ReceiptSpent")
    assert cluster.state() == ("Active", "Admitted")


async def test_a_raced_copy_of_a_receipt_gives_one_grant_only() -> None:
    cluster = Cluster()
    pod = cluster.admit()
    cluster.store_pod(changed(pod, uid="copy-uid", name="copy"))
    await cluster.survey()
    states = sorted(str(cluster.state(uid)) for uid in ("pod-uid", "copy-uid"))
    assert states == ["('Active', 'Admitted')", "('Revoked', 'ReceiptSpent')"]


# Ends


async def test_completion_and_deletion_end_the_identity() -> None:
    cluster = Cluster()
    await ready(cluster, "done", "gone")
    cluster.store_pod(changed(cluster.pods["done"], phase="Succeeded"))
    cluster.vanish("gone")
    await cluster.settle("done")
    await cluster.settle("gone")
    assert (cluster.state("done"), cluster.state("gone")) == (("Revoked", "Completed"), ("Revoked", "Deleted"))
    assert [(uid, reason) for uid, reason, _ in cluster.events] == [("done", "Completed")]


async def test_what_was_hidden_by_a_later_event_still_counts() -> None:
    cluster = Cluster()
    await ready(cluster)
    pod = cluster.pods["pod-uid"]
    cluster.store_pod(changed(with_image(pod, OTHER), generation=2))
    cluster.store_pod(changed(pod, generation=3))
    await cluster.settle()
    assert cluster.state() == ("Revoked", "ImageChanged")


async def test_a_restart_catches_up() -> None:
    cluster = Cluster()
    await ready(cluster, "done", "gone", "swapped", "well")
    cluster.pods["done"] = changed(cluster.pods["done"], phase="Failed")
    del cluster.pods["gone"]
    cluster.pods["swapped"] = changed(cluster.pods["swapped"], generation=3)
    await cluster.restart()
    assert cluster.state("done") == ("Revoked", "Failed")
    assert cluster.state("gone") == ("Revoked", "Deleted")
    assert cluster.state("swapped") == ("Revoked", "ImageChanged")
    assert cluster.state("well") == ("Active", "Admitted")


async def test_a_grant_whose_pod_is_merely_not_seen_yet_stays() -> None:
    cluster = Cluster()
    await ready(cluster)
    seen_late = cluster.pods["pod-uid"]
    cluster.start()
    cluster.apply(GOOD)
    cluster.see(next(iter(cluster.store.grants.values())))
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    assert cluster.pods["pod-uid"] is seen_late


async def test_a_crash_between_the_grant_and_its_state_is_made_good() -> None:
    cluster = Cluster()
    cluster.admit("good")
    cluster.slip_in("bad")
    await cluster.judging.survey()
    for uid in ("good", "bad"):
        cluster.store.fail_on_write = 2
        with pytest.raises(ConnectionError):
            await cluster.settle(uid)
        assert cluster.state(uid) == ("", "")
    await cluster.restart()
    assert cluster.state("good") == ("Active", "Admitted")
    assert cluster.state("bad") == ("Revoked", "ReceiptMissing")


async def test_a_grant_written_by_another_is_read_anew_and_tried_again() -> None:
    cluster = Cluster()
    await ready(cluster)
    (name,) = cluster.store.grants
    held = cluster.store.grants[name]
    meta = msgspec.structs.replace(held.metadata, resource_version=str(cluster.version()))
    cluster.store.grants[name] = msgspec.structs.replace(held, metadata=meta)
    cluster.store_pod(changed(cluster.pods["pod-uid"], phase="Succeeded"))
    with pytest.raises(StaleError):
        await cluster.settle()
    await cluster.settle()
    assert cluster.state() == ("Revoked", "Completed")


async def test_an_order_reaches_what_it_names() -> None:
    cluster = Cluster()
    await ready(cluster)
    cluster.order(namespace=NamespaceTarget(name=NAMESPACE))
    await cluster.survey()
    assert cluster.state() == ("Revoked", "RevokedByOrder")
    (grant,) = cluster.store.grants.values()
    assert grant.status.caused_by == "Revocation countersign-system/leak"


async def test_a_replaced_account_is_looked_up_before_it_ends_anything() -> None:
    cluster = Cluster()
    await ready(cluster)
    cluster.world.accounts.clear()  # as if the watch had lost it
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    cluster.accounts[NAMESPACE, "api"] = Account("another", stamp(5))
    await cluster.settle()
    assert cluster.state() == ("Revoked", "ServiceAccountChanged")


async def test_an_account_younger_than_the_pod_is_not_the_one_that_it_was_admitted_under() -> None:
    cluster = Cluster()
    cluster.accounts[NAMESPACE, "api"] = Account("another", stamp(60))
    cluster.start()
    cluster.apply(GOOD)
    cluster.admit()
    await cluster.survey()
    assert cluster.state() == ("Revoked", "ServiceAccountChanged")


async def test_a_revoked_receipt_key_suspends_what_rests_on_it_until_it_is_restored() -> None:
    cluster = Cluster()
    await ready(cluster)
    (key,) = cluster.key_ring.keys
    cluster.revoke_keys(key.id)
    assert cluster.judging.resting_on({key.id}) == ["pod-uid"]
    await cluster.settle()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    await cluster.restart()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    cluster.revoke_keys()
    await cluster.settle()
    assert cluster.state() == ("Active", "QualifiesAgain")


async def test_a_grant_of_an_older_release_is_found_by_the_receipt_on_its_pod() -> None:
    cluster = Cluster()
    await ready(cluster)
    ((name, grant),) = cluster.store.grants.items()
    older = msgspec.structs.replace(grant.spec.pod, receipt_key_id="")
    meta = msgspec.structs.replace(grant.metadata, resource_version=str(cluster.version()))
    cluster.store.grants[name] = msgspec.structs.replace(
        grant, metadata=meta, spec=msgspec.structs.replace(grant.spec, pod=older)
    )
    cluster.see(cluster.store.grants[name])
    (key,) = cluster.key_ring.keys
    cluster.revoke_keys(key.id)
    assert cluster.judging.resting_on({key.id}) == ["pod-uid"]
    await cluster.settle()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")


async def test_the_brake_does_not_hold_back_a_revoked_receipt_key() -> None:
    cluster = Cluster(limits=Limits(0, 0.0))
    await ready(cluster)
    cluster.revoke_keys(cluster.key_ring.keys[0].id)
    await cluster.survey()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    assert not cluster.judging.impacts


async def test_a_pod_whose_receipt_names_a_revoked_key_gets_no_tokens_until_the_key_is_restored() -> None:
    cluster = Cluster()
    key = cluster.key_ring.keys[0].id
    cluster.admit()
    cluster.revoke_keys(key)
    await cluster.survey()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    (record,) = cluster.store.grants.values()
    assert not record.spec.tokens
    assert record.spec.pod.receipt_key_id == key
    assert cluster.judging.resting_on({key}) == ["pod-uid"]
    await cluster.restart()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    cluster.revoke_keys()
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    (granted,) = cluster.store.grants.values()
    assert granted.spec.tokens


async def test_restoring_a_key_does_not_help_a_receipt_that_it_never_signed() -> None:
    cluster = Cluster()
    key = cluster.key_ring.keys[0]
    cluster.revoke_keys(key.id)
    forger = ReceiptKeys((ReceiptKey(key.id, b"f" * 32, key.created_at),))
    cluster.admit(signer=forger)
    await cluster.survey()
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    cluster.revoke_keys()
    await cluster.settle()
    assert cluster.state() == ("Revoked", "ReceiptInvalid")


async def test_a_receipt_whose_key_was_dropped_after_its_time_still_stands() -> None:
    cluster = Cluster()
    await ready(cluster)
    cluster.receipts.keys = ReceiptKeys(())
    cluster.key_ring = ReceiptKeys(())
    await cluster.restart()
    assert cluster.state() == ("Active", "Admitted")


async def test_a_receipt_altered_afterwards_no_longer_vouches() -> None:
    cluster = Cluster()
    await ready(cluster)
    pod = cluster.pods["pod-uid"]
    text = pod.metadata.annotations[RECEIPT_ANNOTATION]
    cluster.store_pod(changed(pod, annotations={RECEIPT_ANNOTATION: text[:-2] + "AA"}))
    await cluster.survey()
    assert cluster.state() == ("Suspended", "NoLongerQualifies")


async def test_a_final_grant_that_somebody_deletes_comes_back_as_it_was() -> None:
    cluster = Cluster()
    await ready(cluster)
    pod = cluster.pods["pod-uid"]
    cluster.store_pod(changed(with_image(pod, OTHER), generation=2))
    cluster.store_pod(changed(pod, generation=3))
    await cluster.settle()
    (grant,) = cluster.store.grants.values()
    cluster.store.grants.clear()
    cluster.see(grant, gone=True)
    await cluster.settle()
    assert cluster.state() == ("Revoked", "ImageChanged")


async def test_a_final_grant_outlives_its_pod_and_is_then_collected() -> None:
    cluster = Cluster()
    await ready(cluster)
    cluster.vanish()
    await cluster.settle()
    await cluster.settle()
    assert cluster.later["pod-uid"] == pytest.approx(86400)
    cluster.now = at(86402)
    await cluster.settle()
    assert cluster.state() is None
    assert not cluster.world.grants


async def test_drain_time_is_looked_at_again_when_it_is_over() -> None:
    cluster = Cluster()
    await ready(cluster)
    going = changed(
        cluster.pods["pod-uid"], generation=2, deletion_timestamp=stamp(3601), deletion_grace_period_seconds=3600
    )
    cluster.store_pod(going)
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    assert cluster.later["pod-uid"] == pytest.approx(60)
    cluster.now = at(61)
    await cluster.settle()
    assert cluster.state() == ("Revoked", "Deleted")


# Policies and the brake


async def test_a_policy_that_turns_suspends_and_coming_back_restores() -> None:
    cluster = Cluster()
    await ready(cluster)
    cluster.apply(BAD)
    await cluster.survey()
    assert cluster.state() == ("Suspended", "NoLongerQualifies")
    cluster.apply(GOOD)
    await cluster.survey()
    assert cluster.state() == ("Active", "QualifiesAgain")


async def test_nothing_is_suspended_before_the_survey_has_counted() -> None:
    cluster = Cluster()
    await ready(cluster)
    cluster.apply(BAD)
    cluster.store_pod(changed(cluster.pods["pod-uid"], labels={"app": "api", "x": "y"}))
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    await cluster.survey()
    assert cluster.state() == ("Suspended", "NoLongerQualifies")


async def test_a_change_that_would_suspend_many_is_held_until_it_is_accepted() -> None:
    uids = [f"pod-{number}" for number in range(5)]
    cluster = Cluster(limits=Limits(3, 0.25))
    await ready(cluster, *uids)
    cluster.apply(BAD)
    await cluster.survey()
    assert {cluster.state(uid) for uid in uids} == {("Active", "Admitted")}
    (impact,) = cluster.judging.impacts.values()
    assert (impact.held, impact.losing, impact.active) == (True, 5, 5)

    held = impact.policy.generation
    cluster.apply(cluster_policy(images=(), tokens=(), accept_impact=held))
    await cluster.survey()
    assert {cluster.state(uid) for uid in uids} == {("Suspended", "NoLongerQualifies")}


async def test_a_held_change_stays_held_over_a_restart() -> None:
    uids = [f"pod-{number}" for number in range(5)]
    cluster = Cluster(limits=Limits(3, 0.25))
    await ready(cluster, *uids)
    cluster.apply(BAD)
    await cluster.survey()
    await cluster.restart()
    assert {cluster.state(uid) for uid in uids} == {("Active", "Admitted")}


async def test_an_end_is_not_braked() -> None:
    uids = [f"pod-{number}" for number in range(5)]
    cluster = Cluster(limits=Limits(0, 0.0))
    await ready(cluster, *uids)
    cluster.apply(BAD)
    await cluster.survey()
    cluster.store_pod(changed(cluster.pods["pod-0"], phase="Succeeded"))
    await cluster.settle("pod-0")
    assert cluster.state("pod-0") == ("Revoked", "Completed")


async def test_a_deleted_policy_is_not_braked_and_its_return_restores() -> None:
    uids = [f"pod-{number}" for number in range(5)]
    cluster = Cluster(limits=Limits(0, 0.0))
    await ready(cluster, *uids)
    cluster.delete_policy()
    await cluster.survey()
    assert {cluster.state(uid) for uid in uids} == {("Suspended", "NoLongerQualifies")}
    again = msgspec.structs.replace(GOOD, ref=GOOD.ref._replace(uid="uid-of-another"))
    cluster.apply(again)
    await cluster.survey()
    await cluster.survey()
    assert {cluster.state(uid) for uid in uids} == {("Active", "Admitted")}
    assert {grant.spec.tokens[0].policy_uid for grant in cluster.store.grants.values()} == {"uid-of-another"}


async def test_a_withdrawn_token_suspends_and_what_is_left_is_granted_anew() -> None:
    both = cluster_policy(tokens=(token(), token("more", "more.example.com")))
    cluster = Cluster(both)
    await ready(cluster)
    cluster.apply(cluster_policy())
    await cluster.survey()
    assert cluster.state() == ("Suspended", "NoLongerQualifies")
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    (grant,) = cluster.store.grants.values()
    assert grant.spec.tokens == ()
