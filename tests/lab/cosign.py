"""Signatures and attestations by the real cosign, offline: by a key alone, or with the lab's own Sigstore."""

from __future__ import annotations

import copy
import enum
import itertools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from tests.lab.images import PushedImage
from tests.lab.pki import write_private
from tests.lab.sigstore.issuer import Identity
from tests.lab.sigstore.services import Rekor, Sigstore

_TIMEOUT_SECONDS = 60


class Registry(Protocol):
    """What cosign must know of a registry."""

    @property
    def scheme(self) -> str:
        """https or http."""

    @property
    def ca_file(self) -> Path | None:
        """CA of its certificate; None: the system's."""

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password."""


class CosignError(Exception):
    """cosign ended with an error; the message is what it said."""


class Form(enum.StrEnum):
    """How a signature is stored."""

    BUNDLE = "bundle"
    """A Sigstore bundle v0.3 as a referrer, or in an index under the fallback tag `sha256-HEX`."""
    CLASSIC = "classic"
    """A simple-signing layer under the tag `sha256-HEX.sig` (attestations: `.att`)."""


@dataclass(frozen=True)
class KeyPair:
    """A key pair as cosign writes it: the private key encrypted, with an empty password."""

    private: Path
    public: Path

    @property
    def public_pem(self) -> str:
        return self.public.read_text()


class Cosign:
    """Runs cosign against the lab's registries, with the lab's CA and an own home folder."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._names = itertools.count(1)
        self._repository = ""
        folder.mkdir(parents=True, exist_ok=True)

    def generate_key(self, name: str) -> KeyPair:
        """A new ECDSA P-256 key pair; `name` must be new, too."""
        prefix = self._folder / name
        self.run("generate-key-pair", f"--output-key-prefix={prefix}")
        return KeyPair(prefix.with_suffix(".key"), prefix.with_suffix(".pub"))

    def import_key(self, name: str, key: PrivateKeyTypes) -> KeyPair:
        """A key pair of cosign's from a key of another kind.

        cosign 3 signs by RSA with SHA-256, by P-384 with SHA-384, by Ed25519 pre-hashed (Ed25519ph); its own `verify`
        takes those of RSA only (pkg/cosign/keys.go, GetDefaultLoadOptions; cmd/cosign/cli/verify/verify.go).
        """
        prefix = self._folder / name
        pem = write_private(prefix.with_suffix(".pem"), key)
        self.run("import-key-pair", f"--key={pem}", f"--output-key-prefix={prefix}")
        return KeyPair(prefix.with_suffix(".key"), prefix.with_suffix(".pub"))

    def sign(
        self,
        registry: Registry,
        image: PushedImage | str,
        key: KeyPair,
        *,
        form: Form = Form.BUNDLE,
        annotations: Mapping[str, str] | None = None,
        sigstore: Sigstore | None = None,
        rekor: Rekor | None = None,
        timestamp: bool = True,
    ) -> None:
        """Sign the image's digest and store the signature beside it. A string is a reference with a digest.

        With `sigstore` the signature is logged and timestamped, as `sign_keyless` has it.
        """
        flags = [f"--key={key.private}", *_witnesses(form, sigstore, rekor, timestamp)]
        self._sign(registry, image, form, annotations, flags)

    def sign_keyless(
        self,
        registry: Registry,
        image: PushedImage | str,
        identity: Identity,
        sigstore: Sigstore,
        *,
        form: Form = Form.BUNDLE,
        annotations: Mapping[str, str] | None = None,
        rekor: Rekor | None = None,
        timestamp: bool = True,
    ) -> None:
        """Sign by a certificate that Fulcio issues to this identity.

        `rekor`: which log, by default v2 for a bundle and v1 for the classic form, which holds no entry of v2.
        Without `timestamp` (RFC 3161) only v1 gives a time: cosign refuses to make what v2 alone witnesses.
        """
        flags = [f"--identity-token={identity.token}", *_witnesses(form, sigstore, rekor, timestamp)]
        self._sign(registry, image, form, annotations, flags)

    def attest(
        self,
        registry: Registry,
        image: PushedImage | str,
        key: KeyPair,
        *,
        predicate: Mapping[str, Any],
        predicate_type: str = "slsaprovenance1",
        form: Form = Form.BUNDLE,
        sigstore: Sigstore | None = None,
        rekor: Rekor | None = None,
        timestamp: bool = True,
    ) -> None:
        """Attest a predicate of a type that cosign knows by this name, or any URI.

        With `sigstore` the attestation is logged and timestamped, as `sign_keyless` has it.
        """
        flags = [f"--key={key.private}", *_witnesses(form, sigstore, rekor, timestamp)]
        self._attest(registry, image, form, predicate, predicate_type, flags)

    def attest_keyless(
        self,
        registry: Registry,
        image: PushedImage | str,
        identity: Identity,
        sigstore: Sigstore,
        *,
        predicate: Mapping[str, Any],
        predicate_type: str = "slsaprovenance1",
        form: Form = Form.BUNDLE,
        rekor: Rekor | None = None,
        timestamp: bool = True,
    ) -> None:
        """As `attest`, by a certificate that Fulcio issues to this identity; `rekor` as in `sign_keyless`."""
        flags = [f"--identity-token={identity.token}", *_witnesses(form, sigstore, rekor, timestamp)]
        self._attest(registry, image, form, predicate, predicate_type, flags)

    def verify(
        self,
        registry: Registry,
        image: PushedImage | str,
        key: KeyPair,
        *,
        form: Form = Form.BUNDLE,
        sigstore: Sigstore | None = None,
    ) -> Any:
        """What cosign itself finds for this key, parsed. Raises CosignError when it finds nothing.

        With `sigstore` it insists on an entry in its logs.
        """
        known = [f"--trusted-root={sigstore.trusted_root}"] if sigstore else ["--insecure-ignore-tlog=true"]
        return json.loads(self._verify("verify", registry, image, form, [f"--key={key.public}", *known]))

    def verify_keyless(
        self,
        registry: Registry,
        image: PushedImage | str,
        identity: Identity,
        sigstore: Sigstore,
        *,
        form: Form = Form.BUNDLE,
        logged: bool = True,
        timestamp: bool = True,
    ) -> Any:
        """What cosign itself finds for this identity, parsed. Raises CosignError when it finds nothing.

        `logged`: insist on an entry in a log of this Sigstore. `timestamp`: insist on an RFC 3161 timestamp.
        """
        flags = _identity(identity, sigstore, logged=logged, timestamp=timestamp)
        return json.loads(self._verify("verify", registry, image, form, flags))

    def verify_attestation_keyless(
        self,
        registry: Registry,
        image: PushedImage | str,
        identity: Identity,
        sigstore: Sigstore,
        *,
        predicate_type: str = "slsaprovenance1",
        form: Form = Form.BUNDLE,
        logged: bool = True,
        timestamp: bool = True,
    ) -> list[Any]:
        """The DSSE envelopes that cosign itself finds for this identity, parsed. Raises CosignError for none."""
        flags = _identity(identity, sigstore, logged=logged, timestamp=timestamp)
        output = self._verify("verify-attestation", registry, image, form, [f"--type={predicate_type}", *flags])
        return [json.loads(line) for line in output.splitlines()]

    def storing_in(self, repository: str) -> Cosign:
        """The same, with signatures and attestations kept in another repository (COSIGN_REPOSITORY)."""
        other = copy.copy(self)
        other._repository = repository
        return other

    def run(self, *args: str) -> str:
        """Run cosign; returns its stdout. Raises CosignError."""
        env = {
            **{name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
            "HOME": str(self._folder),
            "COSIGN_PASSWORD": "",
            "COSIGN_YES": "true",
            **({"COSIGN_REPOSITORY": self._repository} if self._repository else {}),
        }
        answer = subprocess.run(
            [self._program, *args], env=env, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
        if answer.returncode:
            raise CosignError(f"cosign {' '.join(args)} ended with {answer.returncode}:\n{answer.stderr.strip()}")
        return answer.stdout

    def _sign(
        self,
        registry: Registry,
        image: PushedImage | str,
        form: Form,
        annotations: Mapping[str, str] | None,
        flags: Sequence[str],
    ) -> None:
        extra = [f"--annotations={name}={value}" for name, value in (annotations or {}).items()]
        self.run("sign", *flags, _format(form), *self._registry(registry), *extra, _reference(image))

    def _attest(
        self,
        registry: Registry,
        image: PushedImage | str,
        form: Form,
        predicate: Mapping[str, Any],
        predicate_type: str,
        flags: Sequence[str],
    ) -> None:
        path = self._folder / f"predicate-{next(self._names)}.json"
        path.write_text(json.dumps(predicate))
        what = (f"--predicate={path}", f"--type={predicate_type}")
        self.run("attest", *flags, _format(form), *self._registry(registry), *what, _reference(image))

    def _verify(
        self, command: str, registry: Registry, image: PushedImage | str, form: Form, flags: Sequence[str]
    ) -> str:
        return self.run(command, *flags, _format(form), *self._registry(registry), _reference(image))

    @staticmethod
    def _registry(registry: Registry) -> list[str]:
        flags = [f"--registry-cacert={registry.ca_file}"] if registry.ca_file else []
        if registry.scheme == "http":
            flags = ["--allow-http-registry"]
        if registry.credentials:
            username, password = registry.credentials
            flags += [f"--registry-username={username}", f"--registry-password={password}"]
        return flags


def _reference(image: PushedImage | str) -> str:
    return image if isinstance(image, str) else image.by_digest


def _witnesses(form: Form, sigstore: Sigstore | None, rekor: Rekor | None, timestamp: bool) -> list[str]:
    """Who shall witness a signature. The classic form takes no signing config, so its services are named one by one."""
    if sigstore is None:
        return ["--use-signing-config=false", "--tlog-upload=false"]
    root = f"--trusted-root={sigstore.trusted_root}"
    if form is Form.BUNDLE:
        return [f"--signing-config={sigstore.signing_config(rekor or Rekor.V2, timestamp=timestamp)}", root]
    if rekor is Rekor.V2:
        raise ValueError("the classic form holds no entry of Rekor v2")
    return [
        *("--use-signing-config=false", root, f"--fulcio-url={sigstore.fulcio_url}"),
        f"--tlog-upload={_flag(rekor is not Rekor.NONE)}",
        f"--rekor-url={sigstore.rekor_v1.url}",
        *([f"--timestamp-server-url={sigstore.timestamp_endpoint}"] if timestamp else []),
    ]


def _identity(identity: Identity, sigstore: Sigstore, *, logged: bool, timestamp: bool) -> list[str]:
    return [
        f"--trusted-root={sigstore.trusted_root}",
        f"--certificate-identity={identity.subject}",
        f"--certificate-oidc-issuer={identity.issuer}",
        f"--insecure-ignore-tlog={_flag(not logged)}",
        f"--use-signed-timestamps={_flag(timestamp)}",
    ]


def _format(form: Form) -> str:
    return f"--new-bundle-format={_flag(form is Form.BUNDLE)}"


def _flag(value: bool) -> str:
    return "true" if value else "false"
