"""The first process of the sandbox: makes its file system views, then waits and reaps.

Runs twice: in the machine's namespaces it enters the sandbox's cgroups and calls unshare(1), which runs it again as
process 1. Standard library only; run as `python -m tests.lab.realnode.init FOLDER NAME`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.realnode import cgroups

READY = "sandbox-ready"
"""File in the folder that says: the views are made."""

_PRIVATE = ("/var/lib/kubelet", "/var/lib/cni", "/var/log")
"""Paths that the node's programs know by heart; in the sandbox they lie in the lab's folder."""
_EMPTY = ("/run", "/var/lib")
"""Folders that start empty in the sandbox, so that a path can be made there and not on the machine."""


def enter(folder: Path, name: str) -> None:
    """In the machine's namespaces: become unshare(1)."""
    cgroups.enter(name)
    again = [sys.executable, "-m", "tests.lab.realnode.init", str(folder), name, "--inside"]
    unshare = ["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--cgroup", "--fork", "--kill-child"]
    os.execvp("unshare", [*unshare, "--propagation", "private", "--", *again])  # noqa: S606 - it becomes that program


def run(folder: Path) -> None:
    """As process 1. Ends on SIGTERM, and with it everything in the sandbox."""
    _mount_views(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    (folder / READY).touch()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.2)


def _mount_views(folder: Path) -> None:
    controllers = [path.name for path in cgroups.hierarchies()]
    is_v2 = cgroups.is_v2()
    unified = [path.name for path in cgroups.hierarchies() if (path / "cgroup.controllers").exists()]
    _mount("proc", "/proc", kind="proc")
    _mount("sysfs", "/sys", kind="sysfs")
    if is_v2:
        _mount("cgroup2", str(cgroups.MOUNT), kind="cgroup2")
    else:
        _mount("tmpfs", str(cgroups.MOUNT), kind="tmpfs")
        for name in controllers:
            target = cgroups.MOUNT / name
            target.mkdir()
            if name in unified:
                _mount("cgroup2", str(target), kind="cgroup2")
            else:
                options = "none,name=systemd" if name == "systemd" else name
                _mount("cgroup", str(target), kind="cgroup", options=options)
    for path in _EMPTY:
        _mount("tmpfs", path, kind="tmpfs")
    for path in _PRIVATE:
        Path(path).mkdir(exist_ok=True)
        own = folder / path.strip("/").replace("/", "-")
        own.mkdir(exist_ok=True)
        _mount(str(own), path, options="bind")
    # Pods' volumes must reach containers that run already; out of the sandbox nothing goes (unshare made all private).
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        with contextlib.suppress(OSError):
            Path("/proc/sys", setting).write_text("1")


def _mount(source: str, target: str, *, kind: str = "", options: str = "") -> None:
    command = ["mount", *(["-t", kind] if kind else []), *(["-o", options] if options else []), source, target]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    if "--inside" in sys.argv:
        run(Path(sys.argv[1]))
    else:
        enter(Path(sys.argv[1]), sys.argv[2])
