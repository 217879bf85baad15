"""Names of Kubernetes objects and of their parts, made from what people call things."""

import re
from typing import Final

_MAX_NAME: Final = 63


def dns_label(text: str) -> str:
    """A name of a Kubernetes object that looks like the text (RFC 1123 label)."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_MAX_NAME].strip("-") or "images"


def unused(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken; takes it."""
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name[: _MAX_NAME - 4]}-{number}"
    taken.add(chosen)
    return chosen
