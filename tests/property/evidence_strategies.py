"""Rules about signers and attestations, and evidence for and against them: small alphabets, so that things meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from countersign.api.image_rule import AttestationRule, Authority, ImageRule, KeylessIdentity
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import Attestation, Claim, ImageFacts, PlatformConfig, Proof, Vouch
from countersign.trust.policies.policy import Policy, PolicySnapshot, RootFacts
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    DIGEST,
    ISSUER,
    NOW,
    OTHER_DIGEST,
    SCAN,
    audience,
    certified,
    cluster_policy,
    config,
    facts,
    fingerprint,
    keyed,
    keyless,
    revocation,
    root,
    rule_by,
    snapshot,
    token,
    trust_policy,
    wants,
)

AMD, ARM = "sha256:" + "d" * 64, "sha256:" + "e" * 64
CONDITIONS = ("a", "b")
SUBJECTS = ("ann@example.com", "bob@example.com")
ROOTS = {"public-good": root("sha256:1"), "acme": root("sha256:2", anchors=("ca:x", "log:acme"))}
_NOW = int(NOW.timestamp())
_PLACES = ("", DIGEST, AMD, ARM)


def _mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual one half of the time: with any of many at each turn, nothing would ever hold."""
    return st.sampled_from([*[usual] * max(len(others), 2), *others])


_authorities: st.SearchStrategy[Authority] = st.one_of(
    st.builds(
        lambda numbers, strict: keyed("k", *numbers, root="acme" if strict else "", require=strict),
        st.sets(st.integers(1, 3), min_size=1, max_size=2).map(sorted),
        _mostly((), ("TransparencyLog",)),
    ),
    st.builds(
        lambda who, of, require: keyless("i", who, root=of, require=require),
        _mostly(
            KeylessIdentity(issuer=ISSUER, subject_reg_exp=".*@example[.]com"),
            KeylessIdentity(issuer=ISSUER, subject=SUBJECTS[0]),
            KeylessIdentity(issuer_reg_exp="(", subject=SUBJECTS[0]),
        ),
        _mostly("", "acme", "missing"),
        _mostly((), ("Timestamp",), ("TransparencyLog", "SCT")),
    ),
)


def _named(authorities: list[Authority], prefix: str) -> tuple[Authority, ...]:
    return tuple(
        Authority(name=f"{prefix}{number}", key=one.key, keyless=one.keyless) for number, one in enumerate(authorities)
    )


@st.composite
def _attestation_rules(draw: st.DrawFn, names: list[str], *, latest: bool) -> AttestationRule:
    return wants(
        "x",
        *draw(st.sets(st.sampled_from(names), min_size=1, max_size=2).map(sorted)),
        predicate_type=draw(st.sampled_from([SCAN, "other"])),
        conditions=draw(st.sets(st.sampled_from(CONDITIONS)).map(sorted)),
        max_age_seconds=draw(_mostly(None, 60, 3600)),
        select=draw(st.sampled_from(["Any", "Latest"])) if latest else "Any",
    )


@st.composite
def rules(draw: st.DrawFn, name: str, *, latest: bool = False) -> ImageRule:
    authorities = _named(draw(st.lists(_authorities, min_size=draw(_mostly(1, 0)), max_size=2)), "a")
    attestors = _named(draw(st.lists(_authorities, max_size=2)), "b")
    names = [one.name for one in (*authorities, *attestors)]
    found = draw(st.lists(_attestation_rules(names, latest=latest), max_size=2)) if names else []
    attestations = tuple(
        AttestationRule(
            name=f"x{number}",
            predicate_type=one.predicate_type,
            authorities=one.authorities,
            select=one.select,
            max_age_seconds=one.max_age_seconds,
            validations=one.validations,
        )
        for number, one in enumerate(found)
    )
    return rule_by(
        *authorities,
        name=name,
        attestors=attestors,
        attestations=attestations,
        digests=draw(_mostly((), (DIGEST,), (OTHER_DIGEST,))),
        signature_on=draw(_mostly("Digest", "Platforms", "Either")),
    )


@st.composite
def policies(draw: st.DrawFn, name: str, *, latest: bool = False) -> Policy:
    members: dict[str, Any] = {
        "mode": draw(st.sampled_from(["Enforce", "Enforce", "Warn", "Audit"])),
        "images": tuple(draw(rules(f"r{number}", latest=latest)) for number in range(draw(_mostly(1, 2)))),
        "tokens": draw(st.sampled_from([(), (token(f"t-{name}", f"{name}.example.com"),)])),
        "stale_evidence_seconds": draw(st.sampled_from([0, 600, 3600])),
    }
    return cluster_policy(name, **members) if draw(st.booleans()) else trust_policy(name, **members)


@st.composite
def snapshots(draw: st.DrawFn, *, latest: bool = False) -> PolicySnapshot:
    given = [draw(policies(f"p{number}", latest=latest)) for number in range(draw(_mostly(1, 2, 3)))]
    orders = [revocation(signer={"issuer": ISSUER, "subject": SUBJECTS[1]})] if draw(st.integers(0, 4)) == 0 else []
    roots: dict[str, RootFacts] = dict(ROOTS)
    if draw(st.integers(0, 4)) == 0:
        roots["acme"] = root("", anchors=(), problem="its ConfigMap is gone")
    audiences = [audience(f"p{number}.example.com", name=f"p{number}", allowed=ALL_NAMESPACES) for number in range(3)]
    return snapshot(*given, audiences=audiences, revocations=orders, roots=roots)


_proofs: st.SearchStrategy[Proof] = st.builds(
    lambda anchors, kinds, signed_at: Proof(root="sha256:1", anchors=anchors, kinds=kinds, signed_at=signed_at),
    _mostly(("ca:acme", "log:acme"), ("ca:x", "log:acme"), ("log:acme",), ()),
    _mostly(("log", "timestamp", "sct"), (), ("timestamp",), ("log", "sct")),
    _mostly(_NOW - 10, None, _NOW - 600, _NOW - 7200),
)
vouches: st.SearchStrategy[Vouch] = st.one_of(
    st.builds(
        lambda number, digest, proof: Vouch(
            key_fingerprint=fingerprint(number), format="bundle", reference="", digest=digest, proof=proof
        ),
        st.integers(1, 4),
        _mostly(*_PLACES),
        st.none() | _proofs,
    ),
    st.builds(
        lambda who, digest, proof: certified(who, by=proof, digest=digest),
        _mostly(*SUBJECTS, "eve@evil.example"),
        _mostly(*_PLACES),
        _proofs,
    ),
)


def _attestation(kind: str, statement: int, vouch: Vouch, asked: set[str]) -> Attestation:
    """What a condition makes of a statement is a function of both: its bit in the statement's number."""
    claims = [
        Claim(condition_name(kind, one), bool(statement >> bit & 1), "" if statement >> bit & 1 else "0")
        for bit, one in enumerate(CONDITIONS)
        if one in asked
    ]
    return Attestation(predicate_type=kind, statement=f"sha256:{statement:064x}", vouch=vouch, claims=tuple(claims))


attestations: st.SearchStrategy[Attestation] = st.builds(
    _attestation,
    st.sampled_from([SCAN, "other"]),
    _mostly(3, 7, 0, 1, 2),
    vouches,
    _mostly(set(CONDITIONS), {"a"}, set()),
)

_platforms: st.SearchStrategy[tuple[PlatformConfig, ...]] = st.sampled_from(
    [
        (config(),),
        (config(platform="linux/amd64", digest=AMD), config(platform="linux/arm64", digest=ARM)),
    ]
)


@st.composite
def image_facts(draw: st.DrawFn, *, most: int = 5, stale: bool = True) -> ImageFacts:
    asked = draw(st.integers(0, 4)) != 0
    return facts(
        vouches=draw(st.lists(vouches, min_size=draw(_mostly(3, 0)), max_size=max(most, 3), unique=True)),
        attestations=tuple(
            draw(st.lists(attestations, min_size=draw(_mostly(3, 0)), max_size=max(most, 3), unique=True))
        ),
        configs=draw(_platforms),
        checked=(1, 2, 3) if asked else (1,),
        checked_roots=("sha256:1", "sha256:2") if asked else (),
        checked_predicates=(SCAN, "other") if asked else (),
        platforms_checked=asked,
        stale_seconds=draw(st.sampled_from([0, 0, 60, 1200])) if stale else 0,
    )
