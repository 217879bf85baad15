"""`make e2e CLUSTER=kind`: a kind cluster with a registry beside it, the image of the Dockerfile, then the tests.

Needs `kind` and a container engine that `docker` speaks to, on Linux: tests push to the registry at its address in
kind's network, where nodes and pods reach it, too. Cluster and registry go at the end, unless `--keep` is given.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_CLUSTER = "countersign-e2e"
_REGISTRY = "countersign-e2e-registry"
_IMAGE = "countersign/countersign:e2e"
_REGISTRY_IMAGE = "registry:3"


def main(arguments: list[str]) -> int:
    """Make the cluster, run pytest with what is left of the arguments, clean up; returns pytest's exit status."""
    if lacking := [name for name in ("docker", "kind") if not shutil.which(name)]:
        print(f"CLUSTER=kind needs {' and '.join(lacking)} on PATH; `make e2e` alone needs neither", file=sys.stderr)
        return 2
    keep = "--keep" in arguments
    kubeconfig = Path(tempfile.mkdtemp(prefix=_CLUSTER)) / "kubeconfig"
    try:
        _run("docker", "build", "--tag", _IMAGE, str(_ROOT))
        config = Path(__file__).with_name("cluster.yaml")
        _run("kind", "create", "cluster", f"--config={config}", f"--kubeconfig={kubeconfig}", "--wait=180s")
        _run("kind", "load", "docker-image", _IMAGE, f"--name={_CLUSTER}")
        environment = {
            **os.environ,
            "E2E_KUBECONFIG": str(kubeconfig),
            "E2E_IMAGE": _IMAGE,
            "E2E_REGISTRY": f"http://{_start_registry()}",
        }
        rest = [argument for argument in arguments if argument != "--keep"]
        tests = [sys.executable, "-m", "pytest", "tests/e2e", *rest]
        return subprocess.run(tests, env=environment, cwd=_ROOT, check=False).returncode
    finally:
        if not keep:
            subprocess.run(["kind", "delete", "cluster", f"--name={_CLUSTER}"], check=False)
            subprocess.run(["docker", "rm", "--force", _REGISTRY], check=False)


def _start_registry() -> str:
    """Start it in kind's network and tell the node about it; returns ADDRESS:PORT."""
    _run("docker", "run", "--detach", "--network=kind", f"--name={_REGISTRY}", _REGISTRY_IMAGE)
    address = _run("docker", "inspect", "--format={{.NetworkSettings.Networks.kind.IPAddress}}", _REGISTRY).strip()
    host = f"{address}:5000"
    folder = f"/etc/containerd/certs.d/{host}"
    hosts = f'[host."http://{host}"]\n'
    for node in _run("kind", "get", "nodes", f"--name={_CLUSTER}").split():
        _run("docker", "exec", node, "mkdir", "-p", folder)
        _run("docker", "exec", "--interactive", node, "cp", "/dev/stdin", f"{folder}/hosts.toml", given=hosts)
    return host


def _run(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
