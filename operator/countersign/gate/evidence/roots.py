"""Where the content of evidence roots comes from."""

from typing import NamedTuple, Protocol


class RootContent(NamedTuple):
    """A trusted_root.json, and the name of its content."""

    hash: str
    """`sha256:<hex>` (`signatures.roots.TrustRoot.hash`)."""
    content: bytes


class Roots(Protocol):
    """The evidence roots that policies name."""

    def content(self, name: str) -> RootContent | None:
        """What this root holds now; None if there is none, or none that can be used. Asked with every request."""


class NoRoots:
    """There are none: no certificate vouches for anything."""

    def content(self, name: str) -> RootContent | None:
        """None."""
        del name
        return None
