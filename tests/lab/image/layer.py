"""Layers: a folder as a tar that is the same byte for byte whenever its files are the same, kept in the lab's cache."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from tests.lab.locks import exclusive
from tests.lab.programs import cache_dir

_LEVEL: Final = 9


class Component(msgspec.Struct, frozen=True):
    """Something that a layer holds, as a bill of materials names it."""

    name: str
    version: str
    purl: str
    sha256: str
    """Of the file that it came in: a .deb or a wheel."""
    license: str = ""
    """An SPDX expression, where the file itself states one."""


class Layer(msgspec.Struct, frozen=True):
    """One layer in the cache. Sizes in bytes; digests as `sha256:...`."""

    path: Path
    digest: str
    size: int
    diff_id: str
    unpacked: int
    """What the files hold together."""
    components: tuple[Component, ...]

    def unpack(self, folder: Path) -> None:
        """Lay the files into `folder`, over what is there."""
        with tarfile.open(self.path) as tar:
            # Made here, and nobody else's: the filter "tar" would take the rights off /tmp.
            tar.extractall(folder, filter="fully_trusted")  # noqa: S202


Fill = Callable[[Path], Sequence[Component]]
"""Puts the files of a layer into an empty folder; returns what they are."""


def cached(name: str, inputs: Sequence[str], fill: Fill) -> Layer:
    """The layer of this name made of these inputs: from the cache, or filled and packed now.

    `inputs` must determine the files: the cache knows nothing else of them.
    """
    key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
    home = cache_dir() / "image" / f"{name}-{key}"
    record = home / "layer.json"
    with exclusive(cache_dir() / "locks" / f"image-{name}-{key}.lock"):
        if not record.is_file():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            record.write_bytes(msgspec.json.encode(_make(home, fill), enc_hook=str))
        return msgspec.json.decode(record.read_bytes(), type=Layer, dec_hook=_decoded)


def _make(home: Path, fill: Fill) -> Layer:
    with tempfile.TemporaryDirectory(prefix="countersign-image-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        components = tuple(sorted(fill(root), key=lambda component: component.purl))
        return pack(root, home / "layer.tar.gz", components)


def pack(root: Path, target: Path, components: Sequence[Component] = ()) -> Layer:
    """Write the files below `root` as a layer: sorted, of root's, from 1970, and compressed without a time stamp."""
    entries = [_entry(root, path) for path in sorted(root.rglob("*"))]
    with target.open("wb") as file:
        compressed = _Hashed(file)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=compressed, mtime=0) as packer:
            plain = _Hashed(packer)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path, entry in zip(sorted(root.rglob("*")), entries, strict=True):
                    if entry.isreg():
                        with path.open("rb") as content:
                            tar.addfile(entry, content)
                    else:
                        tar.addfile(entry)
    unpacked = sum(entry.size for entry in entries)
    return Layer(target, compressed.digest, compressed.size, plain.digest, unpacked, tuple(components))


def _entry(root: Path, path: Path) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.relative_to(root).as_posix())
    mode = path.lstat().st_mode
    if path.is_symlink():
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
    elif path.is_dir():
        # The sticky bit of /tmp is the one that counts.
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if mode & stat.S_ISVTX else 0o755
    else:
        entry.size, entry.mode = path.stat().st_size, 0o755 if mode & stat.S_IXUSR else 0o644
    return entry


class _Hashed(io.RawIOBase):
    """Passes bytes on, and counts and hashes them."""

    def __init__(self, target: IO[bytes] | gzip.GzipFile) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self._target.write(data)
        self.size += len(data)
        return len(data)

    def writable(self) -> bool:
        return True

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _decoded(type_: type, value: object) -> object:
    return type_(value)
