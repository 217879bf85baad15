"""Values that an expression came upon, as a person reads them: short, printable, and never more than they are."""

import json
from typing import Final

MAX_VALUE_LENGTH: Final = 80


def shown(value: object, limit: int = MAX_VALUE_LENGTH) -> str:
    """A value in so many characters: a scalar as in JSON, cut where it is too long; all else by its size."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {len(value)} members"
    if isinstance(value, str):
        return cut(printable(json.dumps(value[: limit + 1], ensure_ascii=False)), limit)
    if value is None or isinstance(value, bool | int | float):
        return cut(json.dumps(value), limit)
    return cut(printable(str(value)), limit)


def printable(text: str) -> str:
    """What could not be seen, or would turn the text around, as its escape."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def cut(text: str, limit: int) -> str:
    """The text in so many characters, 8 at the least."""
    limit = max(limit, 8)
    return text if len(text) <= limit else text[: limit - 1] + "…"
