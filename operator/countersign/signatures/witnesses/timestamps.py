"""Timestamps by an authority (RFC 3161): that something existed at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from countersign.signatures.errors import SignatureError
from countersign.signatures.roots.trust_root import Authority, TrustRoot

MAX_TIMESTAMPS: Final = 8
"""Of one signature; cosign asks one authority."""
MAX_TIMESTAMP_BYTES: Final = 32 * 1024
"""With the authority's chain inside it has about 3 KiB."""


class Stamped(NamedTuple):
    """What a verified timestamp proves."""

    authority: Authority
    time: datetime


def verify_timestamp(response: bytes, messages: Sequence[bytes], root: TrustRoot) -> Stamped:
    """Raises SignatureError unless an authority of the root has signed that one of the messages existed.

    The authority's chain must have been valid at that time, and the root must believe it for that time.
    """
    # Compiled code of 7 MB: a gate whose policies ask for keys only never loads it.
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    if len(response) > MAX_TIMESTAMP_BYTES:
        raise SignatureError("Malformed", f"the timestamp is longer than {MAX_TIMESTAMP_BYTES} bytes")
    try:
        timestamp = decode_timestamp_response(response)
        time = timestamp.tst_info.gen_time
    except ValueError as error:
        raise SignatureError("Malformed", f"the timestamp cannot be read: {str(error)[:120]}") from None
    time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    problem = "the evidence root names no timestamp authority"
    for authority in root.timestamp_authorities:
        leaf, *others = authority.chain
        verifier = VerifierBuilder(tsa_certificate=leaf, intermediates=others[:-1], roots=others[-1:] or [leaf]).build()
        for message in messages:
            try:
                verifier.verify_message(timestamp, message)
            except (VerificationError, ValueError) as error:
                problem = f"the timestamp does not hold: {str(error)[:120]}"
                continue
            if authority.window.holds(time):
                return Stamped(authority, time)
            problem = "the timestamp authority is not believed for the time that it says"
    raise SignatureError("Untrusted", problem)
