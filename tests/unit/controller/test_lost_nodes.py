"""What becomes of grants on nodes that fall silent, vanish or are replaced, in a controller that comes and goes."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from countersign.api.responses import Responses
from countersign.grants.impact import Limits
from tests.unit.controller.cluster import Cluster
from tests.unit.grants.build import BORN
from tests.unit.trust.build import cluster_policy, token

KEEP = cluster_policy(tokens=(token(),), responses=Responses(node_lost="Keep"))


async def running(cluster: Cluster) -> Cluster:
    cluster.node()
    cluster.admit()
    cluster.bind()
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    return cluster


def at(cluster: Cluster, seconds: float) -> None:
    cluster.now = BORN + timedelta(seconds=seconds)


async def test_a_node_that_stays_silent_suspends_when_its_time_is_over_and_not_before() -> None:
    cluster = await running(Cluster())
    at(cluster, 100)
    assert cluster.node(ready="Unknown", since=100).pods == ("pod-uid",)
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    assert cluster.later["pod-uid"] == 300
    at(cluster, 400)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "NodeLost")


async def test_its_pods_qualify_again_when_the_node_is_ready_again() -> None:
    cluster = await running(Cluster())
    cluster.node(ready="Unknown", since=100)
    at(cluster, 500)
    await cluster.settle()
    assert cluster.node(since=500).pods == ("pod-uid",)
    await cluster.settle()
    assert cluster.state() == ("Active", "QualifiesAgain")


async def test_not_ready_that_turns_into_unknown_is_one_outage() -> None:
    cluster = await running(Cluster())
    cluster.node(ready="False", since=100)
    cluster.node(ready="Unknown", since=300)
    at(cluster, 401)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "NodeLost")


async def test_a_controller_that_starts_anew_plans_the_time_that_is_left() -> None:
    cluster = await running(Cluster())
    cluster.node(ready="Unknown", since=100)
    cluster.later.clear()
    at(cluster, 350)
    await cluster.restart()
    assert cluster.later["pod-uid"] == 50
    at(cluster, 401)
    await cluster.restart()
    assert cluster.state() == ("Suspended", "NodeLost")


async def test_a_suspended_grant_plans_no_further_look_for_its_node() -> None:
    cluster = await running(Cluster())
    cluster.node(ready="Unknown", since=100)
    at(cluster, 500)
    await cluster.settle()
    cluster.later.clear()
    await cluster.settle()
    assert not cluster.later


async def test_back_from_another_suspension_the_timer_for_the_node_runs() -> None:
    cluster = await running(Cluster())
    cluster.revoke_keys(cluster.key_ring.keys[0].id)
    await cluster.settle()
    cluster.node(ready="Unknown", since=100)
    at(cluster, 150)
    cluster.revoke_keys()
    cluster.later.clear()
    await cluster.settle()
    assert cluster.state() == ("Active", "QualifiesAgain")
    assert cluster.later["pod-uid"] == 250


async def test_keep_keeps() -> None:
    cluster = await running(Cluster(KEEP))
    cluster.node(ready="Unknown", since=100)
    at(cluster, 90000)
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    cluster.see(cluster.nodes.pop("n1"), gone=True)
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")


async def test_the_brake_does_not_hold_back_a_lost_node() -> None:
    cluster = await running(Cluster(limits=Limits(0, 0.0)))
    cluster.node(ready="Unknown", since=100)
    at(cluster, 500)
    await cluster.survey()
    assert cluster.state() == ("Suspended", "NodeLost")


async def test_a_node_that_is_gone_suspends_at_once() -> None:
    cluster = await running(Cluster())
    touched = cluster.see(cluster.nodes.pop("n1"), gone=True)
    assert touched.pods == ("pod-uid",)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "NodeReplaced")


async def test_a_node_that_no_watch_has_shown_yet_is_asked_for_and_not_taken_for_gone() -> None:
    cluster = await running(Cluster())
    cluster.world.nodes.clear()
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")


async def test_another_node_of_the_same_name_is_another_machine_for_good() -> None:
    cluster = await running(Cluster())
    cluster.see(cluster.nodes.pop("n1"), gone=True)
    cluster.node(uid="another", created=600, since=600)
    at(cluster, 600)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "NodeReplaced")
    await cluster.restart()
    assert cluster.state() == ("Suspended", "NodeReplaced"), "by the times alone"


async def test_one_replaced_within_seconds_of_the_binding_is_told_by_its_uid() -> None:
    cluster = await running(Cluster())
    cluster.see(cluster.nodes.pop("n1"), gone=True)
    cluster.node(uid="another", created=1, since=1)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "NodeReplaced")


async def test_a_node_a_little_younger_than_the_binding_by_another_api_servers_clock_is_the_same() -> None:
    cluster = Cluster()
    cluster.node(created=4, since=4)
    cluster.admit()
    cluster.bind(seconds=0)
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")


async def test_a_node_cannot_make_its_pods_look_bound_later_than_they_were() -> None:
    cluster = await running(Cluster())
    cluster.see(cluster.nodes.pop("n1"), gone=True)
    cluster.bind(seconds=700)
    cluster.node(uid="another", created=600, since=600)
    cluster.world.pods["pod-uid"].bound_to = ""
    at(cluster, 600)
    await cluster.settle()
    assert cluster.state() == ("Suspended", "NodeReplaced")


async def test_an_end_goes_before_a_lost_node() -> None:
    cluster = await running(Cluster())
    cluster.node(ready="Unknown", since=100)
    at(cluster, 500)
    pod = cluster.pods["pod-uid"]
    cluster.store_pod(msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, phase="Failed")))
    await cluster.settle()
    assert cluster.state() == ("Revoked", "Failed")


async def test_a_heartbeat_that_changes_nothing_concerns_no_pod() -> None:
    cluster = await running(Cluster())
    assert not cluster.node().pods
