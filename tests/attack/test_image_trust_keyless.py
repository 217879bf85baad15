"""The attacker's table of image trust, identities and proofs: each test is a row of the threat model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from countersign.api.clock import format_time
from tests.attack.image_trust import NAME, Target
from tests.lab.cosign import Form
from tests.lab.sigstore.issuer import Identity
from tests.lab.sigstore.services import Rekor
from tests.stack import objects

EXCEPTIONS = "/apis/countersign.dev/v1alpha1/trustexceptions"


def material(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["verificationMaterial"]
    return found


def no_time(mine: dict[str, Any], _other: dict[str, Any]) -> None:
    material(mine)["timestampVerificationData"] = {"rfc3161Timestamps": []}


def anothers_timestamp(mine: dict[str, Any], other: dict[str, Any]) -> None:
    material(mine)["timestampVerificationData"] = material(other)["timestampVerificationData"]


def anothers_entry(mine: dict[str, Any], other: dict[str, Any]) -> None:
    material(mine)["tlogEntries"] = material(other)["tlogEntries"]


def anothers_proof(mine: dict[str, Any], other: dict[str, Any]) -> None:
    material(mine)["tlogEntries"][0]["inclusionProof"] = material(other)["tlogEntries"][0]["inclusionProof"]


def anothers_certificate(mine: dict[str, Any], other: dict[str, Any]) -> None:
    material(mine)["certificate"] = material(other)["certificate"]


def no_entry(mine: dict[str, Any], _other: dict[str, Any]) -> None:
    material(mine)["tlogEntries"] = []


def older(mine: dict[str, Any], _other: dict[str, Any]) -> None:
    mine["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"
    del material(mine)["tlogEntries"][0]["inclusionProof"]


def older_with_a_time_of_its_own(mine: dict[str, Any], _other: dict[str, Any]) -> None:
    older(mine, {})
    material(mine)["tlogEntries"][0]["integratedTime"] = str(int(datetime.now(UTC).timestamp()))
    no_time(mine, {})


def as_it_was(_mine: dict[str, Any], _other: dict[str, Any]) -> None:
    pass


def test_a_bundle_that_was_copied_as_it_was_is_admitted(target: Target) -> None:
    """The other half of the forgeries below."""
    target.admitted(target.forged("logged", as_it_was))


@pytest.mark.parametrize(
    "forgery",
    [no_time, anothers_timestamp, anothers_entry, anothers_proof, anothers_certificate, no_entry, older,
     older_with_a_time_of_its_own],
)  # fmt: skip
def test_a_bundle_with_a_part_that_is_missing_or_anothers_does_not_meet_what_is_required(
    target: Target, forgery: Any
) -> None:
    target.refused(target.forged("logged", forgery))


@pytest.mark.parametrize("forgery", [no_time, anothers_timestamp, anothers_certificate, older_with_a_time_of_its_own])
def test_an_expired_certificate_needs_a_trusted_time_of_its_own_signature(target: Target, forgery: Any) -> None:
    target.refused(target.forged("keyless", forgery))


def lookalikes(target: Target) -> list[Identity]:
    issuers = target.lab.sigstore.issuers
    return [
        issuers.github("acme/ledger-evil"),
        issuers.github("acme-evil/ledger"),
        issuers.github("xacme/ledger"),
        issuers.github("acme/ledger", ref="refs/heads/main2"),
        issuers.github("acme/ledger", ref="refs/tags/main"),
        issuers.github("acme/ledger", workflow="release.yaml"),
        issuers.github("acme/ledger", workflow="Release.yml"),
        issuers.github("Acme/ledger"),
        issuers.github("evil/x", reusable="evil/x/.github/workflows/release.yml@refs/heads/main"),
        issuers.gitlab("acme/ledger"),
        issuers.email("release@acme.example.com"),
    ]


def test_whoever_only_looks_like_the_identity_does_not_vouch(target: Target) -> None:
    image = target.push("keyless")
    for who in lookalikes(target):
        target.sign_keyless(image, who, timestamp=True)
    target.refused(image)


def test_an_identity_of_the_same_name_from_another_root_does_not_vouch(target: Target) -> None:
    image = target.push("keyless")
    stranger = target.lab.another_sigstore("stranger")
    target.sign_keyless(image, stranger.issuers.github("acme/ledger"), sigstore=stranger)
    target.sign_keyless(image, stranger.issuers.github("acme/ledger"), sigstore=stranger, form=Form.CLASSIC)
    target.refused(image)


def test_a_signature_that_nobody_witnessed_does_not_vouch(target: Target) -> None:
    image = target.push("keyless")
    target.sign_keyless(image, form=Form.CLASSIC, rekor=Rekor.NONE, timestamp=False)
    target.refused(image)


def test_a_revocation_of_a_signer_beats_signature_and_exception(target: Target) -> None:
    lab = target.lab
    image = target.push("keyless")
    target.sign_keyless(image)
    target.admitted(image)
    until = format_time(datetime.now(UTC) + timedelta(hours=1))
    waiver = objects.trust_exception(
        f"{NAME}-revoked", [NAME], ["ImageUnsigned", "CommandNotAllowed"], {"namespaces": [NAME]}, until
    )
    lab.admin.post(EXCEPTIONS, waiver, expect=201)
    order = objects.revocation(
        NAME, {"signer": {"issuer": target.who.issuer, "subject": target.who.subject}}, "the workflow was taken over"
    )
    made = lab.admin.post(objects.collection_path(order), order, expect=201).body
    try:
        lab.wait_for(lambda: target.create(image.by_tag).status == 403, what="the gate has seen it")
        unsigned = target.push("keyless")
        lab.wait_for(lambda: target.create(unsigned.by_tag).status == 201, what="the exception is in force")
        assert "revoked" in target.create(image.by_tag).message.lower()
        assert target.create(image.by_digest).status == 403
    finally:
        lab.admin.delete(objects.object_path(made))
        lab.admin.delete(f"{EXCEPTIONS}/{NAME}-revoked")
    lab.wait_for(lambda: target.create(target.push("keyless").by_tag).status == 403, what="the exception is over")
