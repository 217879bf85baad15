"""Where a run takes place: the lab with its real node, or a cluster that was given."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster
from tests.e2e.registries import GivenRegistry, ImageStore
from tests.e2e.release import REGISTRY_CA, Release, values_for
from tests.e2e.scene import Ledger, Scene, make_scene
from tests.lab import builder
from tests.lab.cosign import Cosign
from tests.lab.image.build import countersign_image
from tests.lab.lab import Lab

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


class IncompleteError(Exception):
    """The environment names a cluster, but not all that the tests need of it; the message says what is missing."""


@dataclass(frozen=True)
class Setting:
    """A cluster, the registry that it pulls from, the product's image in reach of it, and cosign."""

    cluster: Cluster
    store: ImageStore
    image: str
    cosign: Cosign

    def release(self, extra: dict[str, Any] | None = None) -> Release:
        """The chart, not yet installed; its namespace is there, as docs/install.md has it made."""
        made = Release(self.cluster, values_for(self.image, self.store, extra))
        self.cluster.create_namespace(made.namespace, RESTRICTED)
        if self.store.ca_file:
            meta = {"name": REGISTRY_CA, "namespace": made.namespace}
            data = {"ca.crt": self.store.ca_file.read_text()}
            self.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        return made

    def scene(self, release: Release, ledger: Ledger, **options: Any) -> Scene:
        """As `make_scene`."""
        return make_scene(self.cluster, release, ledger, self.store, self.cosign, **options)


@dataclass(frozen=True)
class LabSetting(Setting):
    """The same on the lab, whose programs can be stopped."""

    lab: Lab


@contextlib.contextmanager
def on_lab(controller_flags: Sequence[str] = ()) -> Iterator[LabSetting]:
    """A lab with a real node, and the image built from the sources as they are."""
    with Lab.start(node=True, controller_flags=controller_flags) as lab:
        store = lab.registry("referrers")
        image = countersign_image().push(store.repository("countersign/countersign"), "lab")
        yield LabSetting(Cluster(lab.kubeconfig, machine=lab.real_node), store, image.by_digest, lab.cosign, lab)


def given() -> Setting | None:
    """The cluster that the environment names; None if it names none. Raises IncompleteError.

    E2E_KUBECONFIG, E2E_IMAGE (HOST/NAME:TAG or HOST/NAME@DIGEST); E2E_REGISTRY (HOST/PREFIX for the workloads' images,
    `http://` before it for a registry without TLS; by default where the image is), E2E_REGISTRY_CA, E2E_REGISTRY_LOGIN
    (USER:PASSWORD).
    """
    kubeconfig = os.environ.get("E2E_KUBECONFIG")
    if not kubeconfig:
        return None
    image = os.environ.get("E2E_IMAGE", "")
    address = os.environ.get("E2E_REGISTRY") or image.rpartition("/")[0]
    if not image or not address:
        raise IncompleteError("name the image, too: `make e2e KUBECONFIG=FILE IMAGE=HOST/NAME:TAG`")
    user, _, password = os.environ.get("E2E_REGISTRY_LOGIN", "").partition(":")
    store = GivenRegistry(
        address.removeprefix("http://"),
        Path(os.environ["E2E_REGISTRY_CA"]) if os.environ.get("E2E_REGISTRY_CA") else None,
        (user, password) if user else None,
        "http" if address.startswith("http://") else "https",
    )
    cosign = Cosign(builder.ensure(["cosign"])["cosign"], Path(tempfile.mkdtemp(prefix="countersign-cosign-")))
    return Setting(Cluster(Path(kubeconfig)), store, image, cosign)
