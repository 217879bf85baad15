"""WWW-Authenticate: what a registry asks for (RFC 9110, section 11; token flow: distribution spec/auth/token.md)."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

MAX_HEADER_LENGTH: Final = 8190
"""The longest header field that aiohttp reads by default; longer values are cut before parsing."""
MAX_CHALLENGES: Final = 16

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
# A scheme is a token not followed by `=`; a parameter is `token = (token | quoted-string)`. Each step consumes text,
# and no alternative can match the same text in two ways, so the whole is linear.
_STEP = re.compile(
    rf"""[\s,]*(?P<name>{_WORD})(?:[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>{_WORD})))?""",
    re.ASCII | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Challenge(msgspec.Struct, frozen=True):
    """One way to authenticate that the server offers."""

    scheme: str
    """In lower case: `basic`, `bearer`, ..."""
    parameters: dict[str, str]
    """Names in lower case."""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read all WWW-Authenticate values of a response. What cannot be read is skipped: no bytes make this fail."""
    challenges: list[Challenge] = []
    for header in headers:
        for match in _steps(header[:MAX_HEADER_LENGTH]):
            name = match["name"].lower()
            if match["quoted"] is None and match["bare"] is None:
                if len(challenges) == MAX_CHALLENGES:
                    return challenges
                challenges.append(Challenge(name, {}))
            elif challenges:
                quoted = match["quoted"]
                value = match["bare"] if quoted is None else _ESCAPE.sub(r"\1", quoted)
                challenges[-1].parameters.setdefault(name, value)
    return challenges


def _steps(text: str) -> Iterable[re.Match[str]]:
    position = 0
    while match := _STEP.match(text, position):
        yield match
        position = match.end()
