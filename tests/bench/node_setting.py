"""The scene of the benchmarks that need pods that run: the chart on the lab's real node."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3

from tests.e2e.cluster import Cluster
from tests.e2e.release import Release
from tests.e2e.scene import ACCOUNT, Ledger, Scene
from tests.e2e.setting import on_lab
from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.objects import Object

FREE = "bench-free"
"""A namespace that no policy selects: the baseline."""

FLAGS = ("--node-monitor-grace-period=24h",)
"""Nodes that are played send no heartbeats."""


@dataclass(frozen=True)
class NodeSetting:
    """What these benchmarks share."""

    lab: Lab
    cluster: Cluster
    release: Release
    scene: Scene
    free: str = FREE

    @property
    def governed(self) -> str:
        return self.scene.namespace

    def spec(self, *args: str) -> Object:
        """The workload, by digest, calling nobody."""
        return objects.pod_spec(
            objects.container(self.scene.image.by_digest, args=[*args]),
            service_account=ACCOUNT,
            terminationGracePeriodSeconds=1,
        )

    def governed_pod(self, name: str, *, played: bool = False) -> Object:
        """A pod in the governed namespace. `played`: the scheduler leaves it alone."""
        spec = self.spec("work")
        if played:
            spec["schedulerName"] = "played"
        return objects.pod(name, self.governed, spec)

    def free_pod(self, name: str) -> Object:
        """The same where nothing governs."""
        return objects.pod(name, self.free, self.spec("work"))

    def watch(self, path: str, fields: str) -> Generator[Any, None, None]:
        """Events of a collection from now on; the watch is open when this returns."""
        version = self.cluster.api.get(path, query={"limit": "1"}, expect=200).body["metadata"]["resourceVersion"]
        query = f"watch=true&resourceVersion={version}&fieldSelector={fields}&timeoutSeconds=120"
        return _events(self.cluster.api.open(f"{path}?{query}"))


@contextlib.contextmanager
def on_node() -> Iterator[NodeSetting]:
    """A lab with a real node, the chart installed, one governed namespace and one that is not."""
    with on_lab(controller_flags=FLAGS) as setting:
        release = setting.release()
        release.install()
        ledger = Ledger(setting.cluster, release, setting.store)
        scene = setting.scene(release, ledger)
        setting.cluster.create_namespace(FREE)
        setting.cluster.create(objects.service_account(ACCOUNT, FREE))
        yield NodeSetting(setting.lab, setting.cluster, release, scene)


def _events(response: urllib3.BaseHTTPResponse) -> Generator[Any, None, None]:
    pending = b""
    try:
        for chunk in response.stream(amt=None, decode_content=True):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield json.loads(line)
    finally:
        response.close()
