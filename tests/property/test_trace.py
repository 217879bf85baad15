"""The timeline: in order, without loss, whatever the order of the lines; the readers answer or refuse any bytes."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.cli.record import audit, audit_event, logs
from countersign.cli.record.audit_event import BadLineError
from countersign.cli.record.files import Tally, lines_with
from countersign.cli.record.gathering import gather
from countersign.cli.record.timeline import Known, Sighting, coalesced, concerns, instances, is_surely, learn, timeline
from tests.unit.cli.record import events

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
_IDS = {"pod": "shop/", "pod_uid": "uid-", "grant": "shop/wg-", "jti": "jti-", "order": "Revocation shop/"}

sightings = st.builds(
    Sighting,
    at=st.integers(0, 5_000).map(lambda ms: START + timedelta(milliseconds=ms)),
    source=st.sampled_from(["audit log", "access log", "object"]),
    what=st.sampled_from(["admitted", "used", "grant made"]),
    detail=st.integers(0, 3).map(str),
    claimed=st.booleans(),
    to_the_second=st.just(False),
    rank=st.integers(0, 6),
    **{member: st.sampled_from(["", f"{start}1", f"{start}2"]) for member, start in _IDS.items()},
)
knowns = st.builds(
    Known,
    pods=st.sampled_from([frozenset(), frozenset({"shop/1"})]),
    pod_uids=st.sampled_from([frozenset(), frozenset({"uid-1"})]),
    jtis=st.sampled_from([frozenset(), frozenset({"jti-1"})]),
)
many = st.lists(sightings, max_size=25)


@given(knowns, many)
def test_what_is_joined_for_sure_is_shown_once_and_nothing_strange_is(known: Known, found: list[Sighting]) -> None:
    shown = timeline(known, found)
    assert len(set(shown)) == len(shown)
    assert {one for one in found if is_surely(known, one)} <= set(shown) <= set(found)
    assert all(concerns(known, one) for one in shown)


@given(knowns, many, st.randoms())
def test_it_is_in_order_of_time_and_the_same_in_whatever_order_lines_come(
    known: Known, found: list[Sighting], random: object
) -> None:
    shown = timeline(known, found)
    assert [one.at for one in shown] == sorted(one.at for one in shown)
    random.shuffle(found)  # type: ignore[attr-defined]
    # Entries of one moment that differ in nothing that is shown may change places.
    assert sorted(map(repr, timeline(known, found))) == sorted(map(repr, shown))


@given(knowns, many, st.lists(st.booleans(), min_size=25, max_size=25))
def test_a_time_known_to_the_second_stays_within_its_second(
    known: Known, found: list[Sighting], rough: list[bool]
) -> None:
    mixed = [
        msgspec.structs.replace(one, at=one.at.replace(microsecond=0), to_the_second=True) if is_rough else one
        for one, is_rough in zip(found, rough, strict=False)
    ]
    shown = timeline(known, mixed)
    seconds = [one.at.replace(microsecond=0) for one in shown]
    assert seconds == sorted(seconds)


@given(knowns, many)
def test_learning_only_adds_and_ends_and_no_claim_teaches(known: Known, found: list[Sighting]) -> None:
    before = known
    for _ in range(12):
        after = learn(before, found)
        assert after.pods >= before.pods
        assert after.pod_uids >= before.pod_uids
        assert after.jtis >= before.jtis
        if after == before:
            break
        before = after
    assert learn(before, found) == before
    honest = [one for one in found if not one.claimed]
    assert learn(known, found) == learn(known, honest)


@given(many)
def test_coalescing_loses_no_entry(found: list[Sighting]) -> None:
    assert sum(one.count for one in coalesced(found)) == len(found)


@given(many)
def test_an_instance_spans_its_sightings(found: list[Sighting]) -> None:
    for one in instances({"shop/1", "shop/2"}, found):
        assert one.first <= one.last


@given(st.binary(max_size=400))
def test_any_bytes_are_an_audit_event_or_refused(line: bytes) -> None:
    with contextlib.suppress(BadLineError):
        audit.sightings(audit_event.read(line))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_line_of_ours_or_not_or_refused(line: bytes) -> None:
    with contextlib.suppress(BadLineError):
        logs.read(line)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_base = json.loads(events.minted("12:00:00.5"))


@given(st.sampled_from([*_base, "requestObject", "impersonatedUser"]), _json)
def test_a_member_of_any_value_makes_an_event_or_is_refused(member: str, value: object) -> None:
    line = json.dumps(_base | {member: value}).encode()
    with contextlib.suppress(BadLineError):
        for one in audit.sightings(audit_event.read(line)):
            assert one.what.isprintable()
            assert one.who.isprintable()
            assert one.detail.isprintable()


_access = json.loads(events.access("12:00:00.5"))


@given(st.sampled_from([*_access, "timestamp", "state", "caused_by"]), _json)
def test_a_member_of_any_value_makes_a_line_of_ours_or_is_refused(member: str, value: object) -> None:
    for event in ("decision", "grant changed", "review"):
        line = json.dumps(_access | {"timestamp": _access["time"], "event": event, member: value}).encode()
        with contextlib.suppress(BadLineError):
            found = logs.read(line)
            assert found is None or (found.sighting.what + found.sighting.who + found.sighting.detail).isprintable()


@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line), max_size=30), st.booleans())
def test_exactly_the_lines_that_mention_a_word_are_read_from_a_file(lines: list[bytes], compressed: bool) -> None:
    content = b"\n".join(lines)
    plain = not content.startswith(b"\x1f\x8b")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(gzip.compress(content) if compressed or not plain else content)
        found = list(lines_with(path, (b"a", b"\x01"), Tally()))
    assert found == [line for line in lines if b"a" in line or b"\x01" in line]


@given(st.lists(st.binary(max_size=120), max_size=6))
def test_any_file_is_gathered_from_without_a_crash_and_beside_what_is_good_in_it(junk: list[bytes]) -> None:
    good = events.admitted("12:00:00.5")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(b"".join(one + b"\n" + good for one in (b"", *junk)))
        known = Known(pod_uids=frozenset({events.UID}))
        found = gather(known, (), [path], [path])
    assert [one.what for one in timeline(found.known, found.sightings)] == ["admitted"]
