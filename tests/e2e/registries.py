"""Where the images of workloads go: a registry that this machine pushes to and the cluster pulls from."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.lab.cosign import Registry
from tests.lab.http import HttpClient
from tests.lab.images import Repository


class ImageStore(Registry, Protocol):
    """What tests and cosign need of a registry (`tests.lab.registries.Registry` has it, too)."""

    @property
    def host(self) -> str:
        """HOST[:PORT], as it stands in image references."""

    def repository(self, name: str) -> Repository:
        """Push and tag images under this name."""


@dataclass(frozen=True)
class GivenRegistry:
    """A registry that was there before: HOST/PREFIX of `make e2e REGISTRY=...`."""

    address: str
    ca_file: Path | None = None
    credentials: tuple[str, str] | None = None
    scheme: str = "https"

    @property
    def host(self) -> str:
        return self.address.partition("/")[0]

    def repository(self, name: str) -> Repository:
        prefix = self.address.partition("/")[2]
        headers = {}
        if self.credentials:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
        http = HttpClient(f"{self.scheme}://{self.host}", ca_file=self.ca_file, headers=headers)
        return Repository(http, self.host, f"{prefix}/{name}" if prefix else name)


def chart_values(store: ImageStore, ca_config_map: str) -> dict[str, Any]:
    """What the gate must be told of this registry, as values of the chart."""
    if store.scheme == "http":
        return {"insecure": [store.host]}
    return {"caConfigMap": ca_config_map} if store.ca_file else {}
