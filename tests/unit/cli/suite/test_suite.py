"""Cases of a test suite for policies: what they say is judged as the gate does, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import Result

from tests.stack.commandline import countersign
from tests.stack.objects import (
    cluster_policy,
    container,
    evidence_root,
    image_rule,
    pod,
    pod_spec,
    protected_audience,
    token,
)
from tests.unit.cli.test_policy import public_key

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
IMAGE = "registry.example.com/shop/api"
GITHUB = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yaml@refs/heads/main"

Case = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite with one policy: images signed by a key, with a token for whoever satisfies it."""
    key = public_key()
    (tmp_path / "release.pub").write_text(key)
    policy = cluster_policy(
        "baseline",
        namespaces={"team": "shop"},
        images=[image_rule([IMAGE], keys=[key])],
        tokens=[token("ledger.example.com")],
    )
    policies = tmp_path / "policies"
    policies.mkdir()
    audience = protected_audience("ledger", "ledger.example.com")
    (policies / "all.yaml").write_text(yaml.safe_dump_all([policy, audience]))
    return tmp_path


def signed(**more: Any) -> Case:
    return {
        "image": f"{IMAGE}:v1",
        "digest": DIGEST,
        "signatures": [{"keyFile": "release.pub"}],
        "runs": [{"entrypoint": ["/api"]}],
        **more,
    }


def case(name: str = "a rule", expect: Case | None = None, **more: Any) -> Case:
    return {
        "name": name,
        "pod": pod("api", "shop", pod_spec(container(f"{IMAGE}:v1"))),
        "expect": expect or {"verdict": "admitted"},
        **more,
    }


def write(folder: Path, *cases: Case, name: str = "cases.yaml", **more: Any) -> Path:
    path = folder / name
    content = {
        "apiVersion": "cli.countersign.dev/v1alpha1",
        "kind": "PolicyTest",
        "namespace": {"name": "shop", "labels": {"team": "shop"}},
        "evidence": {"images": [signed()]},
        **more,
        "cases": list(cases),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(path: Path, *args: str) -> Result:
    return countersign("policy", "test", str(path), *args)


def outcomes(result: Result) -> dict[str, str]:
    return {one["case"]: one["outcome"] for one in json.loads(result.stdout)["cases"]}


def only(result: Result) -> Any:
    (one,) = json.loads(result.stdout)["cases"]
    return one


def test_cases_that_come_out_as_expected_pass_offline(folder: Path) -> None:
    unsigned = {"images": [{"image": f"{IMAGE}:v1", "digest": DIGEST, "runs": [{"entrypoint": ["/api"]}]}]}
    write(
        folder,
        case(
            "signed: admitted, with its token",
            {"verdict": "admitted", "tokens": ["ledger"], "reasons": [], "warnings": []},
        ),
        case(
            "unsigned: denied, and told why",
            {
                "verdict": "denied",
                "message": "expects a signature by release",
                "reasons": ["ImageUnsigned"],
                "tokens": [],
                "withheld": ["ledger"],
            },
            evidence=unsigned,
        ),
        case("elsewhere: nobody's business", {"verdict": "notGoverned"}, namespace={"name": "other"}),
    )
    result = run(folder, "-o", "json")
    assert result.exit_code == 0, result.output
    assert set(outcomes(result).values()) == {"passed"}


def test_a_case_that_comes_out_otherwise_fails_with_what_was_expected_and_found(folder: Path) -> None:
    write(folder, case("refused?", {"verdict": "denied", "tokens": []}), case("as it is"))
    result = run(folder)
    assert result.exit_code == 1, result.output
    assert "refused?" in result.stdout
    for line in ("verdict:", "- denied", "+ admitted", "tokens:", "+ ledger", "1 passed, 1 failed"):
        assert line in result.stdout


@pytest.mark.parametrize(
    ("expect", "member"),
    [
        ({"verdict": "denied", "message": "no such text"}, "message"),
        ({"verdict": "denied", "exactMessage": "ImageUnsigned"}, "exactMessage"),
        ({"verdict": "denied", "reasons": ["ImageRevoked"]}, "reasons"),
        ({"verdict": "denied", "withheld": []}, "withheld"),
        ({"verdict": "denied", "warnings": ["a warning"]}, "warnings"),
        ({"verdict": "admitted"}, "verdict"),
    ],
)
def test_each_expectation_is_held_against_the_verdict(folder: Path, expect: Case, member: str) -> None:
    write(folder, case(expect=expect), evidence={"images": [signed(signatures=[])]})
    result = run(folder, "-o", "json")
    assert result.exit_code == 1, result.output
    assert [one["member"] for one in only(result)["differences"]] == [member]


def test_under_warn_the_warnings_are_compared(folder: Path) -> None:
    path = folder / "policies" / "all.yaml"
    path.write_text(path.read_text().replace("mode: Enforce", "mode: Warn", 1))
    expect = {"verdict": "admitted", "warnings": ["ImageUnsigned"], "tokens": []}
    write(folder, case(expect=expect), evidence={"images": [signed(signatures=[])]})
    result = run(folder, "-o", "json")
    assert result.exit_code == 0, result.output


def test_an_image_that_nothing_is_recorded_of_cannot_be_judged(folder: Path) -> None:
    write(folder, case(), case("another", pod=pod("api", "shop", pod_spec(container(f"{IMAGE}:v2")))))
    result = run(folder, "-o", "json")
    assert result.exit_code == 2, result.output
    assert outcomes(result) == {"a rule": "passed", "another": "error"}
    assert f"nothing is recorded of {IMAGE}:v2" in result.stdout


def test_an_image_recorded_by_its_repository_is_known_by_every_tag(folder: Path) -> None:
    write(
        folder,
        case(pod=pod("api", "shop", pod_spec(container(f"{IMAGE}:v7"), container(f"{IMAGE}@{OTHER}", name="other")))),
        evidence={"images": [signed(image=IMAGE)]},
    )
    assert run(folder).exit_code == 0


def test_a_registry_that_could_not_tell_can_be_recorded(folder: Path) -> None:
    gone = {
        "image": f"{IMAGE}:v1",
        "unavailable": {"reason": "Timeout", "message": "did not answer", "transient": True},
    }
    write(
        folder, case(expect={"verdict": "denied", "message": "could not verify in time"}), evidence={"images": [gone]}
    )
    result = run(folder)
    assert result.exit_code == 0, result.output


def test_what_a_record_leaves_open_is_told(folder: Path) -> None:
    write(folder, case(), evidence={"images": [signed(runs=[])]})
    result = run(folder, "-o", "json")
    assert result.exit_code == 2
    assert "give `runs`" in only(result)["message"]


def test_an_identity_counts_under_its_root_at_the_time_of_the_case(folder: Path) -> None:
    rule = image_rule([IMAGE])
    rule["authorities"] = [
        {
            "name": "ci",
            "keyless": {
                "identities": [
                    {
                        "issuer": GITHUB,
                        "subject": WORKFLOW,
                        "extensions": {"sourceRepositoryURI": "https://github.com/acme/shop"},
                    }
                ]
            },
        }
    ]
    policy = cluster_policy("baseline", namespaces={"team": "shop"}, images=[rule])
    (folder / "policies" / "all.yaml").write_text(yaml.safe_dump(policy))

    def by(repository: str) -> Case:
        identity = {"issuer": GITHUB, "subject": WORKFLOW, "extensions": {"sourceRepositoryURI": repository}}
        signature = {"identity": identity, "at": "2026-03-01T00:00:00Z", "proofs": ["TransparencyLog"]}
        return {"images": [signed(signatures=[signature])]}

    write(
        folder,
        case("the workflow", evidence=by("https://github.com/acme/shop")),
        case(
            "of a fork", {"verdict": "denied", "reasons": ["ImageUnsigned"]}, evidence=by("https://github.com/eve/shop")
        ),
    )
    result = run(folder)
    assert result.exit_code == 0, result.output


def test_a_root_that_only_the_cluster_has_fetched_counts_by_its_name(folder: Path) -> None:
    who = {"issuer": GITHUB, "subject": WORKFLOW}
    rule = image_rule([IMAGE])
    rule["authorities"] = [{"name": "ci", "keyless": {"identities": [who], "evidenceRootRef": {"name": "corp"}}}]
    root = evidence_root("corp", configMapRef={"name": "sigstore"})
    policy = cluster_policy("baseline", namespaces={"team": "shop"}, images=[rule])
    (folder / "policies" / "all.yaml").write_text(yaml.safe_dump_all([policy, root]))

    def under(name: str) -> Case:
        return {"images": [signed(signatures=[{"identity": who, "root": name, "at": "2026-03-01T00:00:00Z"}])]}

    refused = {"verdict": "denied", "reasons": ["ImageUnsigned"]}
    write(folder, case("corp", evidence=under("corp")), case("public", refused, evidence=under("public-good")))
    result = run(folder)
    assert result.exit_code == 0, result.output


def test_an_exception_holds_until_its_second_of_the_cases_time(folder: Path) -> None:
    waived = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "TrustException",
        "metadata": {"name": "hotfix"},
        "spec": {
            "policyRefs": [{"kind": "ClusterTrustPolicy", "name": "baseline"}],
            "match": {"namespaces": ["shop"]},
            "waives": [{"check": "ImageUnsigned"}],
            "owner": "me@example.com",
            "reason": "tonight",
            "expiresAt": "2026-03-08T00:00:00Z",
        },
    }
    unsigned = {"images": [signed(signatures=[])]}
    let_in = {"verdict": "admitted", "tokens": [], "withheld": ["ledger"], "warnings": ["hotfix"]}
    write(
        folder,
        case("the last second", let_in, now="2026-03-07T23:59:59Z", objects=[waived], evidence=unsigned),
        case("over", {"verdict": "denied"}, now="2026-03-08T00:00:00Z", objects=[waived], evidence=unsigned),
    )
    result = run(folder)
    assert result.exit_code == 0, result.output


def test_conditions_are_evaluated_on_a_recorded_predicate(folder: Path) -> None:
    key = (folder / "release.pub").read_text()
    rule = image_rule([IMAGE], keys=[key])
    expression = 'predicate.packages.all(p, p.name != "log4j-core") && subject.digest.startsWith("sha256:ab")'
    rule["attestations"] = [
        {
            "name": "sbom",
            "predicateType": "https://spdx.dev/Document",
            "authorities": ["release"],
            "validations": [{"expression": expression, "message": "no log4j"}],
        }
    ]
    policy = cluster_policy("baseline", namespaces={"team": "shop"}, images=[rule])
    (folder / "policies" / "all.yaml").write_text(yaml.safe_dump(policy))

    def attested(**more: Any) -> Case:
        by = {"keyFile": "release.pub"}
        return {"images": [signed(attestations=[{"predicateType": "https://spdx.dev/Document", "by": by, **more}])]}

    bad = {"verdict": "denied", "message": "no log4j", "reasons": ["AttestationFailed"]}
    write(
        folder,
        case("clean", evidence=attested(predicate={"packages": [{"name": "zlib"}]})),
        case("log4j", bad, evidence=attested(predicate={"packages": [{"name": "log4j-core"}]})),
        case("as recorded", evidence=attested(conditions=[{"expression": expression, "holds": True}])),
        case("recorded for another condition", evidence=attested(conditions=[{"expression": "true", "holds": True}])),
    )
    result = run(folder, "-o", "json")
    assert result.exit_code == 2, result.output
    assert list(outcomes(result).values()) == ["passed", "passed", "passed", "error"]


def test_a_member_that_is_unknown_is_refused_with_its_place(folder: Path) -> None:
    path = write(folder, case(expect={"verdict": "admitted", "token": ["ledger"]}))
    result = run(folder)
    assert result.exit_code == 2
    assert f"{path}: cases[0].expect.token: is unknown: did you mean tokens?" in result.stderr


def test_a_misspelt_kind_is_refused_and_not_left_out(folder: Path) -> None:
    write(folder, case(), kind="PolicyTests")
    result = run(folder)
    assert result.exit_code == 2
    assert "expected apiVersion cli.countersign.dev/v1alpha1 and kind PolicyTest" in result.stderr


def test_a_folder_without_cases_is_no_success(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 2
    assert "holds no PolicyTest" in result.stderr


def test_a_pod_may_stand_in_a_file_of_its_own(folder: Path) -> None:
    (folder / "pod.yaml").write_text(yaml.safe_dump(pod("api", "shop", pod_spec(container(f"{IMAGE}:v1")))))
    one = case(podFile="pod.yaml")
    del one["pod"]
    write(folder, one)
    assert run(folder).exit_code == 0
    write(folder, {**one, "podFile": "none.yaml"})
    assert "podFile" in run(folder).output


def test_junit_counts_failures_and_errors_and_holds_no_character_that_xml_forbids(folder: Path) -> None:
    write(
        folder,
        case("passes"),
        case("fails \x07 & <loudly>", {"verdict": "denied"}),
        case("cannot be run", pod=pod("api", "shop", pod_spec(container(f"{IMAGE}:v2")))),
    )
    report = folder / "report.xml"
    result = run(folder, "--output", "junit", "--file", str(report))
    assert result.exit_code == 2, result.output
    assert "1 passed, 1 failed, 1 could not be run" in result.stdout
    root = ElementTree.fromstring(report.read_bytes())  # noqa: S314 - our own
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "3", "1", "1")
    (suite,) = root
    assert [one.get("name") for one in suite] == ["passes", "fails ? & <loudly>", "cannot be run"]
    assert [[child.tag for child in one] for one in suite] == [[], ["failure"], ["error"]]
    assert "+ admitted" in str(suite[1][0].text)
    assert all(one.get("classname") and float(one.get("time", "")) >= 0 for one in suite)


def test_options_for_one_pod_do_not_go_with_cases(folder: Path) -> None:
    write(folder, case())
    assert run(folder, "-n", "shop").exit_code == 2
    assert run(folder, "--file", "x.xml").exit_code == 2
