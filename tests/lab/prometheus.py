"""Prometheus' own reading of queries and rules: its parser (`promql`), and `promtool`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tests.lab import builder

GROUP = "prometheus"


class Selector(msgspec.Struct):
    """`metric{label="value"}` in an expression."""

    metric: str
    labels: tuple[str, ...]
    values: tuple[str, ...]
    """Operator and value of each matcher, in the order of `labels`."""
    range: bool
    """Whether it is of a range: `[5m]`."""


class Grouping(msgspec.Struct):
    """Labels by which an aggregation groups, or vectors are matched, and the metrics below."""

    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]


class Said(msgspec.Struct):
    """What an expression names."""

    selectors: tuple[Selector, ...]
    groupings: tuple[Grouping, ...]
    error: str = ""


def read(expressions: Iterable[str]) -> list[Said]:
    """Each expression as the parser of Prometheus reads it."""
    lines = "".join(json.dumps(one) + "\n" for one in expressions)
    answer = subprocess.run([_program("promql")], input=lines, capture_output=True, text=True, check=True)
    return [msgspec.json.decode(line, type=Said) for line in answer.stdout.splitlines()]


def promtool(arguments: Sequence[str | Path], *, stdin: str = "") -> tuple[int, str]:
    """Exit code of promtool, and all that it says."""
    answer = subprocess.run(
        [_program("promtool"), *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    return answer.returncode, answer.stdout + answer.stderr


def _program(name: str) -> Path:
    return builder.ensure([name])[name]
