"""One cluster and one installation for all end-to-end tests; a governed namespace for each module of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.registries import GivenRegistry, ImageStore
from tests.e2e.release import REGISTRY_CA, Release, values_for
from tests.e2e.scene import Ledger, NewScene, Scene, make_scene
from tests.lab import builder
from tests.lab.cosign import Cosign
from tests.lab.image.build import countersign_image
from tests.lab.lab import Lab
from tests.lab.realnode import requirements

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


class Setting:
    """Where the run takes place: the lab's node, or the cluster of the environment."""

    def __init__(self, cluster: Cluster, store: ImageStore, image: str, lab: Lab | None) -> None:
        self.cluster = cluster
        self.store = store
        self.image = image
        self.lab = lab


@pytest.fixture(scope="session")
def setting(programs: None) -> Iterator[Setting]:
    """The cluster of E2E_KUBECONFIG with the image E2E_IMAGE, else a lab with a real node."""
    if given := os.environ.get("E2E_KUBECONFIG"):
        yield _given(Path(given))
        return
    if why_not := requirements.missing():
        pytest.skip(f"no real node here: {why_not}")
    with Lab.start(node=True) as lab:
        store = lab.registry("referrers")
        image = countersign_image().push(store.repository("countersign/countersign"), "lab")
        yield Setting(Cluster(lab.kubeconfig, machine=lab.real_node), store, image.by_digest, lab)


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
    if setting.lab:
        return setting.lab.cosign
    return Cosign(builder.ensure(["cosign"])["cosign"], Path(tempfile.mkdtemp(prefix="countersign-cosign-")))


@pytest.fixture(scope="session")
def release(setting: Setting) -> Iterator[Release]:
    """Countersign, installed by Helm and ready, in a namespace that enforces the restricted Pod Security Standard."""
    made = Release(setting.cluster, values_for(setting.image, setting.store))
    prepare_namespace(made, setting.store)
    made.install()
    yield made
    if setting.lab is None:
        made.uninstall()


@pytest.fixture(scope="session")
def ledger(cluster: Cluster, release: Release, store: ImageStore) -> Ledger:
    """The relying party."""
    return Ledger(cluster, release, store)


@pytest.fixture(scope="session")
def new_scene(cluster: Cluster, release: Release, ledger: Ledger, store: ImageStore, cosign: Cosign) -> NewScene:
    """Makes a governed namespace under a policy with these further members."""
    return partial(make_scene, cluster, release, ledger, store, cosign)


@pytest.fixture(scope="module")
def scene(new_scene: NewScene) -> Scene:
    """A governed namespace, one for each module of tests."""
    return new_scene()


def prepare_namespace(release: Release, store: ImageStore) -> None:
    """Our namespace as docs/install.md says: restricted pods only, and the CA of the registry in a ConfigMap."""
    release.cluster.create_namespace(release.namespace, RESTRICTED)
    if store.ca_file:
        meta = {"name": REGISTRY_CA, "namespace": release.namespace}
        data = {"ca.crt": store.ca_file.read_text()}
        release.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})


def _given(kubeconfig: Path) -> Setting:
    image = os.environ.get("E2E_IMAGE")
    if not image:
        raise pytest.UsageError("E2E_IMAGE is not set: `make e2e KUBECONFIG=FILE IMAGE=HOST/NAME:TAG`")
    address = os.environ.get("E2E_REGISTRY") or image.rpartition("/")[0]
    ca_file, login = os.environ.get("E2E_REGISTRY_CA"), os.environ.get("E2E_REGISTRY_LOGIN", "").partition(":")
    store = GivenRegistry(
        address.removeprefix("http://"),
        Path(ca_file) if ca_file else None,
        (login[0], login[2]) if login[0] else None,
        "http" if address.startswith("http://") else "https",
    )
    return Setting(Cluster(kubeconfig), store, image, None)
