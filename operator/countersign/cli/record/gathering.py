"""Reads files over and over until nothing more is learnt of the subject: each pass follows what the last one found."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from countersign.cli.record import audit, audit_event, logs
from countersign.cli.record.audit_event import BadLineError
from countersign.cli.record.files import Tally, lines_with
from countersign.cli.record.timeline import Known, Sighting, concerns, learn

MAX_PASSES: Final = 5
"""A token's id leads to its pod's UID, that to name and grant, these to what bears nothing else."""
MAX_SIGHTINGS: Final = 200_000


class Gathered(msgspec.Struct, frozen=True):
    """What was found, and what stood in the way."""

    known: Known
    sightings: tuple[Sighting, ...]
    remarks: tuple[str, ...]


def gather(known: Known, given: Sequence[Sighting], audit_logs: Sequence[Path], other_logs: Sequence[Path]) -> Gathered:
    """Everything in the files that concerns the subject, and `given`, which the cluster told. Raises OSError."""
    for _ in range(MAX_PASSES):
        found, remarks = _pass(known, audit_logs, other_logs)
        more = learn(known, (*given, *found))
        if more == known:
            break
        known = more
    return Gathered(known, (*given, *found), tuple(remarks))


def _pass(known: Known, audit_logs: Sequence[Path], other_logs: Sequence[Path]) -> tuple[list[Sighting], list[str]]:
    words = known.words()
    found: dict[object, Sighting] = {}
    remarks = []
    for paths, read in ((audit_logs, _audit_line), (other_logs, _log_line)):
        for path in paths:
            tally = Tally()
            for line in lines_with(path, words, tally):
                try:
                    for identity, one in read(line):
                        if concerns(known, one) and len(found) < MAX_SIGHTINGS:
                            found.setdefault(identity, one)
                except BadLineError:
                    tally.unreadable += 1
            if tally.problem:
                remarks.append(f"{path}: {tally.problem}")
            if tally.unreadable:
                remarks.append(f"{path}: {tally.unreadable} lines that mention it could not be read")
    if len(found) >= MAX_SIGHTINGS:
        remarks.append(f"only the first {MAX_SIGHTINGS} entries of the files are shown: give fewer files")
    return list(found.values()), remarks


def _audit_line(line: bytes) -> Iterator[tuple[object, Sighting]]:
    event = audit_event.read(line)
    # The same request is logged at each stage: the first one counts.
    for index, one in enumerate(audit.sightings(event)):
        yield (event.audit_id, index, one.what), one


def _log_line(line: bytes) -> Iterator[tuple[object, Sighting]]:
    found = logs.read(line)
    if found is not None:
        yield found.identity, found.sighting
