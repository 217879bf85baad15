"""The CA's life: at every moment what is served is trusted by whoever reads the bundle, lately or a day ago."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign.keys.authority import (
    AUTHORITY_LIFETIME,
    BACKDATE,
    LEAF_LIFETIME,
    OVERLAP,
    Authority,
    AuthoritySet,
    ServingCertificate,
    issue,
    new_authority,
    parse_certificate,
    plan_authorities,
    plan_serving,
)
from countersign.keys.errors import UnreadableKeysError

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NAMES = ("gate.countersign-system.svc", "10.0.0.7")


def planned(now: datetime = NOW, current: AuthoritySet | None = None) -> AuthoritySet:
    result = plan_authorities(current, now) or current
    assert result
    return result


def serving(authorities: AuthoritySet, now: datetime, current: ServingCertificate | None = None) -> ServingCertificate:
    result = plan_serving(current, authorities, NAMES, now) or current
    assert result
    return result


def verifies(leaf: bytes, bundle: bytes, now: datetime) -> bool:
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(parse_certificate(leaf), [])
    except VerificationError:
        return False
    return True


def test_a_fresh_ca_signs_at_once_for_names_and_addresses() -> None:
    authorities = planned()
    served = serving(authorities, NOW)
    assert verifies(served.certificate, served.trust_bundle, NOW)
    names = parse_certificate(served.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAMES[0]]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [NAMES[1]]


def test_a_client_whose_clock_is_behind_is_served() -> None:
    served = serving(planned(), NOW)
    assert verifies(served.certificate, served.trust_bundle, NOW - BACKDATE)


def test_nothing_is_renewed_before_it_is_due() -> None:
    authorities = planned()
    served = serving(authorities, NOW)
    assert plan_authorities(authorities, NOW + AUTHORITY_LIFETIME * 0.6) is None
    assert plan_serving(served, authorities, NAMES, NOW + LEAF_LIFETIME * 0.6) is None


def test_a_leaf_is_replaced_at_two_thirds_of_its_life() -> None:
    authorities = planned()
    served = serving(authorities, NOW)
    assert plan_serving(served, authorities, NAMES, NOW + LEAF_LIFETIME * 0.67)


def test_a_leaf_is_replaced_when_its_names_change_or_it_cannot_be_read() -> None:
    authorities = planned()
    served = serving(authorities, NOW)
    other_key = serving(authorities, NOW).private_key
    assert plan_serving(served, authorities, ["other.example.com"], NOW)
    assert plan_serving(ServingCertificate(b"junk", b"junk", b""), authorities, NAMES, NOW)
    assert plan_serving(ServingCertificate(served.certificate, other_key, served.trust_bundle), authorities, NAMES, NOW)


def test_a_successor_is_trusted_before_it_signs() -> None:
    old = planned()
    later = NOW + AUTHORITY_LIFETIME * 0.7
    both = planned(later, old)
    assert len(both.authorities) == 2
    assert both.issuer(later) == old.authorities[0]
    assert both.issuer(later + OVERLAP) == both.authorities[1]


def test_a_changed_bundle_alone_keeps_leaf_and_key() -> None:
    old = planned()
    later = NOW + AUTHORITY_LIFETIME * 0.7
    served = serving(old, later)
    both = planned(later, old)
    updated = plan_serving(served, both, NAMES, later)
    assert updated == ServingCertificate(served.certificate, served.private_key, both.trust_bundle())


def test_a_leaf_never_outlives_its_authority() -> None:
    authority = new_authority(NOW)
    certificate, _ = issue(authority, NAMES, NOW + AUTHORITY_LIFETIME - timedelta(days=3))
    assert parse_certificate(certificate).not_valid_after_utc == authority.parsed.not_valid_after_utc


def test_an_expired_ca_is_replaced_by_one_that_signs_at_once() -> None:
    late = NOW + AUTHORITY_LIFETIME * 2
    authorities = planned(late, planned())
    served = serving(authorities, late)
    assert len(authorities.authorities) == 1
    assert verifies(served.certificate, served.trust_bundle, late)


def test_a_ca_without_its_own_key_is_refused() -> None:
    one, other = new_authority(NOW), new_authority(NOW)
    with pytest.raises(UnreadableKeysError, match="not that of its certificate"):
        issue(Authority(one.certificate, other.private_key, NOW), NAMES, NOW)


def test_a_certificate_needs_a_name() -> None:
    with pytest.raises(ValueError, match="at least one"):
        issue(new_authority(NOW), [], NOW)


def test_openssl_accepts_the_chain_under_strict_rules() -> None:
    authorities = planned(datetime.now(UTC))
    context = ssl.create_default_context(cadata=authorities.trust_bundle().decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    served = serving(authorities, datetime.now(UTC))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    from countersign.tls import load_key_pair

    load_key_pair(server, served.certificate, served.private_key)
    assert _handshake(context, server, NAMES[0])


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near.getpeercert() is not None


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.timedeltas(timedelta(hours=1), timedelta(days=9)), min_size=5, max_size=120),
    st.timedeltas(timedelta(0), OVERLAP),
)
def test_at_every_moment_some_trusted_ca_verifies_the_served_leaf(steps: list[timedelta], behind: timedelta) -> None:
    """The controller plans at arbitrary moments up to 9 days apart; a client's bundle is up to OVERLAP old, or a server
    still presents a leaf that is up to OVERLAP old."""
    now = NOW
    authorities, served = planned(), serving(planned(), NOW)
    history = []
    authorities = planned()
    served = serving(authorities, NOW)
    history.append((now, served))
    for step in steps:
        now += step
        authorities = planned(now, authorities)
        served = serving(authorities, now, served)
        history.append((now, served))
    for at, _ in history:
        for moment in (at, at + timedelta(minutes=59)):
            current = [one for then, one in history if then <= moment][-1]
            older = [one for then, one in history if then <= max(NOW, moment - behind)][-1]
            assert verifies(current.certificate, older.trust_bundle, moment)
            assert verifies(older.certificate, current.trust_bundle, moment)
