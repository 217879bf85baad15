"""An append-only Merkle tree with inclusion proofs, RFC 6962 section 2.1."""

from __future__ import annotations

import hashlib


class MerkleTree:
    """Keeps every leaf's hash; a root or proof is computed anew, which a lab's few entries allow."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []

    def append(self, entry: bytes) -> int:
        """Add an entry; returns its index."""
        self._leaves.append(leaf_hash(entry))
        return len(self._leaves) - 1

    @property
    def size(self) -> int:
        return len(self._leaves)

    def root(self) -> bytes:
        """Hash of the whole tree (MTH)."""
        return _root(self._leaves)

    def proof(self, index: int) -> list[bytes]:
        """Hashes from the leaf's sibling up to the root's child (PATH)."""
        return _path(index, self._leaves)


def leaf_hash(entry: bytes) -> bytes:
    """Hash of a leaf, apart from a node's by its prefix."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return hashlib.sha256(b"\x01" + _root(leaves[:split]) + _root(leaves[split:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*_path(index, leaves[:split]), _root(leaves[split:])]
    return [*_path(index - split, leaves[split:]), _root(leaves[:split])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
