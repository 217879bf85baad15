"""A sandbox's cgroups, in the hierarchies that this machine has: v1, v2, or both side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.realnode import cgroups, requirements

_ROOT = Path(__file__).parents[2]
_UNIFIED = cgroups.MOUNT / "unified"
"""Where a machine with v1 has v2 as well, without controllers (systemd's hybrid layout)."""
_ENTER = """
import sys, time
from pathlib import Path
from tests.lab.realnode import cgroups
cgroups.enter(sys.argv[1], Path(sys.argv[2]))
print(*Path("/proc/self/cgroup").read_text().split(), flush=True)
sys.stdin.read()
"""
_MOUNTS = [mount for mount in (cgroups.MOUNT, _UNIFIED) if cgroups.is_v2(mount) or mount == cgroups.MOUNT]

pytestmark = pytest.mark.skipif(
    bool(requirements.missing()), reason=requirements.missing() or "cgroups can be made here"
)


@pytest.mark.parametrize("mount", _MOUNTS, ids=lambda mount: "v2" if cgroups.is_v2(mount) else "v1")
def test_a_process_enters_its_own_cgroup_which_goes_once_it_has_ended(mount: Path) -> None:
    name = f"test-{os.getpid()}"
    command = [sys.executable, "-c", _ENTER, name, str(mount)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=_ROOT
    ) as process:
        assert process.stdout
        assert process.stdin
        own = f"/{cgroups.PARENT}/{name}" + ("/init" if cgroups.is_v2(mount) else "")
        assert own in process.stdout.readline()
        assert not cgroups.remove(name, mount)
        process.stdin.close()
    assert cgroups.remove(name, mount)
    for root in cgroups.hierarchies(mount):
        assert not (root / cgroups.PARENT / name).exists()
