"""Signatures and attestations by the real cosign, offline: no transparency log, no signing config."""

from __future__ import annotations

import enum
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.lab.images import PushedImage

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
    """An ECDSA P-256 key pair as `cosign generate-key-pair` writes it; the password is empty."""

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
        folder.mkdir(parents=True, exist_ok=True)

    def generate_key(self, name: str) -> KeyPair:
        """A new key pair; `name` must be new, too."""
        prefix = self._folder / name
        self.run("generate-key-pair", f"--output-key-prefix={prefix}")
        return KeyPair(prefix.with_suffix(".key"), prefix.with_suffix(".pub"))

    def sign(
        self,
        registry: Registry,
        image: PushedImage | str,
        key: KeyPair,
        *,
        form: Form = Form.BUNDLE,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Sign the image's digest and store the signature beside it. A string is a reference with a digest."""
        extra = [f"--annotations={name}={value}" for name, value in (annotations or {}).items()]
        self.run("sign", *self._signing(registry, key, form), *extra, _reference(image))

    def attest(
        self,
        registry: Registry,
        image: PushedImage | str,
        key: KeyPair,
        *,
        predicate: Mapping[str, Any],
        predicate_type: str = "slsaprovenance1",
        form: Form = Form.BUNDLE,
    ) -> None:
        """Attest a predicate of a type that cosign knows by this name, or any URI."""
        path = self._folder / "predicate.json"
        path.write_text(json.dumps(predicate))
        self.run(
            "attest",
            *self._signing(registry, key, form),
            f"--predicate={path}",
            f"--type={predicate_type}",
            _reference(image),
        )

    def verify(self, registry: Registry, image: PushedImage | str, key: KeyPair, *, form: Form = Form.BUNDLE) -> Any:
        """What cosign itself finds for this key, parsed. Raises CosignError when it finds nothing."""
        output = self.run(
            "verify",
            f"--key={key.public}",
            f"--new-bundle-format={_flag(form is Form.BUNDLE)}",
            "--insecure-ignore-tlog=true",
            *self._registry(registry),
            _reference(image),
        )
        return json.loads(output)

    def run(self, *args: str) -> str:
        """Run cosign; returns its stdout. Raises CosignError."""
        env = {
            **{name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
            "HOME": str(self._folder),
            "COSIGN_PASSWORD": "",
            "COSIGN_YES": "true",
        }
        answer = subprocess.run(
            [self._program, *args], env=env, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
        if answer.returncode:
            raise CosignError(f"cosign {' '.join(args)} ended with {answer.returncode}:\n{answer.stderr.strip()}")
        return answer.stdout

    def _signing(self, registry: Registry, key: KeyPair, form: Form) -> list[str]:
        return [
            f"--key={key.private}",
            f"--new-bundle-format={_flag(form is Form.BUNDLE)}",
            "--use-signing-config=false",
            "--tlog-upload=false",
            *self._registry(registry),
        ]

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


def _flag(value: bool) -> str:
    return "true" if value else "false"
