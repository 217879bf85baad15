from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from countersign.api.grant import GrantEvidence
from countersign.api.revocation import NamespaceTarget, NodeTarget, ObjectTarget, Revocation, SignerTarget, Target
from countersign.trust.orders.reach import ended_by, ends
from tests.unit.access.cases import BORN, DIGEST, KEY, SYSTEM, grant, revocation

OTHER_KEY = "sha256:" + "ef" * 32


def here(name: str, uid: str = "") -> ObjectTarget:
    return ObjectTarget(namespace="payments", name=name, uid=uid)


@pytest.mark.parametrize(
    ("target", "hit"),
    [
        (Target(grant=here("wg-1")), True),
        (Target(grant=here("wg-1", "grant-uid")), True),
        (Target(grant=here("wg-1", "other")), False),
        (Target(grant=here("wg-2")), False),
        (Target(pod=here("api-7d9c")), True),
        (Target(pod=here("api-7d9c", "pod-uid")), True),
        (Target(pod=here("api-7d9c", "other")), False),
        (Target(pod=ObjectTarget(namespace="other", name="api-7d9c")), False),
        (Target(service_account=here("api")), True),
        (Target(service_account=here("api", "other")), False),
        (Target(node=NodeTarget(name="n1")), True),
        (Target(node=NodeTarget(name="n2")), False),
        (Target(namespace=NamespaceTarget(name="payments")), True),
        (Target(namespace=NamespaceTarget(name="other")), False),
        (Target(digest=DIGEST), True),
        (Target(digest="sha256:" + "00" * 32), False),
        (Target(key_fingerprint=KEY), True),
        (Target(key_fingerprint=OTHER_KEY), False),
        (Target(), True),
    ],
)
def test_a_cluster_wide_order_reaches_what_it_names(target: Target, hit: bool) -> None:
    assert ends(revocation(target), grant(), SYSTEM) is hit


@pytest.mark.parametrize(
    "target",
    [
        Target(digest=DIGEST),
        Target(key_fingerprint=KEY),
        Target(node=NodeTarget(name="n1")),
        Target(pod=here("api-7d9c")),
    ],
)
def test_an_order_elsewhere_reaches_its_own_namespace_only(target: Target) -> None:
    assert ends(revocation(target, namespace="payments"), grant(), SYSTEM)
    assert not ends(revocation(target, namespace="other"), grant(), SYSTEM)


def test_the_orders_own_namespace_is_meant_where_none_is_named() -> None:
    assert ends(revocation(Target(pod=ObjectTarget(name="api-7d9c")), namespace="payments"), grant(), SYSTEM)
    assert not ends(revocation(Target(pod=ObjectTarget(name="api-7d9c"))), grant(), SYSTEM)


@pytest.mark.parametrize("target", [Target(pod=here("api-7d9c")), Target(node=NodeTarget(name="n1"))])
def test_a_one_shot_order_spares_what_was_born_after_it(target: Target) -> None:
    assert ends(revocation(target, at=BORN), grant(), SYSTEM)
    assert not ends(revocation(target, at=BORN - timedelta(seconds=1)), grant(), SYSTEM)


def test_an_order_that_names_the_uid_reaches_that_instance_by_whosever_clock() -> None:
    order = revocation(Target(pod=here("api-7d9c", "pod-uid")), at=BORN - timedelta(seconds=1))
    assert ends(order, grant(), SYSTEM)


@pytest.mark.parametrize("target", [Target(digest=DIGEST), Target(key_fingerprint=KEY)])
def test_a_standing_order_reaches_what_was_born_after_it(target: Target) -> None:
    order = revocation(target, at=BORN - timedelta(days=30))
    assert ends(order, grant(), SYSTEM)


def test_an_order_whose_time_cannot_be_read_reaches() -> None:
    made = revocation(Target(pod=here("api-7d9c")))
    order = Revocation(metadata=msgspec.structs.replace(made.metadata, creation_timestamp=None), spec=made.spec)
    assert ends(order, grant(), SYSTEM)


def test_a_platforms_digest_is_the_images() -> None:
    platform = "sha256:" + "11" * 32
    image = msgspec.structs.replace(grant().spec.images[0], runtime_digests=(platform,))
    assert ends(revocation(Target(digest=platform)), grant(images=(image,)), SYSTEM)


def test_a_key_is_missed_only_where_nothing_else_vouches_for_the_rule() -> None:
    evidence = grant().spec.images[0].evidence[0]
    second = msgspec.structs.replace(evidence, authority="ci", key_fingerprint=OTHER_KEY)
    other_rule = GrantEvidence(policy_uid="policy-uid", rule="base", authority="ci", key_fingerprint=OTHER_KEY)
    order = revocation(Target(key_fingerprint=KEY))

    def image_with(*found: GrantEvidence) -> bool:
        image = msgspec.structs.replace(grant().spec.images[0], evidence=found)
        return ends(order, grant(images=(image,)), SYSTEM)

    assert not image_with(evidence, second)
    assert image_with(evidence, other_rule)


def of_rule(**members: Any) -> GrantEvidence:
    return GrantEvidence(policy_uid="policy-uid", rule="base", **members)


def reached(order: Revocation, *found: GrantEvidence) -> bool:
    image = msgspec.structs.replace(grant().spec.images[0], evidence=found)
    return ends(order, grant(images=(image,)), SYSTEM)


def test_a_signer_is_missed_only_where_nobody_else_vouches_for_the_rule() -> None:
    order = revocation(Target(signer=SignerTarget(issuer="i", subject="s")))
    by_signer = of_rule(authority="ci", issuer="i", subject="s")
    assert reached(order, by_signer)
    assert not reached(order, by_signer, of_rule(authority="release", key_fingerprint=KEY))
    assert not reached(order, of_rule(authority="ci", issuer="i", subject="other"))
    assert not reached(order, of_rule(authority="ci", issuer="other", subject="s"))
    assert not reached(order, of_rule(authority="release", key_fingerprint=KEY))


def test_each_attestation_of_a_rule_is_missed_by_itself() -> None:
    order = revocation(Target(key_fingerprint=KEY))
    signature = of_rule(authority="release", key_fingerprint=OTHER_KEY)
    scan = of_rule(authority="scanner", key_fingerprint=KEY, attestation="scan", predicate_type="t")
    again = of_rule(authority="scanner", key_fingerprint=OTHER_KEY, attestation="scan", predicate_type="t")
    other = of_rule(authority="scanner", key_fingerprint=OTHER_KEY, attestation="other", predicate_type="t")
    assert reached(order, signature, scan)
    assert not reached(order, signature, scan, again)
    assert reached(order, signature, scan, other)


def test_each_platform_is_missed_by_itself() -> None:
    order = revocation(Target(key_fingerprint=KEY))
    amd = of_rule(authority="a", key_fingerprint=OTHER_KEY, signed_digest="sha256:amd")
    arm = of_rule(authority="a", key_fingerprint=KEY, signed_digest="sha256:arm")
    assert reached(order, amd, arm)
    assert not reached(order, amd, arm, of_rule(authority="a", key_fingerprint=OTHER_KEY, signed_digest="sha256:arm"))


def test_a_node_is_also_where_the_pod_now_is() -> None:
    unbound = msgspec.structs.replace(grant().spec.pod, node_name="")
    order = revocation(Target(node=NodeTarget(name="n1")))
    assert not ends(order, grant(pod=unbound), SYSTEM)
    assert ends(order, grant(pod=unbound), SYSTEM, node="n1")
    assert ended_by((order,), grant(pod=unbound), SYSTEM, node="n1") is order


def test_a_node_of_no_name_is_no_node() -> None:
    order = revocation(Target(node=NodeTarget(name="n1")))
    assert ended_by((order,), grant(pod=msgspec.structs.replace(grant().spec.pod, node_name="n9")), SYSTEM) is None
