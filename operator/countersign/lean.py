"""Imports without the optional companions that a library loads wherever they are installed.

Stands beside the rooms, like `tls.py`: a service keeps no package in memory that it never calls, whoever installed it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """While it lasts, these packages seem not to be installed, unless they are loaded already."""
    modules: dict[str, Any] = sys.modules
    absent = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(absent))  # None makes an import fail (Python reference, "The module cache")
    try:
        yield
    finally:
        for name in absent:
            del modules[name]
