"""sigstore-conformance's bundles, and sigstore-python's own verdict on them: ours is the same wherever it has one."""

import json
from pathlib import Path

import pytest

from countersign.signatures.errors import SignatureError
from countersign.signatures.roots.trust_root import BadTrustRoot, parse_trust_root
from countersign.trust.evidence.facts import Vouch
from tests.fakes.conformance import Vector, signers_of, vectors

CERTIFIED = sorted(name for name, vector in vectors().items() if not vector.key)

SIGSTORE_PYTHON_DIFFERS = {
    "intoto-with-custom-trust-root": "it knows no log entries of kind intoto",
    "trust-root-tsa-validity-end-inclusive": "it takes the end of a timestamp authority's interval to be outside",
}
"""Where it gets sigstore-conformance's own expectation wrong, and why."""


def _vouches(vector: Vector) -> tuple[Vouch, ...]:
    try:
        return signers_of(vector, (parse_trust_root(vector.root),)).vouches
    except (SignatureError, BadTrustRoot):
        return ()


def _as_a_strict_client(vector: Vector) -> bool:
    """A certificate's signature with log entry and SCT, or one by the key that was given."""
    return any(
        vouch.key_fingerprint or (vouch.proof is not None and {"log", "sct"} <= set(vouch.proof.kinds))
        for vouch in _vouches(vector)
    )


@pytest.mark.parametrize("name", sorted(vectors()))
def test_a_client_that_demands_log_and_sct_would_accept_what_is_to_be_accepted_and_nothing_else(name: str) -> None:
    assert _as_a_strict_client(vectors()[name]) is not name.endswith("_fail")


@pytest.mark.parametrize("name", CERTIFIED)
def test_whoever_is_accepted_has_a_trusted_time_and_rests_on_the_roots_anchors_only(name: str) -> None:
    vector = vectors()[name]
    for vouch in _vouches(vector):
        root = parse_trust_root(vector.root)
        assert vouch.identity is not None
        assert vouch.proof is not None
        assert vouch.proof.signed_at is not None
        assert vouch.proof.root == root.hash
        assert set(vouch.proof.anchors) <= root.anchors


@pytest.mark.parametrize("name", [name for name in CERTIFIED if name not in SIGSTORE_PYTHON_DIFFERS])
def test_sigstore_python_agrees(name: str, tmp_path: Path) -> None:
    vector = vectors()[name]
    assert _as_a_strict_client(vector) == _sigstore_python_accepts(vector, tmp_path)


def test_the_identity_of_a_github_workflow_is_read_with_its_extensions_by_name() -> None:
    (vouch,) = _vouches(vectors()["happy-path-v0.3"])
    assert vouch.identity is not None
    assert vouch.identity.issuer == "https://token.actions.githubusercontent.com"
    repository = "sigstore-conformance/extremely-dangerous-public-oidc-beacon"
    assert vouch.identity.subject.startswith(f"https://github.com/{repository}/.github/workflows/")
    extensions = dict(vouch.identity.extensions)
    assert extensions["sourceRepositoryURI"] == f"https://github.com/{repository}"
    assert extensions["sourceRepositoryRef"] == "refs/heads/main"
    assert extensions["runnerEnvironment"] == "github-hosted"
    assert extensions["githubWorkflowRepository"] == repository
    assert list(vouch.identity.extensions) == sorted(vouch.identity.extensions)


def _sigstore_python_accepts(vector: Vector, tmp_path: Path) -> bool:
    from sigstore.errors import Error
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import UnsafeNoOp

    path = tmp_path / "trusted_root.json"
    path.write_bytes(vector.root)
    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
        bundle = Bundle.from_json(vector.bundle)
        if "dsseEnvelope" in json.loads(vector.bundle):
            verifier.verify_dsse(bundle, UnsafeNoOp())
        else:
            verifier.verify_artifact(vector.artifact, bundle, UnsafeNoOp())
    except (Error, ValueError):
        return False
    return True
