"""Break-glass with all of Countersign gone, and another epoch after a restore of etcd: on a cluster of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from countersign.api.names import RECEIPT_ANNOTATION
from tests.e2e.load import Load, Seen, Witnesses, witnesses
from tests.e2e.own import own_cluster
from tests.e2e.release import Release, merged
from tests.e2e.scene import Ledger, Scene
from tests.render import CHART
from tests.stack import objects
from tests.stack.commandline import countersign
from tests.stack.objects import Object

SERVICES = {"controller": 2, "gate": 2, "verifier": 2}
PAUSE_SECONDS = 15
"""The command waits ten of them for a controller that is not there."""
JUDGED_SECONDS = 60.0
"""At most: a controller leads, and each kubelet renews its Lease once in ten seconds."""


class World(NamedTuple):
    """Countersign at work."""

    release: Release
    scene: Scene
    witnesses: Witnesses


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """All of Countersign goes, and comes back as another epoch's."""
    with own_cluster() as own:
        release = own.release()
        release.install()
        scene = own.scene(release, Ledger(own.cluster, release, own.store))
        yield World(release, scene, witnesses(scene))


def test_another_epoch_costs_healthy_pods_their_identity_only_until_they_are_judged(world: World) -> None:
    scene, cluster, keeper = world.scene, world.scene.cluster, world.witnesses.keeper
    grant = scene.grant(keeper, "Active")
    assert not epoch_of(scene, keeper), "the first epoch's name is empty"
    with Load(scene, world.witnesses, pods_per_second=1.0) as load:
        cluster.pause(3)
        began = time.monotonic()
        set_epoch(world, "first")
        upgraded = time.monotonic()
        meanwhile = scene.create(scene.pod("meanwhile"))
        cluster.wait(lambda: epoch_of(scene, keeper) == "first", what="the keeper is judged", seconds=JUDGED_SECONDS)
        cluster.wait(lambda: unrefused(load, 3.0), what="its token is active for good", seconds=30)
    said = no(load.seen["active"])
    print(
        f"\nthe upgrade took {upgraded - began:.1f} s; {len(said)} of {len(load.seen['active'])} answers were no, "
        + " ".join(f"{one.at - began:.1f}" for one in said)
    )
    # While they are replaced, verifiers of both epochs answer by turns; each knows only its own. On a slow machine the
    # controllers' change may take longer than a verifier waits for the Lease: then it says that it cannot tell.
    assert {one.status for one in said} <= {403, 503}
    assert {one.status for one in load.seen["revoked"]} == {403}
    assert scene.grant(world.witnesses.leaver)["status"]["reason"] == "RevokedByOrder"
    assert scene.grant(keeper, "Active")["metadata"]["uid"] == grant["metadata"]["uid"]
    assert scene.ask(keeper).active

    # At the door nobody notices.
    assert {one.status for one in load.seen["signed"]} == {201}
    assert {one.status for one in load.seen["unsigned"]} == {403}
    assert all(RECEIPT_ANNOTATION in pod["metadata"]["annotations"] for pod in load.pods)
    for pod in load.pods:
        cluster.wait(partial(is_judged, scene, pod, "first"), what="a pod from the time between is judged")
        scene.grant(pod, "Active")
    cluster.phase(meanwhile, "Running")
    cluster.wait(lambda: scene.ask(meanwhile).active, what="a pod from the time between is active", seconds=30)


def test_with_no_controller_nothing_of_another_epoch_is_active_and_orders_are_given_again_in_time(
    world: World,
) -> None:
    """The steps of docs/bad-days.md, "etcd was restored from an old snapshot"."""
    scene, cluster, keeper = world.scene, world.scene.cluster, world.witnesses.keeper
    stolen = scene.start(scene.pod("stolen"))
    tokens = {"keeper": scene.token(keeper), "stolen": scene.token(stolen)}
    set_epoch(world, "second", controller={"replicas": 0})
    # Every verifier is of the new epoch by now, and says that it cannot know rather than no.
    for token in tokens.values():
        answer = scene.ledger.ask(token)
        assert (answer.status, answer.body.get("error")) == (503, "temporarily_unavailable")
    assert [scene.grant(pod)["status"]["state"] for pod in (keeper, stolen)] == ["Active", "Active"]
    between = scene.create(scene.pod("between"))
    cluster.phase(between, "Running")
    assert scene.ask(between).status == 503, "it runs and has a token, of which nobody can say more"
    scene.revoke(stolen, "as the audit log says")

    began = time.monotonic()
    set_epoch(world, "second")
    cluster.wait(lambda: scene.ask(keeper).active, what="the healthy pod is active again", seconds=JUDGED_SECONDS)
    print(f"\nactive again {time.monotonic() - began:.1f} s after the upgrade that brought the controllers was begun")
    scene.grant(stolen, "Revoked", "RevokedByOrder")
    assert not scene.ledger.ask(tokens["stolen"]).active
    assert epoch_of(scene, keeper) == "second"
    cluster.wait(lambda: scene.ask(between).active, what="a pod from the time between is active", seconds=30)


def test_with_all_of_countersign_gone_the_command_opens_the_door_and_the_controller_shuts_it_later(
    world: World,
) -> None:
    scene, cluster = world.scene, world.scene.cluster
    # Behind Helm's back, so that its next upgrade would need `--force-conflicts` to set another number.
    world.release.scale(dict.fromkeys(SERVICES, 0))
    assert "failed calling webhook" in scene.refusal(scene.pod("shut"))
    began = time.monotonic()
    done = countersign(
        "pause", f"--for={PAUSE_SECONDS}s", "--reason=all is lost", "-o", "json", kubeconfig=cluster.kubeconfig
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["openedByHand"]

    pod = cluster.wait(lambda: created(scene, scene.pod("urgent", image=scene.unsigned.by_tag)), what="it is admitted")
    cluster.phase(pod, "Running")
    assert str(scene.ask(pod).body).startswith("no token")

    cluster.pause(max(0.0, began + PAUSE_SECONDS + 1 - time.monotonic()))
    world.release.scale(SERVICES)
    cluster.wait(lambda: world.release.failure_policies() == {"Fail"}, what="the controller shuts the door", seconds=30)
    late = scene.pod("late", image=scene.unsigned.by_tag)
    cluster.wait(lambda: "ImageUnsigned" in scene.refusal(late), what="the gates refuse", seconds=30)
    scene.grant(pod, "Revoked", "ReceiptMissing")
    assert cluster.pod(scene.namespace, "urgent")["status"]["phase"] == "Running"
    cluster.wait(lambda: scene.ask(world.witnesses.keeper).active, what="what ran before has its identity")


def set_epoch(world: World, epoch: str, **more: Any) -> None:
    """`helm upgrade --reuse-values --set epoch=... --wait`."""
    release = world.release
    release.upgrade(CHART, merged(release.values, {"epoch": epoch, "controller": {"replicas": 2}, **more}))


def epoch_of(scene: Scene, pod: Object) -> str:
    """The epoch in which its grant was judged."""
    return str(scene.grant(pod)["status"].get("epoch", ""))


def is_judged(scene: Scene, pod: Object, epoch: str) -> bool:
    """Whether its grant was, in that epoch."""
    return epoch_of(scene, pod) == epoch


def no(seen: list[Seen]) -> list[Seen]:
    """The answers that were no."""
    return [one for one in seen if one.status != 200]


def unrefused(load: Load, seconds: float) -> bool:
    """Whether the last no was so long ago."""
    since = time.monotonic() - seconds
    return load.seen["active"][-1].at > since and all(one.at < since for one in no(list(load.seen["active"])))


def created(scene: Scene, pod: Object) -> Object | None:
    """The pod, if its creation succeeds."""
    reply = scene.cluster.as_user(scene.developer).post(objects.collection_path(pod), pod)
    return dict(reply.body) if reply.status == 201 else None
