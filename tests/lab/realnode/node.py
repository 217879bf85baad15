"""The node as a whole, in the order in which its parts need each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.lab import builder
from tests.lab.controlplane import write_kubeconfig
from tests.lab.pki import CertificateAuthority
from tests.lab.processes import Process, Processes, free_port
from tests.lab.realnode.containerd import Containerd
from tests.lab.realnode.kubelet import KUBE_PROXY_USER, Kubelet, start_kube_proxy
from tests.lab.realnode.packages import unpacked
from tests.lab.realnode.sandbox import Sandbox

__all__ = ["CONTROLLER_FLAGS", "RealNode", "Sandbox", "apiserver_flags", "prepare", "role_bindings"]

PACKAGES = ("runc", "nftables", "iproute2")
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
NODE_NAME = "node-1"

CONTROLLER_FLAGS = ("--node-monitor-grace-period=20s", "--node-monitor-period=2s")
"""Added to the controller manager's: a real kubelet's silence is noticed."""


class RealNode:
    """kubelet, containerd, kube-proxy and a scheduler, running."""

    def __init__(self, sandbox: Sandbox, processes: Processes, ca: CertificateAuthority, url: str) -> None:
        programs = builder.ensure(["node"])
        self.name = NODE_NAME
        self.sandbox = sandbox
        self._start_scheduler = partial(_start_scheduler, processes, sandbox.folder, programs, ca, url)
        self._start_kube_proxy = partial(start_kube_proxy, sandbox, programs, ca, name=self.name, url=url)
        self.scheduler = self._start_scheduler()
        self.containerd = Containerd(sandbox, programs)
        self.kubelet = Kubelet(sandbox, programs, self.containerd, ca, name=self.name, url=url)
        self.kube_proxy = self._start_kube_proxy()

    def power_off(self) -> None:
        """Kill the node's programs and every container at once, and the scheduler. What was on disk stays."""
        self.sandbox.kill_all()
        for process in (self.kubelet.process, self.kube_proxy, self.containerd.process, self.scheduler):
            self.sandbox.stop(process)

    def power_on(self) -> None:
        """Start the programs again; the kubelet finds its pods in the API server."""
        self.scheduler = self._start_scheduler()
        self.containerd.start()
        self.kube_proxy = self._start_kube_proxy()
        self.kubelet.start()

    def close(self) -> None:
        """End the node and everything on it."""
        self.sandbox.close()


def apiserver_flags(sandbox: Sandbox, ca: CertificateAuthority) -> Sequence[str]:
    """What an API server needs to speak to kubelets (logs, exec, port-forward), and for pods to reach it."""
    client = ca.client(KUBELET_CLIENT)
    return (
        f"--bind-address={sandbox.host_address}",
        f"--advertise-address={sandbox.host_address}",
        "--endpoint-reconciler-type=lease",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={client.cert}",
        f"--kubelet-client-key={client.key}",
        f"--kubelet-certificate-authority={ca.cert_file}",
        # No kube-proxy on this side of the wire: webhooks are called at the addresses of their pods.
        "--enable-aggregator-routing=true",
    )


def prepare(folder: Path, processes: Processes) -> Sandbox:
    """The sandbox, before the control plane that will listen on its wire. Raises PackageError or SandboxError."""
    return Sandbox(folder / "node", processes, unpacked(PACKAGES))


def role_bindings() -> list[dict[str, object]]:
    """What kubeadm binds for the kubelet's client and for kube-proxy."""
    return [_binding("system:kubelet-api-admin", KUBELET_CLIENT), _binding("system:node-proxier", KUBE_PROXY_USER)]


def _binding(role: str, user: str) -> dict[str, object]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"lab-{user.replace(':', '-')}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def _start_scheduler(
    processes: Processes, folder: Path, programs: Mapping[str, Path], ca: CertificateAuthority, url: str
) -> Process:
    identity = ca.client("system:kube-scheduler")
    kubeconfig = write_kubeconfig(folder / "scheduler.kubeconfig", url, ca.cert_file, identity)
    command: list[str | Path] = [
        programs["kube-scheduler"],
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={free_port()}",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]
    return processes.start("kube-scheduler", command, folder.parent / "logs" / "kube-scheduler.log")
