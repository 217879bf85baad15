"""All of it together: Fulcio, timestamp authority, Rekor v2 and v1, certificate transparency, OpenID Connect."""

from __future__ import annotations

import base64
import contextlib
import datetime
import enum
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.lab.controlplane import LOOPBACK
from tests.lab.http import HttpClient
from tests.lab.pki import CertificateAuthority, write_private
from tests.lab.processes import Process, Processes, free_port
from tests.lab.sigstore.ctlog import CtLog
from tests.lab.sigstore.fulcio import SigningCa, configuration
from tests.lab.sigstore.issuer import Issuers
from tests.lab.sigstore.keys import public_der, write_public
from tests.lab.sigstore.rekorv1 import RekorV1

if TYPE_CHECKING:
    from tests.lab.sigstore.mirror import TufMirror

PROGRAMS = ("fulcio", "timestamp-server", "rekor-server")
_REKOR_ORIGIN = "rekor.local"
_READY_SECONDS = 60


class Rekor(enum.StrEnum):
    """Which transparency log a signature goes into."""

    V2 = "v2"
    """rekor-tiles: an inclusion proof, and no time. cosign wants a timestamp beside it for a certificate."""
    V1 = "v1"
    """An inclusion proof, and a signed entry timestamp that says when. The only one that the classic form holds."""
    NONE = "none"


class Sigstore:
    """One private Sigstore on loopback. `trusted_root` is as `cosign trusted-root create` writes it.

    A second instance is a stranger: no key of one is known to the other.
    """

    def __init__(
        self,
        folder: Path,
        programs: Mapping[str, Path],
        processes: Processes,
        ca: CertificateAuthority,
        cosign: Callable[..., str],
        *,
        name: str = "sigstore",
    ) -> None:
        """`programs`: those of `PROGRAMS`. `cosign`: runs cosign with these arguments, such as `Cosign.run`."""
        self.name = name
        self._folder = folder
        self._logs = folder.parent / "logs"
        self._programs = programs
        self._processes = processes
        self._cosign = cosign
        self._ca = ca
        self._lock = threading.Lock()
        self._names = itertools.count(1)
        self._configs: dict[tuple[Rekor, bool], Path] = {}
        # Services are valid from a little before they answer: clocks of certificates count in whole seconds.
        self._since = f"{datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
        self._started: list[Process] = []
        self._servers = contextlib.ExitStack()
        folder.mkdir(parents=True, mode=0o700)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._start_all()
            undo.pop_all()

    def _start_all(self) -> None:
        self.issuers = self._servers.enter_context(contextlib.closing(Issuers(self._ca)))
        self.ct_log = self._servers.enter_context(contextlib.closing(CtLog(self._folder)))
        self.rekor_v1 = self._servers.enter_context(contextlib.closing(RekorV1(self._folder)))
        self.signing_ca = SigningCa(self._folder, self.name)
        self._rekor_key = ed25519.Ed25519PrivateKey.generate()
        # All are started before the first is waited for.
        self.fulcio_url, fulcio = self._start_fulcio()
        self.timestamp_url, timestamps = self._start_timestamps()
        self.rekor_url, rekor = self._start_rekor()
        self._await(fulcio, self.fulcio_url, "/api/v2/configuration")
        self._await(timestamps, self.timestamp_url, "/ping")
        self._await(rekor, self.rekor_url, "/healthz")
        self._first_entry()
        self.trusted_root = self._create_trusted_root()

    def close(self) -> None:
        """End all of it. What it made stays valid for whoever has the trusted root."""
        self._processes.stop(*self._started)
        self._started = []
        self._servers.close()

    @property
    def timestamp_endpoint(self) -> str:
        """Where RFC 3161 requests go, as cosign's `--timestamp-server-url` wants it."""
        return f"{self.timestamp_url}/api/v1/timestamp"

    def signing_config(self, rekor: Rekor = Rekor.V2, *, timestamp: bool = True) -> Path:
        """A signing config as `cosign signing-config create` writes it: with this log, with timestamps or without."""
        with self._lock:
            key = (rekor, timestamp)
            if key not in self._configs:
                self._configs[key] = self._create_signing_config(rekor, timestamp)
            return self._configs[key]

    def mirror(self, *, tls: bool = True) -> TufMirror:
        """A new TUF repository with this trusted root and signing config; it ends with the rest."""
        from tests.lab.sigstore.mirror import SIGNING_CONFIG, TRUSTED_ROOT, TufMirror

        files = {TRUSTED_ROOT: self.trusted_root, SIGNING_CONFIG: self.signing_config()}
        targets = {name: path.read_bytes() for name, path in files.items()}
        folder = self._folder / f"mirror-{next(self._names)}"
        return self._servers.enter_context(contextlib.closing(TufMirror(folder, targets, self._ca if tls else None)))

    def _start_fulcio(self) -> tuple[str, Process]:
        config = self._folder / "fulcio.yaml"
        config.write_text(configuration())
        port = free_port()
        args = [
            *("serve", "--ca=fileca", f"--fileca-cert={self.signing_ca.chain_file}", "--fileca-watch=false"),
            *(f"--fileca-key={self.signing_ca.key_file}", "--fileca-key-passwd=none", f"--config-path={config}"),
            *(f"--ct-log-url={self.ct_log.url}", f"--ct-log-public-key-path={self.ct_log.public_key_file}"),
            *(f"--host={LOOPBACK}", f"--port={port}", f"--grpc-host={LOOPBACK}", f"--grpc-port={free_port()}"),
            # Beside the configuration: the path of a Unix socket has 107 bytes at most.
            *(f"--metrics-port={free_port()}", "--legacy-unix-domain-socket=fulcio.socket", "--log_type=prod"),
        ]
        return f"http://{LOOPBACK}:{port}", self._start("fulcio", args, self.issuers.environment)

    def _start_timestamps(self) -> tuple[str, Process]:
        port = free_port()
        return f"http://{LOOPBACK}:{port}", self._start("timestamp-server", [f"--port={port}"])

    def _start_rekor(self) -> tuple[str, Process]:
        key = write_private(self._folder / "rekor.key", self._rekor_key)
        port = free_port()
        args = [
            *("serve", f"--signer-filepath={key}", f"--storage-dir={self._folder / 'rekor'}"),
            *(f"--hostname={_REKOR_ORIGIN}", f"--http-address={LOOPBACK}", f"--http-port={port}"),
            *(f"--grpc-address={LOOPBACK}", f"--grpc-port={free_port()}", f"--http-metrics-port={free_port()}"),
            # An entry is answered when a checkpoint holds it: the default of ten seconds suits a public log.
            *("--checkpoint-interval=200ms", "--batch-max-age=50ms", "--log-level=warn"),
        ]
        return f"http://{LOOPBACK}:{port}", self._start("rekor-server", args)

    def _start(self, program: str, args: list[str], more: Mapping[str, str] | None = None) -> Process:
        name = f"{self.name}-{program}"
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), **(more or {})}
        process = self._processes.start(
            name, [self._programs[program], *args], self._logs / f"{name}.log", env=environment, cwd=self._folder
        )
        self._started.append(process)
        return process

    @staticmethod
    def _await(process: Process, url: str, path: str) -> None:
        http = HttpClient(url)

        def ready() -> bool:
            try:
                return http.get(path).ok
            except (urllib3.exceptions.HTTPError, OSError):
                return False

        process.wait_until(ready, what=f"GET {path} answers 200", timeout=_READY_SECONDS)
        http.close()

    def _first_entry(self) -> None:
        """A proof in a tree of one entry has no hashes, and sigstore-python takes none for absent."""
        key = ec.generate_private_key(ec.SECP256R1())
        verifier = {
            "publicKey": {"rawBytes": _base64(public_der(key.public_key()))},
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        }
        signature = {"content": _base64(key.sign(b"first", ec.ECDSA(hashes.SHA256()))), "verifier": verifier}
        entry = {"digest": _base64(hashlib.sha256(b"first").digest()), "signature": signature}
        http = HttpClient(self.rekor_url)
        http.post("/api/v2/log/entries", {"hashedRekordRequestV002": entry}, expect=201)
        http.close()

    def _create_trusted_root(self) -> Path:
        out = self._folder / "trusted_root.json"
        rekor_key = write_public(self._folder / "rekor.pub", self._rekor_key.public_key())
        http = HttpClient(self.timestamp_url)
        timestamp_chain = self._folder / "timestamp-chain.pem"
        timestamp_chain.write_bytes(http.get("/api/v1/timestamp/certchain", expect=200).data)
        http.close()
        since = f"start-time={self._since}"
        rekor_v1 = self.rekor_v1
        self._cosign(
            *("trusted-root", "create", f"--out={out}"),
            f"--fulcio=url={self.fulcio_url},certificate-chain={self.signing_ca.chain_file}",
            f"--ctfe=url={self.ct_log.url},public-key={self.ct_log.public_key_file},{since}",
            f"--tsa=url={self.timestamp_endpoint},certificate-chain={timestamp_chain}",
            # The URL's host must be the checkpoints' origin (sigstore-go, pkg/verify/tlog.go); nobody calls it.
            f"--rekor=url=https://{_REKOR_ORIGIN},public-key={rekor_key},{since},origin={_REKOR_ORIGIN}",
            f"--rekor=url={rekor_v1.url},public-key={rekor_v1.public_key_file},{since}",
        )
        return out

    def _create_signing_config(self, rekor: Rekor, timestamp: bool) -> Path:
        out = self._folder / f"signing-config-{rekor}{'' if timestamp else '-untimed'}.json"
        rest = f"start-time={self._since},operator={self.name}"
        flags = [f"--fulcio=url={self.fulcio_url},api-version=1,{rest}"]
        if rekor is not Rekor.NONE:
            url, version = (self.rekor_url, 2) if rekor is Rekor.V2 else (self.rekor_v1.url, 1)
            flags += [f"--rekor=url={url},api-version={version},{rest}", "--rekor-config=ANY"]
        if timestamp:
            flags += [f"--tsa=url={self.timestamp_endpoint},api-version=1,{rest}", "--tsa-config=ANY"]
        self._cosign("signing-config", "create", f"--out={out}", *flags)
        return out


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
