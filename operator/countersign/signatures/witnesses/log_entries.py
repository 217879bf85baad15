"""Entries of transparency logs: whether a log of the root has this signature, and when it took it in.

Sources: the Sigstore client specification, "Transparency log entry"; sigstore-go pkg/verify/tlog.go. A log of the first
generation signs a promise (SET) over body, index and time; that time counts only with the promise, for no checkpoint
covers it. A log of the second generation gives an inclusion proof and no time.
"""

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Final, NamedTuple

from countersign.signatures.errors import SignatureError
from countersign.signatures.roots.trust_root import Log, TrustRoot
from countersign.signatures.witnesses.inclusion import InclusionProof, verify_inclusion
from countersign.signatures.witnesses.log_bodies import Signed, is_v2, judge_body

MAX_LOG_ENTRIES: Final = 8
"""Of one signature. cosign writes one; a signature may be in two logs while one takes over from the other."""
_MAX_TIME: Final = 1 << 36
"""Seconds; the year 4147. What datetime cannot hold is no time."""


class LogEntry(NamedTuple):
    """An entry as a bundle, or cosign's annotation, brings it along."""

    log_id: bytes
    log_index: int
    body: bytes
    integrated_time: int
    """Seconds since the epoch; 0: it says none."""
    promise: bytes | None
    """The signed entry timestamp."""
    proof: InclusionProof | None
    kind: str = ""
    version: str = ""
    """Both empty: the body alone says it."""


class Logged(NamedTuple):
    """What a verified entry proves."""

    log: Log
    time: datetime | None


def verify_entry(entry: LogEntry, signed: Signed, root: TrustRoot, *, proof_needed: bool) -> Logged | None:
    """None: the root knows no such log, and nothing is known. Raises SignatureError if what a known log says is not so.

    Every part that the entry has must hold: one that is damaged proves nothing by its other half.
    """
    # 1. The log is the root's.
    log = root.logs.get(entry.log_id)
    if log is None:
        return None
    # 2. It brings a promise or a proof; a proof where there is nothing else, or where the bundle's version wants it.
    if entry.proof is None and (entry.promise is None or proof_needed or is_v2(entry.body)):
        raise SignatureError("Untrusted", "the log entry has no inclusion proof")
    # 3. The promise is the log's, and gives the time.
    time = None
    if entry.promise is not None:
        time = _promised_time(entry, entry.promise, log)
    # 4. The entry is in the tree that the log has signed for.
    if entry.proof is not None:
        verify_inclusion(entry.proof, entry.body, log)
    # 5. It is about this very signature.
    judge_body(entry.body, entry.kind, entry.version, signed)
    # 6. The log was believed then.
    if time is not None and not log.window.holds(time):
        raise SignatureError("Untrusted", "the log is not believed for the time of the entry")
    return Logged(log, time)


def _promised_time(entry: LogEntry, promise: bytes, log: Log) -> datetime:
    # Canonical JSON (RFC 8785) of a flat object without a character to escape: sorted names, no blanks.
    signed = json.dumps(
        {
            "body": b64encode(entry.body).decode(),
            "integratedTime": entry.integrated_time,
            "logID": log.key_id.hex(),
            "logIndex": entry.log_index,
        },
        separators=(",", ":"),
    )
    if not log.key.verify(promise, signed.encode()):
        raise SignatureError("Untrusted", "the promise (SET) is not the log's, or is about another entry")
    if not 0 < entry.integrated_time < _MAX_TIME:
        raise SignatureError("Malformed", "the log entry has no time that can be")
    return datetime.fromtimestamp(entry.integrated_time, UTC)
