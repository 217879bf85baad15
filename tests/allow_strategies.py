"""Rules of audiences for hypothesis: expressions that the language has, and the values that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

VALUES: dict[str, Any] = {
    "token.jti": "b4b2e2d0",
    "token.ageSeconds": 60,
    "token.lifetimeSeconds": 600,
    "token.issuedAt": datetime(2026, 2, 28, 23, 59, 58, tzinfo=UTC),
    "pod.namespace": "payments",
    "grant.owner": "payments@example.com",
    "grant.controller.kind": "Job",
    "grant.evidence": (
        {"authority": "release", "issuer": "", "digestListed": False},
        {"authority": "", "issuer": "https://ci.example.com", "digestListed": True},
    ),
    "request.time": datetime(2026, 3, 1, 12, 30, 0, tzinfo=UTC),
    "request.method": "GET",
    "request.path": "/v1/accounts",
    "request.scopes": ("read", "write"),
}
"""Of one use. `request.sourceAddress`, `grant.profile` and the rest are not known."""

STRINGS = ("token.jti", "pod.namespace", "grant.owner", "grant.controller.kind", "request.method", "request.path")
_UNKNOWN = ("grant.profile", "request.sourceAddress")
_TEXTS = ("", "GET", "/v1", "read", "write", "Job", "payments", "accounts", "release", "nobody")


def read(path: str) -> Any:
    """The value at a path of VALUES."""
    return VALUES.get(path)


def nested(values: Mapping[str, Any] = VALUES) -> dict[str, Any]:
    """The same values as an implementation of CEL takes them."""
    made: dict[str, Any] = {"token": {}, "pod": {}, "grant": {"controller": {}}, "request": {}}
    for path, value in values.items():
        *above, last = path.split(".")
        record = made
        for name in above:
            record = record[name]
        record[last] = list(value) if isinstance(value, tuple) else value
    return made


def quoted(text: str) -> str:
    return "'" + text + "'"


texts = st.sampled_from(_TEXTS).map(quoted)
_elements = {"s": st.just("s"), "e": st.sampled_from(["e.authority", "e.issuer"])}


def strings(inside: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Expressions of type string. `inside`: variables of the comprehensions around."""
    own = [_elements[one] for one in inside]
    return st.one_of(st.sampled_from(STRINGS), st.sampled_from(_UNKNOWN), texts, *own, st.just("request.scopes[0]"))


def numbers(inside: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Expressions of type int."""
    small = st.integers(-3, 700).map(str)
    leaf = st.one_of(
        small,
        st.sampled_from(["token.ageSeconds", "token.lifetimeSeconds", "pod.ageSeconds", "size(request.scopes)"]),
        st.sampled_from(["getHours", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"]).flatmap(
            lambda name: st.sampled_from([f"request.time.{name}()", f"token.issuedAt.{name}()"])
        ),
        strings(inside).map(lambda text: f"size({text})"),
    )
    return st.one_of(leaf, st.tuples(leaf, st.sampled_from("+-"), leaf).map(" ".join))


def conditions(depth: int = 3, inside: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Expressions of type bool."""
    order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    leaves = [
        st.sampled_from(["true", "false"]),
        st.tuples(strings(inside), order, strings(inside)).map(" ".join),
        st.tuples(numbers(inside), order, numbers(inside)).map(" ".join),
        st.tuples(strings(inside), st.sampled_from(["startsWith", "endsWith", "contains"]), strings(inside)).map(
            lambda parts: f"{parts[0]}.{parts[1]}({parts[2]})"
        ),
        st.sampled_from(
            ["has(request.path)", "has(grant.profile)", "has(pod.node)", "request.scopes == ['read', 'write']",
             "token.issuedAt < request.time", "request.time < timestamp('2026-03-01T12:30:01Z')",
             "request.path.matches('^/v[0-9]+/')", "request.scopes[5] == 'x'"]
        ),
        strings(inside).map(lambda text: f"{text} in request.scopes"),
        st.tuples(strings(inside), st.lists(texts, max_size=3).map(", ".join)).map(
            lambda two: "{} in [{}]".format(*two)
        ),
    ]  # fmt: skip
    if "e" in inside:
        leaves.append(st.just("e.digestListed"))
    leaf = st.one_of(leaves)
    if depth == 0:
        return leaf
    below = conditions(depth - 1, inside)
    made = [
        leaf,
        below.map(lambda one: f"!({one})"),
        st.lists(below, min_size=2, max_size=3).map(lambda many: "(" + ") && (".join(many) + ")"),
        st.lists(below, min_size=2, max_size=3).map(lambda many: "(" + ") || (".join(many) + ")"),
        st.tuples(below, below, below).map(lambda three: "({}) ? ({}) : ({})".format(*three)),
    ]
    if len(inside) < 2:
        made += [
            _comprehension(name, where, depth - 1, inside)
            for name, where in (("s", "request.scopes"), ("e", "grant.evidence"))
            if name not in inside
        ]
    return st.one_of(made)


def _comprehension(variable: str, where: str, depth: int, inside: tuple[str, ...]) -> st.SearchStrategy[str]:
    body = conditions(depth, (*inside, variable))
    return st.tuples(st.sampled_from(["all", "exists", "exists_one", "filter"]), body).map(
        lambda pair: f"{where}.{pair[0]}({variable}, {pair[1]})" + (".size() == 1" if pair[0] == "filter" else "")
    )
