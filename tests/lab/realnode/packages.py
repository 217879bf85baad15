"""Programs of the distribution's packages, unpacked into the cache: nothing is installed on the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.locks import exclusive
from tests.lab.programs import cache_dir

_PROGRAM_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin")


class PackageError(Exception):
    """A package of the distribution is not to be had; the message holds what apt said."""


class Unpacked:
    """Packages with those of their dependencies that the machine lacks, as a folder tree."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def program(self, name: str) -> Path:
        """Path of a program. Raises PackageError if no package brought it."""
        for folder in _PROGRAM_FOLDERS:
            path = self.root / folder / name
            if path.is_file() and os.access(path, os.X_OK):
                return path
        raise PackageError(f"no program {name} in {self.root}")

    def environment(self) -> dict[str, str]:
        """PATH and LD_LIBRARY_PATH by which the programs find each other and their libraries, the machine's last."""
        folders = [str(self.root / folder) for folder in _PROGRAM_FOLDERS]
        libraries = sorted({str(path.parent) for path in self.root.rglob("*.so.*")})
        path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        return {**os.environ, "PATH": ":".join([*folders, path]), "LD_LIBRARY_PATH": ":".join(libraries)}


def unpacked(packages: Sequence[str]) -> Unpacked:
    """These packages, downloaded and unpacked once for each release of the distribution. Raises PackageError.

    apt(8) works out which dependencies the machine lacks. It needs root, as the package lists may have to be read anew.
    """
    release = platform.freedesktop_os_release()
    key = "\0".join([*sorted(packages), release.get("VERSION_CODENAME", release["ID"]), platform.machine()])
    root = cache_dir() / "debian" / hashlib.sha256(key.encode()).hexdigest()[:16]
    with exclusive(cache_dir() / "locks" / f"debian-{root.name}.lock"):
        if not root.exists():
            _download(packages, root)
    return Unpacked(root)


def _download(packages: Sequence[str], root: Path) -> None:
    archives, partial = root.with_name(f"{root.name}.archives"), root.with_name(f"{root.name}.partial")
    for folder in (archives, partial):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    (archives / "partial").mkdir()
    fetch = ["apt-get", "install", "--reinstall", "--download-only", "--yes", "--no-install-recommends"]
    fetch += ["-o", f"Dir::Cache::archives={archives}", "-o", "DPkg::Lock::Timeout=120", *packages]
    answer = _run(fetch)
    if answer.returncode:  # a new machine has no package lists, an old one stale ones
        _run(["apt-get", "update"])
        answer = _run(fetch)
    if answer.returncode:
        raise PackageError(f"apt-get cannot fetch {' '.join(packages)}:\n{(answer.stderr or answer.stdout).strip()}")
    for archive in sorted(archives.glob("*.deb")):
        unpack = _run(["dpkg-deb", "--extract", str(archive), str(partial)])
        if unpack.returncode:
            raise PackageError(f"dpkg-deb cannot unpack {archive.name}: {unpack.stderr.strip()}")
    partial.rename(root)
    shutil.rmtree(archives)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise PackageError(f"this machine has no {command[0]}: the lab's node needs Debian or a relative") from error
