"""One root gives the facts of its own content or none, and costs nothing until somebody asks."""

from __future__ import annotations

import json

import msgspec
import pytest

from countersign.api.evidence_root import (
    ConfigMapKeyRef,
    EvidenceRoot,
    EvidenceRootStatus,
    TUFSource,
    content_of,
    source_of,
)
from countersign.signatures.roots import known_roots
from countersign.signatures.roots.known_roots import Known, KnownRoots
from countersign.signatures.roots.trust_root import parse_trust_root, public_good_root
from countersign.trust.policies.policy import DEFAULT_ROOT, RootFacts
from tests.unit.trust.build import evidence_root

CONTENT = public_good_root().decode()
MIRROR = "https://tuf.example.com"


def without_logs() -> str:
    """The same certificate authorities, and no transparency log."""
    content = json.loads(CONTENT)
    content["tlogs"] = []
    return json.dumps(content)


def fetched(resource: EvidenceRoot, content: str = CONTENT) -> EvidenceRoot:
    """The root after its content was fetched."""
    status = EvidenceRootStatus(trusted_root=content, source=source_of(resource.spec))
    return msgspec.structs.replace(resource, status=status)


def from_tuf(**source: object) -> EvidenceRoot:
    return evidence_root(tuf=TUFSource(**{"mirror": MIRROR, "root": "{}", **source}))  # type: ignore[arg-type]


def test_a_root_has_the_facts_and_the_content_that_stand_in_it() -> None:
    roots = KnownRoots([evidence_root(trusted_root=CONTENT)])
    root = parse_trust_root(CONTENT.encode())
    assert roots["private"] == RootFacts(root.hash, root.anchors, spans=root.spans)
    assert roots.content("private") == (root.hash, CONTENT.encode())
    assert set(roots) == {"private", DEFAULT_ROOT}
    assert len(roots) == 2


def test_one_that_does_not_exist_is_not_there() -> None:
    roots = KnownRoots()
    assert "private" not in roots
    assert roots.get("private") is None
    assert roots.content("private") is None


def test_the_public_good_root_is_built_in_until_an_evidence_root_takes_its_place() -> None:
    built_in = KnownRoots()[DEFAULT_ROOT]
    assert built_in.hash == parse_trust_root(public_good_root()).hash
    other = KnownRoots([evidence_root(DEFAULT_ROOT, trusted_root=without_logs())])
    assert other[DEFAULT_ROOT].hash not in ("", built_in.hash)
    assert other[DEFAULT_ROOT].anchors < built_in.anchors


@pytest.mark.parametrize("name", [DEFAULT_ROOT, "private"])
def test_one_that_cannot_be_read_is_not_replaced_by_another(name: str) -> None:
    for roots in (KnownRoots(unreadable=[name]), KnownRoots([evidence_root(name, trusted_root="{")])):
        assert roots[name].problem
        assert (roots[name].hash, roots[name].anchors, roots.content(name)) == ("", frozenset(), None)


def test_a_content_that_is_too_large_is_not_read() -> None:
    large = CONTENT[:-1] + "\u00e9" * 200_000 + "}"
    assert "bytes" in KnownRoots([evidence_root(trusted_root=large)])["private"].problem


def test_what_was_not_fetched_yet_vouches_for_nothing() -> None:
    for resource in (from_tuf(), evidence_root(config_map_ref=ConfigMapKeyRef(name="sigstore"))):
        assert "not fetched yet" in KnownRoots([resource])["private"].problem
        assert KnownRoots([fetched(resource)])["private"].problem == ""


def test_what_was_fetched_counts_only_under_the_source_that_it_was_fetched_from() -> None:
    before = fetched(from_tuf())
    for other in (
        from_tuf(root='{"another": 1}'),
        from_tuf(target_name="other.json"),
        evidence_root(config_map_ref=ConfigMapKeyRef(name="sigstore")),
    ):
        assert content_of(msgspec.structs.replace(other, status=before.status)) == ""
    first, second = ConfigMapKeyRef(name="a"), ConfigMapKeyRef(name="a", key="b")
    moved = msgspec.structs.replace(evidence_root(config_map_ref=second))
    old = fetched(evidence_root(config_map_ref=first))
    assert content_of(msgspec.structs.replace(moved, status=old.status)) == ""


def test_another_mirror_of_the_same_repository_keeps_what_was_fetched() -> None:
    moved = msgspec.structs.replace(from_tuf(mirror="https://other.example.com"), status=fetched(from_tuf()).status)
    assert content_of(moved) == CONTENT


def test_what_stands_in_the_object_wins_over_what_was_fetched_before() -> None:
    inline = msgspec.structs.replace(evidence_root(trusted_root=without_logs()), status=fetched(from_tuf()).status)
    assert content_of(inline) == without_logs()


def test_a_root_that_starts_at_the_public_good_one_uses_what_this_release_brings_until_it_was_fetched() -> None:
    built_in = KnownRoots()[DEFAULT_ROOT]
    resource = evidence_root(tuf=TUFSource(mirror=MIRROR, builtin="PublicGood"))
    assert KnownRoots([resource])["private"] == built_in
    assert KnownRoots([fetched(resource, without_logs())])["private"] != built_in
    another = evidence_root(tuf=TUFSource(mirror=MIRROR, builtin="PublicGood", target_name="other.json"))
    assert KnownRoots([another])["private"].problem


def test_a_content_is_read_when_it_is_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = known_roots.read

    def counted(content: str) -> Known:
        read.append(content)
        return real(content)

    monkeypatch.setattr(known_roots, "read", counted)
    roots = KnownRoots([evidence_root(trusted_root=CONTENT), evidence_root("same", trusted_root=CONTENT)])
    assert list(roots)
    assert read == []
    assert roots["private"] == roots["same"]
    assert roots.content("private")
    later = KnownRoots([evidence_root(trusted_root=CONTENT)], before=roots)
    assert later["private"].hash
    assert read == [CONTENT]
    gone = KnownRoots([], before=later)
    assert KnownRoots([evidence_root(trusted_root=CONTENT)], before=gone)["private"].hash
    assert read == [CONTENT, CONTENT], "what nobody has any more is not kept"


def test_a_root_of_a_file_keeps_what_the_cluster_fetched_under_the_same_source() -> None:
    held = KnownRoots([fetched(from_tuf())])
    assert held.replaced([]) is held
    assert held.replaced([from_tuf(refresh_seconds=300)])["private"] == held["private"]
    assert held.replaced([from_tuf(root='{"another": 1}')])["private"].problem
    edited = held.replaced([evidence_root(trusted_root=without_logs()), evidence_root("new", trusted_root=CONTENT)])
    assert edited["private"].anchors < held["private"].anchors
    assert edited["new"] == held["private"]
