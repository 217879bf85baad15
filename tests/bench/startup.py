"""The image's size, layer by layer, and how long each service takes from the start of its process to ready.

Services run inside the unpacked image (tests/lab/image/chroot.py), which takes root; without it from the source tree,
and the table says so. Beside them, in the same place: Python doing nothing, and an aiohttp server that does nothing.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from tests.bench.load_generator import resident_mib
from tests.bench.setting import Setting
from tests.lab.image import contract, debian, unpacked
from tests.lab.image.build import BuiltImage, countersign_image
from tests.lab.image.unpacked import Unpacked
from tests.lab.processes import free_port

RUNS = 7
_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 60.0
_EMPTY_SERVER = """
import sys
from aiohttp import web
async def answer(request): return web.Response()
app = web.Application()
app.router.add_get("/readyz", answer)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


class Start(NamedTuple):
    """One start: seconds to ready, seconds of processor time by then, memory then in MiB."""

    seconds: float
    cpu: float = 0.0
    memory: float = 0.0


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Build the image, then start each service in it several times."""
    say("building the image")
    image = None if debian.unsupported() else countersign_image()
    with tempfile.TemporaryDirectory(prefix="countersign-bench-") as folder:
        container = Unpacked(image, Path(folder)) if image and not unpacked.cannot_run() else None
        rows = [*_sizes(image), *_starts(setting, container, say)]
    where = "in the image, read-only, as user 65532" if container else "from the source tree"
    table = Table(title=f"Image and start-up ({where}; {RUNS} starts each; load {os.getloadavg()[0]:.0f})")
    for header in ("", "p50", "max", "processor time", "memory when ready"):
        table.add_column(header, justify="right" if header else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _sizes(image: BuiltImage | None) -> list[tuple[str, ...]]:
    if image is None:
        return [("image", debian.unsupported())]
    names = ("Debian 12 packages", "wheels", "countersign")
    rows = [
        (f"layer: {name}", _size(layer.size, layer.unpacked)) for name, layer in zip(names, image.layers, strict=True)
    ]
    return [*rows, ("image, compressed (unpacked)", _size(image.size, image.unpacked))]


def _size(size: int, unpacked_size: int) -> str:
    return f"{size / 1e6:.1f} MB ({unpacked_size / 1e6:.1f})"


def _starts(setting: Setting, container: Unpacked | None, say: Callable[[str], None]) -> list[tuple[str, ...]]:
    python = container.command(program=contract.PYTHON) if container else (sys.executable,)
    rows = [_row("python -c pass, to its end", [_nothing(setting, python) for _ in range(RUNS)])]
    rows.append(_row("an empty aiohttp server", [_empty_server(setting, python) for _ in range(RUNS)]))
    for name in ("gate", "controller", "verifier"):
        say(f"starting the {name} {RUNS} times")
        rows.append(_row(name, [_service(setting, container, name) for _ in range(RUNS)]))
    return rows


def _row(name: str, runs: Sequence[Start]) -> tuple[str, ...]:
    p50, cpu, memory = (statistics.median(figures) for figures in zip(*runs, strict=True))
    most = max(run.seconds for run in runs)
    held = (f"{cpu * 1000:.0f} ms", f"{memory:.0f} MiB") if memory else ("", "")
    return name, f"{p50 * 1000:.0f} ms", f"{most * 1000:.0f} ms", *held


def _nothing(setting: Setting, python: Sequence[str]) -> Start:
    began = time.perf_counter()
    process = setting.lab.processes.start("nothing", [*python, "-c", "pass"], _log(setting, "nothing"))
    process.popen.wait()
    took = time.perf_counter() - began
    setting.lab.processes.stop(process)
    return Start(took)


def _empty_server(setting: Setting, python: Sequence[str]) -> Start:
    port = free_port()
    began = time.perf_counter()
    process = setting.lab.processes.start(
        "empty", [*python, "-c", _EMPTY_SERVER, str(port)], _log(setting, "empty-server")
    )
    try:
        _await_ready(port)
        return _held(began, process.pid)
    finally:
        setting.lab.processes.stop(process)


def _service(setting: Setting, container: Unpacked | None, name: str) -> Start:
    """One start of this service in the place of the one that runs."""
    countersign = setting.countersign
    ordinary = countersign.program
    countersign.stop(name)
    if container:
        countersign.program = container.command(setting.lab.ca_file)
    try:
        service = countersign.start_service(name, wait=False)
        _await_ready(service.health_port)
        start = _held(service.started, service.pid)
    finally:
        countersign.program = ordinary
    countersign.stop(name)
    countersign.start_service(name)
    return start


def _held(began: float, pid: int) -> Start:
    """Of a process that is ready now (proc(5), /proc/pid/stat: utime and stime are fields 14 and 15)."""
    seconds = time.perf_counter() - began
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Start(seconds, cpu, resident_mib(pid))


def _await_ready(port: int) -> None:
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while not _ready(port):
        if time.perf_counter() > deadline:
            raise TimeoutError(f"nothing on port {port} was ready within {_PATIENCE_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _log(setting: Setting, name: str) -> Path:
    return setting.lab.folder / "logs" / f"bench-{name}.log"
