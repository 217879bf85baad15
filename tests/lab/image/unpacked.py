"""The image's file system on disk, in which its programs run by `chroot.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.image import contract
from tests.lab.image.build import BuiltImage

_LAUNCHER = Path(__file__).with_name("chroot.py")


class Unpacked:
    """An unpacked image. Running something needs root."""

    def __init__(self, image: BuiltImage, folder: Path) -> None:
        """`folder`: empty; other users must be able to enter it."""
        self.root = image.unpack(folder)
        folder.chmod(0o755)
        (self.root / "proc").mkdir()
        pairs = [f"{name}={value}" for name, value in contract.ENVIRONMENT.items()]
        (self.root / ".environment").write_text("\n".join(pairs) + "\n")

    def command(self, *files: Path, program: str = contract.COMMAND) -> tuple[str, ...]:
        """What to put in front of the arguments of this program; `files` are there under their own paths."""
        return (sys.executable, "-I", "-S", str(_LAUNCHER), str(self.root), ":".join(map(str, files)), program)

    def run(
        self, *args: str, files: Sequence[Path] = (), program: str = contract.COMMAND
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, with its output."""
        return subprocess.run(
            [*self.command(*files, program=program), *args], capture_output=True, text=True, check=False, timeout=60
        )


def cannot_run() -> str:
    """Why no image can be run this way; empty if it can."""
    return "" if os.geteuid() == 0 else "running an unpacked image takes root (chroot, mounts)"
