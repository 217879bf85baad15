"""What is known of one use of a token, besides the token: told by the relying party that asks.

Who uses the token, and for what, only the relying party has seen. It stands for what it tells, as for what it then lets
through: whoever forwards a client's own words (a forged `X-Forwarded-For`) has only itself deceived, and so its owner's
rules. Nothing that the design holds as an invariant rests on it.
"""

import ipaddress
from typing import Final

import msgspec

MAX_METHOD: Final = 32
MAX_PATH: Final = 2048
MAX_SCOPE: Final = 2048
MAX_SCOPES: Final = 64
"""What is longer is cut off, which can only make a rule hold less often: rules compare, and never search."""


class Use(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One use. Empty: not told."""

    source_address: str = ""
    """IP address of the client, in its canonical form."""
    method: str = ""
    path: str = ""
    """As requested, with its query cut off."""
    scopes: tuple[str, ...] = ()
    """What the relying party is about to let it do (RFC 6749 section 3.3)."""


UNTOLD: Final = Use()


def use_of(*, source_address: str = "", method: str = "", path: str = "", scope: str = "") -> Use:
    """A use from what a relying party sent. What cannot be read counts as not told."""
    if not (source_address or method or path or scope):
        return UNTOLD
    return Use(
        source_address=canonical_address(source_address),
        method=method[:MAX_METHOD].upper(),
        path=path.partition("?")[0][:MAX_PATH],
        scopes=tuple(scope[:MAX_SCOPE].split()[:MAX_SCOPES]),
    )


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
