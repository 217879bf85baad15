"""`*` within one segment, a final `/**` one or more segments, and no more."""

from __future__ import annotations

import time

import pytest

from countersign.trust.images.globs import Glob


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("docker.io/library/nginx", "docker.io/library/nginx", True),
        ("docker.io/library/nginx", "docker.io/library/nginx2", False),
        ("docker.io/library/nginx", "docker.io/library/nginx/x", False),
        ("registry.example.com/payments/**", "registry.example.com/payments/api", True),
        ("registry.example.com/payments/**", "registry.example.com/payments/a/b/c", True),
        ("registry.example.com/payments/**", "registry.example.com/payments", False),
        ("registry.example.com/payments/**", "registry.example.com/payments-evil/api", False),
        ("registry.example.com/payments/**", "registry.example.com.evil.com/payments/api", False),
        ("registry.example.com/**", "registry.example.com/a", True),
        ("registry.example.com/**", "registry.example.com:5000/a", False),
        ("registry.example.com/*/api", "registry.example.com/team/api", True),
        ("registry.example.com/*/api", "registry.example.com/a/b/api", False),
        ("registry.example.com/*/api", "registry.example.com/api", False),
        ("registry.example.com/team-*/**", "registry.example.com/team-a/x/y", True),
        ("registry.example.com/team-*/**", "registry.example.com/team-a", False),
        ("registry.example.com/team-*/**", "registry.example.com/steam-a/x", False),
        ("*.example.com/app", "eu.example.com/app", True),
        ("*.example.com/app", "evil.com/eu.example.com/app", False),
        ("r.io/a*b*c", "r.io/abc", True),
        ("r.io/a*b*c", "r.io/a-b-b-c", True),
        ("r.io/a*b*c", "r.io/acb", False),
        ("r.io/ab*ba", "r.io/aba", False),
        ("r.io/*", "r.io/x", True),
        ("r.io/**/x", "r.io/a/x", True),
        ("r.io/**/x", "r.io/a/b/x", False),
        ("r.io/a**b", "r.io/a-b", True),
    ],
)
def test_glob(glob: str, name: str, matches: bool) -> None:
    assert Glob(glob).matches(name) is matches


def test_a_hostile_glob_costs_linear_time() -> None:
    glob = Glob("r.io/" + "a*" * 120 + "b")
    name = "r.io/" + "a" * 250
    began = time.process_time()
    for _ in range(1000):
        assert not glob.matches(name)
    assert time.process_time() - began < 2  # a backtracking matcher would need longer than the universe is old
