"""Whoever looks like the identity that a policy names is somebody else: tricks with prefixes, lines and letters."""

from __future__ import annotations

import re

import pytest
from cryptography import x509

from countersign.api.image_rule import KeylessIdentity
from countersign.signatures.errors import SignatureError
from countersign.signatures.witnesses.certificates import read_certificate
from countersign.trust.evidence.facts import Identity
from countersign.trust.policies.authorities import CompiledIdentity
from tests.fakes.sigstore import ISSUER, FakeSigstore, utf8

SUBJECT = "https://github.com/acme/ledger/.github/workflows/release.yml@refs/heads/main"
EXACT = KeylessIdentity(issuer=ISSUER, subject=SUBJECT)
EXPRESSION = KeylessIdentity(
    issuer_reg_exp=r"https://token\.actions\.githubusercontent\.com",
    subject_reg_exp=r"https://github\.com/acme/[a-z]+/\.github/workflows/release\.yml@refs/heads/main",
)
ALTERNATIVES = KeylessIdentity(issuer=ISSUER, subject_reg_exp=rf"dev@acme\.example|{re.escape(SUBJECT)}|(?m)^never$")
ASKED = pytest.mark.parametrize("asked", [EXACT, EXPRESSION, ALTERNATIVES], ids=["exact", "expression", "alternatives"])


@ASKED
def test_the_identity_itself_fits(asked: KeylessIdentity) -> None:
    assert CompiledIdentity(asked).fits(Identity(issuer=ISSUER, subject=SUBJECT))


@ASKED
@pytest.mark.parametrize(
    "subject",
    [
        SUBJECT + "2",
        SUBJECT + "/",
        SUBJECT + "\n",
        SUBJECT + "\0",
        " " + SUBJECT,
        SUBJECT + "\nhttps://evil.example",
        "https://evil.example\n" + SUBJECT,
        "https://evil.example/?" + SUBJECT,
        "https://evil.example#" + SUBJECT,
        SUBJECT.replace("https", "http"),
        SUBJECT.replace("https", "HTTPS"),
        SUBJECT.replace("github.com", "github.com.evil.example"),
        SUBJECT.replace("github.com", "githubxcom"),
        SUBJECT.replace("github.com", "github.com:443"),
        SUBJECT.replace("github.com", "acme@github.com"),
        SUBJECT.replace("acme/", "acme/../evil/"),
        SUBJECT.replace("acme/", "acme/..%2fevil/"),
        SUBJECT.replace("acme", "ACME"),
        SUBJECT.replace("acme", "acme-evil"),
        SUBJECT.replace("acme", "\N{CYRILLIC SMALL LETTER A}cme"),
        SUBJECT.replace("acme", "\N{FULLWIDTH LATIN SMALL LETTER A}cme"),
        SUBJECT.replace("acme", "acme\N{ZERO WIDTH SPACE}"),
        SUBJECT.replace("acme", "a\N{COMBINING ACUTE ACCENT}cme"),
        SUBJECT.replace("release.yml", "releasexyml"),
        SUBJECT.replace("release.yml", "evil.yml@refs/heads/x/release.yml"),
        SUBJECT.replace("heads/main", "tags/main"),
        SUBJECT.replace("heads/main", "pull/1/merge"),
        "",
        "https://github.com/acme",
        SUBJECT.removeprefix("https://"),
    ],
)
def test_a_lookalike_of_the_subject_is_somebody_else(asked: KeylessIdentity, subject: str) -> None:
    assert not CompiledIdentity(asked).fits(Identity(issuer=ISSUER, subject=subject))


@ASKED
@pytest.mark.parametrize(
    "issuer",
    [
        ISSUER + "/",
        ISSUER + ".evil.example",
        ISSUER + "/acme",
        ISSUER + "\n",
        ISSUER.replace("https", "http"),
        ISSUER.replace(".", "x", 1),
        ISSUER.upper(),
        "https://evil.example/?" + ISSUER,
        "https://evil.example\n" + ISSUER,
        ISSUER.replace("token", "t\N{CYRILLIC SMALL LETTER O}ken"),
        "",
    ],
)
def test_a_lookalike_of_the_issuer_is_somebody_else(asked: KeylessIdentity, issuer: str) -> None:
    assert not CompiledIdentity(asked).fits(Identity(issuer=issuer, subject=SUBJECT))


@pytest.mark.parametrize(
    "text",
    [SUBJECT + "\n", SUBJECT + "\0", "a\tb", "\N{RIGHT-TO-LEFT OVERRIDE}" + SUBJECT, SUBJECT + "\N{ZERO WIDTH SPACE}",
     "\N{LINE SEPARATOR}" + SUBJECT, "", "x" * 5000],
)  # fmt: skip
def test_what_cannot_be_printed_or_is_too_long_is_no_identity(text: str) -> None:
    sigstore = FakeSigstore()
    user = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), utf8(text))
    for leaf in (
        sigstore.leaf(subjects=[user]),
        sigstore.leaf(extensions={8: utf8(text)}),
        sigstore.leaf(extensions={1: text.encode(), 8: utf8(text)}),
    ):
        with pytest.raises(SignatureError):
            read_certificate(leaf.der)


def test_a_name_that_can_be_printed_is_an_identity_in_that_form() -> None:
    user = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), utf8("somebody!acme"))
    assert read_certificate(FakeSigstore().leaf(subjects=[user]).der).identity.subject == "somebody!acme"
