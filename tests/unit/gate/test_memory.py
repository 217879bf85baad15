"""The memory of facts: how long they count, and how much of them there is."""

import msgspec

from countersign.gate.evidence.memory import ENCODED_FACTOR, ENTRY_BYTES, MAX_STALE_SECONDS, Memory


def test_a_fact_is_fresh_for_its_time_and_stale_for_as_long_as_the_asker_allows() -> None:
    memory: Memory[str, str] = Memory(1_000_000)
    memory.put("key", "value", 100.0, seconds=10.0, lasting=True)
    assert memory.fresh("key", 109.9) == "value"
    assert memory.fresh("key", 110.0) is None
    assert memory.stale("key", 115.0, 15.0) is None
    found = memory.stale("key", 114.9, 15.0)
    assert found is not None
    assert (found.value, found.found_at) == ("value", 100.0)
    assert memory.stale("key", 100.0 + MAX_STALE_SECONDS, 10 * MAX_STALE_SECONDS) is None


def test_who_wants_it_younger_is_given_nothing_older() -> None:
    memory: Memory[str, str] = Memory(1_000_000)
    memory.put("key", "value", 100.0, seconds=600.0)
    assert memory.fresh("key", 159.9, max_age=60.0) == "value"
    assert memory.fresh("key", 160.0, max_age=60.0) is None
    assert memory.fresh("key", 160.0) == "value", "an admission need not"


def test_what_does_not_last_is_never_stale() -> None:
    memory: Memory[str, str] = Memory(1_000_000)
    memory.put("key", "value", 0.0, seconds=10.0, lasting=False)
    assert memory.stale("key", 10.0, 1000.0) is None


def test_another_answer_takes_the_place_of_the_first() -> None:
    memory: Memory[str, str] = Memory(1_000_000)
    memory.put("key", "value", 0.0, seconds=10.0, lasting=True)
    size = memory.size
    memory.put("key", "other", 1.0, seconds=5.0, lasting=False)
    assert (memory.fresh("key", 2.0), memory.stale("key", 7.0, 100.0), len(memory)) == ("other", None, 1)
    assert memory.size == size


def test_it_is_bounded_in_bytes_and_what_was_not_used_goes_first() -> None:
    memory: Memory[str, bytes] = Memory(100_000)
    for number in range(50):
        memory.put(f"key-{number}", bytes(1000), 0.0, seconds=10.0, lasting=True)
        assert memory.fresh("key-0", 1.0) is not None
        assert memory.size <= 100_000
    assert memory.fresh("key-0", 1.0) is not None
    assert memory.fresh("key-1", 1.0) is None
    assert memory.fresh("key-49", 1.0) is not None
    assert len(memory) >= 100_000 // (ENTRY_BYTES + ENCODED_FACTOR * 1100)


def test_what_is_larger_than_all_of_it_is_not_kept() -> None:
    memory: Memory[str, bytes] = Memory(100_000)
    memory.put("key", bytes(200_000), 0.0, seconds=10.0, lasting=True)
    assert (len(memory), memory.size) == (0, 0)


def test_the_estimate_is_that_of_the_encoding() -> None:
    memory: Memory[str, str] = Memory(100_000)
    memory.put("key", "value", 0.0, seconds=10.0, lasting=True)
    assert memory.size == ENTRY_BYTES + ENCODED_FACTOR * len(
        msgspec.msgpack.encode("key") + msgspec.msgpack.encode("value")
    )
