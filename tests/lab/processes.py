"""Child processes that never outlive their owner, however it ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

GRACE_SECONDS = 5.0
# When all ends, what a program would still save goes anyway.
_FINAL_GRACE_SECONDS = 1.0
# Below the kernel's ephemeral range, so that no outgoing connection takes a port between its choice and its use.
_PORTS = range(20000, 30000)

# Runs in a session of its own. Reads `+PGID` and `-PGID` from its parent; when the pipe closes, because the parent
# closed it or died by whatever signal, it ends every group that is still listed and removes the folder named by its
# second argument.
_REAPER = """
import os, shutil, signal, sys, time
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
def send(number):
    for group in list(groups):
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            groups.discard(group)
send(signal.SIGTERM)
deadline = time.monotonic() + float(sys.argv[1])
while groups and time.monotonic() < deadline:
    time.sleep(0.05)
    send(0)
send(signal.SIGKILL)
if sys.argv[2]:
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


class ProcessError(Exception):
    """A program of the lab did not start or ended too early; the message holds its last lines."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, and that no other lab of this machine is given.

    A program listens a while after its port was chosen. Until this process ends, the UDP port of that number marks it.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            mark = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            mark.bind(("127.0.0.1", port))
            stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            mark.detach()
            return port
    raise ProcessError("no free TCP port between 20000 and 29999 on 127.0.0.1")


class Process:
    """One running program, the leader of its own process group, with its output in a log file."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self.popen = popen

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that the program wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], *, what: str, timeout: float = 60.0) -> None:
        """Poll `ready` until it holds.

        Raises ProcessError with the last log lines when the program ends or time is up.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise ProcessError(f"{self.name} ended with status {self.popen.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name}: {what} not true after {timeout:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)


class Processes:
    """Starts programs and ends them all: on `close`, or, through the reaper, when this process dies."""

    def __init__(self, *, remove: Path | None = None) -> None:
        """`remove`: a folder that goes with the last process."""
        self._lock = threading.Lock()
        self._started: list[Process] = []
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER, str(_FINAL_GRACE_SECONDS), str(remove or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    @property
    def all(self) -> list[Process]:
        """What was started and not stopped. One that ended by itself is still listed."""
        with self._lock:
            return list(self._started)

    def start(
        self,
        name: str,
        args: Sequence[str | os.PathLike[str]],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program; stdout and stderr are appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, self._lock:
            popen = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
            self._tell(f"+{popen.pid}\n")
            process = Process(name, popen, log)
            self._started.append(process)
        return process

    def stop(self, *processes: Process, grace: float = GRACE_SECONDS) -> None:
        """End these: SIGTERM to all at once, SIGKILL to what is left of their groups after `grace` seconds."""
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.popen.wait()
            with self._lock:
                self._tell(f"-{process.pid}\n")
                self._started = [other for other in self._started if other is not process]

    def kill(self, process: Process) -> None:
        """SIGKILL to its group at once, if it has not ended by itself."""
        _signal_group(process, signal.SIGKILL)
        self.stop(process)

    def close(self) -> None:
        """End all, then the reaper."""
        self.stop(*self.all, grace=_FINAL_GRACE_SECONDS)
        if self._reaper.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._reaper.stdin.close()
        self._reaper.wait()

    def _tell(self, line: str) -> None:
        if self._reaper.stdin is None or self._reaper.poll() is not None:
            raise ProcessError("the lab's reaper process is gone, so nothing may be started")
        self._reaper.stdin.write(line.encode())
        self._reaper.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
