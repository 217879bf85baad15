"""Where the content of evidence roots comes from."""

from typing import Protocol

from countersign.signatures.roots.known_roots import RootContent

__all__ = ["NoRoots", "RootContent", "Roots"]


class Roots(Protocol):
    """The evidence roots that policies name (`gate.state.GateState`, `signatures.roots.known_roots.KnownRoots`)."""

    def content(self, name: str) -> RootContent | None:
        """What this root holds now; None if there is none, or none that can be used. Asked with every request."""


class NoRoots:
    """There are none: no certificate vouches for anything."""

    def content(self, name: str) -> RootContent | None:
        """None."""
        del name
        return None
