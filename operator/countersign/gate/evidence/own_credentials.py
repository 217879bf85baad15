"""The gate's own registry credentials, from a file that is read anew when it changes: a mounted Secret."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Never

import structlog

from countersign.gate.evidence.request import PullSecret
from countersign.registry.credentials import MAX_DOCKER_CONFIG_BYTES, BadDockerConfig, parse_docker_config

LOOK_SECONDS: Final = 10.0
"""How often the file is looked at. The kubelet itself takes up to a minute to renew a mounted Secret."""
_KIND: Final = "kubernetes.io/dockerconfigjson"

_log = structlog.get_logger()


class CredentialsFile:
    """`gate.evidence.request.OwnCredentials`. What cannot be read leaves in force what was read last."""

    def __init__(self, path: Path) -> None:
        """Reads it. Raises OSError or BadDockerConfig: a gate without them would refuse what it should see."""
        self._path = path
        self._seen = _mark(path)
        self._secrets: tuple[PullSecret, ...] = (_read(path),)

    def secrets(self) -> Sequence[PullSecret]:
        """What the file held when it was last looked at."""
        return self._secrets

    async def follow(self) -> Never:
        """Look at the file now and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read it anew if it has changed."""
        with contextlib.suppress(OSError):
            mark = _mark(self._path)
            if mark == self._seen:
                return
            try:
                self._secrets = (_read(self._path),)
            except BadDockerConfig as error:
                _log.error("registry credentials of the gate cannot be read: the former ones stay", message=str(error))
            self._seen = mark


def _mark(path: Path) -> tuple[int, int, int]:
    found = path.stat()  # follows the links by which the kubelet swaps a volume's content
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> PullSecret:
    with path.open("rb") as file:
        data = file.read(MAX_DOCKER_CONFIG_BYTES + 1)
    parse_docker_config(_KIND, data)
    return PullSecret(_KIND, data)
