"""Files that change while we run: the projected service-account token and the cluster's CA."""

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from countersign.cluster.errors import ConfigError

MAX_AGE_SECONDS: Final = 60.0
"""A file is read again after this long even if it looks unchanged (client-go's cachingTokenSource does the same)."""


class WatchedFile:
    """Contents of a file, read anew when it changes or is MAX_AGE_SECONDS old. Never blocks on more than a stat."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._read_at = 0.0
        self._content = b""

    def read(self) -> bytes:
        """The contents now. While the file cannot be read, the last ones; raises ConfigError if there are none."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - on the path of each request; Path.stat costs twice as much
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen or self._clock() - self._read_at >= MAX_AGE_SECONDS:
                self._content = self._path.read_bytes()
                self._seen, self._read_at = seen, self._clock()
        except OSError as error:
            if self._seen is None:
                raise ConfigError(f"cannot read {self._path}: {error.strerror}") from error
        return self._content


class TokenFile:
    """A bearer token in a file, as the kubelet projects and renews it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = WatchedFile(path, clock)

    def __call__(self) -> str:
        """The token now. Raises ConfigError if there never was one."""
        return self._file.read().decode("ascii", "replace").strip()


class TrustFile:
    """A TLS context that trusts the CAs in a file, made anew when the file changes."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._file = WatchedFile(path, clock)
        self._content = b""
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """The context now. A new CA that cannot be read leaves the old one in use. Raises ConfigError without any."""
        content = self._file.read()
        if self._context is None or content != self._content:
            try:
                self._context = trusting(content)
            except ConfigError as error:
                if self._context is None:
                    raise ConfigError(f"{self._path}: {error}") from error
            self._content = content
        return self._context


def trusting(authorities: bytes | None) -> ssl.SSLContext:
    """A client context that verifies the server against PEM `authorities`, or the system's if None."""
    try:
        return ssl.create_default_context(cadata=None if authorities is None else authorities.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"not a bundle of PEM certificates: {error}") from error
