"""Pages of the cookbook, taken apart: files, commands, and what cannot be run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (?P<name>[\w./-]+\.(ya?ml|json))\n")
_CONTENT = re.compile(r"(?P<indent>[ ]*)\.\.\. \((?P<file>[\w.-]+)\)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: ```` ```LANGUAGE NAME=VALUE ... ````."""

    language: str
    options: Mapping[str, str]
    text: str
    line: int

    @property
    def file(self) -> str:
        """The file that it is, named by its first line; empty: it is none."""
        found = _NAME.match(self.text)
        return self.options.get("file") or (found["name"] if found else "")


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        language, *options = shlex.split(found["info"]) or [""]
        named = dict(option.split("=", 1) for option in options)
        yield Block(language, named, found["text"], text.count("\n", 0, found.start()) + 1)


def with_files(text: str, folder: Path) -> str:
    """The text with each `... (FILE)` replaced by what stands in that file, of a PEM file by its body."""

    def content(found: re.Match[str]) -> str:
        lines = (folder / found["file"]).read_text().strip().splitlines()
        if found["file"].endswith(".pub"):
            lines = lines[1:-1]
        return "".join(f"{found['indent']}{line}\n" for line in lines)

    return _CONTENT.sub(content, text)


@dataclass(frozen=True)
class Step:
    """A command of a pipeline, with its variables."""

    command: str
    variables: Mapping[str, Any]


def pipeline_steps(document: Any) -> Iterator[Step]:
    """The commands of a GitHub workflow, or of a GitLab pipeline; none if it is neither."""
    if not isinstance(document, dict) or "apiVersion" in document:
        return
    for job in document.get("jobs", {}).values():
        for step in job.get("steps", ()):
            if "run" in step:
                yield Step(step["run"], {**job.get("env", {}), **step.get("env", {})})
    for job in document.values():
        if isinstance(job, dict) and isinstance(job.get("script"), list):
            yield from (Step(line, job.get("variables", {})) for line in job["script"])
