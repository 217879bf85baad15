"""The layers over the base: pinned wheels that the services import, and our own wheel. Each unpacked as it is."""

from __future__ import annotations

import email.message
import email.parser
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.lab.image import contract
from tests.lab.image.bytecode import compile_below
from tests.lab.image.debian import architecture
from tests.lab.image.errors import ImageError, run
from tests.lab.image.layer import Component, Layer, cached
from tests.lab.images import digest_of

PROJECT: Final = Path(__file__).parents[3]
REQUIREMENTS: Final = PROJECT / "requirements" / "image.txt"
COMMAND: Final = PROJECT / "operator" / "bin" / "countersign"
_LIBRARY: Final = contract.LIBRARY[1:]
_SCRIPT: Final = re.compile(r"[^/]+\.data/scripts/")
_DATA: Final = re.compile(r"[^/]+\.data/")
_GLIBC_MINOR: Final = 36
"""Debian 12 has glibc 2.36: wheels for older ones run on it (PEP 600)."""


def dependencies_layer(base: Layer) -> Layer:
    """The pinned wheels. From the cache, or built. Raises ImageError."""
    inputs = [base.digest, REQUIREMENTS.read_text(), *_recipe()]
    return cached("dependencies", inputs, lambda root: _dependencies(root, base))


def application_layer(base: Layer, sources: Path = PROJECT) -> Layer:
    """Our own wheel, of these sources, and the entry point. From the cache, or built. Raises ImageError."""
    with tempfile.TemporaryDirectory(prefix="countersign-wheel-") as folder:
        wheel = build_wheel(Path(folder), sources)
        inputs = [base.digest, digest_of(wheel.read_bytes()), COMMAND.read_text(), *_recipe()]
        return cached("application", inputs, lambda root: _application(root, base, wheel))


def build_wheel(folder: Path, sources: Path = PROJECT) -> Path:
    """Our wheel, the same bytes for the same sources: hatchling writes fixed times. Raises ImageError."""
    run(
        *(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)),
        doing="build the wheel (was `make dev` run?)",
        cwd=sources,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1580601600"},
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _dependencies(root: Path, base: Layer) -> list[Component]:
    with tempfile.TemporaryDirectory(prefix="countersign-wheels-") as folder:
        _download(Path(folder))
        components = [_unpack(wheel, root) for wheel in sorted(Path(folder).glob("*.whl"))]
    _compile(root, base)
    return components


def _application(root: Path, base: Layer, wheel: Path) -> list[Component]:
    component = _unpack(wheel, root)
    command = root / contract.COMMAND[1:]
    command.parent.mkdir(parents=True)
    shutil.copyfile(COMMAND, command)
    command.chmod(0o755)
    _compile(root, base)
    return [component]


def _download(folder: Path) -> None:
    machine = architecture().wheel
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC_MINOR, 16, -1)]  # the best first
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--only-binary=:all:", "--dest", str(folder), "--requirement", str(REQUIREMENTS)),
        *("--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "abi3", "--abi", "none"),
        *(f"--platform={platform}" for platform in (*platforms, f"manylinux2014_{machine}")),
        doing="download the pinned wheels",
    )


def _unpack(wheel: Path, root: Path) -> Component:
    """Installation as the wheel format has it (PEP 427), but for the commands that a wheel may bring."""
    target = root / _LIBRARY
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not _SCRIPT.match(name)]
        if other := [name for name in names if _DATA.match(name)]:
            raise ImageError(f"{wheel.name} holds {other[0]}, which would belong elsewhere: teach tests/lab/image to")
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA") and name.count("/") == 1)
        about = email.parser.BytesParser().parsebytes(archive.read(metadata))
        archive.extractall(target, names)
    name, version = str(about["Name"]).lower().replace("_", "-").replace(".", "-"), str(about["Version"])
    checksum = digest_of(wheel.read_bytes()).removeprefix("sha256:")
    return Component(name, version, f"pkg:pypi/{name}@{version}", checksum, _license(about))


def _license(about: email.message.Message) -> str:
    """PEP 639's expression; older fields hold free text."""
    return str(about["License-Expression"] or "")


def _compile(root: Path, base: Layer) -> None:
    with tempfile.TemporaryDirectory(prefix="countersign-base-") as folder:
        base.unpack(Path(folder))
        compile_below(root, _LIBRARY, base=Path(folder))


def _recipe() -> Sequence[str]:
    here = Path(__file__)
    return [path.read_text() for path in (here, here.with_name("bytecode.py"), here.with_name("contract.py"))]
