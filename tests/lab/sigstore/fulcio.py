"""Fulcio's certificate authority and its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab.pki import certificate_builder, key_usage, write_private
from tests.lab.sigstore.issuer import AUDIENCE, EMAIL_ISSUER, GITHUB_ISSUER, GITLAB_ISSUER

# From which claim each extension comes: Fulcio's own config/identity/config.yaml, on which the public instance rests.
_GITHUB = {
    "default-template-values": {"url": "https://github.com", "environment": ""},
    "extension-templates": {
        "github-workflow-trigger": "event_name",
        "github-workflow-sha": "sha",
        "github-workflow-name": "workflow",
        "github-workflow-repository": "repository",
        "github-workflow-ref": "ref",
        "build-signer-uri": "{{ .url }}/{{ .job_workflow_ref }}",
        "build-signer-digest": "job_workflow_sha",
        "runner-environment": "runner_environment",
        "source-repository-uri": "{{ .url }}/{{ .repository }}",
        "source-repository-digest": "sha",
        "source-repository-ref": "ref",
        "source-repository-identifier": "repository_id",
        "source-repository-owner-uri": "{{ .url }}/{{ .repository_owner }}",
        "source-repository-owner-identifier": "repository_owner_id",
        "build-config-uri": "{{ .url }}/{{ .workflow_ref }}",
        "build-config-digest": "workflow_sha",
        "build-trigger": "event_name",
        "run-invocation-uri": "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}/attempts/{{ .run_attempt }}",
        "source-repository-visibility-at-signing": "repository_visibility",
        "deployment-environment": "environment",
    },
    "subject-alternative-name-template": "{{ .url }}/{{ .job_workflow_ref }}",
}
_GITLAB = {
    "default-template-values": {"url": "https://gitlab.com", "environment": ""},
    "extension-templates": {
        "build-signer-uri": "https://{{ .ci_config_ref_uri }}",
        "build-signer-digest": "ci_config_sha",
        "runner-environment": "runner_environment",
        "source-repository-uri": "{{ .url }}/{{ .project_path }}",
        "source-repository-digest": "sha",
        "source-repository-ref": 'refs/{{if eq .ref_type "branch"}}heads/{{ else }}tags/{{end}}{{ .ref }}',
        "source-repository-identifier": "project_id",
        "source-repository-owner-uri": "{{ .url }}/{{ .namespace_path }}",
        "source-repository-owner-identifier": "namespace_id",
        "build-config-uri": "https://{{ .ci_config_ref_uri }}",
        "build-config-digest": "ci_config_sha",
        "build-trigger": "pipeline_source",
        "run-invocation-uri": "{{ .url }}/{{ .project_path }}/-/jobs/{{ .job_id }}",
        "source-repository-visibility-at-signing": "project_visibility",
        "deployment-environment": "environment",
    },
    "subject-alternative-name-template": "https://{{ .ci_config_ref_uri }}",
}


class SigningCa:
    """A root and an intermediate for code signing, as the public instance has them. Tests may forge by `key`."""

    def __init__(self, folder: Path, name: str) -> None:
        root_key = ec.generate_private_key(ec.SECP256R1())
        self.key = ec.generate_private_key(ec.SECP256R1())
        """Of the intermediate, which signs."""
        root_name, own_name = _name(f"{name}-root"), _name(f"{name}-intermediate")
        self.root = _certificate(root_name, root_key.public_key(), root_name, root_key, path_length=1)
        self.certificate = _certificate(own_name, self.key.public_key(), root_name, root_key, path_length=0)
        self.chain_file = folder / "fulcio-chain.pem"
        self.chain_file.write_bytes(
            b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, self.root))
        )
        self.key_file = write_private(folder / "fulcio.key", self.key)


def configuration() -> str:
    """Fulcio's `--config-path`: our issuers, and what of their tokens goes into a certificate."""
    return yaml.safe_dump(
        {
            "oidc-issuers": {
                EMAIL_ISSUER: _issuer(EMAIL_ISSUER, type="email"),
                GITHUB_ISSUER: _issuer(GITHUB_ISSUER, **{"type": "ci-provider", "ci-provider": "github-workflow"}),
                GITLAB_ISSUER: _issuer(GITLAB_ISSUER, **{"type": "ci-provider", "ci-provider": "gitlab-pipeline"}),
            },
            "ci-issuer-metadata": {"github-workflow": _GITHUB, "gitlab-pipeline": _GITLAB},
        }
    )


def _issuer(url: str, **more: str) -> dict[str, Any]:
    return {"issuer-url": url, "client-id": AUDIENCE, **more}


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sigstore.lab"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
) -> x509.Certificate:
    builder = (
        certificate_builder(subject, issuer, public_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if path_length == 0:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
