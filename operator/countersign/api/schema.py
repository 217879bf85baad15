"""What a model says about itself beyond its Python types, for the CRD generator (`api/crds.py`).

A field says it with `Annotated[T, doc("...", ...)]`; a struct says it with two class variables:
`RULES` (CEL validation, KEP-2876) and `RESERVED` (members that this release refuses, by their name on the wire).
"""

from typing import Any, Literal, NamedTuple

import msgspec


class Rule(NamedTuple):
    """One `x-kubernetes-validations` entry. `message` tells the reader what to write instead."""

    expression: str
    message: str
    field_path: str = ""


class Reserved(NamedTuple):
    """A member that the design names and this release refuses, with the JSON type that it will have.

    The type is needed: CEL sees no member without one, and a member that the schema leaves out would be dropped silently.
    """

    type: Literal["string", "object", "array"]
    message: str


def doc(
    description: str,
    *,
    rules: tuple[Rule, ...] = (),
    map_keys: tuple[str, ...] = (),
    unique: bool = False,
    item_max_length: int | None = None,
    item_pattern: str | None = None,
    item_min_length: int | None = None,
    string_format: str | None = None,
    **constraints: Any,
) -> msgspec.Meta:
    """The description and constraints of a field.

    `map_keys` makes the list a `listType: map`, `unique` a `listType: set`; `item_*` bound the strings of a list;
    `constraints` are msgspec's own (`min_length`, `max_length`, `pattern`, `ge`, `le`) and hold in Python, too.
    """
    extra: dict[str, Any] = {}
    if rules:
        extra["rules"] = rules
    if map_keys:
        extra["map_keys"] = map_keys
    if unique:
        extra["unique"] = True
    items = {"maxLength": item_max_length, "pattern": item_pattern, "minLength": item_min_length}
    items = {key: value for key, value in items.items() if value is not None}
    if items:
        extra["items"] = items
    if string_format:
        extra["format"] = string_format
    return msgspec.Meta(description=description, extra=extra, **constraints)


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Base of every model: immutable, camelCase on the wire, unknown members skipped."""


class Column(NamedTuple):
    """One printer column. `priority` 1 shows it with `-o wide` only."""

    name: str
    type: str
    json_path: str
    description: str
    priority: int = 0
