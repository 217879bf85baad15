"""What was found is written into the files of cases, so that they can run offline from then on.

Only the member `evidence` at the top of a file is replaced, and `now` given if it has none; all else, comments too,
stays as it stands.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from countersign.api import clock
from countersign.cli.policy.suite.evidence import record_of
from countersign.cli.policy.suite.model import CaseEvidence, RecordedImage
from countersign.cli.policy.suite.run import Seen
from countersign.trust.evidence.facts import ImageFacts, joined
from countersign.trust.evidence.needs import EvidenceNeed, PredicateNeed

_MEMBER = re.compile(r"^evidence:.*\n(?:[ \t].*\n|[ \t]*\n|[-#].*\n)*", re.MULTILINE)
_CASES = re.compile(r"^cases:", re.MULTILINE)


class Recording:
    """What the cases saw, by file."""

    def __init__(self) -> None:
        self._seen: dict[Path, list[Seen]] = {}

    def observe(self, seen: Seen) -> None:
        """Remember what a case was told, unless it says its evidence itself."""
        if not seen.case.own_evidence:
            self._seen.setdefault(seen.case.file.path, []).append(seen)

    def write(self) -> list[Path]:
        """Write what was seen into the files; returns those that changed. Raises OSError, BadCase."""
        return [path for path, seen in self._seen.items() if _rewrite(path, seen)]


def _rewrite(path: Path, seen: list[Seen]) -> bool:
    before = path.read_text("utf-8")
    after = with_evidence(before, _records(seen), None if seen[0].case.file.content.now else seen[0].now)
    if after != before:
        path.write_text(after, "utf-8")
    return after != before


def with_evidence(text: str, images: Iterable[RecordedImage], now: datetime | None) -> str:
    """The text of a file of cases, with this evidence instead of what it has."""
    block = as_yaml({"evidence": CaseEvidence(images=tuple(images))})
    if now is not None:
        block = f"now: {clock.format_time(now)}\n{block}"
    text = _without_evidence(text)
    place = _CASES.search(text)
    if place is None:
        return f"{text.rstrip()}\n{block}"
    return f"{text[: place.start()]}{block}{text[place.start() :]}"


def _without_evidence(text: str) -> str:
    """The text without its top-level member `evidence`; comments and blank lines behind that stay."""
    found = _MEMBER.search(text if text.endswith("\n") else text + "\n")
    if found is None:
        return text
    lines = found.group().splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].startswith("#")):
        lines.pop()
    end = found.start() + sum(map(len, lines))
    return text[: found.start()] + text[end:]


def _records(several: list[Seen]) -> list[RecordedImage]:
    facts: dict[str, tuple[EvidenceNeed, ImageFacts, Seen]] = {}
    for seen in several:
        for need in seen.needs:
            found = seen.evidence.get(need.image)
            if not isinstance(found, ImageFacts):
                continue
            if need.image in facts:
                known, earlier, _ = facts[need.image]
                facts[need.image] = (_both(known, need), joined(earlier, found), seen)
            else:
                facts[need.image] = (need, found, seen)
    return [record_of(need, found, seen.case.snapshot.roots) for need, found, seen in facts.values()]


def _both(one: EvidenceNeed, other: EvidenceNeed) -> EvidenceNeed:
    """As much of both questions as a record must name: keys and expressions."""
    keys = dict(zip((*one.fingerprints, *other.fingerprints), (*one.keys, *other.keys), strict=True))
    predicates: dict[str, dict[str, None]] = {}
    for need in (*one.predicates, *other.predicates):
        predicates.setdefault(need.predicate_type, {}).update(dict.fromkeys(need.expressions))
    return msgspec.structs.replace(
        one,
        keys=tuple(keys.values()),
        fingerprints=tuple(keys),
        predicates=tuple(PredicateNeed(kind, tuple(expressions)) for kind, expressions in predicates.items()),
    )


def as_yaml(value: Any) -> str:
    """The value as YAML that a person would have written."""
    return yaml.dump(msgspec.to_builtins(value), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Lists below their key, texts of several lines (keys) as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
