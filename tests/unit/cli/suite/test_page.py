"""docs/policy-tests.md and its schema: what they say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from countersign.cli.policy.suite.schema import render
from tests.stack.commandline import countersign
from tests.stack.objects import cluster_policy, container, pod, pod_spec, token
from tests.unit.cli.test_policy import public_key

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs/policy-tests.md"
AUDIENCES = ROOT / "docs/audiences.md"
CI = {
    "issuer": "https://token.actions.githubusercontent.com",
    "subject": "https://github.com/acme/payments/.github/workflows/release.yml@refs/heads/main",
    "extensions": {"sourceRepositoryURI": "https://github.com/acme/payments"},
}


def test_the_schema_is_what_the_program_reads() -> None:
    """`make generate` writes it."""
    assert (ROOT / "docs/policy-tests.schema.json").read_text() == render()


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    key = public_key()
    root = {"evidenceRootRef": {"name": "public-good"}}
    rule = {
        "name": "payments",
        "globs": ["registry.example.com/payments/**"],
        "authorities": [{"name": "ci", "keyless": {"identities": [CI], "require": ["TransparencyLog"]}}],
        "attestors": [{"name": "scanner", "key": {"pem": [key], **root}}],
        "attestations": [
            {
                "name": "scan",
                "predicateType": "https://cosign.sigstore.dev/attestation/vuln/v1",
                "authorities": ["scanner"],
                "maxAgeSeconds": 604800,
                "validations": [
                    {
                        "expression": "predicate.scanner.result.Results.all(r, !has(r.Vulnerabilities) || "
                        'r.Vulnerabilities.all(v, v.Severity != "CRITICAL"))'
                    }
                ],
            }
        ],
    }
    policy = cluster_policy(
        "payments", namespaces={"team": "payments"}, images=[rule], tokens=[token("ledger.example.com")]
    )
    (tmp_path / "policies").mkdir()
    (audience,) = re.findall(r"```yaml\n(.*?)```", AUDIENCES.read_text(), re.DOTALL)
    (tmp_path / "policies/ledger.yaml").write_text(audience)
    (tmp_path / "policies/payments.yaml").write_text(yaml.safe_dump(policy))
    cases = tmp_path / "tests"
    cases.mkdir()
    hotfix = pod("hotfix", "payments", pod_spec(container("registry.example.com/payments/api:hotfix")))
    (cases / "hotfix.yaml").write_text(yaml.safe_dump(hotfix))
    (cases / "scanner.pub").write_text(key)
    example, uses = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (cases / "payments.yaml").write_text(example)
    (cases / "ledger.yaml").write_text(uses)
    result = countersign("policy", "test", str(tmp_path), "--offline")
    assert result.exit_code == 0, result.output
    assert "9 passed" in result.stdout
