"""Where the content of evidence roots comes from."""

from functools import lru_cache
from typing import NamedTuple, Protocol

from countersign.signatures.roots import parse_trust_root, public_good_root
from countersign.trust.policies.policy import DEFAULT_ROOT


class RootContent(NamedTuple):
    """A trusted_root.json, and the name of its content."""

    hash: str
    """`sha256:<hex>` (`signatures.roots.TrustRoot.hash`)."""
    content: bytes


class Roots(Protocol):
    """The evidence roots that policies name."""

    def content(self, name: str) -> RootContent | None:
        """What this root holds now; None if there is none, or none that can be used. Asked with every request."""


class BuiltInRoots:
    """The public-good Sigstore's root, as the sigstore package carries it, and nothing else."""

    def content(self, name: str) -> RootContent | None:
        """As in Roots; read without the network, when it is first asked for."""
        return _public_good() if name == DEFAULT_ROOT else None


@lru_cache(1)
def _public_good() -> RootContent:
    content = public_good_root()
    return RootContent(parse_trust_root(content).hash, content)


class NoRoots:
    """There are none: no certificate vouches for anything."""

    def content(self, name: str) -> RootContent | None:
        """None."""
        del name
        return None
