"""The cache: by name, by UID, by index, and each change told once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.cluster.cache import Added, Change, Deleted, Key, Modified, WatchCache

A, B = Key("team", "a"), Key("team", "b")


def told(cache: WatchCache[str]) -> list[Change[str]]:
    changes: list[Change[str]] = []
    cache.on_change(changes.append)
    return changes


def test_changes_are_told_with_the_old_and_the_new() -> None:
    cache: WatchCache[str] = WatchCache()
    changes = told(cache)
    cache.put(A, "u1", "1", "x")
    cache.put(A, "u1", "2", "y")
    cache.remove(A, "z")
    assert changes == [Added(A, "u1", "x"), Modified(A, "u1", "x", "y"), Deleted(A, "u1", "z")]
    assert len(cache) == 0


def test_the_same_version_again_is_no_change() -> None:
    cache: WatchCache[str] = WatchCache()
    cache.put(A, "u1", "1", "x")
    changes = told(cache)
    cache.put(A, "u1", "1", "x")
    assert changes == [Added(A, "u1", "x")]


def test_a_namesake_is_another_object() -> None:
    cache: WatchCache[str] = WatchCache()
    cache.put(A, "u1", "1", "x")
    changes = told(cache)[1:]
    seen = told(cache)
    cache.put(A, "u2", "2", "y")
    assert seen == [Added(A, "u1", "x"), Deleted(A, "u1", "x"), Added(A, "u2", "y")]
    assert changes == []
    assert (cache.by_uid("u1"), cache.by_uid("u2"), cache.get("team", "a")) == (None, "y", "y")


def test_what_a_full_list_does_not_show_is_deleted() -> None:
    cache: WatchCache[str] = WatchCache()
    cache.put(A, "u1", "1", "x")
    cache.put(B, "u2", "2", "y")
    changes = told(cache)
    cache.retain({B})
    assert changes[2:] == [Deleted(A, "u1", "x")]
    assert list(cache.values()) == ["y"]


def test_an_unreadable_object_is_absent_and_known_to_be_unreadable_until_it_is_read_or_gone() -> None:
    cache: WatchCache[str] = WatchCache()
    cache.put(A, "u1", "1", "x")
    cache.reject(A, "because")
    assert (cache.get("team", "a"), cache.malformed) == (None, {A: "because"})
    cache.put(A, "u1", "2", "y")
    assert cache.malformed == {}
    cache.reject(A, "because")
    cache.retain(set())
    assert cache.malformed == {}


def test_a_handler_that_raises_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    cache: WatchCache[str] = WatchCache()

    def broken(_change: Change[str]) -> None:
        raise KeyError("defect")

    cache.on_change(broken)
    changes = told(cache)
    cache.put(A, "u1", "1", "x")
    assert changes == [Added(A, "u1", "x")]
    assert "watch handler failed" in capsys.readouterr().out


def test_staleness_begins_before_the_first_list_and_counts_from_the_last_sign_of_life() -> None:
    now = [100.0]
    cache: WatchCache[str] = WatchCache(lambda: now[0])
    cache.touch()
    assert cache.is_stale(100.0, 5)
    cache.synced.set()
    assert not cache.is_stale(105.0, 5)
    assert cache.is_stale(105.1, 5)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sets(st.integers(0, 3))), max_size=30))
def test_an_index_always_equals_one_made_anew(steps: list[tuple[str, str, set[int]]]) -> None:
    cache: WatchCache[tuple[Any, ...]] = WatchCache()
    live = cache.index(lambda value: value[1])
    for version, (name, uid, keys) in enumerate(steps):
        if keys:
            cache.put(Key("team", name), name + uid, str(version), (name + uid, tuple(sorted(keys))))
        else:
            cache.remove(Key("team", name))
        fresh = cache.index(lambda value: value[1])
        for key in range(4):
            assert sorted(live.get(key)) == sorted(fresh.get(key))
            assert sorted(live.get(key)) == sorted(value for value in cache.values() if key in value[1])
