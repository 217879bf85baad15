"""The lab's real node: pods run on it, the API server reaches it, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import builder
from tests.lab.images import ImageSpec
from tests.lab.lab import Lab
from tests.lab.realnode import cgroups, requirements, sandbox
from tests.lab.waiting import wait_for

_ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(requirements.missing()), reason=requirements.missing() or "a node can run here")

_RUNNER = """
import sys, time
from pathlib import Path
from tests.lab.lab import Lab
with Lab.start(node=True, folder=Path(sys.argv[1])) as lab:
    print(lab.real_node.sandbox.name, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def node_lab(programs: None) -> Iterator[Lab]:
    with Lab.start(node=True) as lab:
        yield lab


def test_a_pod_runs_and_the_api_server_reaches_into_it(node_lab: Lab) -> None:
    lab = node_lab
    program = builder.ensure(["workload"])["workload"].read_bytes()
    spec = ImageSpec(entrypoint=["/workload", "work"], files={"workload": program})
    image = lab.registry("referrers").repository("lab/sleeper").push("v1", spec)
    namespace = lab.create_namespace("runs")
    lab.kubectl("run", "one", f"--image={image.by_digest}", "-n", namespace)
    lab.kubectl("wait", "pod/one", "-n", namespace, "--for=condition=Ready", "--timeout=30s")
    assert lab.kubectl("logs", "one", "-n", namespace).strip() == "working"
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    assert lab.kubectl("exec", "one", "-n", namespace, "--", "/workload", "cat", token).count(".") == 2
    pod = json.loads(lab.kubectl("get", "pod", "one", "-n", namespace, "-o", "json"))
    assert pod["status"]["containerStatuses"][0]["imageID"].endswith(image.digest)


def test_nothing_is_left_of_a_node_that_ended(tmp_path: Path, programs: None) -> None:
    mounts = _mounts()
    with Lab.start(node=True, folder=tmp_path) as lab:
        name = lab.real_node.sandbox.name
        assert _devices(name)
        assert _processes(name)
        assert name in cgroups.names()
    assert name not in cgroups.names()
    assert not _processes(name)
    wait_for(lambda: not _devices(name), what="its devices are gone")
    assert _mounts() == mounts


def test_nothing_is_left_of_a_node_whose_runner_was_killed(tmp_path: Path, programs: None) -> None:
    mounts = _mounts()
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUNNER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment, cwd=_ROOT
    )
    assert runner.stdout
    with runner:
        name = runner.stdout.readline().strip()
        assert _processes(name)
        os.kill(runner.pid, signal.SIGKILL)
    wait_for(lambda: not _processes(name), what="its processes have ended")
    wait_for(lambda: not _devices(name), what="its devices are gone")
    assert _mounts() == mounts
    sandbox.sweep()
    assert name not in cgroups.names()


def _devices(name: str) -> list[str]:
    device = f"cslab{name.rpartition('-')[2]}"
    return [path.name for path in Path("/sys/class/net").iterdir() if path.name == device]


def _mounts() -> list[str]:
    return sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _processes(name: str) -> list[str]:
    """Processes in the sandbox's cgroups."""
    paths = Path("/proc").glob("[0-9]*/cgroup")
    return [path.parent.name for path in paths if f"/{cgroups.PARENT}/{name}\n" in _read(path) + "\n"]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
