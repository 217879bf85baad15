"""A registry is asked only about what a governing policy's rule matches."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.api.policy import Runtime
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.needs import EvidenceNeed, PredicateNeed, covers, evidence_needs
from countersign.trust.images.extraction import changed, extract
from countersign.trust.images.pins import facts_by_image, pins
from countersign.trust.policies.policy import Policy
from tests.unit.trust.build import (
    DIGEST,
    OTHER_DIGEST,
    PINNED,
    REPOSITORY,
    ROOT_HASH,
    SCAN,
    TAGGED,
    cluster_policy,
    config,
    container,
    facts,
    fingerprint,
    key,
    keyed,
    keyless,
    pod,
    root,
    rule,
    rule_by,
    token,
    vouch,
    wants,
)


def needs(*policies: Policy, of: Any = None, roots: Any = None) -> dict[str, EvidenceNeed]:
    return {need.image: need for need in evidence_needs(policies, of or pod(), roots or {})}


def test_a_matching_rule_with_authorities_asks_for_its_keys() -> None:
    need = needs(cluster_policy())[TAGGED]
    assert need == EvidenceNeed(
        image=TAGGED,
        keys=(key(1),),
        fingerprints=(fingerprint(1),),
        resolve=True,
        stale_seconds=3600,
    )


def test_images_that_no_rule_matches_are_not_asked_about() -> None:
    of = pod(container(), container("proxy", "docker.io/envoy:1"), container("bad", "UPPER/case"))
    assert list(needs(cluster_policy(unmatched_images="Allow"), of=of)) == [TAGGED]


def test_nothing_governs_nothing_is_asked() -> None:
    assert needs() == {}


def test_the_keys_of_all_policies_are_asked_at_once_each_once() -> None:
    first = cluster_policy("a", images=(rule(keys=(1, 2)),))
    second = cluster_policy("b", images=(rule(keys=(2, 3)),))
    assert needs(first, second)[TAGGED].keys == (key(1), key(2), key(3))


def test_each_image_is_asked_about_once() -> None:
    of = pod(container(), container("two"), initContainers=[container("init")])
    assert len(evidence_needs([cluster_policy()], of, {})) == 1


def test_a_listed_digest_needs_no_registry() -> None:
    policy = cluster_policy(images=(rule(digests=(DIGEST,)),))
    assert needs(policy, of=pod(container(image=PINNED))) == {}
    other = f"{REPOSITORY}@{OTHER_DIGEST}"
    assert needs(policy, of=pod(container(image=other)))[other].keys == (key(1),)


def test_a_tag_under_listed_digests_must_be_resolved() -> None:
    policy = cluster_policy(images=(rule(keys=(), digests=(DIGEST,)),))
    assert needs(policy)[TAGGED] == EvidenceNeed(image=TAGGED, resolve=True, stale_seconds=3600)


def test_what_every_image_is_called_and_runs_is_asked_for_where_a_container_receives_a_token() -> None:
    of = pod(container(), container("web", f"{REPOSITORY}-web:1"))
    found = needs(cluster_policy(tokens=(token(containers=("api",)),)), of=of)
    assert {image: need.want_config for image, need in found.items()} == {TAGGED: True, f"{REPOSITORY}-web:1": True}
    anything = cluster_policy(tokens=(token(),), runtime=Runtime(command="Any"))
    assert needs(anything)[TAGGED].want_config


def test_no_config_is_asked_for_where_no_container_receives_a_token() -> None:
    assert not needs(cluster_policy())[TAGGED].want_config
    assert not needs(cluster_policy(tokens=(token(containers=("other",)),)))[TAGGED].want_config


def test_a_listed_digest_whose_config_is_wanted_is_asked_about_without_keys() -> None:
    policy = cluster_policy(images=(rule(digests=(DIGEST,)),), tokens=(token(),))
    assert needs(policy, of=pod(container(image=PINNED)))[PINNED] == EvidenceNeed(
        image=PINNED, want_config=True, stale_seconds=3600
    )


def test_a_keyless_authority_asks_by_its_root_and_the_default_is_the_public_good_one() -> None:
    policy = cluster_policy(images=(rule_by(keyless(), keyless("own", root="acme")),))
    need = needs(policy, roots={"public-good": root("sha256:a"), "acme": root("sha256:b")})[TAGGED]
    assert (need.roots, need.root_hashes) == (("public-good", "acme"), ("sha256:a", "sha256:b"))


def test_a_root_that_is_missing_or_unusable_is_not_asked_about() -> None:
    policy = cluster_policy(images=(rule_by(keyless(), keyless("own", root="acme")),))
    need = needs(policy, roots={"acme": root(problem="its TUF mirror does not answer")})[TAGGED]
    assert (need.roots, need.repositories) == ((), ("",))


def test_a_key_asks_for_a_root_only_if_it_names_one() -> None:
    roots = {"public-good": root(), "acme": root("sha256:b")}
    assert needs(cluster_policy(), roots=roots)[TAGGED].roots == ()
    assert needs(cluster_policy(images=(rule_by(keyed("release", root="acme")),)), roots=roots)[TAGGED].roots == (
        "acme",
    )


def test_attestations_are_asked_for_by_type_with_every_condition_once() -> None:
    one = rule_by(keyed(), keyed("scanner", 2), attestations=(wants(conditions=("a", "b")),))
    two = rule_by(
        keyed("scanner", 3),
        name="two",
        attestations=(
            wants("x", conditions=("b", "c")),
            wants("slsa", predicate_type="https://slsa.dev/provenance/v1"),
        ),
    )
    need = needs(cluster_policy(images=(one, two)))[TAGGED]
    assert need.predicates == (
        PredicateNeed(SCAN, ("a", "b", "c")),
        PredicateNeed("https://slsa.dev/provenance/v1"),
    )
    assert set(need.fingerprints) == {fingerprint(number) for number in (1, 2, 3)}


def test_of_a_listed_digest_only_attestations_are_asked_for_and_only_by_those_who_may_make_them() -> None:
    listed = rule_by(keyed("release", 1), attestors=(keyed("scanner", 2),), attestations=(wants(),), digests=(DIGEST,))
    need = needs(cluster_policy(images=(listed,)), of=pod(container(image=PINNED)))[PINNED]
    assert need.fingerprints == (fingerprint(2),)
    assert [one.predicate_type for one in need.predicates] == [SCAN]


def test_signatures_on_platforms_need_the_platforms() -> None:
    for place in ("Platforms", "Either"):
        need = needs(cluster_policy(images=(rule_by(keyed(), signature_on=place),)))[TAGGED]
        assert need.platforms
        assert need.want_config
    assert not needs(cluster_policy())[TAGGED].platforms


def test_signatures_are_looked_for_where_the_rules_say_that_they_are() -> None:
    elsewhere = rule_by(keyed(), name="two", signature_repository="registry.example.com/signatures")
    assert needs(cluster_policy(images=(rule_by(keyed()), elsewhere)))[TAGGED].repositories == (
        "",
        "registry.example.com/signatures",
    )
    assert needs(cluster_policy(images=(elsewhere,)))[TAGGED].repositories == ("registry.example.com/signatures",)


def test_facts_may_be_as_stale_as_the_most_patient_policy_says() -> None:
    patient = cluster_policy("a", stale_evidence_seconds=7200)
    strict = cluster_policy("b", stale_evidence_seconds=0)
    assert needs(patient, strict)[TAGGED].stale_seconds == 7200
    assert needs(strict)[TAGGED].stale_seconds == 0


def test_a_receipt_answers_only_what_was_asked_at_its_making() -> None:
    asked = rule_by(keyed(), keyless("scanner"), attestations=(wants(conditions=("a",)),), signature_on="Either")
    need = needs(cluster_policy(images=(asked,)), roots={"public-good": root()})[TAGGED]
    known = facts(
        checked_roots=(ROOT_HASH,),
        checked_predicates=(SCAN,),
        checked_conditions=(condition_name(SCAN, "a"),),
        platforms_checked=True,
    )
    assert covers(known, need)
    for lacking in (
        {"checked_roots": ("sha256:" + "2" * 64,)},
        {"checked_predicates": ()},
        {"checked_conditions": (condition_name(SCAN, "b"),)},
        {"platforms_checked": False},
        {"repositories": ("registry.example.com/signatures",)},
        {"stale_seconds": 3601},
        {"checked_keys": ()},
    ):
        assert not covers(msgspec.structs.replace(known, **lacking), need), lacking


def test_facts_at_hand_cover_a_need_only_if_they_answer_all_of_it() -> None:
    need = needs(cluster_policy(tokens=(token(),)))[TAGGED]
    assert covers(facts(), need)
    assert not covers(facts(checked=(2,)), need)
    assert not covers(facts(configs=()), need)
    assert not covers(facts("registry.example.com/payments/other"), need)
    pinned = needs(cluster_policy(), of=pod(container(image=PINNED)))[PINNED]
    assert covers(facts(configs=()), pinned)
    assert not covers(facts(digest=OTHER_DIGEST), pinned)


def test_tags_are_pinned_at_every_place_and_digests_left_alone() -> None:
    of = pod(
        container(),
        container("two"),
        container("three", PINNED),
        volumes=[{"name": "model", "image": {"reference": TAGGED}}],
    )
    evidence = {TAGGED: facts(), PINNED: facts()}
    assert pins(extract(of), evidence) == {
        "/spec/containers/0/image": PINNED,
        "/spec/containers/1/image": PINNED,
        "/spec/volumes/0/image/reference": PINNED,
    }


def test_an_update_pins_only_what_it_changes() -> None:
    old = pod(container(), container("two", "docker.io/other:1"))
    new = pod(container(), container("two"))
    assert pins(changed(old, new), {TAGGED: facts()}) == {"/spec/containers/1/image": PINNED}


def test_short_names_are_pinned_in_full() -> None:
    of = pod(container(image="nginx"))
    assert pins(extract(of), {"nginx": facts("docker.io/library/nginx")}) == {
        "/spec/containers/0/image": f"docker.io/library/nginx:latest@{DIGEST}"
    }


def test_facts_about_another_repository_pin_nothing() -> None:
    assert pins(extract(pod()), {TAGGED: facts("registry.example.com/evil")}) == {}


def test_facts_follow_the_image_to_its_pinned_name() -> None:
    before, after = pod(), pod(container(image=PINNED))
    known = facts(vouches=[vouch()], configs=[config()])
    assert facts_by_image(after, before, {TAGGED: known}) == {PINNED: known}


@pytest.mark.parametrize("first", [TAGGED, PINNED])
def test_an_image_named_by_tag_here_and_by_digest_there_keeps_what_was_found_for_either(first: str) -> None:
    # A copy of an admitted pod with a further container (kubectl debug --copy-to) names it both ways.
    second = PINNED if first == TAGGED else TAGGED
    before = pod(container(image=first), container("web", second))
    after = pod(container(image=PINNED), container("web", PINNED))
    by_tag = facts(configs=[], checked=(1, 2))
    by_digest = facts(vouches=[], checked=(3,))
    found = facts_by_image(after, before, {TAGGED: by_tag, PINNED: by_digest})[PINNED]
    assert (found.vouches, found.configs) == ((vouch(),), (config(),))
    assert set(found.checked_keys) == {fingerprint(number) for number in (1, 2, 3)}


def test_where_no_signature_is_asked_for_it_does_not_matter_where_any_was_looked_for() -> None:
    policy = cluster_policy(images=(rule(digests=(DIGEST,)),), tokens=(token(),))
    (need,) = evidence_needs([policy], pod(container(image=PINNED)), {})
    assert (need.repositories, need.keys) == (("",), ())
    assert covers(facts(repositories=("registry.example.com/signatures",), left_out=9), need)
