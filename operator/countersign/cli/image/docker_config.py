"""The person's own registry credentials: docker's configuration and its credential helpers.

Sources: docker/cli (config/configfile, config.json) and docker/docker-credential-helpers ("Development": `get` reads a
server's address on stdin and prints ServerURL, Username and Secret).
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from countersign.cli.terminal.exits import note
from countersign.gate.evidence.service import PullSecret
from countersign.registry.credentials import MAX_DOCKER_CONFIG_BYTES
from countersign.trust.images.reference import DEFAULT_REGISTRY

HELPER_SECONDS: Final = 20.0
"""A helper may have to unlock a key chain."""
_HUB: Final = "https://index.docker.io/v1/"
"""Docker Hub's name in configurations and helpers."""
_IDENTITY_TOKEN: Final = "<token>"  # noqa: S105 - the user name by which a helper marks one
_KIND: Final = "kubernetes.io/dockerconfigjson"


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    creds_store: str = ""
    cred_helpers: dict[str, str] = msgspec.field(default_factory=dict)


class _Found(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where docker keeps it: $DOCKER_CONFIG or ~/.docker."""
    folder = environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def load(path: Path, registries: Sequence[str]) -> tuple[PullSecret, ...]:
    """Credentials for these registries, as pull secrets. Without the file, none; what cannot be used is told."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        note(f"no registry credentials: {path}: {error.strerror}")
        return ()
    try:
        config = msgspec.json.decode(data, type=_Config)
    except msgspec.DecodeError as error:
        note(f"no registry credentials: {path}: {error}")
        return ()
    if len(data) > MAX_DOCKER_CONFIG_BYTES:
        note(f"no registry credentials: {path} is larger than {MAX_DOCKER_CONFIG_BYTES} bytes")
        return ()
    helped = {}
    for registry in registries:
        server = _HUB if registry == DEFAULT_REGISTRY else registry
        helper = config.cred_helpers.get(server) or config.cred_helpers.get(registry) or config.creds_store
        found = _ask(helper, server) if helper else None
        if found is not None:
            helped[server] = {"username": found.username, "password": found.secret}
    stored = PullSecret(_KIND, data)
    return (stored, PullSecret(_KIND, json.dumps({"auths": helped}).encode())) if helped else (stored,)


def _ask(helper: str, server: str) -> _Found | None:
    program = f"docker-credential-{helper}"
    if Path(program).name != program:
        note(f"no credentials for {server}: {helper!r} is no credential helper's name")
        return None
    try:
        answer = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        note(f"no credentials for {server}: {program}: {error}")
        return None
    if answer.returncode:
        return None  # it knows none: the registry is asked anonymously
    try:
        found = msgspec.json.decode(answer.stdout, type=_Found)
    except msgspec.DecodeError:
        note(f"no credentials for {server}: {program} does not answer in JSON")
        return None
    if found.username == _IDENTITY_TOKEN:
        note(f"no credentials for {server}: {program} holds an identity token, which registries of OCI do not take")
        return None
    return found
