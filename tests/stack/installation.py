"""Countersign installed on the lab, with its services as processes under the chart's service accounts."""

from __future__ import annotations

import base64
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import urllib3

from countersign.api.names import GROUP, SYSTEM_NAMESPACE, VERIFIER_AUDIENCE
from tests.lab.http import Answer, HttpClient
from tests.lab.lab import Lab
from tests.lab.processes import Process, free_port
from tests.lab.waiting import TIMEOUT_SECONDS
from tests.render import render
from tests.stack.kubelet import Kubelet
from tests.stack.objects import Object, collection_path, object_path

LEFT_OUT = frozenset({"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Pod", "Job"})
"""Kinds of the chart that need a node; the processes below stand in for them."""
READY_SECONDS = 60.0


class Service:
    """One running service and where it listens."""

    def __init__(self, name: str, process: Process, port: int, health_port: int, started: float) -> None:
        """`started`: `time.perf_counter()` when its process began."""
        self.name = name
        self.process = process
        self.port = port
        self.health_port = health_port
        self.started = started
        self.flags: Mapping[str, str] = {}
        """What it was started with besides what all are."""
        self.health = HttpClient(f"http://127.0.0.1:{health_port}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def ready(self) -> bool:
        """Whether /readyz answers 200."""
        try:
            return self.health.get("/readyz").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    def metrics(self) -> str:
        """The text of /metrics."""
        return self.health.get("/metrics", expect=200).data.decode()


class Installation:
    """The chart's objects on the lab's API server, and the services that run under them."""

    def __init__(
        self,
        lab: Lab,
        *,
        namespace: str = SYSTEM_NAMESPACE,
        values: Mapping[str, Any] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "countersign.cli.main"),
        revives: bool = True,
    ) -> None:
        """`program`: what runs a service; its name and options follow. `revives`: what ends by itself starts anew."""
        self.lab = lab
        self.program = program
        self.namespace = namespace
        self.values = dict(values or {})
        self.services: dict[str, Service] = {}
        self.environment: dict[str, str] = {}
        """Variables of the processes that are started from now on."""
        # The webhook configurations name the gate by URL: it keeps its port over a restart.
        self._ports = {"gate": free_port(), "verifier": free_port()}
        self._kubelet = Kubelet(self.revive) if revives else None
        self._changing = threading.RLock()
        """Held while `services` changes, so that what is stopped is not taken for what has ended."""
        self._askers: dict[tuple[str, str], str] = {}
        self._clients: dict[str, tuple[tuple[int, str], HttpClient]] = {}

    @property
    def gate_port(self) -> int:
        """Where the gate listens, or will."""
        return self._ports["gate"]

    @property
    def verifier_port(self) -> int:
        """Where the verifier listens, or will."""
        return self._ports["verifier"]

    @classmethod
    def start(cls, lab: Lab, **options: Any) -> Self:
        """Install and start everything; returns when the API server calls the gate."""
        installation = cls(lab, **options)
        installation.install()
        installation.start_all()
        return installation

    def install(self) -> None:
        """Apply what the chart renders, but for what needs a node."""
        admin = self.lab.admin
        if admin.get(f"/api/v1/namespaces/{self.namespace}").status == 404:
            self.lab.create_namespace(self.namespace)
        objects = [obj for obj in render(self.values, self.namespace) if obj["kind"] not in LEFT_OUT]
        crds = [obj for obj in objects if obj["kind"] == "CustomResourceDefinition"]
        for obj in crds:
            self.apply(obj)
        for obj in crds:
            self.lab.wait_for(partial(self._established, obj), what=f"{obj['metadata']['name']} is established")
        for obj in objects:
            if obj["kind"] != "CustomResourceDefinition":
                self.apply(obj)
        # A guard whose parameters are of a kind that is new to the API server refuses everything until it knows it.
        self.await_guards()

    def await_guards(self) -> None:
        """Wait until an API server that has just started, or just learnt of our kinds, knows the guards' parameters."""
        self.lab.wait_for(self.serves, what="the API server serves our kinds", timeout=60)
        self.lab.wait_for(self.mints, what="the API server has loaded the guards", timeout=60)

    def start_all(self) -> None:
        """Start gate, controller and verifier, and wait until the webhook configurations are there."""
        for name in ("controller", "gate", "verifier"):
            self.start_service(name, wait=False)
        for service in self.services.values():
            self._await_ready(service)
        self.await_webhooks()

    def start_service(self, name: str, *, wait: bool = True, key: str = "", **flags: str) -> Service:
        """Start one service; `key` tells apart a second process of the same service."""
        port = self._ports.get(name, 0) if not key else free_port()
        health_port = free_port()
        kubeconfig = self.lab.service_account_kubeconfig(self.namespace, f"countersign-{name}")
        options: dict[str, Iterable[str]] = {
            "kubeconfig": [str(kubeconfig)],
            "namespace": [self.namespace],
            "health-host": ["127.0.0.1"],
            "health-port": [str(health_port)],
        }
        if name == "controller":
            options |= {
                "identity": [key or "controller"],
                "gate-url": [f"https://127.0.0.1:{self._ports['gate']}"],
                "certificate-names": ["127.0.0.1"],
            }
            if "PYTHONPATH" not in self.environment:  # the previous release asks no verifier
                options |= {
                    "verifier-url": [f"https://127.0.0.1:{self._ports['verifier']}"],
                    "verifier-token-file": [str(self._verifier_token())],
                    "use-collect-seconds": ["0.5"],
                }
        else:
            options |= {"host": ["127.0.0.1"], "port": [str(port)]}
        if name == "gate":
            options |= {"registry-ca-files": [str(self.lab.ca_file)], "allowed-address-ranges": ["127.0.0.0/8"]}
        options |= {flag.replace("_", "-"): [value] for flag, value in flags.items()}
        args = [f"--{option}={value}" for option, values in options.items() for value in values]
        log = self.lab.folder / "logs" / f"{key or name}.log"
        started = time.perf_counter()
        process = self.lab.processes.start(
            key or name, [*self.program, name, *args], log, env={**os.environ, **self.environment}
        )
        service = Service(name, process, port, health_port, started)
        service.flags = flags
        with self._changing:
            self.services[key or name] = service
        if wait:
            self._await_ready(service)
        return service

    def revive(self) -> None:
        """Start anew what has ended by itself."""
        with self._changing:
            for key, service in list(self.services.items()):
                if not service.process.running:
                    self.start_service(
                        service.name, wait=False, key="" if key == service.name else key, **service.flags
                    )

    def _take_out(self, name: str) -> Service:
        with self._changing:
            return self.services.pop(name)

    def stop(self, name: str) -> None:
        """SIGTERM, and wait for the orderly end."""
        self.lab.processes.stop(self._take_out(name).process, grace=15.0)

    def kill(self, name: str) -> None:
        """SIGKILL: as a lost node would end it."""
        self.lab.processes.kill(self._take_out(name).process)

    def stop_all(self) -> None:
        """End every service; what is in the API server stays."""
        for name in list(self.services):
            self.stop(name)

    def last_words(self, lines: int = 12) -> str:
        """Of each service: whether it still runs, and the end of its log."""
        told = []
        for key, service in self.services.items():
            ended = "running" if service.process.running else f"ended with status {service.process.popen.returncode}"
            told.append(f"{key} ({ended}):\n{service.process.log_tail(lines)}")
        return "\n".join(told)

    def uninstall(self) -> None:
        """End the services and remove the webhook configurations, so that the cluster goes on without them."""
        for name in list(self.services):
            self.kill(name)
        self.remove_webhooks()

    def __enter__(self) -> Self:
        if self._kubelet is not None:
            self._kubelet.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kubelet is not None:
            self._kubelet.stop()
        self.uninstall()

    # Objects

    def apply(self, obj: Object) -> Object:
        """Server-side apply as the admin; returns the object."""
        answer = self.lab.admin.apply(object_path(obj), obj)
        if not answer.ok:
            raise AssertionError(f"{obj['kind']} {obj['metadata']['name']}: {answer.status} {answer.message}")
        return dict(answer.body)

    def create(self, obj: Object, *, user: str | None = None) -> Answer:
        """Create as the admin, or as another user; the answer is the caller's to judge."""
        api = self.lab.api(user) if user else self.lab.admin
        return api.post(collection_path(obj), obj)

    def declare(self, *objects: Object) -> None:
        """Apply policies and audiences, and wait until the services go by them."""
        self.revive()
        for obj in objects:
            self.apply(obj)
        for obj in objects:
            self.lab.wait_for(
                partial(self._judged, obj),
                what=f"the controller judged {obj['kind']} {obj['metadata']['name']}",
                timeout=READY_SECONDS,  # one that was killed holds the Lease for a while
            )
        self.settle()

    def settle(self) -> None:
        """Wait until the webhook configurations have stood still, and the API server has had time to see them."""
        seen = None
        still = 0
        # The controller writes the second configuration a second after the first.
        while still < 10:
            now = [
                self.lab.admin.get(f"{_ADMISSION}/{kind}/countersign").body.get("metadata", {}).get("resourceVersion")
                for kind in _WEBHOOKS
            ]
            still = still + 1 if now == seen else 0
            seen = now
            time.sleep(0.15)

    def grant_of(self, pod: Mapping[str, Any], *, state: str | None = None, timeout: float = TIMEOUT_SECONDS) -> Object:
        """The pod's WorkloadGrant, in that state if one is named."""
        meta = pod["metadata"]
        path = f"/apis/countersign.dev/v1alpha1/namespaces/{meta['namespace']}/workloadgrants"

        def probe() -> Object | None:
            items = self.lab.admin.get(
                path, query={"labelSelector": f"countersign.dev/pod-uid={meta['uid']}"}, expect=200
            ).body["items"]
            for item in items:
                if state is None or item.get("status", {}).get("state") == state:
                    return dict(item)
            return None

        found: Object = self.lab.wait_for(
            probe, what=f"a grant of pod {meta['name']} in state {state}", timeout=timeout
        )
        return found

    def _verifier_token(self) -> Path:
        """The controller's own token for the verifiers, which in a cluster the kubelet keeps fresh."""
        file = self.lab.folder / "controller-verifier-token"
        token = self.lab.service_account_token(
            self.namespace, "countersign-controller", audience=VERIFIER_AUDIENCE, expiration_seconds=86400
        )
        file.write_text(token)
        return file

    # Relying parties

    def asker(self, namespace: str, name: str) -> str:
        """A token by which this service account identifies itself to the verifier."""
        key = (namespace, name)
        if key not in self._askers:
            self._askers[key] = self.lab.service_account_token(namespace, name, audience=VERIFIER_AUDIENCE)
        return self._askers[key]

    def ca_file(self, service: str) -> Path:
        """The CA that gate or verifier is trusted by, out of its Secret."""
        return self._write_ca(service, self._tls_secret(service))

    def client(self, service: str) -> HttpClient:
        """An HTTPS client of gate or verifier. The same one for as long as process and certificate are the same."""
        running, secret = self.services[service], self._tls_secret(service)
        made_for, client = self._clients.get(service, (None, None))
        if client is None or made_for != (running.pid, secret["metadata"]["resourceVersion"]):
            client = HttpClient(f"https://127.0.0.1:{running.port}", ca_file=self._write_ca(service, secret))
            self._clients[service] = (running.pid, secret["metadata"]["resourceVersion"]), client
        return client

    def _tls_secret(self, service: str) -> Object:
        path = f"/api/v1/namespaces/{self.namespace}/secrets/countersign-{service}-tls"
        return dict(self.lab.admin.get(path, expect=200).body)

    def _write_ca(self, service: str, secret: Object) -> Path:
        file = self.lab.folder / f"{service}-ca.crt"
        # Put in its place whole: others may read it at this moment.
        with tempfile.NamedTemporaryFile(dir=self.lab.folder, delete=False) as written:
            written.write(base64.b64decode(secret["data"]["ca.crt"]))
        Path(written.name).replace(file)
        return file

    def verifier_client(self) -> HttpClient:
        """An HTTPS client of the verifier."""
        return self.client("verifier")

    def introspect(self, token: str, *, asker: str, client: HttpClient | None = None) -> Any:
        """What a relying party is told (RFC 7662)."""
        answer = introspect(client or self.verifier_client(), token, asker)
        if answer.status != 200:
            raise AssertionError(f"introspection answered {answer.status}: {answer.message}")
        return answer.body

    # Webhooks

    def remove_webhooks(self) -> None:
        """Delete both configurations, as a cluster admin could: pods then go around the gate."""
        for kind in _WEBHOOKS:
            self.lab.admin.delete(f"{_ADMISSION}/{kind}/countersign")

    def await_webhooks(self) -> None:
        """Wait until the controller has written both configurations."""
        for kind in _WEBHOOKS:
            self.lab.wait_for(
                partial(self._there, f"{_ADMISSION}/{kind}/countersign"), what=f"the controller wrote the {kind}"
            )

    def _await_ready(self, service: Service) -> None:
        service.process.wait_until(service.ready, what="/readyz answers 200", timeout=READY_SECONDS)

    def serves(self) -> bool:
        """Whether every kind of ours is answered for. One whose storage is not read yet is refused with 429."""
        api = f"/apis/{GROUP}/v1alpha1"
        known = self.lab.admin.get(api)
        named = [kind["name"] for kind in known.body["resources"] if "/" not in kind["name"]] if known.ok else []
        return bool(named) and all(self.lab.admin.get(f"{api}/{name}", query={"limit": "1"}).ok for name in named)

    def mints(self) -> bool:
        """Whether the API server goes by the guards, and gives out a token where they look.

        It looks for new guards once a second, then refuses what they match until it has read their parameters.
        """
        crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/protectedaudiences.{GROUP}"
        if self.lab.admin.delete(crd, query={"dryRun": "All"}).status != 403:
            return False
        path = "/api/v1/namespaces/default/serviceaccounts/default/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return self.lab.admin.post(path, asked, query={"dryRun": "All"}).ok

    def _established(self, crd: Object) -> bool:
        status = self.lab.admin.get(object_path(crd)).body.get("status", {})
        return any(c["type"] == "Established" and c["status"] == "True" for c in status.get("conditions") or ())

    def _there(self, path: str) -> bool:
        return self.lab.admin.get(path).ok

    def _judged(self, obj: Object) -> bool:
        body = self.lab.admin.get(object_path(obj), expect=200).body
        return bool(body.get("status", {}).get("observedGeneration", -1) >= body["metadata"]["generation"])


_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_WEBHOOKS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


def introspect(client: HttpClient, token: str, asker: str, *, endpoint: str = "introspect", **use: str) -> Answer:
    """One introspection request, as it goes over the wire. `use`: what is told of the use (`access.use`)."""
    return client.request(
        "POST",
        f"/{endpoint}",
        urlencode({"token": token, **use}).encode(),
        headers={"Authorization": f"Bearer {asker}"},
        content_type="application/x-www-form-urlencoded",
    )
