from __future__ import annotations

from datetime import UTC, datetime

from countersign.keys.authority import ServingCertificate, issue, new_authority
from countersign.keys.secrets import encode_serving, to_secret_data
from countersign.keys.served import ServedCertificate

AUTHORITY = new_authority(datetime.now(UTC))


def secret() -> dict[str, str]:
    certificate, key = issue(AUTHORITY, ["127.0.0.1"], datetime.now(UTC))
    return to_secret_data(encode_serving(ServingCertificate(certificate, key, AUTHORITY.certificate)))


async def test_the_first_certificate_makes_it_ready_and_the_next_is_swapped_in() -> None:
    served = ServedCertificate()
    served.take(secret())
    hot = await served.first()
    served.take(secret())
    assert served.hot is hot


async def test_what_cannot_be_used_leaves_the_last_one_in_service() -> None:
    served = ServedCertificate()
    served.take({"tls.crt": "!"})
    assert served.hot is None
    good = secret()
    served.take(good)
    before = (await served.first()).not_after
    served.take({**good, "tls.key": secret()["tls.key"]})
    served.take(None)
    assert served.hot is not None
    assert served.hot.not_after == before
