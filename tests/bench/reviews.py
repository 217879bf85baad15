"""AdmissionReviews as the API server sends them, and the webhook that they are measured against."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench import allow_all
from tests.bench.setting import FREE, GOVERNED, Setting
from tests.lab.http import HttpClient
from tests.lab.processes import Process, free_port
from tests.stack import objects

REQUESTER = {
    "username": "system:serviceaccount:kube-system:replicaset-controller",
    "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
}


def review(setting: Setting, images: Sequence[str], namespace: str = GOVERNED) -> Any:
    """What the API server shows a mutating webhook: its own defaults filled in, no UID, a generated name to come."""
    # A dry run in a namespace that nothing governs yields the defaults.
    asked = setting.pod("bench", FREE)
    asked["spec"]["containers"] = [
        objects.container(setting.image.by_tag, name=f"app-{number}") for number in range(len(images))
    ]
    spec = setting.lab.admin.post(f"/api/v1/namespaces/{FREE}/pods", asked, query={"dryRun": "All"}, expect=201).body[
        "spec"
    ]
    return review_of(spec, images, namespace)


def review_of(spec: Any, images: Sequence[str], namespace: str) -> Any:
    """A review of a pod with this spec, but with these images in its containers."""
    containers = [one | {"image": image} for one, image in zip(spec["containers"], images, strict=True)]
    metadata = {"generateName": "bench-7d9c5b6f4-", "namespace": namespace, "labels": {"app": "bench"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec | {"containers": containers},
        "status": {},
    }
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": str(uuid.uuid4()),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": REQUESTER,
            "object": pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


@contextlib.contextmanager
def allow_all_webhook(setting: Setting, example: Any) -> Iterator[tuple[str, Process]]:
    """The baseline, running: its URL and process. It answers `example` when this returns."""
    lab = setting.lab
    pair = lab.ca.server("allow-all")
    port = free_port()
    process = lab.processes.start(
        "allow-all", [sys.executable, "-m", allow_all.__name__, str(port), str(pair.cert), str(pair.key)],
        lab.folder / "logs" / "allow-all.log",
    )  # fmt: skip
    url = f"https://127.0.0.1:{port}"
    client = HttpClient(url, ca_file=lab.ca_file)
    process.wait_until(lambda: _answers(client, example), what="the baseline answers")
    try:
        yield url, process
    finally:
        lab.processes.stop(process)


def _answers(client: HttpClient, example: Any) -> bool:
    try:
        return client.post("/", example).status == 200
    except Exception:  # not up yet: whatever the transport says
        return False
