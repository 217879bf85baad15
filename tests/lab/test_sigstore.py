"""The lab's Sigstore is one: what real cosign makes with it, cosign and sigstore-python accept, and nobody else's."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from sigstore.errors import VerificationError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity as IdentityPolicy

from tests.lab import builder
from tests.lab.cosign import Cosign, CosignError, Form
from tests.lab.http import HttpClient
from tests.lab.images import PushedImage, Repository
from tests.lab.lab import Lab
from tests.lab.pki import CertificateAuthority
from tests.lab.processes import Processes
from tests.lab.registries import Registry
from tests.lab.sigstore.ctlog import without_poison
from tests.lab.sigstore.issuer import Identity
from tests.lab.sigstore.merkle import MerkleTree
from tests.lab.sigstore.services import PROGRAMS, Rekor, Sigstore

_PREDICATE = {"buildDefinition": {"buildType": "https://example.com/build"}, "runDetails": {}}
_ANNOTATION = "dev.sigstore.cosign"
_FULCIO = "1.3.6.1.4.1.57264.1"


@dataclass(frozen=True)
class Case:
    """One image that only this test signs."""

    lab: Lab
    registry: Registry
    repository: Repository
    image: PushedImage

    def sign(self, who: Identity, sigstore: Sigstore | None = None, **how: Any) -> None:
        self.lab.cosign.sign_keyless(self.registry, self.image, who, sigstore or self.lab.sigstore, **how)

    def verify(self, who: Identity, sigstore: Sigstore | None = None, **how: Any) -> None:
        self.lab.cosign.verify_keyless(self.registry, self.image, who, sigstore or self.lab.sigstore, **how)

    def attest(self, who: Identity, **how: Any) -> None:
        self.lab.cosign.attest_keyless(self.registry, self.image, who, self.lab.sigstore, predicate=_PREDICATE, **how)

    def verify_attestation(self, who: Identity, **how: Any) -> list[Any]:
        return self.lab.cosign.verify_attestation_keyless(self.registry, self.image, who, self.lab.sigstore, **how)

    def bundle(self) -> Bundle:
        (referrer,) = self.repository.referrers(self.image.digest)
        (layer,) = json.loads(self.repository.get_manifest(referrer["digest"]))["layers"]
        return Bundle.from_json(self.repository.get_blob(layer["digest"]))

    def classic_annotations(self, suffix: str) -> dict[str, str]:
        tag = f"{self.image.digest.replace(':', '-')}.{suffix}"
        (layer,) = json.loads(self.repository.get_manifest(tag))["layers"]
        annotations: dict[str, str] = layer["annotations"]
        return annotations


@pytest.fixture
def case(lab: Lab, referrers_registry: Registry, request: pytest.FixtureRequest) -> Case:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.removeprefix("test_").lower())
    repository = referrers_registry.repository(f"sigstore/{name.strip('-')}")
    return Case(lab, referrers_registry, repository, repository.push("v1"))


@pytest.fixture(scope="module")
def sigstore(lab: Lab) -> Sigstore:
    return lab.sigstore


@pytest.fixture(scope="module")
def who(sigstore: Sigstore) -> Identity:
    return sigstore.issuers.github()


def verify_with_sigstore_python(sigstore: Sigstore, bundle: Bundle, who: Identity) -> dict[str, Any]:
    """The statement, as the other implementation reads it. Raises VerificationError."""
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(sigstore.trusted_root)))
    kind, payload = verifier.verify_dsse(bundle, IdentityPolicy(identity=who.subject, issuer=who.issuer))
    assert kind == "application/vnd.in-toto+json"
    statement: dict[str, Any] = json.loads(payload)
    return statement


def extensions(certificate: x509.Certificate) -> dict[str, str]:
    """Fulcio's extensions with a DER string, by the last number of their OID."""
    return {
        one.oid.dotted_string.removeprefix(f"{_FULCIO}."): one.value.value[2:].decode()
        for one in certificate.extensions
        if isinstance(one.value, x509.UnrecognizedExtension) and one.value.value[0] == 0x0C
    }


def subjects(certificate: x509.Certificate, kind: type[x509.UniformResourceIdentifier | x509.RFC822Name]) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(kind)


WITNESSES = [(Rekor.V2, True), (Rekor.V1, True), (Rekor.V1, False), (Rekor.NONE, True)]


@pytest.mark.parametrize(("rekor", "timestamp"), WITNESSES)
def test_cosign_accepts_a_bundle_by_whatever_witnessed_it(
    case: Case, who: Identity, rekor: Rekor, timestamp: bool
) -> None:
    seen: dict[str, Any] = {"logged": rekor is not Rekor.NONE, "timestamp": timestamp}
    case.sign(who, rekor=rekor, timestamp=timestamp)
    case.verify(who, **seen)
    case.attest(who, rekor=rekor, timestamp=timestamp)
    case.verify_attestation(who, **seen)


@pytest.mark.parametrize(("rekor", "timestamp"), [one for one in WITNESSES if one[0] is not Rekor.V2])
def test_cosign_accepts_a_classic_signature_by_whatever_witnessed_it(
    case: Case, who: Identity, rekor: Rekor, timestamp: bool
) -> None:
    logged = rekor is not Rekor.NONE
    case.sign(who, form=Form.CLASSIC, rekor=rekor, timestamp=timestamp)
    case.verify(who, form=Form.CLASSIC, logged=logged, timestamp=timestamp)
    annotations = case.classic_annotations("sig")
    assert f"{_ANNOTATION}/certificate" in annotations
    assert (f"{_ANNOTATION}/bundle" in annotations) is logged
    assert (f"{_ANNOTATION}/rfc3161timestamp" in annotations) is timestamp


def test_cosign_accepts_a_classic_attestation_in_the_log(case: Case, who: Identity) -> None:
    case.attest(who, form=Form.CLASSIC, timestamp=False)
    (envelope,) = case.verify_attestation(who, form=Form.CLASSIC, timestamp=False)
    assert json.loads(base64.b64decode(envelope["payload"]))["predicate"] == _PREDICATE
    entry = json.loads(case.classic_annotations("att")[f"{_ANNOTATION}/bundle"])
    assert json.loads(base64.b64decode(entry["Payload"]["body"]))["kind"] == "dsse"


def test_cosign_does_not_accept_its_own_timestamp_of_a_classic_attestation(case: Case, who: Identity) -> None:
    """It stamps the DSSE signature (attest.go, by sigstore-go) and checks a stamp of the envelope (verify.go)."""
    case.attest(who, form=Form.CLASSIC)
    with pytest.raises(CosignError, match="hashed messages don't match"):
        case.verify_attestation(who, form=Form.CLASSIC)


@pytest.mark.parametrize(("rekor", "timestamp"), [one for one in WITNESSES if one[0] is not Rekor.NONE])
def test_sigstore_python_accepts_what_is_in_a_log(
    case: Case, sigstore: Sigstore, who: Identity, rekor: Rekor, timestamp: bool
) -> None:
    case.sign(who, rekor=rekor, timestamp=timestamp)
    statement = verify_with_sigstore_python(sigstore, case.bundle(), who)
    assert statement["subject"][0]["digest"] == {"sha256": case.image.digest.removeprefix("sha256:")}


def test_a_stranger_is_a_stranger(case: Case, sigstore: Sigstore) -> None:
    stranger = case.lab.another_sigstore("stranger")
    theirs = stranger.issuers.github()
    case.sign(theirs, stranger)
    case.verify(theirs, stranger)
    with pytest.raises(CosignError):
        case.verify(theirs)
    with pytest.raises(VerificationError):
        verify_with_sigstore_python(sigstore, case.bundle(), theirs)


def test_fulcio_believes_no_token_by_another_key(case: Case, sigstore: Sigstore) -> None:
    theirs = case.lab.another_sigstore("stranger").issuers.github()
    assert theirs.issuer == sigstore.issuers.github().issuer
    with pytest.raises(CosignError, match="error processing the identity token"):
        case.sign(theirs)


def test_a_github_certificate_carries_what_the_token_says(case: Case, sigstore: Sigstore) -> None:
    reusable = "acme/workflows/.github/workflows/sign.yml@refs/tags/v3"
    who = sigstore.issuers.github(
        "acme/ledger", ref="refs/tags/v1.2", reusable=reusable, runner_environment="self-hosted", environment="prod"
    )
    case.sign(who, rekor=Rekor.V1)
    certificate = case.bundle().signing_certificate
    assert subjects(certificate, x509.UniformResourceIdentifier) == [f"https://github.com/{reusable}"]
    found = extensions(certificate)
    assert found["8"] == "https://token.actions.githubusercontent.com"
    assert found["9"] == f"https://github.com/{reusable}"
    assert found["11"] == "self-hosted"
    assert found["12"] == "https://github.com/acme/ledger"
    assert found["14"] == "refs/tags/v1.2"
    assert found["18"] == "https://github.com/acme/ledger/.github/workflows/release.yml@refs/tags/v1.2"
    assert found["23"] == "prod"


def test_a_gitlab_certificate_carries_what_the_token_says(case: Case, sigstore: Sigstore) -> None:
    who = sigstore.issuers.gitlab("acme/ledger", ref="v1.2", ref_type="tag")
    assert who.subject == "https://gitlab.com/acme/ledger//.gitlab-ci.yml@refs/tags/v1.2"
    case.sign(who, rekor=Rekor.V1)
    certificate = case.bundle().signing_certificate
    assert subjects(certificate, x509.UniformResourceIdentifier) == [who.subject]
    found = extensions(certificate)
    assert (found["8"], found["9"]) == ("https://gitlab.com", who.subject)
    assert (found["12"], found["14"]) == ("https://gitlab.com/acme/ledger", "refs/tags/v1.2")


def test_a_persons_certificate_carries_the_address(case: Case, sigstore: Sigstore) -> None:
    case.sign(sigstore.issuers.email("dev@example.com"), rekor=Rekor.V1)
    assert subjects(case.bundle().signing_certificate, x509.RFC822Name) == ["dev@example.com"]


@pytest.mark.parametrize(
    ("form", "rekor"), [(Form.BUNDLE, Rekor.V2), (Form.BUNDLE, Rekor.V1), (Form.CLASSIC, Rekor.V1)]
)
def test_a_keys_signature_is_logged_too(case: Case, sigstore: Sigstore, form: Form, rekor: Rekor) -> None:
    cosign = case.lab.cosign
    key = cosign.generate_key(f"logged-{form}-{rekor}")
    cosign.sign(case.registry, case.image, key, form=form, sigstore=sigstore, rekor=rekor)
    cosign.verify(case.registry, case.image, key, form=form, sigstore=sigstore)
    with pytest.raises(CosignError):
        cosign.verify(case.registry, case.image, key, form=form, sigstore=case.lab.another_sigstore("stranger"))


def test_an_rsa_keys_signature_is_logged_too(case: Case, sigstore: Sigstore) -> None:
    cosign = case.lab.cosign
    key = cosign.import_key("rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for form in Form:
        cosign.sign(case.registry, case.image, key, form=form, sigstore=sigstore, rekor=Rekor.V1)
        cosign.verify(case.registry, case.image, key, form=form, sigstore=sigstore)


def test_what_no_client_could_trust_is_not_made(case: Case, who: Identity) -> None:
    with pytest.raises(CosignError, match="a timestamp authority must be provided"):
        case.sign(who, rekor=Rekor.V2, timestamp=False)
    with pytest.raises(ValueError, match="classic"):
        case.sign(who, form=Form.CLASSIC, rekor=Rekor.V2)


def test_rekor_v1_takes_no_entry_whose_signature_does_not_hold(sigstore: Sigstore) -> None:
    key = base64.b64encode(sigstore.rekor_v1.public_key_file.read_bytes()).decode()
    signature = {"content": base64.b64encode(b"0\x06\x02\x01\x01\x02\x01\x01").decode(), "publicKey": {"content": key}}
    spec = {"data": {"hash": {"algorithm": "sha256", "value": "00" * 32}}, "signature": signature}
    entry = {"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": spec}
    answer = HttpClient(sigstore.rekor_v1.url).post("/api/v1/log/entries", entry)
    assert (answer.status, answer.message) == (400, "ValueError: the signature does not hold")


def test_the_ct_log_signs_precertificates_only(sigstore: Sigstore) -> None:
    with pytest.raises(ValueError, match="no poison extension"):
        without_poison(sigstore.signing_ca.certificate.tbs_certificate_bytes)


def test_nothing_runs_on_after_it_is_closed(tmp_path: Path, programs: None) -> None:
    with Processes() as processes:
        cosign = Cosign(builder.ensure(["cosign"])["cosign"], tmp_path / "cosign")
        sigstore = Sigstore(
            tmp_path / "own", builder.ensure(PROGRAMS), processes, CertificateAuthority(tmp_path / "pki"), cosign.run
        )
        urls = (sigstore.fulcio_url, sigstore.timestamp_url, sigstore.rekor_url)
        ours = (sigstore.rekor_v1.url, sigstore.ct_log.url)
        sigstore.close()
        assert processes.all == []
    for url in (*urls, *ours):
        with pytest.raises(Exception, match="refused"):
            HttpClient(url).get("/")


def test_the_merkle_tree_is_that_of_certificate_transparency() -> None:
    """Inputs, roots and path of certificate-transparency's own tests (merkletree/merkle_tree_test.cc)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    tree = MerkleTree()
    roots = []
    for text in inputs:
        tree.append(bytes.fromhex(text))
        roots.append(tree.root().hex())
    assert roots[0] == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[2] == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert roots[7] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert [one.hex() for one in tree.proof(5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
