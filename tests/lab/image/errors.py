"""Why no image could be built."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ImageError(Exception):
    """The image cannot be built here; the message says what is missing and what to do."""


def run(*args: str | Path, doing: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program; returns its stdout. Raises ImageError with what it said."""
    try:
        answer = subprocess.run(args, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ImageError(f"{doing}: {args[0]} cannot be run: {error.strerror}") from error
    if answer.returncode:
        raise ImageError(f"{doing}: {Path(args[0]).name} ended with {answer.returncode}:\n{_tail(answer)}")
    return answer.stdout


def _tail(answer: subprocess.CompletedProcess[str]) -> str:
    said: Sequence[str] = (answer.stderr or answer.stdout).strip().splitlines()
    return "\n".join(said[-15:])
