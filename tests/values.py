"""docs/values.md: every value of the chart with its default and its description, from the chart's own files.

python -m tests.values docs/values.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.render import CHART

HEADER = """# Values of the chart

Written by `make generate` from `charts/countersign/values.yaml` and `values.schema.json`. Do not edit. Helm refuses a
name that is not here.

| value | default | what it is |
|---|---|---|
"""


def page() -> str:
    """The page, complete."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = (f"| `{path}` | {_code(default)} | {about} |\n" for path, default, about in _rows(values, schema, schema))
    return HEADER + "".join(rows)


def _rows(values: Mapping[str, Any], schema: Any, root: Any, above: str = "") -> Iterator[tuple[str, Any, str]]:
    """Path, default and description of each value that is no group of values, in the order of values.yaml."""
    for name, default in values.items():
        member = schema["properties"][name]
        path = f"{above}{name}"
        if "properties" in member:
            yield from _rows(default, member, root, f"{path}.")
            continue
        reference = member.get("$ref", "").rpartition("/")[2]
        about = member.get("description") or root["definitions"][reference]["description"]
        yield path, default, about + "".join(f" {words}" for words in _bounds(member))


def _bounds(member: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in member:
        yield f"One of {', '.join(f'`{one}`' for one in member['enum'])}."
    if "minimum" in member and "maximum" in member:
        yield f"{member['minimum']} to {member['maximum']}."


def _code(default: Any) -> str:
    return f"`{json.dumps(default)}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
