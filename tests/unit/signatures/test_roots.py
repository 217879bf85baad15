"""Evidence roots: what is read from a trusted_root.json, and what each mistake is told as."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from countersign.signatures.roots.trust_root import BadTrustRoot, parse_trust_root, public_good_root
from tests.fakes.sigstore import FakeSigstore, text

CONTENT = FakeSigstore().trusted_root()
WINDOW = {"start": "2026-01-01T00:00:00Z"}


def _changed(path: str, value: Any) -> bytes:
    content = json.loads(CONTENT)
    holder = content
    *way, last = [int(one) if one.isdigit() else one for one in path.split(".")]
    for key in way:
        holder = holder[key]
    holder[last] = value
    return json.dumps(content).encode()


def test_the_public_good_root_is_at_hand_without_the_network() -> None:
    root = parse_trust_root(public_good_root())
    kinds = [anchor.partition(":")[0] for anchor in root.anchors]
    assert {"ca", "tsa", "log", "ct"} == set(kinds)
    # Rekor v1 of the public instance, by the SHA-256 of its key, as each of its entries names it.
    assert "log:c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d" in root.anchors
    assert any(len(authority.chain) == 2 for authority in root.certificate_authorities)


def test_the_hash_is_that_of_the_content_however_it_is_laid_out() -> None:
    value = json.loads(CONTENT)
    backwards = json.dumps(dict(reversed(value.items())), indent=4).encode()
    assert parse_trust_root(backwards) == parse_trust_root(CONTENT)
    assert parse_trust_root(backwards).hash == parse_trust_root(CONTENT).hash
    assert parse_trust_root(_changed("ctlogs", [])) != parse_trust_root(CONTENT)


@pytest.mark.parametrize("member", ["ctlogs", "timestampAuthorities", "tlogs", "certificateAuthorities"])
def test_a_root_without_one_kind_of_part_stands_for_the_others(member: str) -> None:
    content = json.loads(CONTENT)
    content.pop(member, None)
    assert parse_trust_root(json.dumps(content).encode()).anchors < parse_trust_root(CONTENT).anchors | {""}


def test_a_log_whose_key_is_of_a_kind_that_is_not_known_yet_is_passed_over() -> None:
    der = ed448.Ed448PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    log = {"publicKey": {"rawBytes": text(der), "validFor": WINDOW}, "logId": {"keyId": text(b"x" * 32)}}
    content = json.loads(CONTENT)
    content["tlogs"].append(log)
    assert parse_trust_root(json.dumps(content).encode()).anchors == parse_trust_root(CONTENT).anchors


def test_an_authority_whose_key_is_of_a_kind_that_is_not_known_yet_is_passed_over() -> None:
    """Its curve's object identifier is one digit off, which is how a damaged root was found to be read wrongly."""
    certificate = json.loads(CONTENT)["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"]
    der = base64.b64decode(certificate)
    odd = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2f8648ce3d030107"))
    assert odd != der
    root = parse_trust_root(_changed("certificateAuthorities.0.certChain.certificates.0.rawBytes", text(odd)))
    assert root.certificate_authorities == ()


def test_an_interval_is_closed_at_both_ends() -> None:
    moments = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00.999Z")
    content = _changed("tlogs.0.publicKey.validFor", dict(zip(("start", "end"), moments, strict=True)))
    window = next(iter(parse_trust_root(content).logs.values())).window
    for moment in moments:
        assert window.holds(datetime.fromisoformat(moment))
    assert not window.holds(datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert not window.holds(datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cosign trusted-root create"),
        (b"[" * 100_000, "cosign trusted-root create"),
        (b"{" + b" " * 2_000_000 + b"}", "longer than"),
        (b"{}", "mediaType"),
        (_changed("mediaType", "application/json"), "does not start with"),
        (_changed("tlogs.0.publicKey.validFor", {}), r"tlogs\[0\].publicKey.validFor.start is missing"),
        (_changed("tlogs.0.publicKey.validFor.start", "yesterday"), "write it as"),
        (_changed("tlogs.0.publicKey.rawBytes", "?"), r"tlogs\[0\].publicKey.rawBytes is not base64"),
        (_changed("ctlogs.0.logId.keyId", "?"), r"ctlogs\[0\].logId.keyId is not base64"),
        (_changed("certificateAuthorities.0.certChain.certificates", []), "give the chain"),
        (
            _changed("certificateAuthorities.0.certChain.certificates.1.rawBytes", "AAAA"),
            r"certificates\[1\] is no X.509",
        ),
        (_changed("certificateAuthorities.0.validFor.start", ""), "start is missing"),
        (_changed("tlogs", [{"publicKey": {"validFor": WINDOW}}] * 65), "more than 64"),
        (json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}).encode(), "names no"),
        (CONTENT[:-1] + b', "tlogs": []}', "stands twice"),
    ],
)
def test_each_mistake_is_told_with_its_place(content: bytes, says: str) -> None:
    with pytest.raises(BadTrustRoot, match=says):
        parse_trust_root(content)
