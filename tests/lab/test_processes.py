"""Nothing outlives its owner, and nothing hides why it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.locks import BusyError, exclusive
from tests.lab.processes import Process, ProcessError, Processes, free_port
from tests.lab.waiting import wait_for

_ROOT = Path(__file__).parents[2]

_OWNER = """
import signal, sys, time
from pathlib import Path
from tests.lab.processes import Processes
# A shell without job control starts what it puts in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
processes = Processes(remove=folder)
script = "trap '' TERM; sleep 600 & echo $! > grandchild; wait"
child = processes.start("sleeper", ["sh", "-c", script], folder / "log", cwd=folder)
while not (folder / "grandchild").exists() or not (folder / "grandchild").read_text():
    time.sleep(0.01)
print(child.pid, (folder / "grandchild").read_text(), flush=True)
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def _shell(processes: Processes, folder: Path, script: str) -> Process:
    return processes.start("script", ["sh", "-c", script], folder / "log")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_end_and_the_folder_goes_however_the_owner_ends(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, folder], cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert [_alive(pid) for pid in pids] == [True, True]
        owner.send_signal(how)
    wait_for(lambda: not any(map(_alive, pids)) and not folder.exists(), what="all is gone")


def test_a_program_that_ends_early_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    with Processes() as processes:
        process = _shell(processes, tmp_path, "echo cannot open the door; exit 7")
        with pytest.raises(ProcessError, match=r"(?s)script ended with status 7.*cannot open the door"):
            process.wait_until(lambda: False, what="never")


def test_a_program_that_never_becomes_ready_is_reported(tmp_path: Path) -> None:
    with Processes() as processes:
        process = _shell(processes, tmp_path, "sleep 600")
        with pytest.raises(ProcessError, match="the door is open not true"):
            process.wait_until(lambda: False, what="the door is open", timeout=0.1)


def test_a_lock_is_for_one_and_goes_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path), pytest.raises(BusyError), exclusive(path, wait=False):
        pass
    with exclusive(path, wait=False):
        pass


def test_no_two_labs_are_given_one_port() -> None:
    first = free_port()
    script = f"import tests.lab.processes as lab; lab._PORTS = range({first}, {first + 1}); lab.free_port()"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=_ROOT, check=False)
    assert "ProcessError: no free TCP port" in other.stderr
