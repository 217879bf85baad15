"""Evidence that is written down: from a case to the facts that a verdict asks for, and back when it is recorded."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from countersign.api import clock
from countersign.cli.policy.suite.model import (
    RecordedAttestation,
    RecordedCondition,
    RecordedImage,
    RecordedPlatform,
    RecordedSignature,
    SignerIdentity,
)
from countersign.cli.policy.suite.reading import BadCase, Case, beside, parse_time
from countersign.signatures.formats.statements import STATEMENT_V1
from countersign.signatures.keys import BadPublicKey, parse_public_key
from countersign.signatures.roots.known_roots import NOT_FETCHED
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import (
    Attestation,
    Claim,
    Identity,
    ImageFacts,
    PlatformConfig,
    Proof,
    Unverifiable,
    Vouch,
)
from countersign.trust.evidence.needs import EvidenceNeed
from countersign.trust.images.extraction import read_reference
from countersign.trust.images.reference import ImageReference
from countersign.trust.policies.authorities import PROOF_KINDS
from countersign.trust.policies.policy import DEFAULT_ROOT, RootFacts

_PROOFS: Final = {kind: proof for proof, kind in PROOF_KINDS.items()}
_NO_ANCHOR: Final = "none"
_RECORDED: Final = "recorded"


def recorded(case: Case, needs: Sequence[EvidenceNeed]) -> dict[str, ImageFacts | Unverifiable]:
    """What the case says about these images, by image; those that it does not know are left out. Raises BadCase.

    A record is everything: whoever was asked about and is not listed has not signed.
    """
    found: dict[str, ImageFacts | Unverifiable] = {}
    for need in needs:
        reference = read_reference(need.image)
        if not isinstance(reference, ImageReference):
            continue
        record = next((one for one in _ranked(case) if _means(one.image, reference)), None)
        if record is not None:
            found[need.image] = _Reading(case, record, reference, need).facts()
    return found


def with_roots_of_record(case: Case) -> Case:
    """The case with evidence roots that only a cluster has fetched: records go by their names, not by their content."""
    roots = {
        name: RootFacts(f"{_RECORDED} {name}", frozenset({_RECORDED}))
        if facts.problem == NOT_FETCHED.format(name)
        else facts
        for name, facts in case.snapshot.roots.items()
    }
    return case._replace(snapshot=msgspec.structs.replace(case.snapshot, roots=roots))


def _ranked(case: Case) -> list[RecordedImage]:
    """Those that name a tag or a digest come before those for a whole repository."""
    images = case.evidence.images
    return sorted(images, key=lambda one: _names_repository(one.image))


def _names_repository(text: str) -> bool:
    return "@" not in text and ":" not in text.rpartition("/")[2]


def _means(text: str, reference: ImageReference) -> bool:
    recorded_ = read_reference(text)
    if not isinstance(recorded_, ImageReference):
        raise BadCase(f"evidence.images: {recorded_}")
    return recorded_.name == reference.name and (_names_repository(text) or str(recorded_) == str(reference))


class _Reading:
    """One recorded image, as the answer to one question."""

    def __init__(self, case: Case, record: RecordedImage, reference: ImageReference, need: EvidenceNeed) -> None:
        self._case = case
        self._record = record
        self._reference = reference
        self._need = need
        self._where = f"evidence for {record.image}"

    def facts(self) -> ImageFacts | Unverifiable:
        """As the gate would have found it. Raises BadCase where the record leaves open what is asked."""
        record, need = self._record, self._need
        if record.unavailable is not None:
            one = record.unavailable
            return Unverifiable(str(self._reference), one.reason, one.message, one.transient)
        digest = self._reference.digest or record.digest
        if not digest:
            raise BadCase(f"{self._where}: give the `digest` that the tag stands for")
        if need.want_config and not record.runs:
            raise BadCase(
                f"{self._where}: give `runs`, at least [{{entrypoint: [...]}}]: a pod that receives a token may run "
                "what its images were built to run, so the policies ask"
            )
        conditions = [
            condition_name(one.predicate_type, expression) for one in need.predicates for expression in one.expressions
        ]
        return ImageFacts(
            image=self._reference.name,
            digest=digest,
            vouches=tuple(self._vouch(one, "signatures") for one in record.signatures),
            checked_keys=need.fingerprints,
            configs=tuple(_platform(one, digest) for one in record.runs),
            attestations=tuple(self._attestation(one, digest) for one in record.attestations),
            checked_roots=need.root_hashes,
            checked_predicates=tuple(one.predicate_type for one in need.predicates),
            checked_conditions=tuple(conditions),
            platforms_checked=need.platforms,
            repositories=need.repositories or ("",),
        )

    def _vouch(self, signed: RecordedSignature, member: str) -> Vouch:
        return Vouch(
            key_fingerprint="" if signed.identity is not None else self._fingerprint(signed, member),
            format=signed.format,
            reference=signed.reference or (self._reference.name if signed.format == "classic" else ""),
            identity=_identity(signed.identity),
            digest=signed.digest,
            proof=self._proof(signed, member),
        )

    def _fingerprint(self, signed: RecordedSignature, member: str) -> str:
        if bool(signed.key) == bool(signed.key_file):
            raise BadCase(f"{self._where}: {member}: say who signed: one of identity, key (PEM) and keyFile")
        try:
            pem = signed.key or beside(self._case.file, signed.key_file, f"{member}.keyFile").read_text("utf-8")
            return parse_public_key(pem).fingerprint
        except (OSError, UnicodeDecodeError, BadPublicKey) as error:
            raise BadCase(f"{self._where}: {member}: {error}") from None

    def _proof(self, signed: RecordedSignature, member: str) -> Proof | None:
        name = signed.root or (DEFAULT_ROOT if signed.identity is not None else "")
        if not name:
            return None
        # Which certificates of the root it rested on is not written down, and a root changes: any of them will do that
        # is believed for that time.
        root = self._case.snapshot.roots.get(name) or RootFacts("", frozenset())
        signed_at = int(parse_time(signed.at, f"{self._where}: {member}.at").timestamp()) if signed.at else None
        believed = (one for one in sorted(root.anchors) if root.holds((one,), signed_at))
        return Proof(
            root=root.hash,
            anchors=(next(believed, _NO_ANCHOR),),
            kinds=tuple(PROOF_KINDS[one] for one in signed.proofs),
            signed_at=signed_at,
        )

    def _attestation(self, one: RecordedAttestation, digest: str) -> Attestation:
        expressions = [
            expression
            for need in self._need.predicates
            if need.predicate_type == one.predicate_type
            for expression in need.expressions
        ]
        return Attestation(
            predicate_type=one.predicate_type,
            statement=digest,
            vouch=self._vouch(one.by, "attestations[].by"),
            claims=tuple(self._claims(one, digest, expressions)),
        )

    def _claims(self, one: RecordedAttestation, digest: str, expressions: Sequence[str]) -> list[Claim]:
        if one.predicate is not None and one.conditions:
            raise BadCase(
                f"{self._where}: attestation {one.predicate_type}: give its predicate or its conditions, not both"
            )
        if not expressions:
            return []
        known = {said.expression: (said.holds, said.found) for said in one.conditions}
        if one.predicate is not None:
            known = evaluated(expressions, one, self._reference.name, digest)
        claims = []
        for expression in expressions:
            if expression not in known:
                raise BadCase(
                    f"{self._where}: attestation {one.predicate_type} does not say whether {expression!r} holds: give "
                    "its predicate, or record the evidence again (--record)"
                )
            holds, phrase = known[expression]
            claims.append(Claim(condition_name(one.predicate_type, expression), holds, "" if holds else phrase))
        return claims


def evaluated(
    expressions: Sequence[str], attestation: RecordedAttestation, image: str, digest: str
) -> dict[str, tuple[bool, str]]:
    """What conditions make of a predicate that is written down, by the evaluation that the gate runs."""
    from countersign.signatures.conditions.cel import context
    from countersign.signatures.conditions.findings import judged

    statement = {
        "_type": STATEMENT_V1,
        "subject": [{"name": image, "digest": dict([digest.split(":", 1)])}],
        "predicateType": attestation.predicate_type,
        "predicate": attestation.predicate,
    }
    variables: dict[str, object] = {
        "statement": statement,
        "predicate": attestation.predicate,
        "subject": {"name": image, "digest": digest},
    }
    known = context(variables)
    return {expression: judged(expression, known, lambda: variables) for expression in expressions}


def record_of(need: EvidenceNeed, facts: ImageFacts | Unverifiable, roots: Mapping[str, RootFacts]) -> RecordedImage:
    """The record of what was found, as it would be written down."""
    if isinstance(facts, Unverifiable):
        raise BadCase(f"{need.image}: {facts.message}: nothing to record")
    keys = dict(zip(need.fingerprints, need.keys, strict=True))
    names = {root.hash: name for name, root in roots.items()}
    expressions = {
        condition_name(one.predicate_type, expression): expression
        for one in need.predicates
        for expression in one.expressions
    }
    return RecordedImage(
        image=need.image,
        digest=facts.digest,
        signatures=tuple(_signature(vouch, keys, names) for vouch in facts.vouches),
        attestations=tuple(
            RecordedAttestation(
                predicate_type=one.predicate_type,
                by=_signature(one.vouch, keys, names),
                conditions=tuple(
                    RecordedCondition(expression=expressions[claim.condition], holds=claim.holds, found=claim.found)
                    for claim in one.claims
                    if claim.condition in expressions
                ),
            )
            for one in facts.attestations
        ),
        runs=tuple(_recorded_platform(one) for one in facts.configs),
    )


def _signature(vouch: Vouch, keys: Mapping[str, str], roots: Mapping[str, str]) -> RecordedSignature:
    identity, proof = vouch.identity, vouch.proof
    at = proof.signed_at if proof is not None else None
    return RecordedSignature(
        key=keys[vouch.key_fingerprint].strip() + "\n" if identity is None else "",
        identity=None
        if identity is None
        else SignerIdentity(issuer=identity.issuer, subject=identity.subject, extensions=dict(identity.extensions)),
        root=roots.get(proof.root, "") if proof is not None else "",
        at=clock.format_time(clock.from_seconds(at)) if at is not None else "",
        proofs=tuple(_PROOFS[kind] for kind in proof.kinds) if proof is not None else (),
        format=vouch.format,
        reference=vouch.reference,
        digest=vouch.digest,
    )


def _identity(identity: SignerIdentity | None) -> Identity | None:
    if identity is None:
        return None
    return Identity(identity.issuer, identity.subject, tuple(sorted(identity.extensions.items())))


def _platform(one: RecordedPlatform, digest: str) -> PlatformConfig:
    manifest = one.digest or digest
    return PlatformConfig(
        platform=one.platform,
        digest=manifest,
        entrypoint=one.entrypoint,
        cmd=one.cmd,
        config_digest=one.config_digest or manifest,
        working_dir=one.working_dir,
        path=one.path,
    )


def _recorded_platform(one: PlatformConfig) -> RecordedPlatform:
    return RecordedPlatform(
        platform=one.platform,
        digest=one.digest,
        config_digest=one.config_digest,
        entrypoint=one.entrypoint,
        cmd=one.cmd,
        working_dir=one.working_dir,
        path=one.path,
    )
