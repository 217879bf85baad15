"""Whether this machine can have a real node."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from tests.lab.realnode import cgroups

_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def missing() -> str:
    """Why not, in words for a skipped test; empty if it can."""
    if platform.system() != "Linux":
        return f"a kubelet runs on Linux, and this is {platform.system()}"
    if os.geteuid() != 0:
        return "a kubelet needs root"
    if lacking := [name for name in ("unshare", "nsenter", "mount", "apt-get", "dpkg-deb") if not shutil.which(name)]:
        return f"this machine has no {', '.join(lacking)}"
    if not cgroups.hierarchies():
        return f"no cgroups at {cgroups.MOUNT}"
    if absent := [name for name in _CONTROLLERS if not _has(name)]:
        return f"no cgroup controller {', '.join(absent)} at {cgroups.MOUNT}"
    if "\toverlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return ""


def _has(controller: str) -> bool:
    if cgroups.is_v2():
        return controller in (cgroups.MOUNT / "cgroup.controllers").read_text().split()
    return any(controller in path.name.split(",") for path in cgroups.hierarchies())
