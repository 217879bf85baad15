"""Plays the kubelet's part, only through a `system:node:` identity under the node authorizer."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import urllib3

from tests.lab.http import Answer, HttpClient
from tests.lab.waiting import wait_for

_TERMINAL = ("Succeeded", "Failed")
_UNSET: Any = object()


class NodePlayer:
    """One node. `api` acts as `system:node:NAME`; only binding, the scheduler's part, uses another identity.

    Pods are given as the objects that the API server answered with, or as (namespace, name).
    """

    def __init__(self, name: str, api: HttpClient, scheduler: HttpClient) -> None:
        self.name = name
        self.api = api
        self._scheduler = scheduler

    def register(self) -> dict[str, Any]:
        """Create the Node object, Ready, as a kubelet does at its start. Does nothing if it is there."""
        now = _now()
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
            "status": {
                "capacity": {"cpu": "8", "memory": "16Gi", "pods": "2000"},
                "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "2000"},
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "message": "played by the lab",
                        "lastHeartbeatTime": now,
                        "lastTransitionTime": now,
                    }
                ],
            },
        }
        answer = self.api.post("/api/v1/nodes", node)
        if answer.status == 409:
            answer = self.api.get(f"/api/v1/nodes/{self.name}", expect=200)
        elif answer.status != 201:
            raise AssertionError(f"node {self.name} cannot register: {answer.status} {answer.message}")
        return dict(answer.body)

    def heartbeat(self) -> None:
        """Renew this node's Lease, as a kubelet does each 10 s."""
        collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": moment}
        if self.api.patch(f"{collection}/{self.name}", {"spec": spec}).status == 404:
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}}
            self.api.post(collection, {**lease, "spec": spec}, expect=201)

    @contextlib.contextmanager
    def beating(self, every: float = 10.0) -> Iterator[None]:
        """While it lasts, the heartbeat goes on, whether the API server answers or not."""
        ending = threading.Event()

        def beat() -> None:
            while not ending.wait(every):
                with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, AssertionError):
                    self.heartbeat()

        self.heartbeat()
        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            ending.set()
            heart.join()

    def bind(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """Bind the pod to this node, as the scheduler, and wait until the node authorizer knows. Returns the pod."""
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
        }
        self._scheduler.post(f"{pod_path(pod)}/binding", binding, expect=201)
        # The authorizer's graph follows a watch; a kubelet, too, hears of its pod only a moment later.
        answer: Answer = wait_for(
            lambda: _if(self.api.get(pod_path(pod)), lambda got: got.status == 200),
            what=f"the node authorizer lets {self.name} read its pod {metadata['name']}",
        )
        return dict(answer.body)

    def run(self, pod: Mapping[str, Any], *, image_ids: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Bind if nobody did, then report it Running and Ready.

        `image_ids`: container -> the imageID to report; else the spec's image.
        """
        if not pod["spec"].get("nodeName"):
            pod = self.bind(pod)
        return self.report(pod, "Running", image_ids=image_ids)

    def finish(self, pod: Mapping[str, Any], *, exit_code: int = 0) -> dict[str, Any]:
        """All containers ended: Succeeded for exit code 0, else Failed."""
        return self.report(pod, "Failed" if exit_code else "Succeeded", exit_code=exit_code)

    def report(
        self,
        pod: Mapping[str, Any],
        phase: str,
        *,
        exit_code: int = 0,
        image_ids: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Write the pod's status as this node: phase, conditions and container statuses that fit it."""
        now = _now()
        ready = phase == "Running"
        ended = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}
        state: dict[str, Any] = {"running": {"startedAt": now}}
        if phase in _TERMINAL:
            state = {"terminated": {**ended, "startedAt": now, "finishedAt": now}}
        elif phase == "Pending":
            state = {"waiting": {"reason": "ContainerCreating"}}

        def statuses(field: str) -> list[dict[str, Any]]:
            return [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": (image_ids or {}).get(container["name"], container["image"]),
                    "containerID": f"lab://{pod['metadata']['uid']}/{container['name']}",
                    "ready": ready,
                    "started": ready,
                    "restartCount": 0,
                    "state": state,
                }
                for container in pod["spec"].get(field, [])
            ]

        condition = {"status": "True" if ready else "False", "lastTransitionTime": now}
        if phase in _TERMINAL:
            condition["reason"] = "PodCompleted"
        status = {
            "phase": phase,
            "startTime": pod.get("status", {}).get("startTime", now),
            "hostIP": "127.0.0.1",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
                {"type": "Initialized", "status": "True", "lastTransitionTime": now},
                {"type": "ContainersReady", **condition},
                {"type": "Ready", **condition},
            ],
            "containerStatuses": statuses("containers"),
            "initContainerStatuses": statuses("initContainers"),
            "ephemeralContainerStatuses": statuses("ephemeralContainers"),
        }
        return self.patch_status(pod, status)

    def patch_status(self, pod: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        """Patch pods/status as this node; other fields of the status stay."""
        return dict(self.api.patch(f"{pod_path(pod)}/status", {"status": status}, expect=200).body)

    def remove(self, pod: Mapping[str, Any]) -> None:
        """The kubelet's last act on a pod that is being deleted: delete it with grace period 0 and its UID."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod["metadata"]["uid"]},
        }
        answer = self.api.delete(pod_path(pod), options)
        if answer.status not in (200, 404):
            raise AssertionError(f"node {self.name} cannot remove the pod: {answer.status} {answer.message}")

    def request_token(
        self,
        pod: Mapping[str, Any],
        audience: str | None,
        *,
        expiration_seconds: int = 3600,
        service_account: str | None = None,
        uid: str | None = _UNSET,
        audiences: Sequence[str] | None = None,
    ) -> Answer:
        """POST serviceaccounts/NAME/token as a kubelet does; returns the answer as it came.

        `service_account`, `uid` (None: leave it out) and `audiences` override what a kubelet would send, to attack.
        """
        namespace = pod["metadata"]["namespace"]
        account = service_account or pod["spec"].get("serviceAccountName", "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"]}
        uid = pod["metadata"]["uid"] if uid is _UNSET else uid
        if uid is not None:
            bound["uid"] = uid
        spec: dict[str, Any] = {"expirationSeconds": expiration_seconds, "boundObjectRef": bound}
        if audiences is not None or audience:
            spec["audiences"] = list(audiences) if audiences is not None else [audience]
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)

    def tokens(self, pod: Mapping[str, Any]) -> dict[str, Answer]:
        """The answer for each projected service-account token of the pod, by audience ("" is the API server's own)."""
        answers: dict[str, Answer] = {}
        for volume in pod["spec"].get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                if token := source.get("serviceAccountToken"):
                    audience = token.get("audience", "")
                    answers[audience] = self.request_token(
                        pod, audience, expiration_seconds=token.get("expirationSeconds", 3600)
                    )
        return answers

    def token(self, pod: Mapping[str, Any], audience: str) -> str:
        """The token that the kubelet would mount for this audience. Raises AssertionError when it is refused."""
        answer = self.tokens(pod).get(audience)
        if answer is None:
            raise AssertionError(f"no volume of pod {pod['metadata']['name']} projects a token for {audience!r}")
        if answer.status != 201:
            raise AssertionError(f"token for {audience!r} refused: {answer.status} {answer.message}")
        return str(answer.body["status"]["token"])


def pod_path(pod: Mapping[str, Any]) -> str:
    """Path of a pod in the API."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _if(answer: Answer, holds: Callable[[Answer], bool]) -> Answer | None:
    return answer if holds(answer) else None
