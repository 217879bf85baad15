"""An object against the schema of its CRD, as far as that is possible without the API server: all but the CEL rules.

Decoding alone would skip what a model does not know, so that a misspelt member would seem to be in force.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from countersign.api.crds import crd, model_schema
from countersign.api.objects import CustomResource

Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
}
_OPEN = "x-kubernetes-preserve-unknown-fields"
_RESERVED = "Reserved: "


class SchemaProblem(NamedTuple):
    """What is wrong, and where."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def problems(kind: type[CustomResource], obj: Mapping[str, Any]) -> tuple[SchemaProblem, ...]:
    """Every way in which the object does not fit its kind's schema; `status` and `metadata` are not looked at."""
    looked_at = {name: value for name, value in obj.items() if name not in ("metadata", "status")}
    return tuple(_check(looked_at, _schema(kind), ""))


def model_problems(model: type[msgspec.Struct], obj: Mapping[str, Any]) -> tuple[SchemaProblem, ...]:
    """Every way in which the object does not fit a model that is no kind of the API server's."""
    return tuple(_check(obj, _model_schema(model), ""))


_model_schema = cache(model_schema)


@cache
def _schema(kind: type[CustomResource]) -> Schema:
    schema: Schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _check(value: Any, schema: Schema, path: str) -> Iterator[SchemaProblem]:
    wanted = schema.get("type", "")
    # bool is an int to Python, not to JSON.
    if not isinstance(value, _TYPES[wanted]) or (wanted == "integer" and isinstance(value, bool)):
        yield SchemaProblem(path or ".", f"expected {_article(wanted)}, found {_shown(value)}")
    elif isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, list):
        yield from _array(value, schema, path)
    else:
        yield from _scalar(value, schema, path)


def _object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[SchemaProblem]:
    properties: Schema = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield SchemaProblem(_join(path, name), "is required")
    if len(value) > schema.get("maxProperties", len(value)):
        yield SchemaProblem(path, f"has more than {schema['maxProperties']} members")
    for name, member in value.items():
        below = properties.get(name) or schema.get("additionalProperties")
        where = _join(path, str(name))
        if below is not None and str(below.get("description", "")).startswith(_RESERVED):
            yield SchemaProblem(where, below["description"].removeprefix(_RESERVED).rstrip("."))
        elif below is not None:
            yield from _check(member, below, where)
        elif not schema.get(_OPEN):
            close = difflib.get_close_matches(str(name), properties, n=1)
            yield SchemaProblem(where, f"is unknown{f': did you mean {close[0]}?' if close else ''}")


def _array(value: list[Any], schema: Schema, path: str) -> Iterator[SchemaProblem]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        bounds = f"{schema.get('minItems', 0)} to {schema.get('maxItems')}"
        yield SchemaProblem(path, f"takes {bounds} items, found {len(value)}")
    for index, item in enumerate(value):
        yield from _check(item, schema["items"], f"{path}[{index}]")
    if schema.get("x-kubernetes-list-type") == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        seen = [tuple(item.get(key) for key in keys) if isinstance(item, dict) else () for item in value]
    elif schema.get("x-kubernetes-list-type") == "set":
        keys, seen = ["value"], [(item,) for item in value if isinstance(item, str)]
    else:
        return
    for index, one in enumerate(seen):
        if one and one in seen[:index]:
            yield SchemaProblem(f"{path}[{index}]", f"repeats the {', '.join(keys)} {', '.join(map(str, one))}")


def _scalar(value: Any, schema: Schema, path: str) -> Iterator[SchemaProblem]:
    if "enum" in schema and value not in schema["enum"]:
        yield SchemaProblem(path, f"must be one of {', '.join(schema['enum'])}, found {_shown(value)}")
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield SchemaProblem(path, f"must have {schema.get('minLength', 0)} to {schema['maxLength']} characters")
        elif "pattern" in schema and not re.search(schema["pattern"], value):
            yield SchemaProblem(path, f"{_shown(value)} does not match {schema['pattern']}")
    elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield SchemaProblem(path, f"must be from {schema.get('minimum')} to {schema.get('maximum')}, found {value}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _article(type_: str) -> str:
    return f"an {type_}" if type_[0] in "aio" else f"a {type_}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
