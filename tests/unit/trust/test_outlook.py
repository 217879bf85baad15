"""What each policy for itself would make of a pod, whatever its mode."""

from __future__ import annotations

import msgspec
import pytest

from countersign.api.policy import Binding, ControllerBinding, Requester
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.policies.scope import governing
from countersign.trust.verdicts.outlook import Weighed, known, outlook, recreated, weigh
from tests.unit.grants.build import admitted, with_debugger
from tests.unit.trust.build import (
    NOW,
    cluster_policy,
    container,
    facts,
    judged,
    pod,
    rule,
    snapshot,
    subject,
    token,
    trust_policy,
    unsigned,
    unverifiable,
)


def words(*weighed: Weighed) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one.policy.name: (one.outcome, one.reasons) for one in weighed}


@pytest.mark.parametrize("mode", ["Audit", "Warn", "Enforce"])
def test_the_mode_does_not_change_a_policys_word(mode: str) -> None:
    verdict = judged(snapshot(cluster_policy(mode=mode)), found=unsigned())
    assert words(*weigh(verdict, subject())) == {"payments": ("wouldDeny", ("ImageUnsigned",))}
    assert words(*weigh(judged(snapshot(cluster_policy(mode=mode))), subject())) == {"payments": ("allowed", ())}


def test_each_policy_speaks_for_itself() -> None:
    strict = cluster_policy("strict", mode="Audit", images=(rule(keys=(2,)),))
    verdict = judged(snapshot(cluster_policy(), strict))
    assert words(*weigh(verdict, subject())) == {
        "payments": ("allowed", ()),
        "strict": ("wouldDeny", ("ImageUnsigned",)),
    }


def test_what_the_registry_did_not_say_is_unknown_and_no_refusal() -> None:
    verdict = judged(snapshot(cluster_policy()), found=unverifiable())
    assert words(*weigh(verdict, subject())) == {"payments": ("unknown", ("ImageUnverifiable",))}


def test_a_definite_finding_decides_whatever_else_is_open() -> None:
    found: dict[str, ImageFacts | Unverifiable] = {
        "registry.example.com/payments/api:1.2": unverifiable(),
        "docker.io/library/busybox": facts(),
    }
    both = pod(container(), container("side", "docker.io/library/busybox"))
    verdict = judged(snapshot(cluster_policy()), both, evidence=found)
    assert words(*weigh(verdict, subject(both))) == {"payments": ("wouldDeny", ("ImageNotCovered",))}


def test_what_is_only_reported_refuses_nobody() -> None:
    lenient = cluster_policy(images=(rule(globs=("other.example.com/**",)),), unmatched_images="Allow")
    assert words(*weigh(judged(snapshot(lenient)), subject())) == {"payments": ("allowed", ())}


def test_an_unknown_requester_is_held_against_nobody() -> None:
    bound = trust_policy(binding=Binding(requesters=(Requester(kind="User", name="alice"),)))
    verdict = judged(snapshot(bound), requester=None)
    assert words(*weigh(verdict, subject(requester=None))) == {"own": ("allowed", ())}
    assert words(*weigh(judged(snapshot(bound)), subject())) == {"own": ("wouldDeny", ("RequesterNotBound",))}


def test_what_rests_on_something_unread_is_unknown() -> None:
    bound = cluster_policy(binding=Binding(controllers=(ControllerBinding(kind="Deployment", name="api"),)))
    verdict = judged(snapshot(bound))
    (word,) = weigh(verdict, subject(), frozenset({"ControllerNotBound"}))
    assert word.outcome == "unknown"
    (word,) = weigh(verdict, subject())
    assert word.outcome == "wouldDeny"


def test_a_pod_from_before_the_policy_lacks_its_tokens() -> None:
    given = snapshot(cluster_policy(tokens=(token(),)))
    (word,) = weigh(judged(given), subject())
    assert word.not_injected
    found, spent = admitted(given)
    verdict = outlook(given, found, spent.receipt.images, NOW, admitted=True)
    (word,) = weigh(verdict, found)
    assert (word.outcome, word.not_injected) == ("allowed", False)


def test_a_pod_is_made_again_without_its_debuggers_and_without_our_volumes() -> None:
    given = snapshot(cluster_policy(tokens=(token(env_var="TOKEN_FILE"),)))
    found, _ = admitted(given)
    assert found.pod.spec.volumes
    again = recreated(with_debugger(found.pod, "shell"), admitted=True)
    assert not again.spec.volumes
    assert not again.spec.ephemeral_containers
    assert not again.spec.containers[0].volume_mounts
    assert not again.spec.containers[0].env


def test_a_renamed_token_refuses_no_pod_that_carries_the_old_one() -> None:
    before = snapshot(cluster_policy(tokens=(token("old", env_var="TOKEN_FILE"),)))
    found, spent = admitted(before)
    after = snapshot(cluster_policy(tokens=(token("new", env_var="TOKEN_FILE"),)))
    verdict = outlook(after, found, spent.receipt.images, NOW, admitted=True)
    assert [word.outcome for word in weigh(verdict, found)] == ["allowed"]


def test_a_volume_of_the_authors_own_stays_whatever_its_name() -> None:
    given = snapshot(cluster_policy(tokens=(token(),)))
    found, _ = admitted(given)
    forged = msgspec.structs.replace(found, requester=None)
    assert recreated(forged.pod, admitted=False) is forged.pod


def test_facts_of_a_receipt_answer_or_are_marked_as_not_asked() -> None:
    given = snapshot(cluster_policy(images=(rule(keys=(1, 2)),)))
    whole = subject()
    needs = evidence_needs(governing(given, whole), whole.pod, given.roots)
    image = whole.pod.spec.containers[0].image
    _, complete = known(needs, {image: facts(checked=(1, 2))})
    assert complete
    evidence, complete = known(needs, {image: facts(checked=(1,))})
    assert not complete
    verdict = outlook(given, whole, evidence, NOW, admitted=True)
    # Key 1 has signed, but whether that was all that could be found is not known: the gate is asked.
    assert [word.outcome for word in weigh(verdict, whole)] == ["unknown"]
