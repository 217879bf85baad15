"""A served certificate is replaced under load; a bad pair changes nothing; no key is left on a disk."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from countersign.keys.authority import AuthoritySet, ServingCertificate, new_authority, plan_serving
from countersign.keys.serving import HotCertificate
from countersign.tls import UnusableKeyPairError

NOW = datetime.now(UTC)
NAME = "gate.example.com"


def certificate(authority: AuthoritySet) -> ServingCertificate:
    made = plan_serving(None, authority, [NAME], NOW)
    assert made
    return made


AUTHORITY = AuthoritySet((new_authority(NOW),))
FIRST, SECOND = certificate(AUTHORITY), certificate(AUTHORITY)


@asynccontextmanager
async def served(hot: HotCertificate) -> AsyncIterator[int]:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=hot.context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def seen(port: int, name: str | None = NAME, *, trust: bytes = AUTHORITY.trust_bundle()) -> bytes:
    """The certificate that a client is shown, PEM."""
    context = ssl.create_default_context(cadata=trust.decode())
    context.check_hostname = name is not None
    # An empty server_hostname makes asyncio send no SNI.
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return ssl.DER_cert_to_PEM_cert(shown).encode()


async def test_a_swap_reaches_the_next_connection_with_and_without_sni() -> None:
    hot = HotCertificate(FIRST.certificate, FIRST.private_key)
    async with served(hot) as port:
        assert await seen(port) == FIRST.certificate
        assert hot.swap(SECOND.certificate, SECOND.private_key)
        assert await seen(port) == SECOND.certificate
        assert await seen(port, None) == SECOND.certificate


async def test_a_key_of_another_type_replaces_the_old_one_and_back() -> None:
    hot = HotCertificate(FIRST.certificate, FIRST.private_key)
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    other = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(x509.load_pem_x509_certificate(FIRST.certificate).not_valid_before_utc)
        .not_valid_after(hot.not_after)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    async with served(hot) as port:
        hot.swap(other, pem)
        assert await seen(port, trust=other) == other
        hot.swap(FIRST.certificate, FIRST.private_key)
        assert await seen(port) == FIRST.certificate


@pytest.mark.parametrize(
    ("pem", "key"),
    [
        (SECOND.certificate, FIRST.private_key),
        (b"junk", FIRST.private_key),
        (SECOND.certificate, b""),
        (b"", b""),
    ],
)
async def test_a_pair_that_does_not_match_is_refused_and_the_old_one_stays(pem: bytes, key: bytes) -> None:
    hot = HotCertificate(FIRST.certificate, FIRST.private_key)
    async with served(hot) as port:
        with pytest.raises(UnusableKeyPairError):
            hot.swap(pem, key)
        assert await seen(port) == FIRST.certificate
        assert hot.swap(SECOND.certificate, SECOND.private_key)


def test_an_encrypted_key_is_refused_without_a_question_on_the_terminal() -> None:
    key = serialization.load_pem_private_key(FIRST.private_key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(UnusableKeyPairError):
        HotCertificate(FIRST.certificate, locked)


def test_the_same_pair_is_not_swapped_again() -> None:
    hot = HotCertificate(FIRST.certificate, FIRST.private_key)
    assert not hot.swap(FIRST.certificate, FIRST.private_key)


def test_no_key_file_is_left_and_none_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))  # as on a read-only root filesystem
    HotCertificate(FIRST.certificate, FIRST.private_key)
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_anonymous_files_the_named_one_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    HotCertificate(FIRST.certificate, FIRST.private_key)
    with pytest.raises(UnusableKeyPairError):
        HotCertificate(FIRST.certificate, SECOND.private_key)
    assert not list(tmp_path.iterdir())
