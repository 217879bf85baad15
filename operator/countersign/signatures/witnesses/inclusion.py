"""Inclusion proofs: that a transparency log has an entry, by a checkpoint that the log has signed.

Sources: RFC 9162, section 2.1.3.2 (the proof); C2SP signed-note and tlog-checkpoint (the checkpoint), of which Rekor
v1's differs in the names only. A log is known by the key ID that the evidence root gives it, whose first four bytes
stand before each signature.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.encodings import decode
from countersign.signatures.roots.trust_root import Log

MAX_HASHES: Final = 64
"""A log of 2^63 entries needs 63."""
MAX_CHECKPOINT_LENGTH: Final = 8 * 1024
MAX_NOTE_SIGNATURES: Final = 32
"""The log's own, and its witnesses'."""


class InclusionProof(NamedTuple):
    """Where an entry stands in a tree, and the hashes beside its way to the root."""

    leaf_index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


def verify_inclusion(proof: InclusionProof, body: bytes, log: Log) -> None:
    """Raises SignatureError unless the log has signed for a tree with this very entry in it."""
    if root_hash(proof.leaf_index, proof.size, body, proof.hashes) != proof.root:
        raise SignatureError("Untrusted", "the inclusion proof is that of another entry, or another tree")
    if signed_tree(proof.checkpoint, log) != (proof.size, proof.root):
        raise SignatureError("Untrusted", "the checkpoint is that of another tree than the inclusion proof's")


def root_hash(index: int, size: int, body: bytes, hashes: Sequence[bytes]) -> bytes:
    """The tree's root hash that the proof leads to (RFC 9162, section 2.1.3.2). Raises SignatureError."""
    if not 0 <= index < size or len(hashes) > MAX_HASHES or any(len(one) != 32 for one in hashes):
        raise SignatureError("Malformed", "the inclusion proof does not fit any tree")
    fn, sn = index, size - 1
    value = hashlib.sha256(b"\x00" + body).digest()
    for sibling in hashes:
        if sn == 0:
            raise SignatureError("Malformed", "the inclusion proof is longer than its tree is high")
        if fn & 1 or fn == sn:
            value = hashlib.sha256(b"\x01" + sibling + value).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = hashlib.sha256(b"\x01" + value + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise SignatureError("Malformed", "the inclusion proof is shorter than its tree is high")
    return value


def signed_tree(checkpoint: str, log: Log) -> tuple[int, bytes]:
    """Size and root hash of the tree that the log has signed. Raises SignatureError."""
    if len(checkpoint) > MAX_CHECKPOINT_LENGTH:
        raise SignatureError("Malformed", f"the checkpoint is longer than {MAX_CHECKPOINT_LENGTH} characters")
    text, blank, signatures = checkpoint.rpartition("\n\n")
    text += "\n"
    lines = text.split("\n")
    if not blank or "\n\n" in text or len(lines) < 4 or not lines[0] or not signatures.endswith("\n"):
        raise SignatureError("Malformed", "the checkpoint is no signed note")
    if not any(log.key.verify(one, text.encode("utf-8", "surrogatepass")) for one in _signatures(signatures, log)):
        raise SignatureError("Untrusted", "the checkpoint is not signed by the log")
    if not (lines[1].isascii() and lines[1].isdigit() and len(lines[1]) <= 19):
        raise SignatureError("Malformed", "the checkpoint says no tree size")
    return int(lines[1]), decode(lines[2], "the checkpoint's root hash")


def _signatures(block: str, log: Log) -> list[bytes]:
    found = []
    for line in block[:-1].split("\n")[:MAX_NOTE_SIGNATURES]:
        dash, _, rest = line.partition(" ")
        name, _, text = rest.partition(" ")
        if dash != "\N{EM DASH}" or not name:
            raise SignatureError("Malformed", "the checkpoint has a line that is no signature")
        raw = decode(text, "a signature of the checkpoint")
        if raw[:4] == log.key_id[:4]:
            found.append(raw[4:])
    return found
