"""A TUF repository (The Update Framework 1.0) that hands out a trusted root, as Sigstore's own do: root-signing.

Every role has a key of its own and a threshold of one. Snapshots are consistent, targets lie under `targets/`.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from tests.lab.pki import CertificateAuthority
from tests.lab.sigstore.web import Reply, Request, WebServer

_Signed = TypeVar("_Signed", Targets, Snapshot, Timestamp)

TRUSTED_ROOT = "trusted_root.json"
SIGNING_CONFIG = "signing_config.v0.2.json"

_ROLES = ("root", "targets", "snapshot", "timestamp")
_LIFETIME = datetime.timedelta(days=7)


class TufMirror:
    """Serves over HTTPS by the lab's CA, or plain HTTP without one. `root_file` is where a client's trust begins."""

    def __init__(self, folder: Path, targets: Mapping[str, bytes], ca: CertificateAuthority | None) -> None:
        """`targets`: file name -> content; sigstore-python wants `TRUSTED_ROOT` and `SIGNING_CONFIG`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.requests: list[str] = []
        """Paths that were asked for, in order."""
        self.down = False
        """While set, every answer is 503."""
        self._files: dict[str, bytes] = {}
        self._signers = {role: CryptoSigner.generate_ecdsa() for role in _ROLES}
        self._root = Root(consistent_snapshot=True)
        for role, signer in self._signers.items():
            self._root.add_key(signer.public_key, role)
        self._version = 0
        self._publish_root(self._signers["root"])
        self.publish(targets)
        self.root_file = folder / "root.json"
        self.root_file.write_bytes(self._files["/1.root.json"])
        self._server = WebServer(self._answer, tls=_context(ca) if ca else None)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def publish(self, targets: Mapping[str, bytes], *, lifetime: datetime.timedelta = _LIFETIME) -> None:
        """A new version with these files and no others. Its timestamp expires after `lifetime`; a negative one has."""
        self._version = version = self._version + 1
        listed = {}
        for name, data in targets.items():
            listed[name] = target = TargetFile.from_data(name, data)
            self._files[f"/targets/{target.hashes['sha256']}.{name}"] = data
        self._put(f"/{version}.targets.json", Targets(version=version, targets=listed), "targets")
        snapshot = Snapshot(version=version, meta={"targets.json": MetaFile(version)})
        self._put(f"/{version}.snapshot.json", snapshot, "snapshot")
        self._put("/timestamp.json", Timestamp(version=version, snapshot_meta=MetaFile(version)), "timestamp", lifetime)

    def rotate_root_key(self) -> None:
        """A new version of the root, by a new key, which the old one signs, too, so that clients follow."""
        old, new = self._signers["root"], CryptoSigner.generate_ecdsa()
        self._root.revoke_key(old.public_key.keyid, "root")
        self._root.add_key(new.public_key, "root")
        self._signers["root"] = new
        self._root.version += 1
        self._publish_root(old, new)

    def _publish_root(self, *signers: CryptoSigner) -> None:
        self._root.expires = _expiry(_LIFETIME)
        metadata = Metadata(self._root)
        for signer in signers:
            metadata.sign(signer, append=True)
        self._files[f"/{self._root.version}.root.json"] = metadata.to_bytes()

    def _put(self, path: str, signed: _Signed, role: str, lifetime: datetime.timedelta = _LIFETIME) -> None:
        signed.expires = _expiry(lifetime)
        metadata = Metadata(signed)
        metadata.sign(self._signers[role])
        self._files[path] = metadata.to_bytes()

    def _answer(self, request: Request) -> Reply:
        self.requests.append(request.path)
        if self.down:
            return Reply(503, b"down")
        data = self._files.get(request.path)
        return Reply(404, b"no such file") if data is None else Reply(200, data)


def _expiry(lifetime: datetime.timedelta) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + lifetime


def _context(ca: CertificateAuthority) -> ssl.SSLContext:
    files = ca.server("tuf-mirror")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context
