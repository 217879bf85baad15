"""`image verify`, `policy init`, `policy test --record`: on images that real cosign signed with the lab's Sigstore."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from tests.lab.cosign import Form, KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.lab.registries import Registry
from tests.lab.sigstore.issuer import GITHUB_ISSUER, Identity
from tests.lab.sigstore.services import Sigstore
from tests.stack.commandline import countersign
from tests.stack.objects import cluster_policy, container, image_rule, pod, pod_spec

PROVENANCE = {
    "buildDefinition": {
        "buildType": "https://actions.github.io/buildtypes/workflow/v1",
        "externalParameters": {"workflow": {"repository": "https://github.com/acme/payments"}},
    },
    "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}},
}
FROM_ACME = 'predicate.buildDefinition.externalParameters.workflow.repository == "https://github.com/acme/payments"'


@pytest.fixture(scope="module")
def sigstore(lab: Lab) -> Sigstore:
    return lab.sigstore


@pytest.fixture(scope="module")
def workflow(sigstore: Sigstore) -> Identity:
    return sigstore.issuers.github("acme/payments")


@pytest.fixture(scope="module")
def scan_key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("cli-scanner")


def release(
    lab: Lab, registry: Registry, name: str, sigstore: Sigstore, workflow: Identity, scan_key: KeyPair
) -> PushedImage:
    """Signed and attested by a workflow, and scanned under a key."""
    pushed = registry.repository(f"cli/{name}").push("v1", ImageSpec.distinct(f"cli-{name}"))
    lab.cosign.sign_keyless(registry, pushed, workflow, sigstore)
    lab.cosign.attest_keyless(registry, pushed, workflow, sigstore, predicate=PROVENANCE)
    scan: dict[str, Any] = {"scanner": {"result": {"Results": []}}}
    lab.cosign.attest(registry, pushed, scan_key, predicate=scan, predicate_type="vuln")
    return pushed


@pytest.fixture(scope="module")
def image(
    lab: Lab, referrers_registry: Registry, sigstore: Sigstore, workflow: Identity, scan_key: KeyPair
) -> PushedImage:
    return release(lab, referrers_registry, "keyless", sigstore, workflow, scan_key)


def reach(lab: Lab) -> list[str]:
    return [f"--registry-ca={lab.ca_file}", "--allow-address-range=127.0.0.0/8"]


def verify(lab: Lab, image: str, *args: str) -> Result:
    return countersign("image", "verify", image, *reach(lab), *args, "-o", "json", DOCKER_CONFIG="/nowhere")


def by(identity: Identity, sigstore: Sigstore, **changed: str) -> list[str]:
    options = {
        "certificate-identity": identity.subject,
        "certificate-oidc-issuer": identity.issuer,
        "evidence-root": str(sigstore.trusted_root),
        **changed,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value]


def told(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize("form", [Form.BUNDLE, Form.CLASSIC])
def test_an_identity_vouches_in_either_form(
    lab: Lab, plain_registry: Registry, sigstore: Sigstore, workflow: Identity, form: Form
) -> None:
    pushed = plain_registry.repository(f"cli/identity-{form}").push("v1", ImageSpec.distinct(f"cli-{form}"))
    lab.cosign.sign_keyless(plain_registry, pushed, workflow, sigstore, form=form)
    result = verify(lab, pushed.by_tag, *by(workflow, sigstore))
    assert result.exit_code == 0, result.output
    (found,) = [one for one in told(result)["found"] if one["what"] == "signature"]
    assert (found["issuer"], found["subject"], found["counts"]) == (workflow.issuer, workflow.subject, ["identity"])
    assert found["extensions"]["sourceRepositoryURI"] == "https://github.com/acme/payments"
    assert found["at"].endswith("Z")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"certificate-identity": "https://github.com/eve/payments/.github/workflows/release.yml@refs/heads/main"},
            "by nobody that a rule names",
        ),
        ({"certificate-oidc-issuer": "https://gitlab.com"}, "by nobody that a rule names"),
        ({"certificate-extension": "runnerEnvironment=self-hosted"}, "by nobody that a rule names"),
    ],
)
def test_another_identity_does_not_count_and_is_told_why(
    lab: Lab, image: PushedImage, sigstore: Sigstore, workflow: Identity, changed: dict[str, str], why: str
) -> None:
    result = verify(lab, image.by_tag, *by(workflow, sigstore, **changed))
    assert result.exit_code == 1, result.output
    shown = told(result)
    assert shown["verified"] is False
    (signature,) = [one for one in shown["found"] if one["what"] == "signature"]
    assert (signature["counts"], signature["why"]) == ([], why)
    assert signature["subject"] == workflow.subject
    assert shown["policies"][0]["reasons"] == ["ImageUnsigned"]


def test_expressions_must_match_all_of_issuer_and_subject(lab: Lab, image: PushedImage, sigstore: Sigstore) -> None:
    root = f"--evidence-root={sigstore.trusted_root}"
    issuer = "--certificate-oidc-issuer-regexp=https://token[.]actions[.].*"
    whole = verify(lab, image.by_tag, root, issuer, "--certificate-identity-regexp=https://github.com/acme/.*")
    part = verify(lab, image.by_tag, root, issuer, "--certificate-identity-regexp=acme")
    assert (whole.exit_code, part.exit_code) == (0, 1)


def test_what_does_not_go_back_to_the_root_counts_for_nothing_and_is_told(
    lab: Lab, image: PushedImage, workflow: Identity, sigstore: Sigstore
) -> None:
    result = verify(lab, image.by_tag, *by(workflow, sigstore, **{"evidence-root": ""}))
    assert result.exit_code == 1, result.output
    whys = [one["why"] for one in told(result)["found"] if one["what"] == "candidate"]
    assert any(why.startswith("Untrusted: ") for why in whys)


def test_an_attestation_is_held_against_conditions_and_the_value_is_named(
    lab: Lab, image: PushedImage, sigstore: Sigstore, workflow: Identity
) -> None:
    options = [*by(workflow, sigstore), "--attestation=slsaprovenance1"]
    good = verify(lab, image.by_tag, *options, f"--validate={FROM_ACME}")
    assert good.exit_code == 0, good.output
    bad = verify(lab, image.by_tag, *options, f"--validate={FROM_ACME.replace('acme', 'eve')}")
    assert bad.exit_code == 1, bad.output
    shown = told(bad)
    assert shown["policies"][0]["reasons"] == ["AttestationFailed"]
    (provenance,) = [one for one in shown["found"] if one["type"] == "https://slsa.dev/provenance/v1"]
    assert "https://github.com/acme/payments" in provenance["why"]


def test_attestations_of_types_that_nobody_asks_about_are_shown(
    lab: Lab, image: PushedImage, sigstore: Sigstore, workflow: Identity, scan_key: KeyPair
) -> None:
    result = verify(lab, image.by_tag, *by(workflow, sigstore), f"--key={scan_key.public}")
    assert result.exit_code == 0, result.output
    attested = {one["type"]: one for one in told(result)["found"] if one["what"] == "attestation"}
    assert set(attested) == {"https://slsa.dev/provenance/v1", "https://cosign.sigstore.dev/attestation/vuln/v1"}
    assert {one["why"] for one in attested.values()} == {"no rule asks for this type"}


def test_a_signature_repository_is_looked_at_instead(
    lab: Lab, referrers_registry: Registry, scan_key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = referrers_registry.repository("cli/elsewhere").push("v1", ImageSpec.distinct("cli-elsewhere"))
    place = f"{referrers_registry.host}/cli/signatures"
    assert verify(lab, pushed.by_tag, f"--key={scan_key.public}").exit_code == 1
    lab.cosign.storing_in(place).sign(referrers_registry, pushed, scan_key, form=Form.CLASSIC)
    assert verify(lab, pushed.by_tag, f"--key={scan_key.public}").exit_code == 1
    result = verify(lab, pushed.by_tag, f"--key={scan_key.public}", f"--signature-repository={place}")
    assert result.exit_code == 0, result.output


def test_platforms_count_where_they_are_asked_for(lab: Lab, referrers_registry: Registry, scan_key: KeyPair) -> None:
    specs = {"amd64": ImageSpec.distinct("cli-amd64"), "arm64": ImageSpec.distinct("cli-arm64")}
    repository = referrers_registry.repository("cli/platforms")
    index = repository.push_index("v1", specs)
    manifests = json.loads(repository.get_manifest(index.digest))["manifests"]
    key = f"--key={scan_key.public}"
    lab.cosign.sign(referrers_registry, f"{index.repository}@{manifests[0]['digest']}", scan_key)
    assert verify(lab, index.by_tag, key, "--platforms").exit_code == 1
    lab.cosign.sign(referrers_registry, f"{index.repository}@{manifests[1]['digest']}", scan_key)
    assert verify(lab, index.by_tag, key).exit_code == 1
    result = verify(lab, index.by_tag, key, "--platforms")
    assert result.exit_code == 0, result.output
    on = {one["on"] for one in told(result)["found"] if one["counts"]}
    assert on == {one["digest"] for one in manifests}


@pytest.mark.parametrize("proof", ["TransparencyLog", "Timestamp", "SCT"])
def test_proofs_that_are_required_are_brought(
    lab: Lab, image: PushedImage, sigstore: Sigstore, workflow: Identity, proof: str
) -> None:
    assert verify(lab, image.by_tag, *by(workflow, sigstore), f"--require={proof}").exit_code == 0


def test_a_proof_that_is_required_and_missing_is_named(
    lab: Lab, image: PushedImage, sigstore: Sigstore, scan_key: KeyPair
) -> None:
    key = [f"--key={scan_key.public}", f"--evidence-root={sigstore.trusted_root}", "--attestation=vuln"]
    assert verify(lab, image.by_tag, *key).exit_code == 0
    result = verify(lab, image.by_tag, *key, "--require=TransparencyLog")
    assert result.exit_code == 1, result.output
    whys = {one["why"] for one in told(result)["found"] if one["type"].endswith("/vuln/v1")}
    assert whys == {"not for cli-scanner: a proof that is required is missing"}


def policies(folder: Path, *objects: dict[str, Any]) -> str:
    path = folder / "policies.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return f"--policy={path}"


def test_every_rule_of_the_policies_must_hold(lab: Lab, image: PushedImage, scan_key: KeyPair, tmp_path: Path) -> None:
    listed = image_rule([image.repository], digests=[image.digest], name="listed")
    signed = image_rule([image.repository], keys=[scan_key.public_pem], name="signed")
    one = cluster_policy("one", namespaces={"team": "shop"}, images=[listed])
    both = cluster_policy("both", namespaces={"team": "shop"}, images=[listed, signed])
    assert verify(lab, image.by_digest, policies(tmp_path, one)).exit_code == 0
    result = verify(lab, image.by_tag, policies(tmp_path, one, both))
    assert result.exit_code == 1, result.output
    assert {each["policy"]: each["holds"] for each in told(result)["policies"]} == {
        "ClusterTrustPolicy one": True,
        "ClusterTrustPolicy both": False,
    }
    strange = cluster_policy("strange", namespaces={}, images=[image_rule(["r.example.com/x"], digests=[image.digest])])
    assert verify(lab, image.by_tag, policies(tmp_path, strange)).exit_code == 2


def test_a_digest_that_is_revoked_is_verified_by_nothing(lab: Lab, image: PushedImage, tmp_path: Path) -> None:
    policy = cluster_policy("p", namespaces={}, images=[image_rule([image.repository], digests=[image.digest])])
    revocation = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "Revocation",
        "metadata": {"name": "gone", "namespace": "countersign-system"},
        "spec": {"target": {"digest": image.digest}, "reason": "spoilt"},
    }
    result = verify(lab, image.by_tag, policies(tmp_path, policy, revocation))
    assert result.exit_code == 1, result.output
    assert told(result)["policies"][0]["reasons"] == ["ImageRevoked"]


def first_policy(lab: Lab, image: PushedImage, *args: str, code: int = 0) -> list[Any]:
    result = countersign("policy", "init", image.by_tag, *reach(lab), *args, DOCKER_CONFIG="/nowhere")
    assert result.exit_code == code, result.output
    return list(yaml.safe_load_all(result.stdout))


def test_a_first_policy_names_the_identities_and_attestations_that_are_found_and_holds(
    lab: Lab, image: PushedImage, sigstore: Sigstore, workflow: Identity, scan_key: KeyPair, tmp_path: Path
) -> None:
    root, policy = first_policy(lab, image, f"--evidence-root={sigstore.trusted_root}")
    assert root["kind"] == "EvidenceRoot"
    (rule,) = policy["spec"]["images"]
    (authority,) = rule["authorities"]
    assert authority["name"] == "github"
    assert authority["keyless"]["evidenceRootRef"] == {"name": root["metadata"]["name"]}
    (identity,) = authority["keyless"]["identities"]
    assert (identity["issuer"], identity["subject"]) == (GITHUB_ISSUER, workflow.subject)
    assert identity["extensions"] == {
        "sourceRepositoryURI": "https://github.com/acme/payments",
        "sourceRepositoryOwnerIdentifier": "101",
        "runnerEnvironment": "github-hosted",
    }
    (attestation,) = rule["attestations"]
    assert (attestation["predicateType"], attestation["authorities"]) == ("https://slsa.dev/provenance/v1", ["github"])
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump_all([root, policy]))
    result = verify(lab, image.by_tag, f"--policy={file}")
    assert result.exit_code == 0, result.output


def test_who_only_attests_becomes_an_attestor(
    lab: Lab, referrers_registry: Registry, sigstore: Sigstore, workflow: Identity, scan_key: KeyPair
) -> None:
    image = release(lab, referrers_registry, "attested", sigstore, workflow, scan_key)
    assert first_policy(lab, image, f"--key={scan_key.public}", code=1) == []
    key = lab.cosign.generate_key("cli-both")
    lab.cosign.sign(referrers_registry, image, key)
    keys = [f"--key={one.public}" for one in (scan_key, key)]
    _, policy = first_policy(lab, image, f"--evidence-root={sigstore.trusted_root}", *keys)
    (rule,) = policy["spec"]["images"]
    assert {one["name"] for one in rule["authorities"]} == {"github", "cli-both"}
    assert [one["name"] for one in rule["attestors"]] == ["cli-scanner"]
    assert "evidenceRootRef" not in rule["attestors"][0]["key"]
    assert {one["name"]: one["authorities"] for one in rule["attestations"]} == {
        "vulnerabilities": ["cli-scanner"],
        "provenance": ["github"],
    }


def test_the_conditions_that_a_first_policy_proposes_hold_once_they_are_uncommented(
    lab: Lab,
    referrers_registry: Registry,
    sigstore: Sigstore,
    workflow: Identity,
    scan_key: KeyPair,
    tmp_path: Path,
) -> None:
    image = release(lab, referrers_registry, "conditions", sigstore, workflow, scan_key)
    lab.cosign.sign(referrers_registry, image, scan_key, sigstore=sigstore)
    args = (f"--key={scan_key.public}", f"--evidence-root={sigstore.trusted_root}")
    result = countersign("policy", "init", image.by_tag, *reach(lab), *args, DOCKER_CONFIG="/nowhere")
    assert result.exit_code == 0, result.output
    lines = [
        line.replace("# ", "", 1) if re.match(r" +# (validations:|  - expression:|    message:)", line) else line
        for line in result.stdout.splitlines()
    ]
    file = tmp_path / "policy.yaml"
    file.write_text("\n".join(lines))
    (rule,) = list(yaml.safe_load_all(file.read_text()))[1]["spec"]["images"]
    (key,) = [one["key"] for one in rule["authorities"] if "key" in one]
    assert key["evidenceRootRef"] == {"name": "trusted-root"}
    assert {one["name"]: len(one["validations"]) for one in rule["attestations"]} == {
        "provenance": 1,
        "vulnerabilities": 1,
    }
    verified = verify(lab, image.by_tag, f"--policy={file}")
    assert verified.exit_code == 0, verified.output


def test_a_release_at_a_tag_gives_a_pattern_for_the_tags_to_come(
    lab: Lab, referrers_registry: Registry, sigstore: Sigstore, tmp_path: Path
) -> None:
    pushed = []
    for version in ("v1.0.0", "v1.1.0"):
        one = referrers_registry.repository("cli/released").push(version, ImageSpec.distinct(f"cli-released-{version}"))
        lab.cosign.sign_keyless(
            referrers_registry, one, sigstore.issuers.gitlab("acme/payments", ref=version, ref_type="tag"), sigstore
        )
        pushed.append(one)
    documents = first_policy(lab, pushed[0], f"--evidence-root={sigstore.trusted_root}")
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    assert documents[1]["spec"]["images"][0]["authorities"][0]["name"] == "gitlab"
    for one in pushed:
        result = verify(lab, one.by_tag, f"--policy={file}")
        assert result.exit_code == 0, result.output


def test_recorded_cases_come_out_the_same_offline(
    lab: Lab, image: PushedImage, sigstore: Sigstore, workflow: Identity, scan_key: KeyPair, tmp_path: Path
) -> None:
    rule = {
        "name": "payments",
        "globs": [image.repository],
        "authorities": [
            {
                "name": "ci",
                "keyless": {
                    "identities": [{"issuer": workflow.issuer, "subject": workflow.subject}],
                    "evidenceRootRef": {"name": "corp"},
                },
            }
        ],
        "attestors": [{"name": "scanner", "key": {"pem": [scan_key.public_pem]}}],
        "attestations": [
            {
                "name": "provenance",
                "predicateType": "https://slsa.dev/provenance/v1",
                "authorities": ["ci"],
                "maxAgeSeconds": 3600,
                "validations": [{"expression": FROM_ACME}],
            },
            {
                "name": "scan",
                "predicateType": "https://cosign.sigstore.dev/attestation/vuln/v1",
                "authorities": ["scanner"],
            },
        ],
    }
    root = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "EvidenceRoot",
        "metadata": {"name": "corp"},
        "spec": {"sigstore": {"trustedRoot": sigstore.trusted_root.read_text()}},
    }
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "payments.yaml").write_text(
        yaml.safe_dump_all([cluster_policy("payments", namespaces={}, images=[rule]), root])
    )
    cases = tmp_path / "cases.yaml"
    case = {
        "name": "the release is admitted",
        "pod": pod("api", "shop", pod_spec(container(image.by_tag))),
        "expect": {"verdict": "admitted", "reasons": []},
    }
    head = "# Kept.\napiVersion: cli.countersign.dev/v1alpha1\nkind: PolicyTest\nevidence: {registry: live}\n"
    cases.write_text(head + "# Kept, too.\n" + yaml.safe_dump({"cases": [case]}))
    live = countersign("policy", "test", str(cases), *reach(lab), DOCKER_CONFIG="/nowhere")
    assert live.exit_code == 0, live.output
    recorded = countersign("policy", "test", str(cases), "--record", *reach(lab), DOCKER_CONFIG="/nowhere")
    assert recorded.exit_code == 0, recorded.output
    text = cases.read_text()
    assert "# Kept.\n" in text
    assert "# Kept, too.\n" in text
    written = yaml.safe_load(text)
    (known,) = written["evidence"]["images"]
    assert known["digest"] == image.digest
    assert known["signatures"][0]["identity"]["subject"] == workflow.subject
    assert known["attestations"]
    # From here on no registry is asked: nothing says how this one could be reached.
    offline = countersign("policy", "test", str(cases), "--offline")
    assert offline.exit_code == 0, offline.output
    # The policy changes, and the record does not answer the new question.
    path = tmp_path / "policies" / "payments.yaml"
    path.write_text(path.read_text().replace('github.com/acme/payments"', 'github.com/eve/payments"'))
    stale = countersign("policy", "test", str(cases), "--offline")
    assert stale.exit_code == 2, stale.output
    assert "record the evidence again" in stale.output


def test_options_that_do_not_fit_together_are_told(lab: Lab) -> None:
    for args, text in (
        ([], "say whose signature counts"),
        (["--certificate-identity=a"], "--certificate-oidc-issuer"),
        (["--certificate-identity-regexp=(", "--certificate-oidc-issuer=b"], "RE2"),
        (
            ["--certificate-identity=a", "--certificate-oidc-issuer=b", "--certificate-extension=color=red"],
            "--certificate-extension",
        ),
        (["--certificate-identity=a", "--certificate-oidc-issuer=b", "--validate=true"], "--validate"),
        (["--certificate-identity=a", "--certificate-oidc-issuer=b", "--evidence-root=/nowhere"], "--evidence-root"),
    ):
        result = countersign("image", "verify", "registry.example.com/a:v1", *args)
        assert (result.exit_code, text in result.stderr) == (2, True), result.output
