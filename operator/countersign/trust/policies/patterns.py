"""Regular expressions of policies: RE2's syntax and its promise of linear time (github.com/google/re2/wiki/Syntax).

Whoever may write a policy of one namespace must not be able to hold up the gate of all; Python's own `re` backtracks.
"""

import functools
from typing import Any, Final

from countersign.api.image_rule import MAX_PATTERN_LENGTH

MAX_VALUE_LENGTH: Final = 2048
"""Characters of a value that is matched at all. Issuers, subjects and extensions of certificates are shorter."""
_MAX_MEMORY: Final = 1 << 15
"""Bytes that one compiled expression may take (RE2's own bound is 8 MiB). At 1 MiB the worst took 50 ms to compile, at
this it takes a few; what people write takes a tenth of one."""
MAX_COMPILED: Final = 1024
"""Expressions that are kept compiled."""


class Pattern:
    """An expression that must match a value whole. One that cannot be compiled matches nothing."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        """Nothing is compiled before it is needed."""
        self.text: Final = text

    @property
    def problem(self) -> str:
        """What is wrong with it; empty: nothing."""
        return _compile(self.text)[1]

    def matches(self, value: str) -> bool:
        """Whether the expression matches all of the value."""
        if len(value) > MAX_VALUE_LENGTH:
            return False
        compiled, _ = _compile(self.text)
        try:
            return compiled is not None and compiled.fullmatch(value) is not None
        except UnicodeEncodeError:
            return False  # half of a surrogate pair, which no certificate holds

    @property
    def size(self) -> int:
        """Instructions of the compiled expression: what a character may cost, at worst. 0 if it cannot be compiled."""
        compiled, _ = _compile(self.text)
        return 0 if compiled is None else int(compiled.programsize)

    def occurs_in(self, value: str) -> bool:
        """Whether the expression matches some part of the value. Raises ValueError where that cannot be told."""
        compiled, problem = _compile(self.text)
        if problem or len(value) > MAX_VALUE_LENGTH:
            raise ValueError(problem or f"longer than {MAX_VALUE_LENGTH} characters")
        return compiled.search(value) is not None  # UnicodeEncodeError is a ValueError


@functools.lru_cache(MAX_COMPILED)
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
