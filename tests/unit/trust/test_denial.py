"""What the author of a refused pod reads."""

from __future__ import annotations

from countersign.trust.verdicts.denial import (
    MAX_AUDIT_VALUE,
    MAX_WARNING,
    MAX_WARNINGS,
    RETRY_PREFIX,
    audit_annotations,
    clean,
    message,
    warnings,
)
from tests.unit.trust.build import (
    REPOSITORY,
    TAGGED,
    cluster_policy,
    container,
    facts,
    judged,
    pod,
    rule,
    snapshot,
    token,
    trust_policy,
    unsigned,
    unverifiable,
)


def test_a_denial_names_code_container_image_policy_expectation_finding_and_the_way_out() -> None:
    text = message(judged(snapshot(cluster_policy()), found=unsigned()))
    assert text == (
        f"ImageUnsigned: container api ({TAGGED}): ClusterTrustPolicy payments expects a signature by release "
        "(rule payments); found none by its keys. "
        "Way out: sign the image (cosign sign --key ...) or use a signed one"
    )


def test_an_admitted_pod_has_no_denial() -> None:
    assert message(judged(snapshot(cluster_policy()))) == ""


def test_all_findings_stand_in_it() -> None:
    of = pod(container(command=["sh"], env=[{"name": "LD_PRELOAD", "value": "x"}]), hostPID=True)
    text = message(judged(snapshot(cluster_policy(tokens=(token(),))), of))
    assert text.startswith("CommandNotAllowed: ")
    assert "; EnvNotAllowed: " in text
    assert "; PodTooPrivileged: " in text
    assert len(text) < 1000


def test_only_what_denies_stands_in_it() -> None:
    given = snapshot(cluster_policy("soft", mode="Warn", images=(rule("soft", keys=(9,)),)), cluster_policy("hard"))
    text = message(judged(given, found=unsigned(checked=(1, 9))))
    assert "hard" in text
    assert "soft" not in text


def test_many_findings_are_counted_when_they_do_not_fit() -> None:
    of = pod(*[container(f"container-{number}", f"{REPOSITORY}/{'x' * 200}{number}:1") for number in range(60)])
    text = message(judged(snapshot(cluster_policy()), of, evidence={}))
    assert text.startswith("ImageUnverifiable: container container-0 ")
    assert text.endswith(" more")
    assert len(text) < 1000


def test_a_digest_is_shortened_in_the_middle() -> None:
    image = f"{REPOSITORY}/{'deep/' * 30}app@sha256:{'a' * 60}beef"
    text = message(judged(snapshot(cluster_policy()), pod(container(image=image)), evidence={}))
    assert "registry.example.com/payments" in text
    assert "..." in text
    assert "aaaabeef)" in text


def test_want_of_time_is_told_apart_from_a_denial() -> None:
    text = message(judged(snapshot(cluster_policy()), found=unverifiable()))
    assert text.startswith(RETRY_PREFIX)
    assert "could not verify in time, will be retried: " in text
    assert "registry.example.com did not answer within 8 s" in text


def test_no_character_that_a_terminal_obeys_comes_through() -> None:
    text = message(
        judged(snapshot(cluster_policy()), pod(container("a\x1b[31m\n\u202ex", "\x1b]0;x\x07")), evidence={})
    )
    assert text.isprintable()
    assert "a?[31m??x" in text


def test_clean_keeps_short_text_and_both_ends_of_long_text() -> None:
    assert clean("short", 10) == "short"
    cut = clean("a" * 50 + "z" * 50, 20)
    assert (len(cut), cut[0], cut[-1]) == (20, "a", "z")


def test_warnings_are_one_line_each_and_bounded() -> None:
    of = pod(*[container(f"c{number}", f"{REPOSITORY}/{'x' * 240}:{number}") for number in range(20)])
    lines = warnings(judged(snapshot(cluster_policy(mode="Warn")), of, evidence={}))
    assert len(lines) == MAX_WARNINGS
    assert lines[-1] == "and 13 more findings"
    assert all(len(line) <= MAX_WARNING for line in lines)
    assert warnings(judged(snapshot(cluster_policy(mode="Audit")), of, evidence={})) == ()


def test_a_withheld_token_is_told_to_the_author() -> None:
    (line,) = warnings(judged(snapshot(cluster_policy(tokens=(token(),)), audiences=())))
    assert line.startswith("AudienceUnavailable: ClusterTrustPolicy payments expects ")


def test_the_audit_log_shows_verdict_policies_audiences_and_findings() -> None:
    given = snapshot(cluster_policy(tokens=(token(),)), trust_policy(mode="Audit", images=(rule(keys=(9,)),)))
    assert audit_annotations(judged(given, found=facts(checked=(1, 9)))) == {
        "verdict": "allow",
        "policies": "ClusterTrustPolicy payments, TrustPolicy payments/own",
        "audiences": "ledger.example.com",
        "findings": "Audit:ImageUnsigned container api (TrustPolicy payments/own)",
    }
    assert audit_annotations(judged(snapshot(cluster_policy()), found=unsigned()))["verdict"] == "deny"
    assert audit_annotations(judged(snapshot(cluster_policy()), found=unverifiable()))["verdict"] == "retry"
    assert audit_annotations(judged(snapshot())) == {}


def test_the_audit_log_is_bounded() -> None:
    of = pod(*[container(f"container-{number}", f"{REPOSITORY}:{number}") for number in range(500)])
    values = audit_annotations(judged(snapshot(cluster_policy()), of, evidence={})).values()
    assert all(len(value) <= MAX_AUDIT_VALUE for value in values)
