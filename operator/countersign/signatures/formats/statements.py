"""In-toto statements: what was said about which artefacts, in the two forms that are about.

Sources: spec/v1/statement.md and spec/v0.1/statement.md of github.com/in-toto/attestation. Nothing is normalised: a
condition sees what was signed. cosign's own wrappings (a predicate in `Data`) are told in docs/attestations.md.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from countersign.signatures.errors import SignatureError
from countersign.trust.strict_json import BadJSON, parse

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_V1: Final = "https://in-toto.io/Statement/v1"
STATEMENT_V01: Final = "https://in-toto.io/Statement/v0.1"
SIGN_PREDICATE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
"""cosign 3 (cmd/cosign/cli/sign/sign.go): "this image is signed", and nothing else."""

MAX_VALUES: Final = 4_000_000
"""Of one statement. Each costs about 100 bytes while it is read: an SBOM of 20 MB has some 600,000."""
MAX_DEPTH: Final = 128
"""Of nested objects and arrays, wherever a condition is to be evaluated: that takes a stack of another kind."""


class _Subject(msgspec.Struct):
    digest: dict[str, str] = {}


class _Head(msgspec.Struct):
    type: str = msgspec.field(name="_type")
    predicate_type: str = msgspec.field(name="predicateType")
    subject: tuple[_Subject, ...] = ()


class Statement(msgspec.Struct, frozen=True):
    """A statement whose shape is right; whether it is about the image at hand is asked with `about`."""

    type: str
    predicate_type: str
    digests: tuple[Mapping[str, str], ...]
    """Of each subject: algorithm, and value in hex."""

    def about(self, digest: str) -> bool:
        """Whether a subject has this digest (`algorithm:hex`). One without the algorithm counts for nothing."""
        algorithm, _, encoded = digest.partition(":")
        return bool(encoded) and any(one.get(algorithm) == encoded for one in self.digests)


class Said(NamedTuple):
    """What a condition is about: a statement that was read once, and the image."""

    payload: bytes
    name: str
    """`registry/repository`."""
    digest: str

    def variables(self) -> dict[str, Any]:
        """By their names in conditions."""
        statement = parse(self.payload)
        return {
            "statement": statement,
            "predicate": statement.get("predicate"),
            "subject": {"name": self.name, "digest": self.digest},
        }


def read_statement(payload_type: str, payload: bytes) -> Statement:
    """Read a payload whose signature holds. Costs about 10 ms for 1 MB. Raises SignatureError.

    What it says is kept as bytes (`Said`): as objects it takes five times the memory.
    """
    if payload_type != PAYLOAD_TYPE:
        raise SignatureError("OtherType", f"the envelope holds {payload_type[:80]!r}, no in-toto statement")
    # No more values than commas and opening brackets, plus one: counted before any of them takes memory.
    if payload.count(b",") + payload.count(b"[") + payload.count(b"{") >= MAX_VALUES:
        raise SignatureError("Malformed", f"the statement may have more than {MAX_VALUES} values")
    try:
        head = msgspec.convert(parse(payload), _Head)
    except (BadJSON, msgspec.ValidationError) as error:
        raise SignatureError("Malformed", f"the envelope holds no in-toto statement: {str(error)[:200]}") from None
    if head.type not in (STATEMENT_V1, STATEMENT_V01):
        raise SignatureError("OtherType", f"the statement is of type {head.type[:80]!r}, not {STATEMENT_V1!r}")
    return Statement(
        type=head.type,
        predicate_type=head.predicate_type,
        digests=tuple(one.digest for one in head.subject),
    )


def too_deep(document: dict[str, Any], limit: int = MAX_DEPTH) -> bool:
    """Whether objects and arrays nest deeper than that."""
    level: list[Any] = [document]
    for _ in range(limit):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
