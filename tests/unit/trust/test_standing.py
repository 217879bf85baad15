"""How far a standing revocation reaches."""

from __future__ import annotations

from countersign.api.revocation import NodeTarget
from countersign.trust.evidence.fingerprints import pem_fingerprint
from countersign.trust.orders.standing import NOTHING, StandingIndex, reaches, standing
from tests.unit.trust.build import DIGEST, NAMESPACE, OTHER_DIGEST, fingerprint, revocation

SYSTEM = "countersign-system"


def test_in_our_own_namespace_it_reaches_the_whole_cluster() -> None:
    order = revocation(SYSTEM, digest=DIGEST)
    assert standing([order], NAMESPACE, SYSTEM).digests == {DIGEST}
    assert reaches(order, "anything", SYSTEM)


def test_elsewhere_it_reaches_its_own_namespace_only() -> None:
    order = revocation(NAMESPACE, key_fingerprint=fingerprint())
    assert standing([order], NAMESPACE, SYSTEM).fingerprints == {fingerprint()}
    assert standing([order], "other", SYSTEM) == NOTHING
    assert not reaches(order, "other", SYSTEM)


def test_an_order_without_a_namespace_reaches_nothing() -> None:
    order = revocation("", digest=DIGEST)
    assert not reaches(order, "", SYSTEM)
    assert standing([order], "", SYSTEM) == NOTHING


def test_a_signer_stands_revoked_by_issuer_and_subject() -> None:
    order = revocation(NAMESPACE, signer={"issuer": "i", "subject": "s"})
    assert standing([order], NAMESPACE, SYSTEM).signers == {("i", "s")}
    assert standing([order], "other", SYSTEM) == NOTHING


def test_the_clusters_and_the_namespaces_orders_add_up() -> None:
    index = StandingIndex([revocation(SYSTEM, digest=DIGEST), revocation(NAMESPACE, digest=OTHER_DIGEST)], SYSTEM)
    assert index.for_namespace(NAMESPACE).digests == {DIGEST, OTHER_DIGEST}
    assert index.for_namespace("other").digests == {DIGEST}


def test_orders_about_what_exists_do_not_stand() -> None:
    assert standing([revocation(SYSTEM, node=NodeTarget(name="n1"))], NAMESPACE, SYSTEM) == NOTHING


def test_a_key_is_named_by_its_public_key_info() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from countersign.signatures.keys import fingerprint as by_signatures

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert pem_fingerprint(pem) == by_signatures(pem)
    assert pem_fingerprint(f"\n  {pem}\n") == by_signatures(pem)


def test_what_is_no_single_pem_block_names_no_key() -> None:
    good = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    assert pem_fingerprint(good) is not None
    for bad in (
        "",
        good[:-1],
        good + good,
        good.replace("PUBLIC", "PRIVATE"),
        good.replace("AAAA", "A!A"),
        good.replace("AAAA", ""),
    ):
        assert pem_fingerprint(bad) is None
