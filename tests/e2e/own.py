"""A cluster for one module alone: for tests that take Countersign away, or the whole cluster down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.registries import ImageStore
from tests.e2e.release import REGISTRY_CA, Release, Values, values_for
from tests.e2e.scene import Ledger, Scene, make_scene
from tests.lab.image.build import countersign_image
from tests.lab.lab import Lab
from tests.lab.realnode import requirements


@dataclass
class Own:
    """A lab with a real node, and Countersign's image in its registry; nothing is installed yet."""

    lab: Lab
    cluster: Cluster
    store: ImageStore
    image: str

    def release(self, extra: Values | None = None) -> Release:
        """A release of this image, with its namespace prepared; not installed yet."""
        made = Release(self.cluster, values_for(self.image, self.store, extra))
        self.cluster.create_namespace(made.namespace, {"pod-security.kubernetes.io/enforce": "restricted"})
        if self.store.ca_file:
            meta = {"name": REGISTRY_CA, "namespace": made.namespace}
            data = {"ca.crt": self.store.ca_file.read_text()}
            self.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        return made

    def scene(self, release: Release, ledger: Ledger, **options: Any) -> Scene:
        """As `make_scene`."""
        return make_scene(self.cluster, release, ledger, self.store, self.lab.cosign, **options)


@contextmanager
def own_cluster() -> Iterator[Own]:
    """Start one. Skips where only somebody else's cluster is given, or no real node can run."""
    if os.environ.get("E2E_KUBECONFIG"):
        pytest.skip("takes Countersign or the cluster itself down, which only a cluster of the lab's own bears")
    if why_not := requirements.missing():
        pytest.skip(f"no real node here: {why_not}")
    with Lab.start(node=True) as lab:
        store = lab.registry("referrers")
        image = countersign_image().push(store.repository("countersign/countersign"), "lab")
        yield Own(lab, Cluster(lab.kubeconfig, machine=lab.real_node), store, image.by_digest)
