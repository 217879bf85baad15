"""Labels that change while policies come, while the grant is being made, or while the controller is waiting."""

from __future__ import annotations

from countersign.api.meta import OwnerReference
from tests.unit.controller.cluster import Cluster
from tests.unit.grants.build import changed
from tests.unit.trust.build import cluster_policy, token

APP = {"app": "api"}
GOLD = {"tier": "gold"}
OURS = cluster_policy(pods=APP, tokens=(token(),))
LATER = cluster_policy("gold", pods=GOLD, created="2026-12-01T00:00:00Z")


def label(cluster: Cluster, **labels: str) -> None:
    pod = cluster.pods["pod-uid"]
    cluster.store_pod(changed(pod, labels=labels))


async def granted() -> Cluster:
    cluster = Cluster(OURS)
    cluster.admit()
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    return cluster


async def test_a_policy_that_comes_right_after_a_change_of_labels_moves_nobody() -> None:
    cluster = await granted()
    label(cluster, **APP, **GOLD)
    cluster.apply(LATER)
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    assert cluster.condition("Drifted") == "Unknown"


async def test_a_change_of_labels_right_after_a_policy_came_is_a_move() -> None:
    cluster = await granted()
    cluster.apply(LATER)
    label(cluster, **APP, **GOLD)
    await cluster.survey()
    assert cluster.state() == ("Revoked", "Drifted")


async def test_a_move_is_not_hidden_by_a_policy_that_comes_after_it() -> None:
    cluster = await granted()
    label(cluster, app="other", **GOLD)
    cluster.apply(LATER)
    label(cluster, **APP)
    await cluster.survey()
    assert cluster.state() == ("Revoked", "Drifted")


async def test_a_move_before_the_grant_was_made_ends_it() -> None:
    cluster = Cluster(OURS)
    cluster.admit()
    label(cluster, app="other")
    label(cluster, **APP)
    await cluster.survey()
    assert cluster.state() == ("Revoked", "Drifted")


async def test_a_move_before_anybody_saw_the_pod_ends_its_identity() -> None:
    cluster = Cluster(OURS)
    cluster.admit()
    label(cluster, app="other")
    await cluster.restart()
    assert cluster.state() == ("Revoked", "Drifted")


async def test_a_move_while_the_grant_is_being_made_ends_it() -> None:
    cluster = Cluster(OURS)
    cluster.admit()
    await cluster.judging.survey()
    cluster.store.meanwhile = lambda: label(cluster, app="other")
    await cluster.settle()
    await cluster.settle()
    assert cluster.state() == ("Revoked", "Drifted")


async def test_a_move_while_its_controller_is_looked_up_ends_the_identity() -> None:
    cluster = await granted()
    await cluster.restart()
    owner = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="api-1", uid="rs-uid", controller=True)
    cluster.store_pod(changed(cluster.pods["pod-uid"], owner_references=(owner,)))
    record = cluster.world.pods["pod-uid"]
    record.controller, record.judged = None, False
    cluster.store.meanwhile = lambda: label(cluster, app="other")
    await cluster.settle()
    await cluster.settle()
    assert cluster.state() == ("Revoked", "Drifted")
