"""One cluster and one installation for all end-to-end tests; a governed namespace for each module of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.registries import ImageStore
from tests.e2e.release import Release
from tests.e2e.scene import Ledger, NewScene, Scene, make_scene
from tests.e2e.setting import IncompleteError, LabSetting, Setting, given, on_lab
from tests.lab.cosign import Cosign
from tests.lab.realnode import requirements


@pytest.fixture(scope="session")
def setting(programs: None) -> Iterator[Setting]:
    """The cluster that the environment names, else a lab with a real node."""
    try:
        there = given()
    except IncompleteError as error:
        raise pytest.UsageError(str(error)) from None
    if there:
        yield there
        return
    if why_not := requirements.missing():
        pytest.skip(f"no real node here: {why_not}")
    with on_lab() as made:
        yield made


@pytest.fixture(scope="session")
def cluster(setting: Setting) -> Cluster:
    """The cluster."""
    return setting.cluster


@pytest.fixture(scope="session")
def lab_cluster(setting: Setting) -> Cluster:
    """The cluster, where it is the lab's: its node's programs can be stopped."""
    if setting.cluster.machine is None:
        pytest.skip("stops and starts programs of the node, which only the lab's cluster lets a test do")
    return setting.cluster


@pytest.fixture(scope="session")
def store(setting: Setting) -> ImageStore:
    """The registry of the workloads' images."""
    return setting.store


@pytest.fixture(scope="session")
def cosign(setting: Setting) -> Cosign:
    """The real cosign."""
    return setting.cosign


@pytest.fixture(scope="session")
def release(setting: Setting) -> Iterator[Release]:
    """Countersign, installed by Helm and ready, in a namespace that enforces the restricted Pod Security Standard."""
    made = setting.release()
    made.install()
    yield made
    if not isinstance(setting, LabSetting):
        made.uninstall()


@pytest.fixture(scope="session")
def ledger(cluster: Cluster, release: Release, store: ImageStore) -> Ledger:
    """The relying party."""
    return Ledger(cluster, release, store)


@pytest.fixture(scope="module")
def new_scene(
    cluster: Cluster, release: Release, ledger: Ledger, store: ImageStore, cosign: Cosign
) -> Iterator[NewScene]:
    """Makes a governed namespace under a policy with these further members. Its pods end with the module."""
    made: list[Scene] = []

    def make(**policy: Any) -> Scene:
        made.append(make_scene(cluster, release, ledger, store, cosign, **policy))
        return made[-1]

    yield make
    for scene in made:
        cluster.api.delete(f"/api/v1/namespaces/{scene.namespace}")


@pytest.fixture(scope="module")
def scene(new_scene: NewScene) -> Scene:
    """A governed namespace, one for each module of tests."""
    return new_scene()
