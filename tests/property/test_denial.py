"""A denial stays short and harmless whatever stands in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from countersign.trust.policies.policy import PolicyRef
from countersign.trust.verdicts.denial import MAX_AUDIT_VALUE, MAX_MESSAGE, audit_annotations, clean, message, warnings
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import UNGOVERNED, Verdict
from tests.unit.trust.build import cluster_policy

_TEXTS = st.one_of(st.text(max_size=40), st.text(min_size=200, max_size=3000))
_REFS = st.builds(
    PolicyRef, st.sampled_from(["ClusterTrustPolicy", "TrustPolicy"]), _TEXTS, _TEXTS, st.just("u"), st.just(1)
)
_FINDINGS = st.builds(
    Finding,
    code=st.sampled_from(["ImageUnsigned", "EnvNotAllowed", "EphemeralContainerDenied"]),
    policy=st.one_of(st.none(), _REFS),
    mode=st.sampled_from(["Enforce", "Warn"]),
    container=_TEXTS,
    image=_TEXTS,
    expected=_TEXTS,
    found=_TEXTS,
    remedy=_TEXTS,
    transient=st.booleans(),
)


def verdict_of(findings: list[Finding]) -> Verdict:
    import msgspec

    return msgspec.structs.replace(UNGOVERNED, governed=(cluster_policy(),), findings=tuple(findings))


@given(st.lists(_FINDINGS, max_size=12))
def test_under_a_thousand_characters_for_any_findings(findings: list[Finding]) -> None:
    verdict = verdict_of(findings)
    text = message(verdict)
    assert len(text) <= MAX_MESSAGE
    assert text.isprintable()
    assert bool(text) is bool(verdict.denials)
    assert all(len(line) <= 256 and line.isprintable() for line in warnings(verdict))
    assert all(len(value) <= MAX_AUDIT_VALUE and value.isprintable() for value in audit_annotations(verdict).values())


@given(st.text(), st.integers(8, 60))
def test_clean_text_is_printable_and_no_longer_than_asked(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert cleaned.isprintable()
    assert len(cleaned) == min(len(text), limit)
