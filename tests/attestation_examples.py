"""The conditions that docs/attestations.md gives as examples, and predicates that meet them and that do not."""

import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from countersign.api.image_rule import AttestationRule
from countersign.signatures.formats.statements import Said

PAGE: Final = Path(__file__).parents[1] / "docs" / "attestations.md"

COSIGN_TYPES: Final = {
    "https://slsa.dev/provenance/v1": "slsaprovenance1",
    "https://slsa.dev/provenance/v0.2": "slsaprovenance",
    "https://spdx.dev/Document": "spdxjson",
    "https://cyclonedx.org/bom": "cyclonedx",
    "https://cosign.sigstore.dev/attestation/vuln/v1": "vuln",
}
"""What `cosign attest --type` is told for each."""

PREDICATES: Final[dict[str, dict[str, Any]]] = {
    "https://slsa.dev/provenance/v1": {
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {
                "workflow": {
                    "ref": "refs/tags/v1.2.3",
                    "repository": "https://github.com/acme/ledger",
                    "path": ".github/workflows/release.yaml",
                }
            },
            "resolvedDependencies": [
                {"uri": "git+https://github.com/acme/ledger@refs/tags/v1.2.3", "digest": {"gitCommit": "c0ffee" * 6}}
            ],
        },
        "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}},
    },
    "https://slsa.dev/provenance/v0.2": {
        "builder": {"id": "https://ci.example.com/runner"},
        "buildType": "https://ci.example.com/build/v1",
        "invocation": {"configSource": {"uri": "git+https://git.example.com/acme/ledger", "digest": {"sha1": "00"}}},
        "metadata": {
            "buildStartedOn": "2026-01-02T03:04:05Z",
            "completeness": {"parameters": True, "environment": False, "materials": True},
            "reproducible": False,
        },
        "materials": [],
    },
    "https://spdx.dev/Document": {
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "ledger",
        "packages": [
            {"SPDXID": "SPDXRef-1", "name": "openssl", "versionInfo": "3.0.11", "licenseConcluded": "Apache-2.0"},
            {"SPDXID": "SPDXRef-2", "name": "zlib", "versionInfo": "1.2.13", "licenseConcluded": "Zlib"},
        ],
    },
    "https://cyclonedx.org/bom": {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "components": [
            {
                "type": "library",
                "name": "log4j-core",
                "version": "2.17.1",
                "purl": "pkg:maven/org.apache.logging.log4j/log4j-core@2.17.1",
            }
        ],
    },
    "https://cosign.sigstore.dev/attestation/vuln/v1": {
        "invocation": {"parameters": None, "uri": "https://ci.example.com/jobs/1"},
        "scanner": {
            "uri": "pkg:github/aquasecurity/trivy@0.57.0",
            "version": "0.57.0",
            "result": {
                "Results": [
                    {"Target": "app (debian 12.8)", "Vulnerabilities": [{"VulnerabilityID": "X-1", "Severity": "LOW"}]},
                    {"Target": "app/requirements.txt"},
                ]
            },
        },
        "metadata": {"scanStartedOn": "2026-01-02T03:04:05Z", "scanFinishedOn": "2026-01-02T03:05:05Z"},
    },
    "https://example.com/review/v1": {
        "author": "ann",
        "approvals": [
            {"by": "ann", "state": "approved"},
            {"by": "bob", "state": "approved"},
            {"by": "cid", "state": "approved"},
        ],
    },
}


def _but(predicate: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(predicate))
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


_CHANGES: Final[dict[str, tuple[tuple[str | int, ...], Any]]] = {
    "https://slsa.dev/provenance/v1": (
        ("buildDefinition", "externalParameters", "workflow", "ref"),
        "refs/heads/try",
    ),
    "https://slsa.dev/provenance/v0.2": (("metadata", "completeness", "materials"), False),
    "https://spdx.dev/Document": (("packages", 1, "licenseConcluded"), "AGPL-3.0-only"),
    "https://cyclonedx.org/bom": (("components", 0, "version"), "2.14.1"),
    "https://cosign.sigstore.dev/attestation/vuln/v1": (
        ("scanner", "result", "Results", 0, "Vulnerabilities"),
        [{"VulnerabilityID": "X-1", "Severity": "LOW"}, {"VulnerabilityID": "X-2", "Severity": "CRITICAL"}],
    ),
    "https://example.com/review/v1": (("approvals", 2, "by"), "ann"),
}
BROKEN: Final = {kind: _but(PREDICATES[kind], *change) for kind, change in _CHANGES.items()}


def said(predicate: Any, **members: Any) -> Said:
    """A statement with this predicate, about an image of some name, as conditions are given it."""
    statement = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "t", "predicate": predicate, **members}
    return Said(json.dumps(statement).encode(), "registry.example.com/app", "sha256:" + "ab" * 32)


def examples() -> dict[str, AttestationRule]:
    """By predicate type; of several for one type the last. Each must be an entry that the API takes."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    rules = [msgspec.convert(yaml.safe_load(block), AttestationRule, strict=True) for block in blocks]
    return {rule.predicate_type: rule for rule in rules}


def example(kind: str) -> AttestationRule:
    return examples()[kind]
