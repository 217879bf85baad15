"""What a controller of another epoch makes of what a restored etcd says."""

from __future__ import annotations

import msgspec

from countersign.controller.watches.contact import LOOK_EVERY, LOOK_SELDOM, QUICK_LOOKS, NodeContact
from countersign.grants.impact import Limits
from tests.unit.controller.cluster import Cluster


async def running(cluster: Cluster) -> Cluster:
    cluster.node()
    cluster.leases["n1"] = "7"
    cluster.admit()
    cluster.bind()
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    return cluster


def epoch(cluster: Cluster) -> str:
    (grant,) = cluster.store.grants.values()
    return grant.status.epoch


async def looked_again(cluster: Cluster) -> None:
    cluster.reconciler._contact._looked.clear()  # as if LOOK_EVERY had passed
    await cluster.settle()


async def test_in_the_same_epoch_a_restart_writes_nothing() -> None:
    cluster = await running(Cluster())
    writes = cluster.store.writes
    await cluster.restart()
    assert cluster.store.writes == writes
    assert cluster.state() == ("Active", "Admitted")


async def test_in_another_epoch_a_grant_is_suspended_until_its_node_was_heard_from() -> None:
    cluster = await running(Cluster())
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Suspended", "EpochChanged")
    assert epoch(cluster) == "", "it was not judged in this epoch yet"
    assert cluster.later["pod-uid"] == LOOK_EVERY
    await looked_again(cluster)
    assert cluster.state() == ("Suspended", "EpochChanged"), "what etcd holds of the node is as old as the rest"
    cluster.leases["n1"] = "8"
    await looked_again(cluster)
    assert cluster.state() == ("Active", "QualifiesAgain")
    assert epoch(cluster) == "restored"


async def test_a_controller_that_dies_meanwhile_goes_on_waiting() -> None:
    cluster = await running(Cluster())
    await cluster.restart(epoch="restored")
    await cluster.restart()
    assert cluster.state() == ("Suspended", "EpochChanged")
    cluster.leases["n1"] = "8"
    await looked_again(cluster)
    assert cluster.state() == ("Active", "QualifiesAgain")


async def test_a_node_without_a_lease_is_not_heard_from() -> None:
    cluster = await running(Cluster())
    cluster.leases.clear()
    await cluster.restart(epoch="restored")
    await looked_again(cluster)
    assert cluster.state() == ("Suspended", "EpochChanged")


async def test_the_brake_does_not_hold_back_another_epoch() -> None:
    cluster = await running(Cluster(limits=Limits(0, 0.0)))
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Suspended", "EpochChanged")


async def test_a_pod_that_waits_for_a_node_has_nothing_to_be_heard_from() -> None:
    cluster = Cluster()
    cluster.admit()
    await cluster.survey()
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Active", "Admitted")
    assert epoch(cluster) == "restored"


async def test_a_pod_created_in_this_epoch_waits_for_nothing() -> None:
    cluster = await running(Cluster())
    await cluster.restart(epoch="restored")
    cluster.admit("young")
    cluster.bind("young")
    await cluster.settle("young")
    assert cluster.state("young") == ("Active", "Admitted")


async def test_a_pod_that_was_restored_without_its_grant_waits_too() -> None:
    cluster = Cluster()
    cluster.node()
    cluster.leases["n1"] = "7"
    cluster.admit()
    cluster.bind()
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Suspended", "EpochChanged")


async def test_what_has_ended_ends_in_the_new_epoch_as_ever() -> None:
    cluster = await running(Cluster())
    pod = cluster.pods["pod-uid"]
    cluster.store_pod(msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, phase="Succeeded")))
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Revoked", "Completed")


async def test_revoked_stays_revoked() -> None:
    cluster = await running(Cluster())
    pod = cluster.pods["pod-uid"]
    cluster.store_pod(msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, phase="Failed")))
    await cluster.settle()
    writes = cluster.store.writes
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Revoked", "Failed")
    assert cluster.store.writes == writes


async def test_one_that_was_suspended_for_another_reason_keeps_it() -> None:
    cluster = await running(Cluster())
    cluster.revoke_keys(cluster.key_ring.keys[0].id)
    await cluster.settle()
    await cluster.restart(epoch="restored")
    assert cluster.state() == ("Suspended", "ReceiptKeyRevoked")
    cluster.revoke_keys()
    await cluster.settle()
    assert cluster.state() != ("Active", "QualifiesAgain"), "its node was not heard from yet"
    cluster.leases["n1"] = "8"
    await looked_again(cluster)
    assert cluster.state() == ("Active", "QualifiesAgain")


async def test_a_node_is_asked_about_once_a_second_however_many_pods_wait() -> None:
    now = [0.0]
    asked: list[str] = []
    version = ["1"]

    async def read(node: str) -> str | None:
        asked.append(node)
        return version[0]

    contact = NodeContact(read, lambda: now[0])
    assert not await contact.heard("n1")
    version[0] = "2"
    assert not await contact.heard("n1"), "too soon to ask again"
    assert asked == ["n1"]
    now[0] = LOOK_EVERY
    assert await contact.heard("n1")
    assert await contact.heard("n1")
    assert asked == ["n1", "n1"]
    assert not await contact.heard("n2")


async def test_a_node_that_is_silent_for_long_is_asked_about_less_often() -> None:
    now = [0.0]

    async def read(_: str) -> str | None:
        return None

    contact = NodeContact(read, lambda: now[0])
    while contact.pause("n1") == LOOK_EVERY:
        assert not await contact.heard("n1")
        now[0] += LOOK_EVERY
    assert contact.pause("n1") == LOOK_SELDOM
    assert QUICK_LOOKS <= now[0] <= QUICK_LOOKS + 2
    assert contact.pause("n2") == LOOK_EVERY
