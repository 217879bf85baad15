"""What the author of a pod reads: the denial, the warnings, and what goes into the audit log.

Everything here is bounded, and no character that a terminal would obey comes through, whatever the input.
"""

from collections.abc import Sequence
from typing import Final

from countersign.trust.orders.exceptions import Waiver
from countersign.trust.policies.policy import PolicyRef
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Verdict

MAX_MESSAGE: Final = 999
"""Characters of a denial. Events and terminals stay readable; an Event's message holds 1,024."""
MAX_WARNING: Final = 256
"""Characters of one warning: the API server may cut longer ones (admission/v1, AdmissionResponse.warnings)."""
MAX_WARNINGS: Final = 8
MAX_AUDIT_VALUE: Final = 1024
RETRY_PREFIX: Final = "VerificationTimeout: could not verify in time, will be retried: "

_MAX_IMAGE: Final = 110
_MAX_NAME: Final = 63
_MAX_PHRASE: Final = 224
_MAX_OWNER: Final = 40
_MAX_REASON: Final = 32
_RESERVE: Final = len("; and 9999 more")


def message(verdict: Verdict) -> str:
    """The denial: all findings that deny, the first one's reason code in front, under 1,000 characters.

    A pod that is only kept out for want of time gets a text that says so (`RETRY_PREFIX`). Empty: nothing denies.
    """
    denials = verdict.denials
    if not denials:
        return ""
    if verdict.retry:
        return RETRY_PREFIX + _joined([_question(finding) for finding in denials], MAX_MESSAGE - len(RETRY_PREFIX))
    told: set[str] = set()
    texts: list[str] = []
    short: list[str] = []
    for finding in denials:
        remedy = "" if finding.remedy in told else finding.remedy
        told.add(finding.remedy)
        text = _full(finding, remedy)
        if text not in texts:
            texts.append(text)
            short.append(_short(finding))
    return _joined(texts, MAX_MESSAGE, short)


def warnings(verdict: Verdict) -> tuple[str, ...]:
    """One line for each warning, each at most 256 characters, and at most eight of them."""
    lines = tuple(dict.fromkeys(clean(_full(finding, finding.remedy), MAX_WARNING) for finding in verdict.warnings))
    if len(lines) > MAX_WARNINGS:
        return (*lines[: MAX_WARNINGS - 1], f"and {len(lines) - MAX_WARNINGS + 1} more findings")
    return lines


def audit_annotations(verdict: Verdict) -> dict[str, str]:
    """What the API server's audit log shows of the decision; it puts the webhook's name before each key."""
    if not verdict.governed:
        return {}
    outcome = "retry" if verdict.retry else "deny" if verdict.denials else "allow"
    annotations = {
        "verdict": outcome,
        "policies": _listed([str(policy.ref) for policy in verdict.governed]),
    }
    if verdict.tokens:
        annotations["audiences"] = _listed([token.audience for token in verdict.tokens])
    if verdict.waivers:
        annotations["exceptions"] = _listed([f"{one.name} until {one.ends}" for one in verdict.waivers])
    if verdict.findings:
        annotations["findings"] = _listed([f"{finding.mode}:{_short(finding)}" for finding in verdict.findings])
    return annotations


def clean(text: str, limit: int) -> str:
    """The text with every character that is not printable replaced, cut in the middle to `limit` characters."""
    if len(text) > limit:
        head = (limit - 3) * 2 // 3
        text = f"{text[:head]}...{text[len(text) - (limit - 3 - head) :]}"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def _joined(texts: Sequence[str], limit: int, short: Sequence[str] | None = None) -> str:
    """As many of the texts as fit, then short ones, then how many were left out. The first one is always whole."""
    parts = [clean(texts[0], limit - _RESERVE)]
    room = limit - _RESERVE - len(parts[0])
    for index, text in enumerate(texts[1:], start=1):
        candidates = (text, short[index]) if short is not None else (text,)
        fitting = next((candidate for candidate in candidates if len(candidate) + 2 <= room), None)
        if fitting is None:
            parts.append(f"and {len(texts) - index} more")
            break
        parts.append(fitting)
        room -= len(fitting) + 2
    return "; ".join(parts)


def _full(finding: Finding, remedy: str) -> str:
    expected, found = clean(finding.expected, _MAX_PHRASE), clean(finding.found, _MAX_PHRASE)
    text = f"{finding.code}: {_where(finding)}{_policy(finding.policy)} expects {expected}; found {found}"
    if finding.waiver is not None:
        return f"{_waived(finding.waiver)}: {text}"
    return f"{text}. Way out: {clean(remedy, _MAX_PHRASE)}" if remedy else text


def _waived(waiver: Waiver) -> str:
    """What a warning begins with: it is cut in the middle, and a finding that denies nothing needs no way out yet."""
    name, owner = clean(waiver.name, _MAX_NAME), clean(waiver.owner, _MAX_OWNER)
    tokens = "" if waiver.tokens == "Issue" else ", without tokens"
    return (
        f"Waived until {waiver.ends}{tokens} by TrustException {name} of {owner} ({clean(waiver.reason, _MAX_REASON)})"
    )


def _question(finding: Finding) -> str:
    return f"{_where(finding)}{clean(finding.found, _MAX_PHRASE)}"


def _short(finding: Finding) -> str:
    where = f" container {clean(finding.container, _MAX_NAME)}" if finding.container else ""
    return f"{finding.code}{where} ({_policy(finding.policy)})"


def _where(finding: Finding) -> str:
    if not finding.container:
        return ""
    image = f" ({clean(finding.image, _MAX_IMAGE)})" if finding.image else ""
    if finding.container.startswith("volume/"):
        return f"image volume {clean(finding.container.removeprefix('volume/'), _MAX_NAME)}{image}: "
    return f"container {clean(finding.container, _MAX_NAME)}{image}: "


def _policy(ref: PolicyRef | None) -> str:
    if ref is None:
        return "Countersign"
    name = clean(ref.name, _MAX_NAME)
    return f"{ref.kind} {clean(ref.namespace, _MAX_NAME)}/{name}" if ref.namespace else f"{ref.kind} {name}"


def _listed(items: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(items))
    kept: list[str] = []
    room = MAX_AUDIT_VALUE - len(", and 9999 more")
    for index, item in enumerate(distinct):
        text = clean(item, _MAX_PHRASE)
        if len(text) + 2 > room:
            kept.append(f"and {len(distinct) - index} more")
            break
        kept.append(text)
        room -= len(text) + 2
    return ", ".join(kept)
