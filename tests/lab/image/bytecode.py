"""Bytecode by the image's own interpreter, which the image's own dynamic linker runs in place: no root, no chroot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.lab.image.contract import PYTHON
from tests.lab.image.debian import architecture
from tests.lab.image.errors import run

# One process, files in order: what `marshal` writes depends on which strings are shared with what was compiled before.
_COMPILE: Final = """
import compileall, py_compile, sys
root, *folders = sys.argv[1:]
for folder in folders:
    compileall.compile_dir(
        folder, quiet=1, stripdir=root, prependdir="/", maxlevels=50, workers=1, force=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
"""


def interpreter(base: Path) -> list[str]:
    """The command that runs the Python of an unpacked base."""
    machine = architecture()
    libraries = ":".join(str(base / folder) for folder in machine.libraries)
    return [str(base / machine.loader), "--library-path", libraries, str(base / PYTHON[1:])]


def compile_below(root: Path, folder: str, *, base: Path) -> None:
    """Write the bytecode of all sources below `root/folder`, beside them.

    It is never compared with its source ("unchecked", PEP 552): nothing can write either in a running container.
    What cannot be compiled (templates, tests of syntax errors) is left as it is. Raises ImageError.
    """
    # Sets in constants are written in the order of their hashes.
    env = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"}
    command = [*interpreter(base), "-S", "-s", "-c", _COMPILE, str(root), str(root / folder)]
    run(*command, doing=f"compile {folder}", env=env)
