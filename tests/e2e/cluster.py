"""A cluster, known by its kubeconfig."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from tests.lab import builder
from tests.lab.http import HttpClient
from tests.lab.realnode.node import RealNode
from tests.lab.waiting import wait_for
from tests.stack.objects import Object, collection_path, object_path

KUBECTL_SECONDS = 180
POD_SECONDS = 60.0


class Cluster:
    """Talks to one cluster. `machine` is the lab's node, where the cluster is the lab's; else None."""

    def __init__(self, kubeconfig: Path, *, machine: RealNode | None = None) -> None:
        self.kubeconfig = kubeconfig
        self.machine = machine
        self.api = _client(kubeconfig)
        self._kubectl = builder.ensure(["kubectl"])["kubectl"]

    def as_user(self, user: str, groups: Sequence[str] = ()) -> HttpClient:
        """The API as somebody else (impersonation)."""
        headers = {"Impersonate-User": user}
        if groups:
            headers["Impersonate-Group"] = groups[0]
        return _client(self.kubeconfig, headers)

    def kubectl(self, *args: str, input_: str | None = None) -> str:
        """kubectl's stdout. Raises AssertionError with what it printed."""
        answer = self.try_kubectl(*args, input_=input_)
        if answer.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {answer.stderr or answer.stdout}")
        return answer.stdout

    def try_kubectl(self, *args: str, input_: str | None = None) -> subprocess.CompletedProcess[str]:
        """As `kubectl`, but the outcome is the caller's to judge."""
        return subprocess.run(
            [self._kubectl, *args],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=input_,
            capture_output=True,
            text=True,
            check=False,
            timeout=KUBECTL_SECONDS,
        )

    # Objects

    def create(self, obj: Object) -> Object:
        """Create an object; AssertionError if it is refused."""
        return dict(self.api.post(collection_path(obj), obj, expect=201).body)

    def apply(self, *objects: Object) -> None:
        """Server-side apply."""
        for obj in objects:
            answer = self.api.apply(object_path(obj), obj)
            assert answer.ok, f"{obj['kind']} {obj['metadata']['name']}: {answer.status} {answer.message}"

    def get(self, path: str) -> Any:
        """The object at a path, or None."""
        answer = self.api.get(path)
        if answer.status == 404:
            return None
        assert answer.ok, f"GET {path}: {answer.status} {answer.message}"
        return answer.body

    def items(self, path: str, **query: str) -> list[Object]:
        """The items of a collection."""
        return list(self.api.get(path, query=query or None, expect=200).body["items"])

    def delete(self, obj: Object, **options: Any) -> None:
        """Delete an object; nothing if it is gone."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        answer = self.api.delete(object_path(obj), body)
        assert answer.ok or answer.status == 404, f"DELETE {object_path(obj)}: {answer.status} {answer.message}"

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> str:
        """A namespace with its default service account in place."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
        self.wait(
            lambda: self.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"),
            what=f"service account `default` of {name}",
        )
        return name

    # Pods

    def pod(self, namespace: str, name: str) -> Any:
        """The pod, or None."""
        return self.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        """Pods of a namespace, oldest first."""
        found = self.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def running(self, namespace: str, selector: str, count: int = 1, *, seconds: float = POD_SECONDS) -> list[Object]:
        """Wait until so many pods of the selector are Running and Ready, and none besides them; returns them."""

        def probe() -> list[Object] | None:
            found = [pod for pod in self.pods(namespace, selector) if not pod["metadata"].get("deletionTimestamp")]
            return found if len(found) == count and all(is_ready(pod) for pod in found) else None

        try:
            return list(self.wait(probe, what=f"{count} pods {selector} of {namespace} run", seconds=seconds))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._why(namespace)}") from None

    def phase(self, pod: Object, phase: str, *, seconds: float = POD_SECONDS) -> Object:
        """Wait until the pod is in that phase; returns it."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]

        def probe() -> Object | None:
            now = self.pod(namespace, name)
            return now if now and now["status"].get("phase") == phase else None

        try:
            return dict(self.wait(probe, what=f"pod {namespace}/{name} is {phase}", seconds=seconds))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._why(namespace)}") from None

    def gone(self, pod: Object, *, seconds: float = POD_SECONDS) -> None:
        """Wait until the pod object is gone, or is another pod of that name."""
        meta = pod["metadata"]

        def probe() -> bool:
            now = self.pod(meta["namespace"], meta["name"])
            return now is None or now["metadata"]["uid"] != meta["uid"]

        self.wait(probe, what=f"pod {meta['name']} is gone", seconds=seconds)

    def exec(self, pod: Object, *command: str, container: str = "app") -> str:
        """Run a command in a container; its stdout."""
        meta = pod["metadata"]
        return self.kubectl("exec", meta["name"], "-n", meta["namespace"], "-c", container, "--", *command)

    def try_exec(self, pod: Object, *command: str, container: str = "app") -> None:
        """As `exec`, for a command that ends the container which it runs in."""
        meta = pod["metadata"]
        self.try_kubectl("exec", meta["name"], "-n", meta["namespace"], "-c", container, "--", *command)

    def logs(self, pod: Object, container: str = "app") -> str:
        """What a container printed."""
        meta = pod["metadata"]
        return self.kubectl("logs", meta["name"], "-n", meta["namespace"], "-c", container)

    def events(self, namespace: str, about: str = "") -> list[str]:
        """Events of a namespace, or of one object in it, as `reason: message`."""
        query = {"fieldSelector": f"involvedObject.name={about}"} if about else {}
        found = self.items(f"/api/v1/namespaces/{namespace}/events", **query)
        return [f"{event.get('reason')}: {event.get('message')}" for event in found]

    @contextmanager
    def port_forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """A local port that leads to a pod's, by way of API server and kubelet."""
        command: list[str | Path] = [self._kubectl, "port-forward", "-n", namespace, target, f":{port}"]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                said = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8081
                assert "->" in said, f"kubectl port-forward {target}: {said}"
                yield int(said.partition(" ->")[0].rpartition(":")[2])
            finally:
                process.terminate()

    def wait(self, probe: Callable[[], Any], *, what: str, seconds: float = 30.0) -> Any:
        """The first answer of `probe` that is something (`waiting.wait_for`)."""
        return wait_for(probe, what=what, timeout=seconds)

    def pause(self, seconds: float) -> None:
        """Let time go by, where the cluster gives no sign to wait for."""
        time.sleep(seconds)

    def _why(self, namespace: str) -> str:
        lines = [
            f"{pod['metadata']['name']}: {json.dumps(pod.get('status', {}))[:600]}" for pod in self.pods(namespace)
        ]
        return "\n".join([*lines, *self.events(namespace)[-12:]])


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is True."""
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in pod.get("status", {}).get("conditions", [])
    )


def _client(kubeconfig: Path, headers: dict[str, str] | None = None) -> HttpClient:
    settings = kubernetes_client.Configuration()
    load: Any = kubernetes_config.load_kube_config
    load(str(kubeconfig), client_configuration=settings)
    sent = dict(headers or {})
    if token := settings.get_api_key_with_prefix("authorization"):
        sent["Authorization"] = token
    return HttpClient(
        settings.host,
        ca_file=_path(settings.ssl_ca_cert),
        cert_file=_path(settings.cert_file),
        key_file=_path(settings.key_file),
        headers=sent,
    )


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
