"""The chart as a release, by Helm's own library (PyPI: helm-python-sdk)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import helm_python

from countersign.api.names import POD_ENTRIES, SYSTEM_NAMESPACE
from tests.e2e.cluster import Cluster
from tests.e2e.registries import ImageStore, chart_values
from tests.render import CHART

NAME = "countersign"
REGISTRY_CA = "registry-ca"
INSTALL_SECONDS = 180

Values = dict[str, Any]


class Release:
    """`countersign` in `countersign-system`. `values` are those of the last install or upgrade."""

    def __init__(self, cluster: Cluster, values: Values, *, namespace: str = SYSTEM_NAMESPACE) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.values = values
        self._helm = helm_python.Config(kubeconfig_path=str(cluster.kubeconfig), namespace=namespace)

    def install(self, chart: Path = CHART, values: Values | None = None, *, wait: bool = True, **options: Any) -> str:
        """`helm install --create-namespace --wait`; returns the notes."""
        self.values = self.values if values is None else values
        made = self._helm.install(
            str(chart),
            NAME,
            self.values,
            namespace=self.namespace,
            create_namespace=True,
            wait="watcher" if wait else None,
            timeout=options.pop("timeout", INSTALL_SECONDS),
            **options,
        )
        return str(made.get("info", {}).get("notes") or made.get("notes") or "")

    def upgrade(self, chart: Path = CHART, values: Values | None = None, **options: Any) -> None:
        """`helm upgrade --wait`."""
        self.values = self.values if values is None else values
        options = {"wait": "watcher", "timeout": INSTALL_SECONDS, **options}
        self._helm.upgrade(str(chart), NAME, self.values, namespace=self.namespace, **options)

    def rollback(self, revision: int | None = None) -> None:
        """`helm rollback --wait`."""
        self._helm.rollback(NAME, version=revision, wait="watcher", timeout=INSTALL_SECONDS)

    def uninstall(self) -> str:
        """`helm uninstall --wait`; returns what it says."""
        return str(self._helm.uninstall(NAME, wait="watcher", timeout=INSTALL_SECONDS).get("info", ""))

    def test(self) -> Any:
        """`helm test`."""
        return self._helm.test(NAME, timeout=INSTALL_SECONDS)

    def service(self, name: str) -> list[dict[str, Any]]:
        """Pods of gate, controller or verifier."""
        return self.cluster.pods(self.namespace, f"app.kubernetes.io/component={name}")

    def failure_policies(self) -> set[str]:
        """Of the webhooks about pods: {"Fail"} while the door is shut."""
        return {
            entry["failurePolicy"]
            for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
            for entry in self.cluster.get(f"/apis/admissionregistration.k8s.io/v1/{kind}/{NAME}")["webhooks"]
            if entry["name"].startswith(POD_ENTRIES)
        }

    def scale(self, replicas: Mapping[str, int]) -> None:
        """Set replicas by service, behind Helm's back, and wait until it is so."""
        for name, count in replicas.items():
            path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/countersign-{name}"
            self.cluster.api.patch(path, {"spec": {"replicas": count}}, expect=200)
        for name, count in replicas.items():
            self.cluster.wait(partial(self._is_scaled, name, count), what=f"{count} {name}", seconds=60)
            if count:
                selector = f"app.kubernetes.io/component={name}"
                self.cluster.running(self.namespace, selector, count)
                # A pod is ready a moment before its Service knows of it.
                self.cluster.wait(partial(self._is_served, name, count), what=f"{count} endpoints of {name}")

    def restart(self) -> None:
        """`kubectl rollout restart` of all services, to its end."""
        for name in ("controller", "gate", "verifier"):
            self.cluster.kubectl("rollout", "restart", f"deployment/countersign-{name}", "-n", self.namespace)
        for name in ("controller", "gate", "verifier"):
            self.cluster.kubectl(
                "rollout", "status", f"deployment/countersign-{name}", "-n", self.namespace, "--timeout=150s"
            )

    def _is_served(self, name: str, count: int) -> bool:
        """Whether its Service, if it has one, has so many ready endpoints."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        query = {"labelSelector": f"kubernetes.io/service-name=countersign-{name}"}
        slices = self.cluster.api.get(path, query=query, expect=200).body["items"]
        ready = [one for each in slices for one in each.get("endpoints") or () if one["conditions"]["ready"]]
        return not slices or len(ready) == count

    def _is_scaled(self, name: str, count: int) -> bool:
        return len(self.service(name)) == count


def values_for(image: str, store: ImageStore, extra: Mapping[str, Any] | None = None) -> Values:
    """Values for an image by HOST/NAME@DIGEST or HOST/NAME:TAG, and for the registry of the workloads."""
    repository, _, digest = image.partition("@")
    tag = ""
    if not digest:
        repository, _, tag = image.rpartition(":")
    values: Values = {
        "image": {"repository": repository, "tag": tag, "digest": digest},
        "gate": {"registries": chart_values(store, REGISTRY_CA)},
    }
    return merged(values, extra or {})


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> Values:
    """`values` with `more` laid over them, member by member, as Helm does."""
    result = copy.deepcopy(dict(values))
    for key, value in more.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result
