"""A book of orders names exactly those that end a grant, in the order in which they came."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from countersign.api.revocation import NamespaceTarget, NodeTarget, ObjectTarget, Revocation, SignerTarget, Target
from countersign.trust.orders.order_book import OrderBook, is_standing
from countersign.trust.orders.reach import ends
from tests.unit.access.cases import BORN, DIGEST, KEY, SYSTEM, grant, revocation

OBJECTS = st.builds(
    ObjectTarget,
    namespace=st.sampled_from(["", "payments", "other"]),
    name=st.sampled_from(["wg-1", "api-7d9c", "api", "elsewhere"]),
    uid=st.sampled_from(["", "pod-uid", "grant-uid", "another"]),
)
NODES = st.sampled_from(["n1", "n2", ""])
ONCE = {
    "grant": OBJECTS,
    "pod": OBJECTS,
    "service_account": OBJECTS,
    "node": st.builds(NodeTarget, name=NODES),
    "namespace": st.builds(NamespaceTarget, name=st.sampled_from(["payments", "other"])),
}
STANDING = {
    "digest": st.sampled_from([DIGEST, "sha256:" + "00" * 32]),
    "key_fingerprint": st.sampled_from([KEY, "sha256:" + "ef" * 32]),
    "signer": st.builds(
        SignerTarget, issuer=st.sampled_from(["", "https://issuer"]), subject=st.sampled_from(["", "me"])
    ),
}
# Two members at once, or none, are refused by the CRD; another release may know more of them than this one.
TARGETS = st.one_of(
    *(st.builds(Target, **{name: values}) for name, values in (*ONCE.items(), *STANDING.items())),
    st.builds(Target),
    st.builds(Target, grant=OBJECTS, pod=OBJECTS),
)


@st.composite
def orders(draw: st.DrawFn) -> Revocation:
    at = BORN + timedelta(seconds=draw(st.sampled_from([-60, 0, 60])))
    return revocation(draw(TARGETS), namespace=draw(st.sampled_from([SYSTEM, "payments", "other"])), at=at)


@given(given_orders=st.lists(orders(), max_size=12), node=NODES)
def test_it_finds_what_reading_them_all_would_find(given_orders: list[Revocation], node: str) -> None:
    one = grant()
    expected = tuple(order for order in given_orders if ends(order, one, SYSTEM, node=node))
    assert OrderBook(given_orders, SYSTEM).against(one, node=node) == expected


@given(order=orders())
def test_only_what_may_end_a_later_instance_stands(order: Revocation) -> None:
    target = order.spec.target
    once = any(getattr(target, name) is not None for name in ONCE)
    assert is_standing(target) is not once
