"""The load generator (a small Go program beside this file), so that the client costs less than what it measures."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import toolchain
from tests.lab.programs import cache_dir

SOURCE = Path(__file__).parent / "load"
CLIENT_CPU = 1
"""The load runs on this processor and the server under test on the other, where there are two."""


class Load(NamedTuple):
    """What one run of the load generator measured. Times in milliseconds, rate in requests per second."""

    requests: int
    failed: int
    first_failure: str
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class LoadError(Exception):
    """The load generator could not run; the message is what it said."""


@cache
def compiled(source: Path) -> Path:
    """The Go program in this folder, compiled under the folder's name."""
    target = cache_dir() / "bin" / source.name / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        [toolchain.find_go(), "build", "-trimpath", "-o", target, "."],
        cwd=source, capture_output=True, text=True, check=False, env={**os.environ, "CGO_ENABLED": "0"},
    )  # fmt: skip
    if built.returncode:
        raise LoadError(f"{source.name} does not build:\n{built.stderr}")
    return target


def request(path: str, body: Any, *, method: str = "POST", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One request: `body` is text, or is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return {
        "method": method,
        "path": path,
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "body": text,
    }


def run(
    url: str,
    requests: Iterable[Mapping[str, Any]],
    *,
    ca: Path,
    folder: Path,
    in_flight: int,
    seconds: float = 4.0,
    count: int = 0,
    certificate: tuple[Path, Path] | None = None,
    expect: str = "",
    pinned: bool = True,
) -> Load:
    """Send the requests round robin for `seconds`, or each of `count` once."""
    file = folder / "requests.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in requests))
    args = [
        str(compiled(SOURCE)), f"-url={url}", f"-ca={ca}", f"-requests={file}", f"-c={in_flight}",
        f"-duration={seconds}s", f"-count={count}", f"-expect={expect}",
    ]  # fmt: skip
    if certificate:
        args += [f"-cert={certificate[0]}", f"-key={certificate[1]}"]
    if pinned:
        args = ["taskset", "-c", str(CLIENT_CPU), *args]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(done.stderr.strip())
    return Load(**json.loads(done.stdout))


def pin(pid: int, cpu: int = 0) -> None:
    """Keep every thread of a server under test on one processor: rates are then for one core."""
    if (os.cpu_count() or 1) < 2 or not hasattr(os, "sched_setaffinity"):
        return
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})


def unpin(pid: int) -> None:
    """Let a process run anywhere again."""
    if hasattr(os, "sched_setaffinity"):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), set(range(os.cpu_count() or 1)))


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB (proc(5), VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LoadError(f"process {pid} tells no VmRSS")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads (proc(5), utime and stime)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
