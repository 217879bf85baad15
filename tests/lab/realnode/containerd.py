"""containerd: its configuration, and images brought in without a registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.lab.images import oci_archive
from tests.lab.processes import Process
from tests.lab.programs import go_platform
from tests.lab.realnode.sandbox import Sandbox, SandboxError

PAUSE_IMAGE = "lab.countersign.dev/pause:1"
_BRIDGE = "pods"

# Configuration version 3, containerd 2 (its docs/cri/config.md). There is no systemd in the sandbox.
_CONFIG = """\
version = 3
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.image-verifier.v1.bindir"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{registries}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = {cni_programs}
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "{shim}"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"""


class Containerd:
    """Runs in the sandbox. `socket` is where the kubelet finds it."""

    def __init__(self, sandbox: Sandbox, programs: Mapping[str, Path]) -> None:
        self._sandbox = sandbox
        self._programs = programs
        self._folder = sandbox.folder / "containerd"
        self._registries = self._folder / "certs.d"
        self._registries.mkdir(parents=True)
        self.socket = Path("/run/containerd.sock")
        self._write_cni()
        self._config = self._write_config()
        self.process = self._start()
        self._bring_pause()

    def start(self) -> None:
        """Start it again, on the images and containers that it knew."""
        self.process = self._start()

    def _start(self) -> Process:
        command = (self._programs["containerd"], "--config", self._config, "--log-level", "warn")
        process = self._sandbox.start("containerd", *command)
        process.wait_until(self._answers, what="containerd answers", timeout=30)
        return process

    def load(self, archive: Path) -> None:
        """Bring in the images of an OCI archive, under the names that it gives them."""
        self._ctr("images", "import", "--platform", "/".join(go_platform()), str(archive))

    def rename(self, image: str, name: str) -> None:
        """Let a name on this node stand for another image that it has, whatever the name's digest says."""
        self._ctr("images", "tag", "--force", image, name)

    def trust(self, host: str, ca_file: Path) -> None:
        """Pull from this registry over TLS, under a CA of its own (docs/hosts.md). Takes effect at once."""
        folder = self._registries / host
        folder.mkdir(exist_ok=True)
        url = json.dumps(f"https://{host}")
        (folder / "hosts.toml").write_text(
            f'server = {url}\n[host.{url}]\n  capabilities = ["pull", "resolve"]\n  ca = {json.dumps(str(ca_file))}\n'
        )

    def _bring_pause(self) -> None:
        archive = self._folder / "pause.tar"
        files = {"pause": self._programs["pause"].read_bytes()}
        archive.write_bytes(oci_archive(PAUSE_IMAGE, entrypoint=["/pause"], files=files))
        self.load(archive)

    def _answers(self) -> bool:
        try:
            self._ctr("version")
        except SandboxError:
            return False
        return True

    def _ctr(self, *args: str) -> str:
        return self._sandbox.run(self._programs["ctr"], "--address", self.socket, "--namespace", "k8s.io", *args)

    def _write_config(self) -> Path:
        path = self._folder / "config.toml"
        programs = [str(self._programs[name].parent) for name in ("bridge", "loopback", "host-local")]
        path.write_text(
            _CONFIG.format(
                root=self._folder / "root",
                state="/run/containerd",
                socket=self.socket,
                pause=PAUSE_IMAGE,
                registries=self._registries,
                cni_programs=json.dumps(programs),
                cni=self._folder / "cni",
                shim=self._programs["containerd-shim-runc-v2"],
                runc=self._sandbox.tools.program("runc"),
            )
        )
        return path

    def _write_cni(self) -> None:
        folder = self._folder / "cni"
        folder.mkdir()
        bridge = {
            "type": "bridge",
            "bridge": _BRIDGE,
            "isGateway": True,
            "hairpinMode": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self._sandbox.pod_subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": "/run/cni",
            },
        }
        network = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}
        (folder / "10-pods.conflist").write_text(json.dumps(network))
