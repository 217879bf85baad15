"""What the real cosign signs with a private Sigstore, read and judged by the product's own code."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import PublicKey, parse_public_key
from countersign.signatures.roots.trust_root import TrustRoot, parse_trust_root
from countersign.signatures.signers import open_bundle, open_envelope, open_payload
from countersign.trust.evidence.facts import Vouch
from tests.lab.cosign import Form
from tests.lab.images import PushedImage, Repository
from tests.lab.lab import Lab
from tests.lab.registries import Registry
from tests.lab.sigstore.services import Rekor, Sigstore

pytestmark = pytest.mark.lab

WITNESSES = [(Rekor.V2, True), (Rekor.V1, True), (Rekor.V1, False), (Rekor.NONE, True)]
_PREDICATE = {"buildDefinition": {"buildType": "https://example.com/build"}, "runDetails": {}}


@pytest.fixture(scope="module")
def sigstore(lab: Lab) -> Sigstore:
    return lab.sigstore


@pytest.fixture(scope="module")
def root(sigstore: Sigstore) -> TrustRoot:
    return parse_trust_root(sigstore.trusted_root.read_bytes())


class Signing:
    """One image that only this test signs, and what was stored beside it."""

    def __init__(self, lab: Lab, registry: Registry, name: str) -> None:
        self.lab = lab
        self.registry = registry
        self.repository: Repository = registry.repository(f"keyless/{name}")
        self.image: PushedImage = self.repository.push("v1")

    def bundles(self) -> list[bytes]:
        manifests = [
            json.loads(self.repository.get_manifest(one["digest"]))
            for one in self.repository.referrers(self.image.digest)
        ]
        return [self.repository.get_blob(manifest["layers"][0]["digest"]) for manifest in manifests]

    def layer(self, suffix: str) -> tuple[bytes, dict[str, str]]:
        tag = f"{self.image.digest.replace(':', '-')}.{suffix}"
        (layer,) = json.loads(self.repository.get_manifest(tag))["layers"]
        return self.repository.get_blob(layer["digest"]), layer["annotations"]

    def vouches(self, form: Form, keys: Sequence[PublicKey], roots: Sequence[TrustRoot]) -> tuple[Vouch, ...]:
        if form is Form.CLASSIC:
            return open_payload(*self.layer("sig"), keys, roots)
        (bundle,) = self.bundles()
        return open_bundle(bundle, keys, roots).vouches


@pytest.fixture
def signing(lab: Lab, referrers_registry: Registry, request: pytest.FixtureRequest) -> Signing:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.removeprefix("test_").lower())
    return Signing(lab, referrers_registry, name.strip("-"))


def _kinds(rekor: Rekor, timestamp: bool) -> set[str]:
    return {"sct"} | ({"log"} if rekor is not Rekor.NONE else set()) | ({"timestamp"} if timestamp else set())


@pytest.mark.parametrize(
    ("form", "rekor", "timestamp"),
    [
        (form, rekor, timestamp)
        for form in Form
        for rekor, timestamp in WITNESSES
        if form is Form.BUNDLE or rekor is not Rekor.V2
    ],
)
def test_an_identity_vouches_with_just_the_proofs_that_there_are(
    signing: Signing, sigstore: Sigstore, root: TrustRoot, form: Form, rekor: Rekor, timestamp: bool
) -> None:
    who = sigstore.issuers.github("acme/ledger", ref="refs/tags/v1")
    signing.lab.cosign.sign_keyless(
        signing.registry, signing.image, who, sigstore, form=form, rekor=rekor, timestamp=timestamp
    )
    stranger = parse_trust_root(signing.lab.another_sigstore("stranger").trusted_root.read_bytes())
    (vouch,) = signing.vouches(form, (), (stranger, root))
    assert vouch.identity is not None
    assert (vouch.identity.issuer, vouch.identity.subject) == (who.issuer, who.subject)
    assert dict(vouch.identity.extensions)["sourceRepositoryURI"] == "https://github.com/acme/ledger"
    assert vouch.proof is not None
    assert set(vouch.proof.kinds) == _kinds(rekor, timestamp)
    assert vouch.proof.root == root.hash
    assert set(vouch.proof.anchors) <= root.anchors
    assert vouch.proof.signed_at is not None
    with pytest.raises(SignatureError):
        signing.vouches(form, (), (stranger,))


@pytest.mark.parametrize(("rekor", "timestamp"), [(Rekor.V1, True), (Rekor.V1, False), (Rekor.NONE, True)])
def test_a_classic_attestation_opens_by_its_certificate_with_the_proofs_that_there_are(
    signing: Signing, sigstore: Sigstore, root: TrustRoot, rekor: Rekor, timestamp: bool
) -> None:
    who = sigstore.issuers.email("dev@example.com")
    signing.lab.cosign.attest_keyless(
        *(signing.registry, signing.image, who, sigstore),
        predicate=_PREDICATE,
        form=Form.CLASSIC,
        rekor=rekor,
        timestamp=timestamp,
    )
    opened = open_envelope(*signing.layer("att"), (), (root,))
    assert json.loads(opened.payload)["predicate"] == _PREDICATE
    (vouch,) = opened.vouches
    assert vouch.identity is not None
    assert vouch.identity.subject == "dev@example.com"
    assert vouch.proof is not None
    assert set(vouch.proof.kinds) == _kinds(rekor, timestamp)
    assert opened.problems == ()


KEYS: dict[str, PrivateKeyTypes] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=3072),
}


@pytest.mark.parametrize(
    ("form", "rekor", "kind"),
    [
        (form, rekor, kind)
        for form, rekor in [(Form.BUNDLE, Rekor.V2), (Form.BUNDLE, Rekor.V1), (Form.CLASSIC, Rekor.V1)]
        for kind in KEYS
        # cosign 3.1.3 cannot make these ("accepted signatures do not match threshold").
        if (form, rekor) != (Form.BUNDLE, Rekor.V1) or kind in {"p256", "rsa"}
    ],
)
def test_a_keys_signature_has_the_proof_of_the_root_beside_it(
    signing: Signing, sigstore: Sigstore, root: TrustRoot, form: Form, rekor: Rekor, kind: str
) -> None:
    pair = signing.lab.cosign.import_key(f"keyless-{kind}-{form}-{rekor}", KEYS[kind])
    signing.lab.cosign.sign(signing.registry, signing.image, pair, form=form, sigstore=sigstore, rekor=rekor)
    public = parse_public_key(pair.public_pem)
    (vouch,) = signing.vouches(form, (public,), (root,))
    assert vouch.key_fingerprint == public.fingerprint
    assert vouch.proof is not None
    assert set(vouch.proof.kinds) == {"log", "timestamp"}
    assert vouch.proof.signed_at is not None
    (alone,) = signing.vouches(form, (public,), ())
    assert alone.proof is None


@pytest.mark.parametrize("form", list(Form))
def test_an_ed25519_key_vouches_though_cosign_signs_pre_hashed(signing: Signing, form: Form) -> None:
    """cosign 3.1.3 cannot put such a signature into a log, nor verify it."""
    pair = signing.lab.cosign.import_key(f"keyless-ed25519-{form}", ed25519.Ed25519PrivateKey.generate())
    signing.lab.cosign.sign(signing.registry, signing.image, pair, form=form)
    public = parse_public_key(pair.public_pem)
    assert [vouch.key_fingerprint for vouch in signing.vouches(form, (public,), ())] == [public.fingerprint]
