"""Programs that come as wheels: pinned with hashes in requirements/, installed once into the cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.locks import exclusive
from tests.lab.programs import cache_dir

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


class WheelError(Exception):
    """A wheel is not pinned, or does not install; the message holds what pip said."""


def installed(project: str, pins: Path, folder: str, *, on_install: Callable[[], None] = lambda: None) -> Path:
    """The folder of a project's wheel, in the version that `pins` names. Raises WheelError.

    `folder`: its name in the cache. `on_install` is called before anything is downloaded, which takes a while.
    """
    pin = re.search(rf"^{re.escape(project)}==(\S+)", pins.read_text(), re.MULTILINE)
    if not pin:
        raise WheelError(f"{pins} pins no {project}: run `make requirements`")
    home = cache_dir() / folder / pin[1]
    with exclusive(cache_dir() / "locks" / f"{folder}-{pin[1]}.lock"):
        if not home.exists():
            on_install()
            _install(pins, home)
    return home


def _install(pins: Path, home: Path) -> None:
    partial = home.with_name(f"{home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", "--target", partial, "-r", pins),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise WheelError(f"{pins.name} does not install:\n{answer.stderr.strip()}")
    partial.rename(home)
