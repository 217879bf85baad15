"""A trusted_root.json by The Update Framework: python-tuf's client against one mirror, within bounds.

What python-tuf sees to (theupdateframework.github.io/specification, "Detailed client workflow"): each root.json is
signed by the keys of the one before; nothing expired, unsigned or older than what was seen is taken. What is added
here: only the mirror is asked, by https and without redirects; every size and the whole of it have a limit; what was
seen last comes from and goes back to the caller, for nothing is kept on this machine.

It blocks: call it in a thread. sigstore-python's own (sigstore/_internal/tuf.py, TrustUpdater) keeps its state in the
user's home and asks whatever host redirects name.
"""

import contextlib
import io
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple
from urllib.parse import quote

import urllib3
from tuf.api import exceptions
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from countersign.api.evidence_root import (
    MAX_CONTENT_CHARACTERS,
    MAX_TUF_ROOT_CHARACTERS,
    MAX_TUF_SNAPSHOT_CHARACTERS,
    MAX_TUF_TARGETS_CHARACTERS,
    MAX_TUF_TIMESTAMP_CHARACTERS,
    TUFMetadata,
    TUFSource,
)

PUBLIC_GOOD_MIRROR: Final = "https://tuf-repo-cdn.sigstore.dev"
SOCKET_SECONDS: Final = 10.0
"""For a connection, and between two pieces of an answer."""
TOTAL_SECONDS: Final = 60.0
"""For everything that one refresh asks."""
MAX_ROTATIONS: Final = 64
"""Roots that are followed in one refresh; the next goes on."""
MAX_DELEGATIONS: Final = 8
CHUNK_BYTES: Final = 16384

Trouble = Literal[
    "BadInitialRoot",
    "BadCABundle",
    "MirrorUnreachable",
    "MetadataExpired",
    "RolledBack",
    "NotSigned",
    "NoSuchTarget",
    "BadRepository",
    "NoFolder",
]


class Refreshed(NamedTuple):
    """What a refresh brought."""

    content: str
    """The target, verified; empty if there is a problem."""
    metadata: TUFMetadata
    """What was seen and verified, to be given to the next refresh whether this one succeeded or not."""
    trouble: Trouble | None = None
    problem: str = ""
    """A phrase for people."""


def refresh(
    source: TUFSource,
    seen: TUFMetadata,
    content: str,
    *,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Refreshed:
    """Ask the mirror. `seen` and `content`: what the refresh before brought, empty at the first. Never raises."""
    try:
        with tempfile.TemporaryDirectory(prefix="countersign-tuf-") as folder:
            return _refresh(Path(folder), source, seen, content, _Deadline(clock() + TOTAL_SECONDS, stop, clock))
    except OSError as error:
        return Refreshed("", seen, "NoFolder", f"there is no folder for temporary files: {error}")


def public_good_tuf_root() -> bytes:
    """The root.json of the public-good repository that the sigstore package carries, read without the network."""
    stored = resources.files("sigstore._store") / quote(PUBLIC_GOOD_MIRROR, safe="") / "root.json"
    return stored.read_bytes()


def _refresh(folder: Path, source: TUFSource, seen: TUFMetadata, content: str, deadline: "_Deadline") -> Refreshed:
    initial = public_good_tuf_root() if source.builtin else source.root.encode()
    _write(folder, seen, content, source)
    try:
        fetcher = _Fetcher(source.mirror, source.ca_bundle, deadline)
    except ssl.SSLError as error:
        return Refreshed("", seen, "BadCABundle", f"caBundle holds no certificates that can be read: {error.reason}")
    # Whatever stands in the bytes of others, it ends here: python-tuf does not say what all it may raise.
    try:
        updater = _updater(folder, source, fetcher, seen.root.encode() or initial)
    except Exception as error:
        return Refreshed("", seen, "BadInitialRoot", f"`root` is no root.json that signs itself: {error}")
    try:
        found = _content(updater, folder, source)
    except Exception as error:
        trouble, problem = _trouble(error, source)
        return Refreshed("", _read(folder, seen), trouble, problem)
    return Refreshed(found, _read(folder, seen))


def _updater(folder: Path, source: TUFSource, fetcher: "_Fetcher", bootstrap: bytes) -> Updater:
    base = source.mirror.rstrip("/")
    return Updater(
        metadata_dir=str(folder),
        metadata_base_url=f"{base}/",
        target_dir=str(folder / "targets"),
        target_base_url=f"{base}/targets/",
        fetcher=fetcher,
        config=UpdaterConfig(
            max_root_rotations=MAX_ROTATIONS,
            max_delegations=MAX_DELEGATIONS,
            root_max_length=MAX_TUF_ROOT_CHARACTERS,
            timestamp_max_length=MAX_TUF_TIMESTAMP_CHARACTERS,
            snapshot_max_length=MAX_TUF_SNAPSHOT_CHARACTERS,
            targets_max_length=MAX_TUF_TARGETS_CHARACTERS,
        ),
        bootstrap=bootstrap,
    )


class _NoTarget(Exception):  # noqa: N818 - the condition
    """The repository does not have the target, or has a larger one than is read."""


def _content(updater: Updater, folder: Path, source: TUFSource) -> str:
    updater.refresh()
    target = updater.get_targetinfo(source.target_name)
    if target is None:
        raise _NoTarget(f"the repository has no target {source.target_name}")
    if target.length > MAX_CONTENT_CHARACTERS:
        raise _NoTarget(
            f"target {source.target_name} has {target.length} bytes; no more than {MAX_CONTENT_CHARACTERS} are read"
        )
    path = updater.find_cached_target(target) or updater.download_target(target)
    return Path(path).read_bytes().decode()


def _write(folder: Path, seen: TUFMetadata, content: str, source: TUFSource) -> None:
    for role in ("timestamp", "snapshot", "targets"):
        if text := getattr(seen, role):
            (folder / f"{role}.json").write_bytes(text.encode())
    (folder / "targets").mkdir()
    if content:
        (folder / "targets" / quote(source.target_name, safe="")).write_bytes(content.encode())


def _read(folder: Path, seen: TUFMetadata) -> TUFMetadata:
    found = {}
    for role in ("root", "timestamp", "snapshot", "targets"):
        path = folder / f"{role}.json"
        found[role] = path.read_bytes().decode() if path.exists() else getattr(seen, role)
    return TUFMetadata(**found)


def _trouble(error: Exception, source: TUFSource) -> tuple[Trouble, str]:
    match error:
        case exceptions.ExpiredMetadataError():
            return "MetadataExpired", f"what {source.mirror} gives is out of date: {error}"
        case exceptions.BadVersionNumberError():
            return "RolledBack", f"{source.mirror} gives older metadata than it gave before: {error}"
        case exceptions.UnsignedMetadataError():
            return (
                "NotSigned",
                f"what {source.mirror} gives is not signed by the keys that it must be signed by: {error}",
            )
        case _NoTarget():
            return "NoSuchTarget", str(error)
        case exceptions.DownloadError() | urllib3.exceptions.HTTPError():
            cause = f": {error.__cause__}" if error.__cause__ is not None else ""
            return "MirrorUnreachable", f"{source.mirror} cannot be asked: {error}{cause}"
    return "BadRepository", f"what {source.mirror} gives cannot be used: {error}"


class _Fetcher(FetcherInterface):
    """GET below one URL, and nothing else."""

    def __init__(self, mirror: str, ca_bundle: str, deadline: "_Deadline") -> None:
        """Raises ssl.SSLError for a CA bundle that cannot be read."""
        context = ssl.create_default_context()
        if ca_bundle.strip():
            context.load_verify_locations(cadata=ca_bundle)
        self._below = f"{mirror.rstrip('/')}/"
        self._left = deadline.left
        # No proxy: neither urllib3 nor we read one from the environment. A mirror inside is the way.
        self._pool = urllib3.PoolManager(num_pools=1, ssl_context=context, retries=False)

    def _fetch(self, url: str) -> Iterator[bytes]:
        if not url.startswith(self._below) or "/../" in url:
            raise exceptions.DownloadError(f"{url} is not below {self._below}")
        response = self._pool.request(
            "GET",
            url,
            preload_content=False,
            redirect=False,
            timeout=urllib3.Timeout(connect=min(SOCKET_SECONDS, self._left()), read=min(SOCKET_SECONDS, self._left())),
            headers={"User-Agent": "countersign-controller", "Accept-Encoding": "identity"},
        )
        if response.status != 200:
            response.close()
            what = "redirects, which is not followed" if 300 <= response.status < 400 else "answers"
            raise exceptions.DownloadHTTPError(f"{url} {what} ({response.status})", response.status)
        return self._pieces(response)

    def _pieces(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            for piece in response.stream(CHUNK_BYTES, decode_content=False):
                self._left()
                yield piece
        finally:
            response.close()

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As its parent's, but in memory."""
        held = io.BytesIO()
        for piece in self.fetch(url):
            if held.tell() + len(piece) > max_length:
                raise exceptions.DownloadLengthMismatchError(f"{url} gives more than {max_length} bytes")
            held.write(piece)
        held.seek(0)
        yield held


class _Deadline(NamedTuple):
    ends: float
    stop: threading.Event | None
    clock: Callable[[], float]

    def left(self) -> float:
        """Seconds that are left. Raises SlowRetrievalError if none are, or nobody waits any more."""
        left = self.ends - self.clock()
        if left <= 0 or (self.stop is not None and self.stop.is_set()):
            raise exceptions.SlowRetrievalError(f"not done within {TOTAL_SECONDS:.0f} s")
        return left
