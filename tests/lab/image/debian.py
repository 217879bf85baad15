"""Debian packages: which, in what version, and their files. By the machine's own apt, as any user may call it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.image.errors import ImageError, run
from tests.lab.images import digest_of

PACKAGES: Final = (
    "base-files",  # os-release: scanners ask it whose advisories count
    "ca-certificates",
    "gcc-12-base",  # the copyright notice of libgcc-s1 and libstdc++6
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",  # of frozenlist's wheel
    "libuuid1",
    "netbase",
    "python3.11-minimal",
    "zlib1g",
)
"""What Python and the wheels load, and no more: no shell, no package manager, no core utilities."""

_URI: Final = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) \d+ SHA256:(?P<sha256>[0-9a-f]{64})")
_FILE: Final = re.compile(r"(?P<name>[^_]+)_(?P<version>[^_]+)_(?P<architecture>[^_]+)\.deb")


@dataclass(frozen=True, order=True)
class Package:
    """One package as apt would download it now."""

    name: str
    version: str
    architecture: str
    sha256: str
    file: str

    @property
    def purl(self) -> str:
        """Package URL (purl-spec, types/deb-definition)."""
        version = self.version.replace("+", "%2B").replace(":", "%3A")
        name = self.name.replace("+", "%2B")
        return f"pkg:deb/debian/{name}@{version}?arch={self.architecture}&distro=debian-12"


@dataclass(frozen=True)
class Architecture:
    """One machine architecture under its several names."""

    oci: str
    debian: str
    wheel: str
    loader: str
    """Path of the dynamic linker."""

    @property
    def libraries(self) -> tuple[str, str]:
        """Where Debian keeps shared libraries, relative to the root."""
        return f"lib/{self.wheel}-linux-gnu", f"usr/lib/{self.wheel}-linux-gnu"


_ARCHITECTURES: Final = {
    "x86_64": Architecture("amd64", "amd64", "x86_64", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    "aarch64": Architecture("arm64", "arm64", "aarch64", "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1"),
}


def architecture() -> Architecture:
    """That of this machine. Raises ImageError where no image can be built."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _ARCHITECTURES:
        raise ImageError(f"the image is built on Linux, x86_64 or aarch64, not on {platform.system()} {machine}")
    return _ARCHITECTURES[machine]


def unsupported() -> str:
    """Why no image can be built on this machine; empty if one can."""
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        return f"the lab's image is made of Debian 12's packages, and this machine has no {' and no '.join(missing)}"
    try:
        resolve()
    except ImageError as error:
        return str(error)
    return ""


def resolve(packages: Sequence[str] = PACKAGES) -> list[Package]:
    """Which versions apt would fetch. Asks no network, unless this machine never fetched apt's lists."""
    try:
        return _listed(packages)
    except ImageError:
        if os.geteuid() != 0:
            raise
    run("apt-get", "update", "-qq", doing="fetch apt's lists")
    return _listed(packages)


def _listed(packages: Sequence[str]) -> list[Package]:
    named = [f"{name}:{architecture().debian}" for name in packages]
    doing = "ask apt for Debian 12's packages (is this Debian 12, and was `apt-get update` run?)"
    found = sorted(_parsed(run("apt-get", "download", "--print-uris", *named, doing=doing)))
    missing = set(packages) - {package.name for package in found}
    if missing:
        raise ImageError(f"{doing}: apt gives no checksum of {', '.join(sorted(missing))}")
    return found


def _parsed(output: str) -> Iterator[Package]:
    for line in output.splitlines():
        uri = _URI.fullmatch(line.strip())
        parts = _FILE.fullmatch(uri["file"]) if uri else None
        if uri and parts:
            version = parts["version"].replace("%3a", ":")
            yield Package(parts["name"], version, parts["architecture"], uri["sha256"], uri["file"])


def download(packages: Sequence[Package], folder: Path) -> list[Path]:
    """The packages' files in `folder`, checksums compared, in the order of `packages`."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not _whole(folder / package.file, package)]
    if missing:
        try:
            _fetch(missing, folder)
        except ImageError:
            if os.geteuid() != 0:
                raise
            # The lists are older than what the mirrors still have.
            run("apt-get", "update", "-qq", doing="fetch apt's lists")
            _fetch(missing, folder)
    for package in packages:
        if not _whole(folder / package.file, package):
            raise ImageError(f"{package.file} did not arrive as apt's lists describe it: run `apt-get update`")
    return [folder / package.file for package in packages]


def _fetch(packages: Sequence[Package], folder: Path) -> None:
    wanted = [f"{package.name}:{architecture().debian}={package.version}" for package in packages]
    run("apt-get", "download", "-qq", *wanted, doing="download Debian's packages", cwd=folder)


def _whole(file: Path, package: Package) -> bool:
    return file.is_file() and digest_of(file.read_bytes()) == f"sha256:{package.sha256}"
