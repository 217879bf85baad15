"""OCI registries: with the referrers API, without it, behind a password, and one on plain HTTP."""

from __future__ import annotations

import base64
import enum
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import urllib3
import yaml

from tests.lab.controlplane import LOCAL_NAMES, LOOPBACK
from tests.lab.http import HttpClient
from tests.lab.images import Repository
from tests.lab.pki import CertificateAuthority
from tests.lab.processes import Process, Processes, free_port

USERNAME = "lab"
PASSWORD = "lab-password"
# bcrypt of PASSWORD at cost 4: the only form that distribution's htpasswd file may hold.
_HTPASSWD = "lab:$2b$04$UwZ16dd7iK58CFhR8zlpIOwr9HLi2qraKXoJI9qcXUcLOl7W0eVnu\n"

# distribution writes gorilla/handlers' combined log format (handlers/logging.go, writeCombinedLog).
_ACCESS = re.compile(r'\[(?P<time>[^]]+)\] "[A-Z]+ (?P<path>\S+) [^"]*" \d+ \d+ "[^"]*" "(?P<agent>[^"]*)"')


class RegistryKind(enum.StrEnum):
    """What a registry can do. REFERRERS is olareg; the others are distribution, except INSECURE."""

    REFERRERS = "referrers"
    """Answers /v2/NAME/referrers/DIGEST (distribution-spec 1.1)."""
    PLAIN = "plain"
    """Answers 404 to the referrers API: clients use the fallback tag."""
    PRIVATE = "private"
    """As PLAIN, for USERNAME and PASSWORD only (basic auth)."""
    INSECURE = "insecure"
    """As REFERRERS, over plain HTTP."""

    @property
    def program(self) -> str:
        return "registry" if self in (RegistryKind.PLAIN, RegistryKind.PRIVATE) else "olareg"


class Registry:
    """One running registry. `host` is what stands in an image reference: ADDRESS:PORT."""

    def __init__(
        self,
        kind: RegistryKind,
        folder: Path,
        programs: Mapping[str, Path],
        processes: Processes,
        ca: CertificateAuthority,
        *,
        address: str = LOOPBACK,
    ) -> None:
        self.kind = kind
        self.port = free_port()
        self._address = address
        self.host = f"{address}:{self.port}"
        self.scheme = "http" if kind is RegistryKind.INSECURE else "https"
        self.url = f"{self.scheme}://{self.host}"
        self.ca_file = ca.cert_file
        self.credentials = (USERNAME, PASSWORD) if kind is RegistryKind.PRIVATE else None
        self._folder = folder
        folder.mkdir(parents=True)
        self._tls = ca.server(f"registry-{kind}", hosts=(*LOCAL_NAMES, address))
        args = self._distribution() if kind.program == "registry" else self._olareg()
        self._log = folder.parent / "logs" / f"registry-{kind}.log"
        self.process: Process = processes.start(f"registry-{kind}", [programs[kind.program], *args], self._log)
        headers = {}
        if self.credentials:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
        self.http = HttpClient(self.url, ca_file=self.ca_file, headers=headers)
        self.process.wait_until(self._ready, what="GET /v2/ answers 200", timeout=20)

    def repository(self, name: str) -> Repository:
        """Push and tag images under this name, for example `payments/api`."""
        return Repository(self.http, self.host, name)

    def requests(self, name: str, agent: str) -> list[tuple[datetime, str]]:
        """When which path below /v2/NAME was asked for, by clients of that User-Agent, in whole seconds. PLAIN only."""
        if self.kind is not RegistryKind.PLAIN:
            raise ValueError("only the plain registry keeps a log of requests")
        found = []
        for line in self._log.read_text(errors="replace").splitlines():
            match = _ACCESS.search(line)
            if match and match["path"].startswith(f"/v2/{name}/") and match["agent"].startswith(agent):
                found.append((datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z"), match["path"]))
        return found

    def _ready(self) -> bool:
        try:
            return self.http.get("/v2/").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    def _olareg(self) -> list[str]:
        args = ["serve", f"--addr={self._address}", f"--port={self.port}", "--store-type=mem", "--api-delete"]
        if self.scheme == "https":
            args += [f"--tls-cert={self._tls.cert}", f"--tls-key={self._tls.key}"]
        return args

    def _distribution(self) -> list[str]:
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": self.kind is not RegistryKind.PLAIN}},
            "storage": {"inmemory": {}, "delete": {"enabled": True}},
            "http": {
                "addr": self.host,
                "secret": "lab",
                "tls": {"certificate": str(self._tls.cert), "key": str(self._tls.key)},
            },
        }
        if self.kind is RegistryKind.PRIVATE:
            htpasswd = self._folder / "htpasswd"
            htpasswd.write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "lab", "path": str(htpasswd)}}
        path = self._folder / "config.yml"
        path.write_text(yaml.safe_dump(config))
        return ["serve", str(path)]
