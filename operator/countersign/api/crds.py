"""Writes the CustomResourceDefinitions from the typed models: `python -m countersign.api.crds FOLDER`.

A model says everything that its schema needs (`api.schema`); what it leaves unsaid is an error here, above all a list,
map or string without a bound: the API server needs bounds to tell what a CEL rule may cost (KEP-2876).
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from msgspec import inspect

from countersign.api.names import CATEGORY, GROUP, VERSION
from countersign.api.objects import KINDS, CustomResource
from countersign.api.schema import Column, Reserved, Rule

Schema = dict[str, Any]

MAX_RESERVED_ITEMS: Final = 64
"""Bound of a reserved list. Any item is refused; only its type must be known."""

_HEADER: Final = "# Written by `make generate` from operator/countersign/api. Do not edit.\n"
_API_VERSION_DOC: Final = "Version of the schema of this object: countersign.dev/v1alpha1."
_KIND_DOC: Final = "Kind of this object."


class ModelError(Exception):
    """A model does not say enough for a schema. The message names the member and what to add."""


def crd(kind: type[CustomResource]) -> Schema:
    """The CustomResourceDefinition (apiextensions.k8s.io/v1) of one kind. Raises ModelError."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "countersign"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.NAMESPACED else "Cluster",
            "names": {
                "kind": kind.KIND,
                "listKind": f"{kind.KIND}List",
                "plural": kind.PLURAL,
                "singular": kind.KIND.lower(),
                "shortNames": list(kind.SHORT_NAMES),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.COLUMNS],
                }
            ],
        },
    }


def model_schema(model: type[msgspec.Struct]) -> Schema:
    """The schema of any model, as it would stand in a CustomResourceDefinition. Raises ModelError."""
    return _struct(model, model.__name__)


def write(folder: Path) -> list[Path]:
    """Write one YAML file per kind into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in KINDS:
        path = folder / f"{kind.PLURAL}.yaml"
        path.write_text(render(kind))
        paths.append(path)
    return paths


def render(kind: type[CustomResource]) -> str:
    """The CRD of one kind as a YAML document."""
    return _HEADER + yaml.dump(crd(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def _root(kind: type[CustomResource]) -> Schema:
    schema = _struct(kind, kind.KIND)
    # Metadata is the API server's own; naming its members here would only restrict them.
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": _API_VERSION_DOC},
        "kind": {"type": "string", "description": _KIND_DOC},
        **schema["properties"],
        "metadata": {"type": "object"},
    }
    return schema


def _struct(cls: type[msgspec.Struct], path: str) -> Schema:
    info = inspect.type_info(cls)
    if not isinstance(info, inspect.StructType):
        raise ModelError(f"{path}: {cls.__name__} is not a struct")
    properties: Schema = {}
    for field in info.fields:
        if field.encode_name == "metadata":
            continue
        properties[field.encode_name] = _field(field, f"{path}.{field.encode_name}")
    reserved: dict[str, Reserved] = getattr(cls, "RESERVED", {})
    if shadowed := reserved.keys() & properties.keys():
        raise ModelError(f"{path}: {', '.join(sorted(shadowed))} is both a field and reserved; drop it from RESERVED")
    properties |= {name: _reserved(member) for name, member in reserved.items()}
    schema: Schema = {"type": "object", "description": _first_paragraph(cls, path), "properties": properties}
    if required := [field.encode_name for field in info.fields if field.required]:
        schema["required"] = required
    rules = (
        *getattr(cls, "RULES", ()),
        *(Rule(f"!has(self.{name})", member.message, name) for name, member in reserved.items()),
    )
    if rules:
        schema["x-kubernetes-validations"] = [_rule(rule) for rule in rules]
    return schema


def _field(field: inspect.Field, path: str) -> Schema:
    schema = _type(field.type, path)
    if not schema.get("description"):
        raise ModelError(f"{path} has no description: annotate it with doc(...)")
    default = field.default_factory() if callable(field.default_factory) else field.default
    if isinstance(default, msgspec.Struct):
        # Written out: the API server judges a default by the rules before it would fill the members of {}.
        if members := _member_defaults(schema):
            schema["default"] = members
    elif default is not msgspec.NODEFAULT and default:
        schema["default"] = msgspec.to_builtins(default)
    return schema


def _member_defaults(schema: Schema) -> Schema:
    members = schema.get("properties", {})
    return {name: member["default"] for name, member in members.items() if "default" in member}


def _type(kind: inspect.Type, path: str, extra: Schema | None = None) -> Schema:
    """The schema of a type; `extra` is what doc() says beyond msgspec's own constraints."""
    extra = extra or {}
    match kind:
        case inspect.Metadata():
            schema = _type(kind.type, path, {**extra, **(kind.extra or {})})
            description = (kind.extra_json_schema or {}).get("description")
            return {**schema, "description": description} if description else schema
        case inspect.UnionType(types=members):
            present = [member for member in members if not isinstance(member, inspect.NoneType)]
            if len(present) != 1:
                raise ModelError(f"{path} is a union of {len(present)} types: a schema needs one, or None besides it")
            return _type(present[0], path, extra)
        case inspect.StructType():
            return _with_rules(_struct(kind.cls, path), extra)
        case inspect.LiteralType(values=values):
            return _with_rules({"type": "string", "enum": list(values)}, extra)
        case inspect.BoolType():
            return _with_rules({"type": "boolean"}, extra)
        case inspect.IntType():
            bounds = {"minimum": kind.ge, "maximum": kind.le}
            return _with_rules({"type": "integer", "format": "int64", **_given(bounds)}, extra)
        case inspect.StrType():
            return _with_rules(_string(kind, path, extra), extra)
        case inspect.VarTupleType() | inspect.ListType():
            return _with_rules(_list(kind, path, extra), extra)
        case inspect.DictType():
            return _with_rules(_map(kind, path), extra)
    raise ModelError(f"{path}: no schema for {type(kind).__name__}")


def _string(kind: inspect.StrType, path: str, extra: Schema) -> Schema:
    schema = {"type": "string", "minLength": kind.min_length, "maxLength": kind.max_length, "pattern": kind.pattern}
    schema["format"] = extra.get("format")
    if kind.max_length is None and schema["format"] != "date-time":
        raise ModelError(f"{path} is a string without a bound: give it max_length")
    return _given(schema)


def _list(kind: inspect.VarTupleType | inspect.ListType, path: str, extra: Schema) -> Schema:
    if kind.max_length is None:
        raise ModelError(f"{path} is a list without a bound: give it max_length")
    items = kind.item_type
    if isinstance(items, inspect.StrType):
        bounds: Schema = extra.get("items", {})
        items = msgspec.structs.replace(
            items,
            min_length=bounds.get("minLength", items.min_length),
            max_length=bounds.get("maxLength", items.max_length),
            pattern=bounds.get("pattern", items.pattern),
        )
    schema: Schema = {"type": "array", "minItems": kind.min_length, "maxItems": kind.max_length}
    schema["items"] = _type(items, f"{path}[]")
    if keys := extra.get("map_keys"):
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    else:
        schema["x-kubernetes-list-type"] = "set" if extra.get("unique") else "atomic"
    return _given(schema)


def _map(kind: inspect.DictType, path: str) -> Schema:
    if isinstance(kind.value_type, inspect.AnyType):
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if kind.max_length is None:
        raise ModelError(f"{path} is a map without a bound: give it max_length")
    return {
        "type": "object",
        "maxProperties": kind.max_length,
        "additionalProperties": _type(kind.value_type, f"{path}{{}}"),
    }


def _reserved(member: Reserved) -> Schema:
    schema: Schema = {"type": member.type, "description": f"Reserved: {member.message}."}
    match member.type:
        case "string":
            schema["maxLength"] = 253
        case "array":
            schema["maxItems"] = MAX_RESERVED_ITEMS
            schema["items"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            schema["x-kubernetes-list-type"] = "atomic"
        case "object":
            schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _with_rules(schema: Schema, extra: Schema) -> Schema:
    if rules := extra.get("rules"):
        schema["x-kubernetes-validations"] = [
            *schema.get("x-kubernetes-validations", []),
            *(_rule(rule) for rule in rules),
        ]
    return schema


def _rule(rule: Rule) -> Schema:
    schema = {"rule": rule.expression, "message": rule.message}
    if rule.field_path:
        schema["fieldPath"] = f".{rule.field_path}"
    return schema


def _column(column: Column) -> Schema:
    schema: Schema = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }
    return {**schema, "priority": column.priority} if column.priority else schema


def _first_paragraph(cls: type, path: str) -> str:
    text = (cls.__doc__ or "").strip().split("\n\n")[0]
    if not text:
        raise ModelError(f"{path}: {cls.__name__} has no docstring")
    return " ".join(text.split())


def _given(members: Schema) -> Schema:
    return {key: value for key, value in members.items() if value is not None}


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, and never writes anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(argv: list[str] | None = None) -> int:
    """Command line: write the files and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files go, such as charts/countersign/files/crds")
    for path in write(parser.parse_args(argv).folder):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
