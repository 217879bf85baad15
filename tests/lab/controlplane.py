"""etcd, kube-apiserver and kube-controller-manager on loopback, with RBAC, node authorizer and audit log on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import urllib3
import yaml

from tests.lab.http import HttpClient
from tests.lab.pki import CertificateAuthority, KeyPairFiles, write_signing_key
from tests.lab.processes import GRACE_SECONDS, Process, Processes, free_port

ISSUER = "https://kubernetes.default.svc.cluster.local"
ADMIN = ("lab-admin", ("system:masters",))
LOOPBACK = "127.0.0.1"
LOCAL_NAMES = (LOOPBACK, "localhost")
SERVICE_ADDRESS = "10.96.0.1"
"""The Service `kubernetes`: the first address of the range below."""
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")

# Bodies of pod writes are kept, so that a test can read what a webhook was given and what it changed. Of token
# requests only the metadata, or the log would hold tokens.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/metrics", "/openapi*"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {
            "level": "Request",
            "verbs": ["create", "update", "patch"],
            "resources": [{"group": "", "resources": ["pods", "pods/status", "pods/ephemeralcontainers"]}],
        },
        {"level": "Metadata"},
    ],
}


class ControlPlane:
    """Starts the three programs; `url` answers when the constructor returns.

    `host` is the address at which the API server is reached. `apiserver_flags` and `controller_flags` are added behind
    the lab's own, so that they win where a flag is given twice.
    """

    def __init__(
        self,
        folder: Path,
        programs: Mapping[str, Path],
        processes: Processes,
        ca: CertificateAuthority,
        *,
        host: str = LOOPBACK,
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._programs = programs
        self._processes = processes
        self._ca = ca
        self._server = ca.server("control-plane", hosts=(*LOCAL_NAMES, host, SERVICE_ADDRESS, *SERVICE_NAMES))
        self._signing_key = write_signing_key(folder / "service-account.key")
        self._apiserver_flags = apiserver_flags
        self._controller_flags = controller_flags
        self._etcd_port, self._peer_port = free_port(), free_port()
        self.port = free_port()
        self.url = f"https://{host}:{self.port}"
        self.audit_log = folder / "logs" / "audit.log"
        self.start()

    @property
    def ca_file(self) -> Path:
        return self._ca.cert_file

    @property
    def etcd_url(self) -> str:
        """Where etcd serves its clients, over TLS with a client certificate."""
        return f"https://127.0.0.1:{self._etcd_port}"

    def start(self) -> None:
        """Start the three programs on the data that is there, and wait until the API server is ready."""
        self.etcd = self._start_etcd()
        self.apiserver = self._start_apiserver(self._apiserver_flags)
        self.apiserver.wait_until(self._ready, what="GET /readyz answers 200")
        self.controller_manager = self._start_controller_manager(self._controller_flags)

    def stop(self, *, grace: float = GRACE_SECONDS) -> None:
        """Stop all three; without grace as a power cut would. What etcd wrote stays."""
        self._processes.stop(self.controller_manager, self.apiserver, self.etcd, grace=grace)

    def restart_apiserver(self, flags: Sequence[str] = ()) -> None:
        """Stop kube-apiserver and start it anew on the same port and data, with other additional flags."""
        self._processes.stop(self.apiserver)
        self.apiserver = self._start_apiserver(flags)
        self.apiserver.wait_until(self._ready, what="GET /readyz answers 200")

    def save_etcd(self) -> Path:
        """A copy of etcd's data as it is now, for `restore_etcd`. etcd is down meanwhile, for a second or so."""
        copy = self._folder / f"etcd-{free_port()}"
        self._processes.stop(self.etcd)
        shutil.copytree(self._folder / "etcd", copy)
        self.etcd = self._start_etcd()
        self.apiserver.wait_until(self._ready, what="GET /readyz answers 200")
        return copy

    def restore_etcd(self, copy: Path, *, away_seconds: float = 0.0) -> None:
        """What a restore of a snapshot does: the control plane goes down, and comes back with the data of then."""
        self.stop()
        time.sleep(away_seconds)
        shutil.rmtree(self._folder / "etcd")
        shutil.copytree(copy, self._folder / "etcd")
        self.start()

    def _start(self, name: str, *flags: str) -> Process:
        log = self._folder / "logs" / f"{name}.log"
        return self._processes.start(name, [self._programs[name], *flags], log, cwd=self._folder)

    def _start_etcd(self) -> Process:
        # etcd wants a peer URL even alone; nobody else knows the port, and its certificate is asked for.
        client, peer = f"https://127.0.0.1:{self._etcd_port}", f"https://127.0.0.1:{self._peer_port}"
        tls = self._server
        return self._start(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--cert-file={tls.cert}",
            f"--key-file={tls.key}",
            f"--trusted-ca-file={self.ca_file}",
            "--client-cert-auth",
            f"--peer-cert-file={tls.cert}",
            f"--peer-key-file={tls.key}",
            f"--peer-trusted-ca-file={self.ca_file}",
            "--peer-client-cert-auth",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _start_apiserver(self, flags: Sequence[str]) -> Process:
        policy = self._folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
        etcd_client = self._ca.client("kube-apiserver-etcd-client")
        return self._start(
            "kube-apiserver",
            f"--etcd-servers={self.etcd_url}",
            f"--etcd-cafile={self.ca_file}",
            f"--etcd-certfile={etcd_client.cert}",
            f"--etcd-keyfile={etcd_client.key}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self._server.cert}",
            f"--tls-private-key-file={self._server.key}",
            f"--client-ca-file={self.ca_file}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self._signing_key}",
            f"--service-account-signing-key-file={self._signing_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--profiling=false",
            *flags,
        )

    def _start_controller_manager(self, flags: Sequence[str]) -> Process:
        identity = self._ca.client("system:kube-controller-manager")
        kubeconfig = write_kubeconfig(self._folder / "controller-manager.kubeconfig", self.url, self.ca_file, identity)
        return self._start(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--tls-cert-file={self._server.cert}",
            f"--tls-private-key-file={self._server.key}",
            f"--service-account-private-key-file={self._signing_key}",
            f"--root-ca-file={self.ca_file}",
            f"--cluster-signing-cert-file={self._ca.files.cert}",
            f"--cluster-signing-key-file={self._ca.files.key}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            # No kubelet sends heartbeats here: a node stays as its player reported it.
            "--node-monitor-grace-period=24h",
            # The default of 20 requests/s makes a test wait for the controllers, not for what it tests.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            *flags,
        )

    def _ready(self) -> bool:
        admin = self._ca.client(*ADMIN)
        client = HttpClient(self.url, ca_file=self.ca_file, cert_file=admin.cert, key_file=admin.key)
        try:
            return client.get("/readyz").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        finally:
            client.close()


def write_kubeconfig(
    path: Path, url: str, ca_file: Path, identity: KeyPairFiles | str, *, namespace: str = "default"
) -> Path:
    """A kubeconfig with one context. `identity`: a client certificate, or a bearer token."""
    if isinstance(identity, str):
        user = {"token": identity}
    else:
        user = {"client-certificate": str(identity.cert), "client-key": str(identity.key)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "lab", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
                "users": [{"name": "user", "user": user}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user", "namespace": namespace}}],
                "current-context": "lab",
            }
        )
    )
    return path
