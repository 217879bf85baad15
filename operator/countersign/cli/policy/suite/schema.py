"""The JSON Schema of files of cases, for editors: `python -m countersign.cli.policy.suite.schema FILE`."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from countersign.api.crds import model_schema
from countersign.cli.policy.suite.model import KIND, PolicyTest

_OPEN: Final = "x-kubernetes-preserve-unknown-fields"


def render() -> str:
    """The schema as JSON (draft 2020-12)."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND,
        **_strict(model_schema(PolicyTest)),
    }
    return json.dumps(schema, indent=2) + "\n"


def _strict(schema: Any) -> Any:
    """As JSON Schema has it: what an object does not name is refused, and nothing stays that only Kubernetes knows."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items() if not name.startswith("x-kubernetes-")}
    if schema.get("type") == "object" and "properties" in schema and not schema.get(_OPEN):
        strict["additionalProperties"] = False
    if schema.get("format") == "int64":
        strict.pop("format")
    return strict


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render())
