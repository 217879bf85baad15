"""A judgement as people and scripts read it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from countersign.cli.terminal.output import Format, print_fields, print_json, print_rows, say
from countersign.cli.verdicts.judging import Judged
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.image_evidence import RuleEvidence
from countersign.trust.images.extraction import extract
from countersign.trust.orders.exceptions import Waiver
from countersign.trust.pods.tokens import TokenGrant, mount_path
from countersign.trust.verdicts import denial
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Verdict

IMAGES = ("container", "image", "digest", "vouched")
TOKENS = ("token", "audience", "containers", "file", "seconds", "policy")


def as_members(judged: Judged) -> dict[str, Any]:
    """Everything, for JSON."""
    verdict = judged.verdict
    return {
        "verdict": judged.outcome,
        "message": message(judged),
        "warnings": list(denial.warnings(verdict)),
        "policies": [
            {"policy": str(policy.ref), "mode": policy.mode_in(judged.subject.namespace.name)}
            for policy in verdict.governed
        ],
        "images": images(judged),
        "tokens": [token(one) for one in verdict.tokens],
        "withheld": [token(one) for one in verdict.withheld],
        "findings": [finding(one) for one in verdict.findings],
    }


def message(judged: Judged) -> str:
    """The denial as the gate would word it; what is not known, where that is what keeps the verdict open."""
    verdict = judged.verdict
    if judged.outcome != "unknown":
        return denial.message(verdict)
    open_ = dict.fromkeys(f"{one.image}: {one.found}" for one in verdict.findings if one.transient)
    return f"could not be found out: {'; '.join(open_)}"


def images(judged: Judged) -> list[dict[str, Any]]:
    """One row for each image of the pod."""
    used = {(one.container, one.image): one for one in judged.verdict.evidence_used}
    rows = []
    for use in extract(judged.subject.pod):
        evidence = used.get((use.container, use.image))
        found = judged.evidence.get(use.image)
        rows.append(
            {
                "container": use.container,
                "image": use.image,
                "digest": found.digest if isinstance(found, ImageFacts) else evidence.digest if evidence else "",
                "vouched": [_vouched(one) for one in evidence.evidence] if evidence else _unvouched(found),
            }
        )
    return rows


def _vouched(one: RuleEvidence) -> str:
    if one.digest_listed:
        return "listed digest"
    who = one.key_fingerprint or f"{one.subject} of {one.issuer}"
    return f"{one.authority} ({who}): {one.attestation}" if one.attestation else f"{one.authority} ({who})"


def _unvouched(found: ImageFacts | Unverifiable | None) -> list[str]:
    return [found.message] if isinstance(found, Unverifiable) else []


def token(grant: TokenGrant) -> dict[str, Any]:
    """One row for a token."""
    return {
        "token": grant.name,
        "audience": grant.audience,
        "containers": list(grant.containers),
        "file": f"{mount_path(grant.name)}/{grant.path}",
        "variable": grant.env_var,
        "seconds": grant.expiration_seconds,
        "policy": str(grant.policy),
        "owner": grant.owner,
    }


def finding(one: Finding) -> dict[str, Any]:
    """A finding, whole."""
    return {
        "code": one.code,
        "policy": str(one.policy) if one.policy else "",
        "mode": one.mode,
        "denies": one.is_denial,
        "container": one.container,
        "image": one.image,
        "expected": one.expected,
        "found": one.found,
        "remedy": one.remedy,
        "transient": one.transient,
        "waivedBy": _waiver(one.waiver) if one.waiver else None,
    }


def _waiver(one: Waiver) -> dict[str, Any]:
    return {"exception": one.name, "owner": one.owner, "reason": one.reason, "until": one.ends, "tokens": one.tokens}


def print_judged(judged: Judged, heading: Mapping[str, str], output: Format) -> None:
    """Print it whole. `heading`: what it is about, in the order in which to show it."""
    if output is Format.JSON:
        print_json({**heading, **as_members(judged)})
        return
    if output is Format.TABLE:
        print_fields(heading)
    print_verdict(judged, output)


def print_verdict(judged: Judged, output: Format, *, title: str = "verdict") -> None:
    """The verdict with its reasons, images and tokens as text; as CSV its findings."""
    members = as_members(judged)
    if output is Format.CSV:
        print_rows(("code", "mode", "denies", "policy", "container", "image", "found"), members["findings"], output)
        return
    policies = ", ".join(f"{one['policy']} ({one['mode']})" for one in members["policies"])
    print_fields({title: judged.outcome, "policies": policies or "none"})
    if members["message"]:
        say(f"\n{members['message']}")
    for warning in members["warnings"]:
        say(f"Warning: {warning}")
    for recorded in _as_lines(judged.verdict, judged.verdict.audit):
        say(f"Audit: {recorded}")
    if members["policies"]:
        say("")
        print_rows(IMAGES, members["images"], output)
        say("")
        print_rows(TOKENS, members["tokens"], output, empty="no token is due")


def _as_lines(verdict: Verdict, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Findings of any mode, worded as warnings are."""
    warned = tuple(msgspec.structs.replace(finding, mode="Warn", denies=False) for finding in findings)
    return denial.warnings(msgspec.structs.replace(verdict, findings=warned))
