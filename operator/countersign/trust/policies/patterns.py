"""Regular expressions of policies: RE2's syntax and its promise of linear time (github.com/google/re2/wiki/Syntax).

Whoever may write a policy of one namespace must not be able to hold up the gate of all; Python's own `re` backtracks.
"""

import functools
from typing import Any, Final

from countersign.api.image_rule import MAX_PATTERN_LENGTH

MAX_VALUE_LENGTH: Final = 2048
"""Characters of a value that is matched at all. Issuers, subjects and extensions of certificates are shorter."""
_MAX_MEMORY: Final = 1 << 20
"""Bytes that one compiled expression may take (RE2's own bound is 8 MiB): an eighth of the time at the worst."""


class Pattern:
    """An expression that must match a value whole. One that cannot be compiled matches nothing."""

    __slots__ = ("_compiled", "problem", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._compiled, self.problem = _compile(text)

    def matches(self, value: str) -> bool:
        """Whether the expression matches all of the value."""
        if self._compiled is None or len(value) > MAX_VALUE_LENGTH:
            return False
        try:
            return self._compiled.fullmatch(value) is not None
        except UnicodeEncodeError:
            return False  # half of a surrogate pair, which no certificate holds


@functools.lru_cache(4096)
def _compile(text: str) -> tuple[Any, str]:
    """The compiled expression and an empty text, or None and what is wrong with it."""
    if len(text) > MAX_PATTERN_LENGTH:
        return None, f"longer than {MAX_PATTERN_LENGTH} characters"
    import re2  # 8 ms and 2 MiB, for policies that have expressions

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_MEMORY
    try:
        return re2.compile(text, options), ""
    except re2.error as error:
        found = error.args[0] if error.args else b""
        return None, found.decode(errors="replace") if isinstance(found, bytes) else str(found)
    except UnicodeEncodeError:
        return None, "it holds half of a surrogate pair"
