"""OpenID Connect issuers by the names of the real ones: GitHub Actions, GitLab CI, and one for people.

Fulcio asks an issuer for its keys over HTTPS, by a proxy where the environment names one. Ours is that proxy: whatever
host Fulcio means, it talks to us, and nothing leaves the machine. So certificates carry the issuers, and policies name
the identities, that a cluster would see.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lab.pki import CertificateAuthority
from tests.lab.sigstore.web import Reply, Request, WebServer

EMAIL_ISSUER = "https://login.example.com"
GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
GITLAB_ISSUER = "https://gitlab.com"
ISSUERS = (EMAIL_ISSUER, GITHUB_ISSUER, GITLAB_ISSUER)
AUDIENCE = "sigstore"

_KEY_ID = "lab"
_LIFETIME_SECONDS = 3600
_COMMIT = "4f2d7a6f6c1b0e9d8c7b6a5948372615f4e3d2c1"


@dataclass(frozen=True)
class Identity:
    """Somebody who may ask Fulcio for a certificate, with an ID token that says so."""

    token: str
    issuer: str
    """As the certificate's extension 1.3.6.1.4.1.57264.1.8 has it."""
    subject: str
    """As the certificate's subject alternative name has it: an e-mail address or a URI."""
    claims: Mapping[str, Any]


class Issuers:
    """Serves discovery and keys of the three issuers, and mints their tokens."""

    def __init__(self, ca: CertificateAuthority) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        files = ca.server("oidc-issuers", hosts=tuple(issuer.removeprefix("https://") for issuer in ISSUERS))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(files.cert, files.key)
        self._server = WebServer(self._answer, proxied=tls)
        self._ca_file = ca.cert_file

    @property
    def environment(self) -> dict[str, str]:
        """What makes a Go program take us for the issuers (net/http ProxyFromEnvironment, crypto/x509)."""
        return {"HTTPS_PROXY": self._server.url, "SSL_CERT_FILE": str(self._ca_file), "SSL_CERT_DIR": "/nonexistent"}

    def close(self) -> None:
        self._server.close()

    def email(self, address: str) -> Identity:
        """A person whose address the issuer has verified."""
        return self._identity(EMAIL_ISSUER, address, {"sub": address, "email": address, "email_verified": True})

    def github(
        self,
        repository: str = "acme/payments",
        *,
        workflow: str = "release.yml",
        ref: str = "refs/heads/main",
        reusable: str | None = None,
        **claims: Any,
    ) -> Identity:
        """A run of a GitHub Actions workflow: `.github/workflows/WORKFLOW` of REPOSITORY at REF.

        `reusable`: the workflow that signs, OWNER/REPOSITORY/.github/workflows/FILE@REF, where it is not this one.
        Other claims as GitHub names them, for example `runner_environment="self-hosted"`.
        """
        owner = repository.partition("/")[0]
        workflow_ref = f"{repository}/.github/workflows/{workflow}@{ref}"
        body = {
            "sub": f"repo:{repository}:ref:{ref}",
            "repository": repository,
            "repository_id": "1001",
            "repository_owner": owner,
            "repository_owner_id": "101",
            "repository_visibility": "private",
            "workflow": workflow.partition(".")[0],
            "workflow_ref": workflow_ref,
            "workflow_sha": _COMMIT,
            "job_workflow_ref": reusable or workflow_ref,
            "job_workflow_sha": _COMMIT,
            "ref": ref,
            "sha": _COMMIT,
            "event_name": "push",
            "runner_environment": "github-hosted",
            "run_id": "42",
            "run_attempt": "1",
            **claims,
        }
        return self._identity(GITHUB_ISSUER, f"https://github.com/{body['job_workflow_ref']}", body)

    def gitlab(
        self, project: str = "acme/payments", *, ref: str = "main", ref_type: str = "branch", **claims: Any
    ) -> Identity:
        """A job of a GitLab CI pipeline: `.gitlab-ci.yml` of PROJECT at the branch or tag REF."""
        full = f"refs/{'heads' if ref_type == 'branch' else 'tags'}/{ref}"
        config = f"gitlab.com/{project}//.gitlab-ci.yml@{full}"
        body = {
            "sub": f"project_path:{project}:ref_type:{ref_type}:ref:{ref}",
            "project_path": project,
            "project_id": "2001",
            "project_visibility": "private",
            "namespace_path": project.rpartition("/")[0],
            "namespace_id": "201",
            "ci_config_ref_uri": config,
            "ci_config_sha": _COMMIT,
            "ref": ref,
            "ref_type": ref_type,
            "sha": _COMMIT,
            "pipeline_source": "push",
            "job_id": "77",
            "runner_environment": "gitlab-hosted",
            **claims,
        }
        return self._identity(GITLAB_ISSUER, f"https://{body['ci_config_ref_uri']}", body)

    def _identity(self, issuer: str, subject: str, claims: Mapping[str, Any]) -> Identity:
        now = int(time.time())
        body = {"iss": issuer, "aud": AUDIENCE, "iat": now, "exp": now + _LIFETIME_SECONDS, **claims}
        token = jwt.encode(body, self._key, algorithm="RS256", headers={"kid": _KEY_ID})
        return Identity(token, issuer, subject, body)

    def _answer(self, request: Request) -> Reply:
        issuer = f"https://{request.host}"
        if issuer not in ISSUERS:
            return Reply(403, {"error": f"the lab knows no issuer {issuer}"})
        if request.path == "/.well-known/openid-configuration":
            return Reply(
                200,
                {
                    "issuer": issuer,
                    "jwks_uri": f"{issuer}/keys",
                    "authorization_endpoint": f"{issuer}/authorize",
                    "token_endpoint": f"{issuer}/token",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                },
            )
        if request.path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
            return Reply(200, {"keys": [{**key, "kid": _KEY_ID, "alg": "RS256", "use": "sig"}]})
        return Reply(404, {"error": f"no {request.path} here"})
