"""A use that was judged is written down as a case, so that the rules can be tried on it from then on."""

import re
from pathlib import Path
from typing import Any, Final

from countersign.cli.files.manifests import documents
from countersign.cli.policy.suite.model import API_VERSION, KIND
from countersign.cli.policy.suite.recording import as_yaml

_USES: Final = re.compile(r"^uses:[ \t]*\n((?:[ \t]*-[ \t].*\n|[ \t]+.*\n|[ \t]*\n|[ \t]*#.*\n)*)", re.MULTILINE)
_ITEM: Final = re.compile(r"^([ \t]*)- ", re.MULTILINE)


class NotRecordedError(ValueError):
    """The file cannot take the case. The message says why."""


def record(path: Path, case: dict[str, Any]) -> None:
    """Write the case at the end of the file's `uses`, and make the file if there is none.

    Raises NotRecordedError, OSError.
    """
    before = path.read_text("utf-8") if path.exists() else f"apiVersion: {API_VERSION}\nkind: {KIND}\n"
    names = [one.get("name") for one in _uses(path)] if path.exists() else []
    if case["name"] in names:
        raise NotRecordedError(f"{path} has a use of the name {case['name']!r} already: give another one")
    path.write_text(with_use(before, case), "utf-8")


def with_use(text: str, case: dict[str, Any]) -> str:
    """The text of a file of cases, with one more use. Comments stay."""
    text = text if not text or text.endswith("\n") else text + "\n"
    found = _USES.search(text)
    if found is None:
        if re.search(r"^uses:", text, re.MULTILINE):
            raise NotRecordedError("its member `uses` is written on one line: write a use to a line")
        return f"{text}uses:\n{_item(case, '')}"
    item = _ITEM.search(found.group(1))
    kept = found.group(1).rstrip()
    end = found.start(1) + len(kept)
    rest = text[end:].removeprefix("\n")
    return f"{text[:end]}\n{_item(case, item.group(1) if item else '')}{rest}"


def _item(case: dict[str, Any], indent: str) -> str:
    lines = as_yaml([case]).splitlines(keepends=True)
    return "".join(f"{indent}{line}" if line.strip() else line for line in lines)


def _uses(path: Path) -> list[dict[str, Any]]:
    found = list(documents(path))
    if len(found) != 1 or found[0].content.get("kind") != KIND:
        raise NotRecordedError(f"{path} is no {KIND}")
    uses = found[0].content.get("uses") or []
    return [one for one in uses if isinstance(one, dict)]
