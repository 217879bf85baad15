"""Evidence roots: whose certificates, logs and timestamps are believed."""

from typing import Final


class TrustRoot:
    """One root's content, read. Two are equal if their hashes are."""

    __slots__ = ("anchors", "hash")

    def __init__(self, content_hash: str, anchors: frozenset[str]) -> None:
        """`content_hash` is `sha256:<hex>` of the canonical content."""
        self.hash: Final = content_hash
        self.anchors: Final = anchors

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustRoot) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)
