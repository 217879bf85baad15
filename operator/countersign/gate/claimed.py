"""What a receipt says, read without its signature: for what must be found after the key that signed it has retired.

It only ever says where to look, or adds to what counts against somebody. Nobody changes the annotation after admission
(the guard `countersign-receipts`); one that an author wrote at creation, while no gate answered, can gain nothing here.
"""

import base64
import binascii
from typing import Final

import msgspec


class Claimed(msgspec.Struct, frozen=True):
    """Two members of a receipt (`trust.receipt.Receipt`)."""

    nonce: str = ""
    labels: dict[str, str] | None = None
    """The pod's labels at its admission."""


NOTHING: Final = Claimed()

_decode: Final = msgspec.json.Decoder(Claimed).decode


def claimed(text: str) -> Claimed:
    """What the receipt claims; `NOTHING` if it cannot be read."""
    payload = text.split(".")[1] if text.count(".") == 2 else ""
    try:
        return _decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return NOTHING
