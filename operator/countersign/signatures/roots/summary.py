"""What a trusted_root.json holds, for people: how many, what they call themselves, when the first of them runs out.

Shapes: sigstore/protobuf-specs, sigstore_trustroot.proto, as JSON (proto3 JSON mapping). Whether the content can be
used is for `trust_root` to say; here what cannot be read is left out.
"""

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from cryptography import x509

MAX_NAMES: Final = 64
MAX_NAME: Final = 253
"""What the status of an EvidenceRoot takes (`api.evidence_root`)."""


class _Wire(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Base of the shapes below: unknown members are skipped."""


class _Period(_Wire, frozen=True):
    start: datetime | None = None
    end: datetime | None = None


class _Certificate(_Wire, frozen=True):
    raw_bytes: str = ""


class _Chain(_Wire, frozen=True):
    certificates: tuple[_Certificate, ...] = ()


class _Subject(_Wire, frozen=True):
    organization: str = ""
    common_name: str = ""


class _Authority(_Wire, frozen=True):
    subject: _Subject = _Subject()
    uri: str = ""
    cert_chain: _Chain = _Chain()
    valid_for: _Period = _Period()


class _Key(_Wire, frozen=True):
    valid_for: _Period = _Period()


class _Log(_Wire, frozen=True):
    base_url: str = ""
    public_key: _Key = _Key()


class _TrustedRoot(_Wire, frozen=True):
    tlogs: tuple[_Log, ...] = ()
    ctlogs: tuple[_Log, ...] = ()
    certificate_authorities: tuple[_Authority, ...] = ()
    timestamp_authorities: tuple[_Authority, ...] = ()


class RootSummary(NamedTuple):
    """Of one trusted_root.json."""

    authorities: int = 0
    """Certificate and timestamp authorities."""
    logs: int = 0
    """Transparency and certificate logs."""
    names: tuple[str, ...] = ()
    earliest_expiry: datetime | None = None
    """When the first of those that are valid now runs out; None: none says."""


def summarise(content: bytes, now: datetime) -> RootSummary:
    """The summary; empty if the content is not of this shape."""
    try:
        root = msgspec.json.decode(content, type=_TrustedRoot)
    except msgspec.MsgspecError:
        return RootSummary()
    authorities = (*root.certificate_authorities, *root.timestamp_authorities)
    logs = (*root.tlogs, *root.ctlogs)
    names = [one.subject.common_name or one.subject.organization or one.uri for one in authorities]
    names += [one.base_url for one in logs]
    expiries = [end for one in authorities for end in _ends(one.valid_for, now, one.cert_chain)]
    expiries += [end for one in logs for end in _ends(one.public_key.valid_for, now, _Chain())]
    return RootSummary(
        len(authorities),
        len(logs),
        tuple(name[:MAX_NAME] for name in dict.fromkeys(names) if name)[:MAX_NAMES],
        min(expiries, default=None),
    )


def _ends(period: _Period, now: datetime, chain: _Chain) -> Iterator[datetime]:
    """When something that is valid now no longer will be."""
    start, end = _aware(period.start), _aware(period.end)
    if (start is not None and start > now) or (end is not None and end <= now):
        return
    if end is not None:
        yield end
    for one in chain.certificates:
        try:
            expiry = x509.load_der_x509_certificate(base64.b64decode(one.raw_bytes)).not_valid_after_utc
        except (ValueError, binascii.Error):
            continue
        if expiry > now:
            yield expiry


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
