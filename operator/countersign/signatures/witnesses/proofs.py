"""What an evidence root makes of a signature: who made it, when, and by whose word.

The steps are those of the Sigstore client specification and of sigstore-python's Verifier, which demands a log entry
and an SCT of every signature. Here whatever is there is verified, and the answer says what there was: a policy decides
what it needs.

A proof that does not hold proves nothing, and takes nothing away: neither from a key's signature, which needs none, nor
from the other proofs. What comes along with a signature is not signed by its maker. Whoever can put a bad proof beside
it could as well leave the good one out, so refusing the whole would protect nobody, and would let what was added turn
an admission into a denial. What it was said to prove stays unproven; the problem is told. One thing is refused, a
trusted time at which the certificate was not valid: that is no missing proof but the word of a trusted party against
the signature.

A trusted time says that a signature existed then, not that it was made then. A certificate, which must have been
valid, bounds it from before as well; a key does not.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from countersign.signatures.errors import SignatureError
from countersign.signatures.roots.trust_root import TrustRoot
from countersign.signatures.witnesses.certificates import SigningCertificate, chain_at
from countersign.signatures.witnesses.log_bodies import Signed
from countersign.signatures.witnesses.log_entries import LogEntry, Logged, verify_entry
from countersign.signatures.witnesses.scts import vouching_log
from countersign.signatures.witnesses.timestamps import verify_timestamp
from countersign.trust.evidence.facts import Proof, ProofKind

_KINDS: Final[tuple[ProofKind, ...]] = ("log", "sct", "timestamp")


class Material(NamedTuple):
    """What comes along with a signature."""

    certificate: SigningCertificate | None = None
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()
    proof_needed: bool = False
    """A log entry without an inclusion proof counts for nothing (bundles since v0.2)."""
    problems: tuple[str, ...] = ()
    """Of what came along and could not be read: it is as good as not there."""


class Proven(NamedTuple):
    """A proof, and what did not hold."""

    proof: Proof
    problems: tuple[str, ...]


class _Findings:
    def __init__(self) -> None:
        self.anchors: set[str] = set()
        self.kinds: set[ProofKind] = set()
        self.times: list[datetime] = []
        self.problems: list[str] = []

    def proof(self, root: TrustRoot) -> Proof:
        return Proof(
            root=root.hash,
            anchors=tuple(sorted(self.anchors)),
            kinds=tuple(kind for kind in _KINDS if kind in self.kinds),
            signed_at=int(min(self.times).timestamp()) if self.times else None,
        )


def prove_key_signature(signed: Signed, material: Material, root: TrustRoot) -> Proven:
    """What the root knows of a signature by a key. The proof may be empty: a key vouches without."""
    findings = _trusted_times(signed, material, root)
    return Proven(findings.proof(root), tuple(findings.problems))


def prove_certified_signature(
    signed: Signed, material: Material, certificate: SigningCertificate, root: TrustRoot
) -> Proven:
    """What the root knows of a signature by a certificate's key. Raises SignatureError (Untrusted).

    The signature itself, and the certificate's profile, were verified before.
    """
    # 1. Trusted times: timestamps over the signature, and entries of logs that were promised.
    findings = _trusted_times(signed, material, root)
    # 2. There is one at least: a certificate lives for minutes, and its key is thrown away.
    if not findings.times:
        reason = "; ".join(findings.problems) or "neither a timestamp nor a promised log entry of this evidence root"
        raise SignatureError("Untrusted", f"no trusted time says when it was signed: {reason}")
    issuer = None
    for time in findings.times:
        # 3. At each of them the certificate was valid,
        if not certificate.certificate.not_valid_before_utc <= time <= certificate.certificate.not_valid_after_utc:
            raise SignatureError(
                "Untrusted", f"it was signed at {time:%Y-%m-%dT%H:%M:%SZ}, outside the certificate's life"
            )
        # 4. and went back to an authority of the root, valid and believed then.
        authority, issuer = chain_at(certificate, root.certificate_authorities, time)
        findings.anchors.update(authority.anchors)
    # 5. A certificate log has it.
    log = vouching_log(certificate.certificate, issuer, root) if issuer is not None else None
    if log is not None:
        findings.anchors.add(log.anchor)
        findings.kinds.add("sct")
    return Proven(findings.proof(root), tuple(findings.problems))


def _trusted_times(signed: Signed, material: Material, root: TrustRoot) -> _Findings:
    findings = _Findings()
    for response in _distinct(material.timestamps):
        try:
            stamp = verify_timestamp(response, signed.stampable, root)
        except SignatureError as error:
            findings.problems.append(str(error))
            continue
        findings.times.append(stamp.time)
        findings.anchors.update(stamp.authority.anchors)
        findings.kinds.add("timestamp")
    in_logs: list[Logged] = []
    for entry in material.entries:
        try:
            logged = verify_entry(entry, signed, root, proof_needed=material.proof_needed)
        except SignatureError as error:
            findings.problems.append(str(error))
            continue
        if logged is not None:
            in_logs.append(logged)
            findings.times += [logged.time] if logged.time is not None else []
    for logged in in_logs:
        # An entry without a time of its own is as old as the signature is known to be; a log that has ended needs one.
        at = logged.time or min(findings.times, default=None)
        if not (logged.log.window.holds(at) if at is not None else logged.log.window.end is None):
            findings.problems.append("the log is not believed for the time of the signature")
            continue
        findings.anchors.add(logged.log.anchor)
        findings.kinds.add("log")
    return findings


def _distinct(timestamps: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(timestamps))
