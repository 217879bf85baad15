from __future__ import annotations

from datetime import UTC, datetime

from countersign.cluster.cache import Added, Deleted, Key, Modified
from countersign.keys.authority import ServingCertificate, issue, new_authority
from countersign.keys.secrets import encode_serving, to_secret_data
from countersign.verifier.certificate import ServedCertificate, TlsSecret

KEY = Key("countersign-system", "countersign-verifier-tls")
AUTHORITY = new_authority(datetime.now(UTC))


def secret() -> TlsSecret:
    certificate, key = issue(AUTHORITY, ["127.0.0.1"], datetime.now(UTC))
    return TlsSecret(to_secret_data(encode_serving(ServingCertificate(certificate, key, AUTHORITY.certificate))))


def test_the_first_certificate_makes_it_ready_and_the_next_is_swapped_in() -> None:
    served = ServedCertificate()
    served.on_change(Added(KEY, "u", first := secret()))
    assert served.ready.is_set()
    hot = served.hot
    served.on_change(Modified(KEY, "u", first, secret()))
    assert served.hot is hot


def test_what_cannot_be_used_leaves_the_last_one_in_service() -> None:
    served = ServedCertificate()
    served.on_change(Added(KEY, "u", TlsSecret({"tls.crt": "!"})))
    assert not served.ready.is_set()
    served.on_change(Added(KEY, "u", good := secret()))
    mixed = TlsSecret({**good.data, "tls.key": secret().data["tls.key"]})
    served.on_change(Modified(KEY, "u", good, mixed))
    served.on_change(Deleted(KEY, "u", good))
    assert served.hot is not None
    assert served.ready.is_set()
