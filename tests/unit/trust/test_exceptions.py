"""A TrustException waives what it names, for whom it names, until it ends; and nothing that a Revocation says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from countersign.api.exception import TrustException
from countersign.api.grant import GrantException
from countersign.api.meta import LabelSelector
from countersign.api.policy import Binding, Runtime, ServiceAccountBinding
from countersign.trust.orders.exceptions import MAX_EXCEPTION, MAX_WAIVERS, ends_at, in_force_until, over, warns_at
from countersign.trust.verdicts.denial import audit_annotations, message, warnings
from countersign.trust.verdicts.verdict import Verdict, judge
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    DIGEST,
    NOW,
    OTHER_DIGEST,
    PINNED,
    audience,
    audiences_of,
    cluster_policy,
    codes,
    container,
    denied,
    evidence_for,
    exception,
    facts,
    fingerprint,
    judged,
    pod,
    policy_ref,
    revocation,
    rule,
    snapshot,
    subject,
    token,
    trust_policy,
    unsigned,
    vouch,
)

POLICY = cluster_policy(tokens=(token(),))
ISSUING = exception(tokens="Issue")
ANYWHERE = LabelSelector(match_labels={"kubernetes.io/metadata.name": "payments"})


def under(*exceptions: TrustException, **members: Any) -> Verdict:
    """An unsigned image under a policy that wants a signature."""
    return judged(snapshot(POLICY, exceptions=exceptions), found=unsigned(), **members)


# What it waives


def test_a_waived_finding_no_longer_denies_and_stays_to_be_seen() -> None:
    assert denied(under()) == ["ImageUnsigned"]
    verdict = under(exception())
    assert (denied(verdict), codes(verdict)) == ([], ["ImageUnsigned"])
    (line,) = warnings(verdict)
    assert line.startswith(
        "Waived until 2026-03-01T12:30:00Z, without tokens by TrustException legacy of legacy@example.com"
    )
    assert "the vendor signs from" in line
    assert message(verdict) == ""
    assert audit_annotations(verdict)["exceptions"] == "legacy until 2026-03-01T12:30:00Z"


def test_tokens_are_withheld_unless_it_says_otherwise() -> None:
    assert audiences_of(under(exception())) == []
    assert not under(exception()).qualifies
    assert audiences_of(under(ISSUING)) == ["ledger.example.com"]
    assert under(ISSUING).qualifies


def test_one_policy_that_still_blocks_withholds_every_token() -> None:
    other = cluster_policy("other")
    verdict = judged(
        snapshot(POLICY, other, exceptions=(ISSUING, exception("two", policies=(policy_ref("other"),)))),
        found=unsigned(),
    )
    assert (denied(verdict), audiences_of(verdict)) == ([], [])


def test_it_is_over_at_the_second_that_it_names() -> None:
    of, given = pod(), snapshot(POLICY, exceptions=(ISSUING,))
    evidence = evidence_for(of, unsigned())
    last = datetime(2026, 3, 1, 12, 29, 59, 999_999, tzinfo=UTC)
    before = judge(given, subject(of), evidence, stage="mutate", now=last)
    after = judge(given, subject(of), evidence, stage="mutate", now=last + timedelta(microseconds=1))
    assert before.qualifies
    assert denied(after) == ["ImageUnsigned"]
    assert after == judge(snapshot(POLICY), subject(of), evidence, stage="mutate", now=NOW)


@pytest.mark.parametrize(
    "of",
    [
        exception(deleted="2026-06-01T00:00:00Z"),
        exception(expires="soon"),
        exception(created=""),
        exception(created="2026-03-01T12:30:00Z"),
        exception(created="2025-11-01T00:00:00Z", expires="2026-06-01T00:00:00Z"),
    ],
    ids=["being deleted", "unreadable end", "no beginning", "no time at all", "longer than 90 days"],
)
def test_what_is_not_in_force_waives_nothing(of: TrustException) -> None:
    assert in_force_until(of, NOW) is None
    assert denied(under(of)) == ["ImageUnsigned"]


def test_no_exception_lasts_longer_than_ninety_days() -> None:
    of = exception(created="2026-01-01T00:00:00Z", expires="2027-01-01T00:00:00Z")
    assert ends_at(of) == datetime(2026, 1, 1, tzinfo=UTC) + MAX_EXCEPTION


def test_people_are_told_three_days_before_its_end_or_when_a_fifth_is_left() -> None:
    long = exception(created="2026-01-01T00:00:00Z", expires="2026-03-01T00:00:00Z")
    assert warns_at(long) == datetime(2026, 2, 26, tzinfo=UTC)
    assert warns_at(exception(created="2026-03-01T12:00:00Z", expires="2026-03-01T12:00:10Z")) == datetime(
        2026, 3, 1, 12, 0, 8, tzinfo=UTC
    )


# Whom it is for


@pytest.mark.parametrize(
    "of",
    [
        exception(policies=(policy_ref("other"),)),
        exception(policies=(policy_ref("payments", namespace="payments"),)),
        exception("legacy", "CommandNotAllowed"),
        exception(namespaces=("elsewhere",)),
        exception(namespace_selector=LabelSelector(match_labels={"countersign.dev/legacy": "true"})),
        exception(namespaces=("payments",), pod_selector=LabelSelector(match_labels={"app": "other"})),
        exception(images=("registry.example.com/payments/other",)),
        exception(digests=(OTHER_DIGEST,)),
        exception(service_accounts=(ServiceAccountBinding(namespace="payments", name="other"),)),
        exception(service_accounts=(ServiceAccountBinding(namespace="elsewhere", name="default"),)),
        exception(images=("registry.example.com/payments/**",), digests=(OTHER_DIGEST,)),
        exception(pod_selector=LabelSelector(match_labels={"app": "api"})),
        exception(namespace_selector=LabelSelector()),
    ],
    ids=[
        "another policy",
        "another kind of policy of that name",
        "another check",
        "another namespace",
        "another label of the namespace",
        "other pods",
        "another image",
        "another digest",
        "another account",
        "an account of that name elsewhere",
        "the image, but not the digest",
        "labels of the author alone, which the CRD refuses",
        "every namespace, which the CRD refuses",
    ],
)
def test_it_waives_nothing_for_others(of: TrustException) -> None:
    assert denied(under(of)) == ["ImageUnsigned"]


@pytest.mark.parametrize(
    "of",
    [
        exception(namespace_selector=ANYWHERE),
        exception(namespaces=("payments",), pod_selector=LabelSelector(match_labels={"app": "api"})),
        exception(images=("registry.example.com/payments/**",)),
        exception(digests=(DIGEST,)),
        exception(service_accounts=(ServiceAccountBinding(namespace="payments", name="default"),)),
    ],
    ids=["namespace labels", "pod labels", "image", "digest", "account"],
)
def test_it_waives_for_those_that_it_names(of: TrustException) -> None:
    assert denied(under(of)) == []


def test_of_two_images_only_the_one_that_it_names_is_let_in() -> None:
    of = pod(container("api"), container("side", "registry.example.com/payments/side:1"))
    verdict = under(exception(images=("registry.example.com/payments/api",)), of=of, evidence=_unsigned(of))
    assert [finding.container for finding in verdict.denials] == ["side"]


def test_a_check_of_the_whole_pod_is_waived_for_an_image_only_if_the_pod_has_no_other() -> None:
    policy = cluster_policy(
        binding=Binding(service_accounts=(ServiceAccountBinding(namespace="payments", name="bound"),)),
        namespaces={"team": "payments"},
    )
    of = exception("legacy", "ServiceAccountNotBound", images=("registry.example.com/payments/api",))
    given = snapshot(policy, exceptions=(of,))
    assert denied(judged(given)) == []
    two = pod(container("api"), container("side", "registry.example.com/payments/side:1"))
    assert denied(judged(given, two)) == ["ServiceAccountNotBound"]


def test_a_namespaces_exception_waives_nothing_that_a_required_policy_says() -> None:
    """What a required policy finds is laid to the policy of the token; only an exception for its own rule waives it."""
    required = cluster_policy("required", tokens=(), runtime=Runtime(command="FromImage"))
    lax = trust_policy(tokens=(token(),), runtime=Runtime(command="Any"))
    of = pod(container(command=["/bin/sh"]))
    given = (audience(required=("required",), allowed=ALL_NAMESPACES),)
    wrong = exception("legacy", "CommandNotAllowed", policies=(policy_ref("own", "payments"),), tokens="Issue")
    right = exception("legacy", "CommandNotAllowed", policies=(policy_ref("required"),), tokens="Issue")
    assert denied(judged(snapshot(required, lax, audiences=given, exceptions=(wrong,)), of)) == ["CommandNotAllowed"]
    assert denied(judged(snapshot(required, lax, audiences=given, exceptions=(right,)), of)) == []


def test_no_label_of_the_pod_brings_it_under_an_exception_of_another_namespace() -> None:
    labels = {"kubernetes.io/metadata.name": "payments", "countersign.dev/legacy": "true", "app": "api"}
    of = exception(namespace_selector=LabelSelector(match_labels={"countersign.dev/legacy": "true"}))
    assert denied(under(of, of=pod(metadata={"labels": labels}))) == ["ImageUnsigned"]


# What beats it


def test_a_revoked_digest_is_never_waived() -> None:
    order = revocation(digest=DIGEST)
    verdict = judged(snapshot(POLICY, revocations=(order,), exceptions=(ISSUING,)), found=unsigned())
    assert denied(verdict) == ["ImageRevoked"]
    assert audiences_of(verdict) == []


def test_a_signature_by_a_revoked_key_is_not_waived_as_a_missing_one() -> None:
    order = revocation(key_fingerprint=fingerprint())
    signed = facts()
    assert denied(judged(snapshot(POLICY, exceptions=(ISSUING,)), found=signed)) == []
    verdict = judged(snapshot(POLICY, revocations=(order,), exceptions=(ISSUING,)), found=signed)
    assert denied(verdict) == ["ImageUnsigned"]
    assert audiences_of(verdict) == []


def test_a_revocation_elsewhere_takes_nothing_from_it() -> None:
    order = revocation("elsewhere", key_fingerprint=fingerprint())
    other = revocation(key_fingerprint=fingerprint(2))
    for one in (order, other):
        verdict = judged(snapshot(POLICY, revocations=(one,), exceptions=(exception(),)), found=unsigned())
        assert denied(verdict) == []


def test_a_revoked_key_beside_a_good_one_changes_nothing_that_needs_no_exception() -> None:
    policy = cluster_policy(images=(rule(keys=(1, 2)),), tokens=(token(),))
    order = revocation(key_fingerprint=fingerprint(2))
    found = facts(vouches=(vouch(1), vouch(2)))
    assert judged(snapshot(policy, revocations=(order,), exceptions=(ISSUING,)), found=found).qualifies


def test_an_image_that_no_rule_covers_is_let_in_by_digest_only() -> None:
    policy = cluster_policy(images=(rule(globs=("registry.example.com/other/**",)),), tokens=())
    of = exception("legacy", "ImageNotCovered")
    given = snapshot(policy, exceptions=(of,))
    assert denied(judged(given, evidence={})) == ["ImageNotCovered"]
    assert denied(judged(given, pod(container(image=PINNED)), evidence={})) == []
    revoked = snapshot(policy, exceptions=(of,), revocations=(revocation(digest=DIGEST),))
    assert denied(judged(revoked, pod(container(image=PINNED)), evidence={})) == ["ImageRevoked"]


def test_tokens_of_a_pod_whose_containers_see_each_other_are_withheld_whatever_it_says() -> None:
    given = snapshot(POLICY, exceptions=(exception("legacy", "PodTooPrivileged", tokens="Issue"),))
    verdict = judged(given, pod(hostPID=True))
    assert (denied(verdict), codes(verdict), audiences_of(verdict)) == ([], ["PodTooPrivileged"], [])


# Which of several


def test_of_several_the_one_that_issues_and_lasts_longest_counts() -> None:
    verdict = under(
        exception("short", tokens="Issue"),
        exception("long", tokens="Issue", expires="2026-03-02T00:00:00Z"),
        exception("longer", expires="2026-03-03T00:00:00Z"),
    )
    assert [one.name for one in verdict.waivers] == ["long"]


def test_no_more_exceptions_count_for_a_pod_than_a_grant_can_list() -> None:
    many = MAX_WAIVERS + 1
    of = pod(*(container(f"c{n}", f"registry.example.com/payments/c{n}:1") for n in range(many)))
    each = [exception(f"e{n}", images=(f"registry.example.com/payments/c{n}",)) for n in range(many)]
    verdict = under(*each, of=of, evidence=_unsigned(of))
    assert len(verdict.waivers) == MAX_WAIVERS
    assert len(verdict.denials) == 1


# What a grant rests on


def test_a_grant_rests_on_what_issues_and_is_over_with_the_first() -> None:
    one = GrantException(name="a", uid="uid-a", expires_at="2026-03-01T12:30:00Z", tokens="Issue")
    two = msgspec.structs.replace(one, name="b", uid="uid-b")
    known = (exception("a"), exception("b"))
    assert over((one, two), known, NOW) == ""
    assert over((one, two), known[:1], NOW) == "b"
    assert over((one,), (exception("a", uid="another"),), NOW) == "a"
    assert over((msgspec.structs.replace(one, tokens="Withhold"),), (), NOW) == ""
    assert over((msgspec.structs.replace(one, expires_at="soon"),), known, NOW) == "a"


def _unsigned(of: Any) -> dict[str, Any]:
    return {image: unsigned(repository=image.partition(":")[0]) for image in (c.image for c in of.spec.containers)}


def test_the_digests_of_an_image_that_was_let_in_are_on_record_for_orders_to_name() -> None:
    (used,) = under(exception()).evidence_used
    assert (used.digest, used.evidence) == (DIGEST, ())
    assert set(used.runtime_digests) == set(unsigned().runtime_digests)
