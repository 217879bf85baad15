from __future__ import annotations

import copy
from typing import Any

import pytest

from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.cli.files.schema_check import problems
from tests.stack.objects import cluster_policy, image_rule, token, trust_policy

DIGEST = "sha256:" + "ab" * 32
PEM = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"


def good() -> dict[str, Any]:
    return cluster_policy(
        "baseline",
        namespaces={"team": "x"},
        images=[image_rule(["r.example.com/x"], [PEM], [DIGEST])],
        tokens=[token("ledger.example.com")],
    )


def test_a_good_policy_has_no_problem() -> None:
    assert problems(ClusterTrustPolicy, good()) == ()
    assert problems(TrustPolicy, trust_policy("own", "shop", images=[image_rule(["r.example.com/x"], [PEM])])) == ()


def test_a_status_written_back_by_kubectl_get_is_not_looked_at() -> None:
    assert problems(ClusterTrustPolicy, {**good(), "status": {"anything": 1}}) == ()


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    policy = copy.deepcopy(good())
    place: Any = policy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return policy


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["spec", "mode"], "enforce", "spec.mode: must be one of Audit, Enforce, Warn, found 'enforce'"),
        (["spec", "unmatchedImage"], "Allow", "spec.unmatchedImage: is unknown: did you mean unmatchedImages?"),
        (["spec", "wholly"], 1, "spec.wholly: is unknown"),
        (["spec", "owner"], "", "spec.owner: must have 1 to 253 characters"),
        (["spec", "images"], {}, "spec.images: expected an array, found an object"),
        (["spec", "images", 0, "globs"], [], "spec.images[0].globs: takes 1 to 32 items, found 0"),
        (["spec", "images", 0, "globs"], ["r/x", "r/x"], "spec.images[0].globs[1]: repeats the value r/x"),
        (["spec", "tokens", 0, "expirationSeconds"], 60, "spec.tokens[0].expirationSeconds: must be from 600 to 86400"),
        (["spec", "tokens", 0, "expirationSeconds"], True, "expected an integer, found True"),
        (["spec", "tokens", 0, "audience"], "a b", "spec.tokens[0].audience: 'a b' does not match ^"),
        (["spec", "tokens"], [token("a", "x"), token("b", "x")], "spec.tokens[1]: repeats the name x"),
        (["spec", "profile"], "Job", "spec.profile: must be one of Agent, Batch, Serverless, Service, found 'Job'"),
        (
            ["spec", "images", 0, "digests"],
            ["sha256:short"],
            "spec.images[0].digests[0]: 'sha256:short' does not match",
        ),
        (["spec", "match"], None, "spec.match: expected an object, found nothing"),
    ],
)
def test_a_problem_names_its_path_and_what_to_write(path: list[Any], value: Any, told: str) -> None:
    (problem,) = problems(ClusterTrustPolicy, changed(path, value))
    assert told in str(problem)


def test_what_is_missing_is_required() -> None:
    policy = good()
    del policy["spec"]["owner"], policy["spec"]["tokens"][0]["audience"]
    assert sorted(map(str, problems(ClusterTrustPolicy, policy))) == [
        "spec.owner: is required",
        "spec.tokens[0].audience: is required",
    ]


def test_all_problems_are_told_at_once() -> None:
    policy = changed(["spec", "mode"], 1)
    policy["spec"]["drainSeconds"] = 100_000
    assert len(problems(ClusterTrustPolicy, policy)) == 2
