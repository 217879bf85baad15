"""Which HMAC keys sign and verify admission receipts at a given moment, and when they are rotated. Pure in `now`.

    created ── PROPAGATION ──► signs ── until its successor signs ──► verifies only ── RETENTION ──► dropped
    (verifies from the start)

Gate replicas and the controller read the keys at different moments: a key is published before anything is signed with
it. A revoked key is dead at once, whatever its age; its mark stays after the key was dropped, since pods that run for
long rest on it. No key older than a revoked one signs again: whoever read that one may have read the older ones, too.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

SECRET_BYTES: Final = 32
"""HS256 keys are as long as the hash (RFC 7518 section 3.2)."""
KEY_ID_BYTES: Final = 8
PROPAGATION: Final = timedelta(seconds=60)
"""How long a new key is published before it signs."""
ROTATE_AFTER: Final = timedelta(days=7)
RETENTION: Final = timedelta(days=30)
"""How long a receipt stays readable after its key stopped signing: longer than a controller is ever away. A pod whose
receipt is older than that when it is first judged gets no grant and must be created anew."""
MAX_KEYS: Final = 32
MAX_REVOKED: Final = 64


@dataclass(frozen=True)
class ReceiptKey:
    """One symmetric key and the id by which receipts name it."""

    id: str
    secret: bytes
    created_at: datetime

    def __repr__(self) -> str:
        return f"ReceiptKey(id={self.id!r}, created_at={self.created_at.isoformat()})"  # never the secret


@dataclass(frozen=True)
class ReceiptKeys:
    """All keys that verify, oldest first, and the ids that must never be believed again."""

    keys: tuple[ReceiptKey, ...]
    revoked: frozenset[str] = frozenset()

    def signing_key(self, now: datetime) -> ReceiptKey | None:
        """The newest key that has been published for PROPAGATION; else the oldest that may sign; None if none may."""
        usable = self.signers()
        published = [key for key in usable if key.created_at + PROPAGATION <= now]
        return published[-1] if published else next(iter(usable), None)

    def signers(self) -> tuple[ReceiptKey, ...]:
        """The keys that may sign, now or later: those that are younger than every revoked one."""
        last = max((at for at, key in enumerate(self.keys) if key.id in self.revoked), default=-1)
        return self.keys[last + 1 :]

    def find(self, key_id: str) -> ReceiptKey | None:
        """The key of that id, revoked or not."""
        return next((key for key in self.keys if key.id == key_id), None)


def plan_receipt_keys(
    current: ReceiptKeys | None, now: datetime, entropy: Callable[[int], bytes] = os.urandom
) -> ReceiptKeys | None:
    """The keys that should exist at `now`, or None when `current` is right as it is.

    Adds a key when there is none that may sign or the newest is ROTATE_AFTER old; drops a key RETENTION after its
    successor began to sign. Marks of revocation stay: a grant goes by the id of its key, whether that is still here.
    """
    before = current or ReceiptKeys(())
    keys = list(before.keys)
    usable = before.signers()
    if not usable or now >= usable[-1].created_at + ROTATE_AFTER:
        keys.append(_new_key(now, entropy))
    kept = tuple(
        key
        for position, key in enumerate(keys)
        if position == len(keys) - 1 or now < keys[position + 1].created_at + PROPAGATION + RETENTION
    )
    planned = ReceiptKeys(kept, before.revoked)
    return None if planned == current else planned


def revoke_receipt_key(current: ReceiptKeys, key_id: str, now: datetime) -> ReceiptKeys:
    """`current` with that key revoked and, if none is left that may sign, a fresh one that signs at once.

    An unknown id is recorded as well: the key may be on its way to another replica, or dropped while pods still rest
    on it. Raises ValueError if that would be more than MAX_REVOKED ids, or more than MAX_KEYS keys.
    """
    revoked = current.revoked | {key_id}
    if len(revoked) > MAX_REVOKED:
        raise ValueError(
            f"more than {MAX_REVOKED} receipt keys revoked: restore those on which no grant rests any more"
        )
    marked = replace(current, revoked=revoked)
    if marked.signers():
        return marked
    if len(marked.keys) >= MAX_KEYS:
        raise ValueError(f"there are {MAX_KEYS} receipt keys already: wait until old ones are dropped")
    return replace(marked, keys=(*marked.keys, _new_key(now, os.urandom)))


def restore_receipt_key(current: ReceiptKeys, key_id: str) -> ReceiptKeys:
    """`current` with that key believed again, and everything that rests on it."""
    return replace(current, revoked=current.revoked - {key_id})


def _new_key(now: datetime, entropy: Callable[[int], bytes]) -> ReceiptKey:
    return ReceiptKey(entropy(KEY_ID_BYTES).hex(), entropy(SECRET_BYTES), now.replace(microsecond=0))
