"""`make lab`: a lab that runs on behind the shell that started it.

A keeper process holds the lab and a lock; what the lock says is true even after a crash. Its end, by whatever signal,
ends the lab.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.locks import BusyError, exclusive
from tests.lab.programs import cache_dir
from tests.lab.realnode import requirements
from tests.lab.registries import RegistryKind
from tests.lab.waiting import wait_for

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0


class KeeperError(Exception):
    """The background lab did not start or does not end; the message holds what it said."""


@dataclass(frozen=True)
class State:
    """What a shell needs to know of the running lab."""

    pid: int
    url: str
    kubeconfig: str
    ca_file: str
    logs: str
    registries: dict[str, str]
    node: str = ""
    """Name of the real node, if there is one."""


def running() -> State | None:
    """The lab that runs in the background, if one does."""
    try:
        with exclusive(_lock_file(), wait=False):
            return None
    except BusyError:
        return _read_state()


def up(*, node: bool = False) -> tuple[State, bool]:
    """Start a lab in the background unless one runs. Returns its state, and whether it was started now.

    With `node` it has a real node; KeeperError if this machine can have none, or if a lab without one runs already.
    """
    if node and (why_not := requirements.missing()):
        raise KeeperError(f"no real node here: {why_not}")
    if state := running():
        if node and not state.node:
            raise KeeperError("a lab without a node runs already: `make lab-down` first")
        return state, False
    _folder().mkdir(parents=True, exist_ok=True)
    log = _folder() / "keeper.log"
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.lab", "keep", *(["--node"] if node else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=_ROOT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = keeper.poll() is not None
        if state := running():
            return state, state.pid == keeper.pid
        if ended:
            raise KeeperError(f"the lab did not start:\n{log.read_text(errors='replace').strip()}")
        time.sleep(0.1)
    keeper.terminate()
    raise KeeperError(f"the lab was not ready after {_START_SECONDS:.0f} s; see {_folder()}")


def down() -> bool:
    """End the background lab. Returns whether one ran."""
    state = running()
    if state is None:
        return False
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while running():
        if time.monotonic() > deadline:
            raise KeeperError(f"process {state.pid} keeps the lab and does not end; its log: {_folder()}/keeper.log")
        time.sleep(0.1)
    return True


def keep(*, node: bool = False) -> None:
    """Hold a lab until SIGTERM, or until one of its programs ends. Runs in the background process."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with contextlib.ExitStack() as stack:
        # Whoever asks `running()` has the lock for an instant; only one who keeps it is another keeper.
        wait_for(lambda: _take_lock(stack), what="no other lab holds the lock", timeout=2.0)
        for leftover in (_state_file(), _folder() / "run"):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        (_folder() / "run").mkdir(parents=True, mode=0o700)
        with Lab.start(folder=_folder() / "run", node=node) as lab:
            registries = {kind: lab.registry(kind).host for kind in (RegistryKind.REFERRERS, RegistryKind.PLAIN)}
            _write_state(
                State(
                    os.getpid(),
                    lab.url,
                    str(lab.kubeconfig),
                    str(lab.ca_file),
                    str(lab.folder / "logs"),
                    {kind.value: host for kind, host in registries.items()},
                    lab.real_node.name if node else "",
                )
            )
            while not ended.wait(1.0):
                if dead := [process.name for process in lab.processes.all if not process.running]:
                    print(f"ended by itself: {', '.join(dead)}", flush=True)
                    break
        _state_file().unlink()


def _take_lock(stack: contextlib.ExitStack) -> bool:
    try:
        stack.enter_context(exclusive(_lock_file(), wait=False))
    except BusyError:
        return False
    return True


def _folder() -> Path:
    return cache_dir() / "lab"


def _lock_file() -> Path:
    return cache_dir() / "locks" / "lab.lock"


def _state_file() -> Path:
    return _folder() / "state.json"


def _read_state() -> State | None:
    try:
        return State(**json.loads(_state_file().read_text()))
    except FileNotFoundError:
        return None


def _write_state(state: State) -> None:
    partial = _state_file().with_suffix(".partial")
    partial.write_text(json.dumps(asdict(state), indent=2))
    partial.replace(_state_file())
