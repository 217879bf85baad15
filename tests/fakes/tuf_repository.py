"""The lab's TUF repository, signed for real; it misbehaves as it is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from securesystemslib.signer import CryptoSigner

from tests.lab.pki import CertificateAuthority
from tests.lab.sigstore.mirror import TRUSTED_ROOT, TufMirror
from tests.lab.sigstore.web import Reply, Request


class MisbehavingMirror(TufMirror):
    """A TufMirror that loses files, goes back, and signs with keys that are not its own. A context manager."""

    def __init__(self, folder: Path, ca: CertificateAuthority, content: str) -> None:
        self.redirect_to = ""
        super().__init__(folder, {TRUSTED_ROOT: content.encode()}, ca)
        self.initial = self.root_file.read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def files(self) -> dict[str, bytes]:
        """What is served, by path."""
        return self._files

    def put_back(self, files: dict[str, bytes]) -> None:
        """Serve what was served before."""
        self._files = dict(files)

    def signed_by(self, role: str, signer: CryptoSigner) -> None:
        """From now on it signs for this role; root.json does not say so."""
        self._signers[role] = signer

    def signer(self, role: str) -> CryptoSigner:
        """Who signs for this role."""
        return self._signers[role]

    def release(self, content: str, *, name: str = TRUSTED_ROOT, expired: bool = False) -> None:
        """A new version with this content."""
        lifetime = timedelta(days=-1 if expired else 1)
        self.publish({name: content.encode()}, lifetime=lifetime)

    def rotate(self, role: str) -> None:
        """Another key for a role, in the next root.json."""
        fresh = CryptoSigner.generate_ecdsa()
        self._root.revoke_key(self._signers[role].public_key.keyid, role)
        self._root.add_key(fresh.public_key, role)
        self._signers[role] = fresh
        self._root.version += 1
        self._publish_root(self._signers["root"])

    def usurp(self) -> None:
        """Another key for the root, in a root.json that the old one has not signed."""
        self.rotate("root")

    def _answer(self, request: Request) -> Reply:
        if self.redirect_to:
            return Reply(302, b"", {"Location": self.redirect_to + request.path})
        return super()._answer(request)
