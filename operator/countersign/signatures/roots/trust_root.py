"""Evidence roots: whose certificates, logs and timestamps are believed.

The form is Sigstore's `trusted_root.json` (sigstore/protobuf-specs protos/sigstore_trustroot.proto), as its TUF
repositories publish it and `cosign trusted-root create` writes it. Certificate authorities, logs and timestamp
authorities may each be missing: what they would vouch for is then not vouched for. Names (`subject`, `uri`) are not
read. An interval's start is needed, its end is inclusive (TimeRange is a closed interval).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.signatures.keys import BadPublicKey, PublicKey, load_public_key
from countersign.trust.strict_json import BadJSON, parse

MEDIA_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.trustedroot"
MAX_ROOT_BYTES: Final = 1024 * 1024
"""What a ConfigMap can hold; the public-good root has 6 KiB."""
MAX_PARTS: Final = 64
"""Of each kind: authorities, logs."""
MAX_CHAIN: Final = 8


UNREADABLE_CERTIFICATE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises at bytes that are no certificate, or not one that it can make sense of."""


class BadTrustRoot(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The content is no evidence root. The message says what to mend."""


class Window(NamedTuple):
    """A closed interval of time."""

    start: datetime
    end: datetime | None

    def holds(self, time: datetime) -> bool:
        """Whether the time is inside."""
        return self.start <= time and (self.end is None or time <= self.end)


class Log(NamedTuple):
    """A transparency log, or a certificate log."""

    anchor: str
    key_id: bytes
    key: PublicKey
    window: Window


class Authority(NamedTuple):
    """An authority that issues certificates or timestamps: its chain from the issuing (or signing) one to the root."""

    chain: tuple[x509.Certificate, ...]
    anchors: tuple[str, ...]
    window: Window


class TrustRoot:
    """One root's content, read. Two are equal if their hashes are."""

    __slots__ = (
        "anchors",
        "certificate_authorities",
        "certificate_logs",
        "hash",
        "logs",
        "spans",
        "timestamp_authorities",
    )

    def __init__(
        self,
        content_hash: str,
        certificate_authorities: Sequence[Authority],
        timestamp_authorities: Sequence[Authority],
        logs: Sequence[Log],
        certificate_logs: Sequence[Log],
    ) -> None:
        """`content_hash` is `sha256:<hex>` of the canonical content."""
        self.hash: Final = content_hash
        self.certificate_authorities: Final = tuple(certificate_authorities)
        self.timestamp_authorities: Final = tuple(timestamp_authorities)
        self.logs: Final[Mapping[bytes, Log]] = {log.key_id: log for log in logs}
        self.certificate_logs: Final[Mapping[bytes, Log]] = {log.key_id: log for log in certificate_logs}
        self.anchors: Final = frozenset(
            [name for one in (*certificate_authorities, *timestamp_authorities) for name in one.anchors]
            + [log.anchor for log in (*logs, *certificate_logs)]
        )
        self.spans: Final = _spans(
            [(name, one.window) for one in (*certificate_authorities, *timestamp_authorities) for name in one.anchors]
            + [(log.anchor, log.window) for log in logs]
        )
        """From when to when anchors are believed, in seconds since the epoch, where that is not for ever. Without
        certificate logs: their time is that of the certificate, which facts do not hold."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustRoot) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)


def _spans(windows: Iterable[tuple[str, Window]]) -> dict[str, tuple[int, int | None]]:
    """By name, in whole seconds; of one that stands in several chains, all of the time that any of them has."""
    found: dict[str, tuple[int, int | None]] = {}
    for name, window in windows:
        start, end = int(window.start.timestamp()), None if window.end is None else int(window.end.timestamp())
        if name in found:
            other_start, other_end = found[name]
            start, end = min(start, other_start), None if end is None or other_end is None else max(end, other_end)
        found[name] = start, end
    return found


class _Interval(msgspec.Struct):
    start: str = ""
    end: str | None = None


class _Certificate(msgspec.Struct, rename="camel"):
    raw_bytes: str = ""


class _Chain(msgspec.Struct):
    certificates: tuple[_Certificate, ...] = ()


class _Authority(msgspec.Struct, rename="camel"):
    cert_chain: _Chain = msgspec.field(default_factory=_Chain)
    valid_for: _Interval = msgspec.field(default_factory=_Interval)


class _Key(msgspec.Struct, rename="camel"):
    raw_bytes: str = ""
    valid_for: _Interval = msgspec.field(default_factory=_Interval)


class _LogId(msgspec.Struct, rename="camel"):
    key_id: str = ""


class _Log(msgspec.Struct, rename="camel"):
    public_key: _Key = msgspec.field(default_factory=_Key)
    log_id: _LogId = msgspec.field(default_factory=_LogId)


class _Root(msgspec.Struct, rename="camel"):
    media_type: str
    tlogs: tuple[_Log, ...] = ()
    certificate_authorities: tuple[_Authority, ...] = ()
    ctlogs: tuple[_Log, ...] = ()
    timestamp_authorities: tuple[_Authority, ...] = ()


@lru_cache(maxsize=16)
def parse_trust_root(content: bytes) -> TrustRoot:
    """Read a `trusted_root.json`. Raises BadTrustRoot. A pure function with a memory. About 1 ms.

    A log or an authority whose key is of a kind that we cannot verify is passed over: an evidence root that learns of a
    new kind keeps standing for everything else.
    """
    if len(content) > MAX_ROOT_BYTES:
        raise BadTrustRoot(f"longer than {MAX_ROOT_BYTES} bytes: this is no trusted_root.json")
    try:
        value = parse(content)
        root = msgspec.convert(value, _Root)
    except (BadJSON, msgspec.ValidationError) as error:
        raise BadTrustRoot(
            f"not a trusted_root.json ({str(error)[:200]}): make one by cosign trusted-root create"
        ) from None
    if not root.media_type.startswith(MEDIA_TYPE_PREFIX):
        raise BadTrustRoot(f"mediaType is {root.media_type[:80]!r}, which does not start with {MEDIA_TYPE_PREFIX}")
    for name, parts in (
        ("certificateAuthorities", root.certificate_authorities),
        ("timestampAuthorities", root.timestamp_authorities),
        ("tlogs", root.tlogs),
        ("ctlogs", root.ctlogs),
    ):
        if len(parts) > MAX_PARTS:
            raise BadTrustRoot(f"{name} has {len(parts)} entries, more than {MAX_PARTS}")
    if not (root.certificate_authorities or root.timestamp_authorities or root.tlogs):
        raise BadTrustRoot(
            "it names no certificateAuthorities, tlogs or timestampAuthorities: nothing could be verified by it"
        )
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return TrustRoot(
        "sha256:" + hashlib.sha256(canonical).hexdigest(),
        _authorities(root.certificate_authorities, "certificateAuthorities", "ca"),
        _authorities(root.timestamp_authorities, "timestampAuthorities", "tsa"),
        _logs(root.tlogs, "tlogs", "log"),
        _logs(root.ctlogs, "ctlogs", "ct"),
    )


def public_good_root() -> bytes:
    """The root of the public-good Sigstore that the sigstore package carries; read without the network."""
    from importlib.resources import files

    # sigstore-python's own name for it (sigstore/_internal/tuf.py); the package's minor version is pinned for that.
    return files("sigstore._store").joinpath("https%3A%2F%2Ftuf-repo-cdn.sigstore.dev/trusted_root.json").read_bytes()


def _authorities(authorities: Sequence[_Authority], where: str, kind: str) -> list[Authority]:
    read = (_authority(one, f"{where}[{i}]", kind) for i, one in enumerate(authorities))
    return [one for one in read if one is not None]


def _logs(logs: Sequence[_Log], where: str, kind: str) -> list[Log]:
    read = (_log(one, f"{where}[{i}]", kind) for i, one in enumerate(logs))
    return [one for one in read if one is not None]


def _authority(authority: _Authority, where: str, kind: str) -> Authority | None:
    certificates = authority.cert_chain.certificates
    if not 1 <= len(certificates) <= MAX_CHAIN:
        raise BadTrustRoot(
            f"{where}.certChain has {len(certificates)} certificates: give the chain from the issuing one to the root"
        )
    chain = tuple(
        _certificate(one.raw_bytes, f"{where}.certChain.certificates[{i}]") for i, one in enumerate(certificates)
    )
    try:
        for one in chain:
            one.public_key()
    except UnsupportedAlgorithm:
        return None
    anchors = tuple(f"{kind}:{hashlib.sha256(one.public_bytes(Encoding.DER)).hexdigest()}" for one in chain)
    return Authority(chain, anchors, _window(authority.valid_for, f"{where}.validFor"))


def _certificate(text: str, where: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(_bytes(text, f"{where}.rawBytes"))
        # Read lazily by the library: an extension that cannot be parsed is told here, not at the first verification.
        certificate.extensions  # noqa: B018
        with suppress(UnsupportedAlgorithm):
            certificate.public_key()
    except UNREADABLE_CERTIFICATE as error:
        raise BadTrustRoot(f"{where} is no X.509 certificate in DER: {str(error)[:120]}") from None
    return certificate


def _log(log: _Log, where: str, kind: str) -> Log | None:
    der = _bytes(log.public_key.raw_bytes, f"{where}.publicKey.rawBytes")
    window = _window(log.public_key.valid_for, f"{where}.publicKey.validFor")
    try:
        key = load_public_key(der)
    except BadPublicKey:
        return None
    named = log.log_id.key_id
    # RFC 6962, section 3.2, and Rekor v1 alike: the SHA-256 of the key. Rekor v2 has the key ID of its checkpoints
    # instead (C2SP signed-note), which depends on the log's name, so it cannot be made up here.
    key_id = _bytes(named, f"{where}.logId.keyId") if named else hashlib.sha256(der).digest()
    return Log(f"{kind}:{key_id.hex()}", key_id, key, window)


def _window(interval: _Interval, where: str) -> Window:
    if not interval.start:
        raise BadTrustRoot(f"{where}.start is missing: say since when it is to be believed")
    return Window(
        _time(interval.start, f"{where}.start"), _time(interval.end, f"{where}.end") if interval.end else None
    )


def _time(text: str, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadTrustRoot(f"{where} is no time: write it as 2026-01-31T12:00:00Z") from None


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadTrustRoot(f"{where} is not base64") from None
