"""kubelet and kube-proxy in the sandbox, with identities of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
import yaml

from tests.lab.controlplane import write_kubeconfig
from tests.lab.http import HttpClient
from tests.lab.pki import CertificateAuthority, KeyPairFiles
from tests.lab.processes import Process
from tests.lab.realnode.containerd import Containerd
from tests.lab.realnode.sandbox import Sandbox

_HEALTH_PORT = 10248
KUBE_PROXY_USER = "system:kube-proxy"


class Kubelet:
    """The kubelet, which can be stopped and started anew: what it keeps on disk stays, what it caches does not."""

    def __init__(
        self,
        sandbox: Sandbox,
        programs: Mapping[str, Path],
        containerd: Containerd,
        ca: CertificateAuthority,
        *,
        name: str,
        url: str,
    ) -> None:
        self._sandbox = sandbox
        self._program = programs["kubelet"]
        self._name = name
        serving = ca.server(f"kubelet-{name}", hosts=(sandbox.address, name))
        identity = ca.client(f"system:node:{name}", ["system:nodes"])
        self._kubeconfig = write_kubeconfig(sandbox.folder / "kubelet.kubeconfig", url, ca.cert_file, identity)
        self._config = sandbox.folder / "kubelet.yaml"
        settings = _config(containerd.socket, ca.cert_file, serving, sandbox.address, sandbox.pod_subnet)
        self._config.write_text(yaml.safe_dump(settings))
        self.process = self._start()

    def stop(self) -> None:
        """End it, as a crash would: containers run on."""
        self._sandbox.stop(self.process)

    def start(self) -> None:
        """Start it again."""
        self.process = self._start()

    def restart(self) -> None:
        """Stop and start: its cache of tokens is empty afterwards."""
        self.stop()
        self.start()

    def _start(self) -> Process:
        process = self._sandbox.start(
            "kubelet",
            self._program,
            f"--config={self._config}",
            f"--kubeconfig={self._kubeconfig}",
            f"--hostname-override={self._name}",
            f"--node-ip={self._sandbox.address}",
        )
        process.wait_until(self._healthy, what="the kubelet is healthy", timeout=60)
        return process

    def _healthy(self) -> bool:
        client = HttpClient(f"http://{self._sandbox.address}:{_HEALTH_PORT}")
        try:
            return client.get("/healthz").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        finally:
            client.close()


def start_kube_proxy(
    sandbox: Sandbox, programs: Mapping[str, Path], ca: CertificateAuthority, *, name: str, url: str
) -> Process:
    """kube-proxy in nftables mode: the addresses of Services work in pods and on the node."""
    identity = ca.client(KUBE_PROXY_USER)
    kubeconfig = write_kubeconfig(sandbox.folder / "kube-proxy.kubeconfig", url, ca.cert_file, identity)
    config = sandbox.folder / "kube-proxy.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
                "hostnameOverride": name,
                "clientConnection": {"kubeconfig": str(kubeconfig)},
                "clusterCIDR": sandbox.pod_subnet,
                "healthzBindAddress": f"{sandbox.address}:10256",
                "metricsBindAddress": f"{sandbox.address}:10249",
                # What the machine's administrator set stays.
                "conntrack": {
                    "maxPerCore": 0,
                    "min": 0,
                    "tcpEstablishedTimeout": "0s",
                    "tcpCloseWaitTimeout": "0s",
                },
            }
        )
    )
    return sandbox.start("kube-proxy", programs["kube-proxy"], f"--config={config}")


def _config(socket: Path, ca_file: Path, serving: KeyPairFiles, address: str, pod_subnet: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca_file)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "healthzBindAddress": address,
        "healthzPort": _HEALTH_PORT,
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "podCIDR": pod_subnet,
        "resolvConf": "",
        "maxPods": 240,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        # A laptop's full disk is no reason to evict what a test looks at.
        "evictionHard": {"memory.available": "100Mi"},
        # A volume over its limit is noticed within seconds instead of a minute.
        "volumeStatsAggPeriod": "5s",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # A lost node shows within seconds instead of a minute (see the controller-manager's grace period).
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 12,
        "shutdownGracePeriod": "0s",
    }
