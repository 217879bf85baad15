"""What is known of one use of a token, besides the token: told by the relying party that asks.

Who uses the token, and for what, only the relying party has seen. It stands for what it tells, as for what it then lets
through: whoever forwards a client's own words (a forged `X-Forwarded-For`) has only itself deceived, and so its owner's
rules. Nothing that the design holds as an invariant rests on it.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import quote

import msgspec

MAX_METHOD: Final = 32
MAX_PATH: Final = 2048
MAX_SCOPE: Final = 2048
MAX_SCOPES: Final = 64
"""What is longer counts as not told. Cut off, it would be another: a rule that asks whether all scopes are harmless
would see the first 64."""


_CHARACTER: Final = r"[A-Za-z0-9._~!$&'()*+,=:@-]"
_SEGMENT: Final = r"(?:/(?!\.{1,2}(?:/|$))%s+)"
_PLAIN: Final = re.compile(rf"{_SEGMENT % _CHARACTER}+/?|/")
# Encoded: what is no slash, backslash, percent sign, question mark, semicolon, number sign or control character.
_OTHER: Final = rf"(?:{_CHARACTER}|%(?!2F|5C|25|3F|3B|23|7F|0|1)[0-9A-F][0-9A-F])"
_ONE_READING: Final = re.compile(rf"{_SEGMENT % _OTHER}+/?|/")
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_ASCII: Final = "".join(map(chr, range(128)))


class Use(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One use. Empty: not told."""

    source_address: str = ""
    """IP address of the client, in its canonical form."""
    method: str = ""
    path: str = ""
    """As requested, with its query cut off (`one_reading` for comparing it)."""
    scopes: tuple[str, ...] = ()
    """What the relying party is about to let it do (RFC 6749 section 3.3)."""


UNTOLD: Final = Use()


def use_of(*, source_address: str = "", method: str = "", path: str = "", scope: str = "") -> Use:
    """A use from what a relying party sent. What cannot be read counts as not told."""
    if not (source_address or method or path or scope):
        return UNTOLD
    return Use(
        source_address=canonical_address(source_address),
        method=_within(method, MAX_METHOD).upper(),
        path=_within(path.partition("?")[0], MAX_PATH),
        scopes=_scopes(scope),
    )


def one_reading(path: str) -> str:
    """The path in its one form (RFC 3986 section 6.2.2.2); empty if whoever serves it may read another one.

    What stands before an upstream and what stands in it disagree about `.` and `..` segments, empty segments, encoded
    slashes, backslashes and `;` parameters. A rule that compares such a path would say nothing of what is served.
    """
    if _PLAIN.fullmatch(path):
        return path
    if not path.isascii():
        path = quote(path, safe=_ASCII)
    decoded = _ENCODED.sub(_unreserved, path)
    return decoded if _ONE_READING.fullmatch(decoded) else ""


def _unreserved(match: re.Match[str]) -> str:
    one = chr(int(match.group(1), 16))
    return one if one.isascii() and (one.isalnum() or one in "-._~") else match.group().upper()


def _within(text: str, limit: int) -> str:
    return text if len(text) <= limit else ""


def _scopes(text: str) -> tuple[str, ...]:
    found = tuple(_within(text, MAX_SCOPE).split())
    return found if len(found) <= MAX_SCOPES else ()


def canonical_address(text: str) -> str:
    """An IP address in its one form; IPv4 in IPv6 (RFC 4291 section 2.5.5.2) as IPv4. Empty: the text is none."""
    text = text.strip()
    if len(text) > 64:  # the longest form has 45 characters, and a zone
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
