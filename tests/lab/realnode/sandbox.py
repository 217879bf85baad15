"""The namespaces that a node lives in, and the wire between them and the machine.

    machine    ADDRESS.1  cslabN  <── veth ──>  wire  ADDRESS.2    sandbox, and behind it the pods on a bridge

The machine reaches pods by one route that goes with the device. Nothing is masqueraded: a pod reaches the machine's
own addresses of the wire, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.lab.processes import Process, Processes
from tests.lab.realnode import cgroups
from tests.lab.realnode.init import READY
from tests.lab.realnode.packages import Unpacked
from tests.lab.waiting import wait_for

_ROOT = Path(__file__).parents[3]
_WIRE = "wire"
_MOST = 200


class SandboxError(Exception):
    """The sandbox cannot be made; the message says which step failed and how."""


class Sandbox:
    """Namespaces with one process in them. `close` ends everything inside."""

    def __init__(self, folder: Path, processes: Processes, tools: Unpacked) -> None:
        self.folder = folder
        self.tools = tools
        self._processes = processes
        folder.mkdir(parents=True)
        sweep()
        self.number, self._reservation = _reserve()
        self.name = f"node-{self.number}"
        self.host_address = f"10.213.{self.number}.1"
        self.address = f"10.213.{self.number}.2"
        self.pod_subnet = f"10.214.{self.number}.0/24"
        self.process = self._start()
        self._connect()

    def wrap(self, *command: str | os.PathLike[str]) -> list[str]:
        """The command, to be run inside (nsenter(1))."""
        inside = ["nsenter", f"--target={self._init}", "--mount", "--net", "--ipc", "--uts", "--pid", "--cgroup", "--"]
        return [*inside, "sh", "-c", cgroups.join_script(), "sh", *map(str, command)]

    def run(self, *command: str | os.PathLike[str]) -> str:
        """Run a command inside to its end; returns its stdout. Raises SandboxError."""
        answer = subprocess.run(
            self.wrap(*command), capture_output=True, text=True, check=False, env=self.tools.environment()
        )
        if answer.returncode:
            said = (answer.stderr or answer.stdout).strip()
            raise SandboxError(f"{' '.join(map(str, command))} ended with {answer.returncode}: {said}")
        return answer.stdout

    def start(self, name: str, *command: str | os.PathLike[str]) -> Process:
        """Start a program inside, with its log among the lab's."""
        log = self.folder.parent / "logs" / f"{name}.log"
        return self._processes.start(name, self.wrap(*command), log, env=self.tools.environment())

    def stop(self, process: Process) -> None:
        """End a program that `start` started."""
        self._processes.stop(process)

    def kill_all(self) -> None:
        """Kill everything inside, containers too, but for the first process (kill(2), pid -1 in a PID namespace)."""
        subprocess.run(self.wrap("sh", "-c", "kill -9 -1"), check=False, env=self.tools.environment())

    def close(self) -> None:
        """End all, and remove what the kernel does not remove by itself."""
        self._processes.stop(self.process, grace=2.0)
        wait_for(lambda: cgroups.remove(self.name) or None, what="the sandbox's cgroups are empty", timeout=10)
        cgroups.remove_parent()
        self._reservation.close()

    def _start(self) -> Process:
        command = [sys.executable, "-m", "tests.lab.realnode.init", str(self.folder), self.name]
        log = self.folder.parent / "logs" / "sandbox.log"
        process = self._processes.start("sandbox", command, log, cwd=_ROOT)
        process.wait_until((self.folder / READY).exists, what="the sandbox has its file system views", timeout=20)
        self._init = wait_for(lambda: _child_of(process.pid), what="the sandbox's first process")
        return process

    def _connect(self) -> None:
        ip = str(self.tools.program("ip"))
        ours = f"cslab{self.number}"
        self._on_machine(ip, "link", "add", ours, "type", "veth", "peer", "name", _WIRE, "netns", str(self._init))
        self._on_machine(ip, "address", "add", f"{self.host_address}/30", "dev", ours)
        self._on_machine(ip, "link", "set", ours, "up")
        self._on_machine(ip, "route", "add", self.pod_subnet, "via", self.address)
        self.run(ip, "link", "set", "lo", "up")
        self.run(ip, "address", "add", f"{self.address}/30", "dev", _WIRE)
        self.run(ip, "link", "set", _WIRE, "up")
        self.run(ip, "route", "add", "default", "via", self.host_address)

    def _on_machine(self, *command: str) -> None:
        environment = self.tools.environment()
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if answer.returncode:
            raise SandboxError(f"{' '.join(command)}: {answer.stderr.strip()}")


def sweep() -> None:
    """Remove the cgroups of sandboxes whose owner died. The kernel has removed all else."""
    for name in cgroups.names():
        if held := _hold(int(name.rpartition("-")[2])):
            cgroups.remove(name)
            held.close()
    cgroups.remove_parent()


def _reserve() -> tuple[int, socket.socket]:
    """A number that no other sandbox of this machine has, for as long as this process lives."""
    for number in range(1, _MOST):
        if held := _hold(number):
            return number, held
    raise SandboxError(f"{_MOST - 1} sandboxes run already")


def _hold(number: int) -> socket.socket | None:
    """Take the number: an abstract socket's name (unix(7)), which is free again when its holder ends in any way."""
    held = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        held.bind(f"\0countersign-lab-node-{number}")
        return held
    held.close()
    return None


def _child_of(pid: int) -> int | None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            return int(stat.parent.name)
    return None
