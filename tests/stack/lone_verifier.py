"""The verifier alone on the lab: no gate, no webhook, no controller: the test plays its part."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import urllib3

from countersign.api.clock import format_micro, format_time
from countersign.api.names import API_VERSION, LEASE_NAME, VERIFIER_AUDIENCE, VERIFIER_TLS_SECRET
from countersign.keys.authority import Authority, ServingCertificate, issue, new_authority
from countersign.keys.secrets import encode_serving, to_secret_data
from tests.lab.http import Answer, HttpClient
from tests.lab.lab import Lab
from tests.lab.processes import Process, free_port
from tests.render import render
from tests.stack import objects
from tests.stack.objects import Object, object_path

BEAT_SECONDS = 0.5
_KINDS = frozenset({"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
_NUMBERS = itertools.count(1)


class LoneVerifier:
    """A verifier under the chart's own service account, and everything that it watches, in the test's hand."""

    def __init__(self, lab: Lab, *, namespace: str = "lone-verifier") -> None:
        self.lab = lab
        self.namespace = namespace
        self.audience = "ledger.example.com"
        self.authority: Authority = new_authority(datetime.now(UTC))
        self.port = free_port()
        self.health = HttpClient(f"http://127.0.0.1:{(health_port := free_port())}")
        self._health_port = health_port
        self._beating = threading.Event()
        self._ending = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self.process: Process

    def __enter__(self) -> Self:
        lab = self.lab
        lab.create_namespace(self.namespace)
        for obj in render(namespace=self.namespace):
            if obj["kind"] == "CustomResourceDefinition" or (
                obj["kind"] in _KINDS and obj["metadata"]["name"] == "countersign-verifier"
            ):
                answer = lab.admin.apply(object_path(obj), obj)
                assert answer.ok, answer.message
        lab.wait_for(
            lambda: all(lab.admin.get(f"/apis/{API_VERSION}/{kind}").ok for kind in ("workloadgrants", "revocations")),
            what="our kinds are served",
        )
        self.serve_certificate(self.issue())
        self._lease("POST")
        self._heart.start()
        self.resume_heartbeat()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._heart.join()
        self.stop()

    # The process

    def start(self, **flags: str) -> None:
        """Start it, and wait until it is ready."""
        options = {
            "kubeconfig": str(self.lab.service_account_kubeconfig(self.namespace, "countersign-verifier")),
            "namespace": self.namespace,
            "host": "127.0.0.1",
            "port": str(self.port),
            "health-host": "127.0.0.1",
            "health-port": str(self._health_port),
            "drain-seconds": "0.2",
            "heartbeat-limit-seconds": "3",
        } | {name.replace("_", "-"): value for name, value in flags.items()}
        args = [f"--{name}={value}" for name, value in options.items()]
        log = self.lab.folder / "logs" / f"{self.namespace}.log"
        command = [sys.executable, "-m", "countersign.cli.main", "verifier", *args]
        self.process = self.lab.processes.start(self.namespace, command, log)
        self.process.wait_until(self.ready, what="/readyz answers 200", timeout=30)

    def stop(self) -> None:
        """SIGTERM, and the orderly end."""
        self.lab.processes.stop(self.process)

    def ready(self) -> bool:
        try:
            return self.health.get("/readyz").ok
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    @property
    def log(self) -> str:
        return self.process.log.read_text()

    # The controller's part

    def issue(self) -> ServingCertificate:
        """A fresh serving certificate of our CA."""
        certificate, key = issue(self.authority, ["127.0.0.1"], datetime.now(UTC))
        return ServingCertificate(certificate, key, self.authority.certificate)

    def serve_certificate(self, serving: ServingCertificate) -> None:
        """Write it where the controller would."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": VERIFIER_TLS_SECRET, "namespace": self.namespace},
            "data": to_secret_data(encode_serving(serving)),
        }
        self.lab.admin.apply(object_path(secret), secret)

    def stop_heartbeat(self) -> None:
        self._beating.clear()

    def resume_heartbeat(self) -> None:
        self._beating.set()

    def declare_audience(self, asker_namespace: str, *, accepted: str = "True", **spec: Any) -> None:
        """A ProtectedAudience, judged."""
        introspectors = [(asker_namespace, "relying-party")]
        made = objects.protected_audience("lone", self.audience, introspectors=introspectors, **spec)
        self.lab.admin.apply(object_path(made), made)
        now = format_time(datetime.now(UTC))
        state = {"type": "Accepted", "status": accepted, "reason": "Played", "lastTransitionTime": now, "message": ""}
        path = f"{object_path(made)}/status"
        self.lab.admin.patch(path, {"status": {"conditions": [state], "observedGeneration": 1}}, expect=200)

    def grant(self, pod: Mapping[str, Any], *, state: str | None = "Active", **spec: Any) -> Object:
        """A WorkloadGrant of the pod as it is, in that state."""
        meta = pod["metadata"]
        account = pod["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}"
        made = {
            "apiVersion": API_VERSION,
            "kind": "WorkloadGrant",
            "metadata": {
                "name": f"wg-{next(_NUMBERS)}",
                "namespace": meta["namespace"],
                "labels": {"countersign.dev/pod-uid": meta["uid"]},
            },
            "spec": {
                "pod": {
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "nodeName": pod["spec"].get("nodeName", ""),
                    "createdAt": meta["creationTimestamp"],
                },
                "serviceAccount": {
                    "name": account,
                    "uid": self.lab.admin.get(path, expect=200).body["metadata"]["uid"],
                },
                "owner": "payments@example.com",
                "policies": [{"kind": "ClusterTrustPolicy", "name": "p", "uid": "policy", "generation": 1}],
                "tokens": [{"audience": self.audience, "policyUID": "policy", "maxExpirationSeconds": 600}],
                "images": [],
                **spec,
            },
        }
        found = self.lab.admin.post(objects.collection_path(made), made, expect=201).body
        return self.set_state(found, state) if state else dict(found)

    def set_state(self, grant: Mapping[str, Any], state: str, reason: str = "Played") -> Object:
        """Write a grant's status."""
        path = f"{object_path(dict(grant))}/status"
        return dict(self.lab.admin.patch(path, {"status": {"state": state, "reason": reason}}, expect=200).body)

    # The relying party's part

    def asker(self, namespace: str, account: str = "relying-party", audience: str = VERIFIER_AUDIENCE) -> str:
        """A token by which a service account identifies itself."""
        return self.lab.service_account_token(namespace, account, audience=audience)

    def client(self) -> HttpClient:
        """A fresh client, which trusts the CA and nothing else."""
        file = self.lab.folder / f"{self.namespace}-ca.crt"
        file.write_bytes(self.authority.certificate)
        return HttpClient(f"https://127.0.0.1:{self.port}", ca_file=file)

    def ask(self, token: str, asker: str, *, endpoint: str = "introspect", client: HttpClient | None = None) -> Answer:
        """One question, as it goes over the wire."""
        return (client or self.client()).request(
            "POST",
            f"/{endpoint}",
            f"token={token}".encode(),
            headers={"Authorization": f"Bearer {asker}"},
            content_type="application/x-www-form-urlencoded",
        )

    def _beat(self) -> None:
        while not self._ending.wait(BEAT_SECONDS):
            if self._beating.is_set():
                self._lease("PATCH")

    def _lease(self, method: str) -> None:
        collection = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        spec = {
            "holderIdentity": "the test",
            "leaseDurationSeconds": 4,
            "renewTime": format_micro(datetime.now(UTC)),
        }
        if method == "POST":
            lease = {"metadata": {"name": LEASE_NAME}, "apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            self.lab.admin.post(collection, {**lease, "spec": spec}, expect=201)
        else:
            self.lab.admin.patch(f"{collection}/{LEASE_NAME}", {"spec": spec}, expect=200)
