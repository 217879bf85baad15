"""Upgrade from the previous release under load, and back: nobody notices.

No pod creation is refused or let through unjudged, no active token reads inactive, and no revoked one reads active.
"""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from countersign.api.names import RECEIPT_ANNOTATION
from tests.e2e.load import Load, Witnesses, witnesses
from tests.e2e.own import Own, own_cluster
from tests.e2e.release import NAME, Release, values_for
from tests.e2e.scene import Ledger, Scene
from tests.lab.image.build import countersign_image
from tests.render import CHART, ROOT
from tests.stack.objects import Object

PREVIOUS = "8126b3169cf32ef1bd64b302cb4b6a6bafca0089"
"""Release 0.1.0."""
LONGEST_GAP = 15.0
"""Seconds without an answer of one kind; a request may wait for as long as a webhook's timeout."""


class World(NamedTuple):
    """The previous release at work."""

    own: Own
    release: Release
    scene: Scene
    witnesses: Witnesses
    previous: Path


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release's sources."""
    folder = tmp_path_factory.mktemp("previous")
    archive = folder / "sources.tar"
    command = ["git", "archive", "--format=tar", f"--output={archive}", PREVIOUS]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"the history holds no {PREVIOUS[:7]} (a shallow clone?): {answer.stderr.strip()}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def world(previous: Path) -> Iterator[World]:
    """A cluster of its own with the previous release, image and chart."""
    with own_cluster() as own:
        image = countersign_image(previous).push(own.store.repository("countersign/countersign"), "previous")
        assert image.by_digest != own.image
        release = own.release()
        release.install(previous / "charts" / "countersign", values_for(image.by_digest, own.store))
        ledger = Ledger(own.cluster, release, own.store)
        # 0.1.0 knows no response to exec. Tokens are read before the upgrade, after which an exec ends an identity.
        scene = own.scene(release, ledger, responses=None)
        yield World(own, release, scene, witnesses(scene), previous)


def test_an_upgrade_under_load_is_noticed_by_nobody(world: World) -> None:
    """CRDs of 0.1.0 are given to the release first, as docs/install.md says."""
    kubectl = world.own.cluster.kubectl
    ours = ("crd", "--selector", "app.kubernetes.io/part-of=countersign", "--overwrite")
    kubectl("label", *ours, "app.kubernetes.io/managed-by=Helm")
    kubectl(
        "annotate",
        *ours,
        f"meta.helm.sh/release-name={NAME}",
        f"meta.helm.sh/release-namespace={world.release.namespace}",
    )
    with loaded(world) as load:
        world.own.cluster.pause(3)
        world.release.upgrade(CHART, values_for(world.own.image, world.own.store))
        rolled(world, world.own.image)
        world.own.cluster.pause(10)
    unnoticed(world, load)


def test_a_rollback_under_load_is_noticed_by_nobody(world: World) -> None:
    before = {pod["metadata"]["uid"] for pod in world.own.cluster.pods(world.release.namespace)}
    with loaded(world) as load:
        world.own.cluster.pause(3)
        world.release.rollback()
        world.own.cluster.wait(
            lambda: before.isdisjoint(pod["metadata"]["uid"] for pod in services(world)), what="every pod is another"
        )
        world.own.cluster.pause(10)
    unnoticed(world, load)


def loaded(world: World) -> Load:
    """The load, not begun."""
    return Load(world.scene, world.witnesses)


def services(world: World) -> list[Object]:
    """Our own pods."""
    return world.own.cluster.pods(world.release.namespace, "app.kubernetes.io/part-of=countersign")


def rolled(world: World, image: str) -> None:
    """Wait until every pod of ours runs that image."""

    def probe() -> bool:
        pods = world.own.cluster.pods(world.release.namespace)
        return {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}

    world.own.cluster.wait(probe, what="every pod runs the new image", seconds=60)


def unnoticed(world: World, load: Load) -> None:
    """The four rules, and that the load was one."""
    counts = {kind: len(seen) for kind, seen in load.seen.items()}
    begun = min(seen[0].at for seen in load.seen.values())
    print(f"\n{counts} in {max(seen[-1].at for seen in load.seen.values()) - begun:.0f} s")
    wrong = load.wrong(begun)
    assert not wrong, "\n".join(wrong)
    assert load.longest_gap() < LONGEST_GAP
    assert all("ImageUnsigned" in one.message for one in load.seen["unsigned"])
    assert all(RECEIPT_ANNOTATION in pod["metadata"].get("annotations", {}) for pod in load.pods)
    started = time.monotonic()
    for pod in load.pods:
        world.scene.grant(pod, "Active", seconds=30)
        world.own.cluster.delete(pod, gracePeriodSeconds=0)
    print(f"{len(load.pods)} grants Active, looked up in {time.monotonic() - started:.0f} s")
