"""Who has signed an image and attested what, as the members of a first image rule."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from countersign.cli.image.inputs import KeyFile
from countersign.cli.image.naming import dns_label, unused
from countersign.cli.image.search import Seen
from countersign.trust.evidence.facts import Identity, ImageFacts, Vouch
from countersign.trust.policies.policy import DEFAULT_ROOT

GITHUB: Final = "https://token.actions.githubusercontent.com"
_PINNED: Final = ("sourceRepositoryURI", "sourceRepositoryOwnerIdentifier", "runnerEnvironment")
"""Extensions that say which repository built it, and where. An owner's number outlives a name that is given up."""
_WORKFLOW: Final = re.compile(r"(https://\S+/\S+)@(refs/[a-z]+/)(\S+)")
"""Subject of a workflow: its file, and the ref at which it ran (sigstore/fulcio docs/oidc.md, GitHub and GitLab)."""
_RE2_SPECIAL: Final = re.compile(r"([\\.+*?()|\[\]{}^$])")
_NAMES: Final = {
    "https://slsa.dev/provenance/v0.2": "provenance",
    "https://slsa.dev/provenance/v1": "provenance",
    "https://spdx.dev/Document": "sbom",
    "https://cyclonedx.org/bom": "sbom",
    "https://cosign.sigstore.dev/attestation/vuln/v1": "vulnerabilities",
    "https://openvex.dev/ns": "vex",
}


class Signer(NamedTuple):
    """An authority of the rule."""

    name: str
    lines: tuple[str, ...]
    """Its members but the name, without indentation."""


class Attested(NamedTuple):
    """An attestation that was found: its type, and the names of those who made it."""

    predicate_type: str
    signers: tuple[str, ...]
    predicate: Mapping[str, Any]


class Found(NamedTuple):
    """The members of the rule."""

    authorities: tuple[Signer, ...]
    attestors: tuple[Signer, ...]
    attestations: tuple[Attested, ...]


def signers_of(facts: ImageFacts, seen: Iterable[Seen], keys: Sequence[KeyFile], root: str) -> Found:
    """What was found. `keys` have signed something; `root` is the name of the evidence root, empty for the default."""
    names: dict[str | tuple[str, str], Signer] = {}
    taken: set[str] = set()

    def named(vouch: Vouch) -> str:
        who: str | tuple[str, str] = vouch.key_fingerprint
        if vouch.identity is not None:
            who = (vouch.identity.issuer, vouch.identity.subject)
        if who not in names:
            names[who] = _signer(vouch, keys, root, taken)
        return names[who].name

    signing = dict.fromkeys(named(vouch) for vouch in facts.vouches)
    attested: dict[str, dict[str, None]] = {}
    for one in facts.attestations:
        attested.setdefault(one.predicate_type, {})[named(one.vouch)] = None
    signers = tuple(names.values())
    predicates = {one.predicate_type: _predicate(one) for one in seen if one.examined.attestations}
    return Found(
        authorities=tuple(one for one in signers if one.name in signing),
        attestors=tuple(one for one in signers if one.name not in signing),
        attestations=tuple(
            Attested(kind, tuple(by), predicates.get(kind, {})) for kind, by in sorted(attested.items())
        ),
    )


def attestation_lines(attested: Attested, name: str) -> list[str]:
    """An attestation rule, with a condition to go on from as a comment."""
    by = ", ".join(quoted(one) for one in attested.signers)
    lines = [
        f"- name: {name}",
        f"  predicateType: {quoted(attested.predicate_type)}",
        f"  authorities: [{by}]",
    ]
    if name.startswith("vulnerabilities"):
        lines.append("  # maxAgeSeconds: 604800    # a scan of this week, by trusted time")
    expression, message = _condition(attested)
    return [
        *lines,
        "  # validations:",
        f"  #   - expression: {quoted(expression)}",
        f"  #     message: {quoted(message)}",
    ]


def attestation_name(predicate_type: str, taken: set[str]) -> str:
    """A name for a requirement of this type."""
    return unused(_NAMES.get(predicate_type) or dns_label(predicate_type.partition("://")[2]), taken)


def quoted(text: str) -> str:
    """A YAML scalar: JSON's strings are YAML's double-quoted ones."""
    return json.dumps(text, ensure_ascii=False)


def _signer(vouch: Vouch, keys: Sequence[KeyFile], root: str, taken: set[str]) -> Signer:
    if vouch.identity is not None:
        identity = vouch.identity
        name = unused(_identity_name(identity), taken)
        return Signer(name, tuple(_identity_lines(identity, root)))
    key = next(one for one in keys if one.key.fingerprint == vouch.key_fingerprint)
    name = unused(dns_label(key.path.stem), taken)
    believed = [f"  evidenceRootRef: {{name: {quoted(root or DEFAULT_ROOT)}}}"] if vouch.proof is not None else []
    lines = ["key:", *believed, "  pem:", f"    # {key.key.description}, {key.key.fingerprint}", "    - |"]
    return Signer(name, (*lines, *(f"      {line}" for line in key.pem.splitlines())))


def _identity_name(identity: Identity) -> str:
    if identity.issuer == GITHUB:
        return "github"
    return "gitlab" if "gitlab" in identity.issuer else dns_label(identity.subject.rpartition("/")[2])[:40].strip("-")


def _identity_lines(identity: Identity, root: str) -> list[str]:
    lines = ["keyless:", *([f"  evidenceRootRef: {{name: {quoted(root)}}}"] if root else []), "  identities:"]
    lines.append(f"    - issuer: {quoted(identity.issuer)}")
    workflow = _WORKFLOW.fullmatch(identity.subject)
    if workflow is not None and workflow[2] == "refs/tags/":
        pattern = _RE2_SPECIAL.sub(r"\\\1", f"{workflow[1]}@{workflow[2]}") + "[^/]+"
        lines.append(f"      # Signed at {workflow[2]}{workflow[3]}; each release has a tag of its own.")
        lines.append(f"      subjectRegExp: {quoted(pattern)}")
    else:
        lines.append(f"      subject: {quoted(identity.subject)}")
    extensions = dict(identity.extensions)
    pinned = [name for name in _PINNED if name in extensions]
    if pinned:
        lines.append("      extensions:")
        lines += [f"        {name}: {quoted(extensions[name])}" for name in pinned]
    return lines


class _Statement(msgspec.Struct):
    predicate: dict[str, Any] = {}


def _predicate(seen: Seen) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(seen.payload, type=_Statement).predicate
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}


def _condition(attested: Attested) -> tuple[str, str]:
    kind, predicate = attested.predicate_type, attested.predicate
    if kind == "https://slsa.dev/provenance/v1":
        builder = str(_at(predicate, "runDetails", "builder", "id") or "https://example.com/builder")
        return f"predicate.runDetails.builder.id == {json.dumps(builder)}", "use the builder of the platform team"
    if kind == "https://slsa.dev/provenance/v0.2":
        builder = str(_at(predicate, "builder", "id") or "https://example.com/builder")
        return f"predicate.builder.id == {json.dumps(builder)}", "use the builder of the platform team"
    if kind == "https://cosign.sigstore.dev/attestation/vuln/v1":
        return (
            "predicate.scanner.result.Results.all(r, !has(r.Vulnerabilities) || "
            'r.Vulnerabilities.all(v, v.Severity != "CRITICAL"))',
            "a critical vulnerability: build anew on a mended base image",
        )
    if kind == "https://spdx.dev/Document":
        return 'predicate.packages.all(p, p.name != "log4j-core")', "log4j-core is not allowed"
    if kind == "https://cyclonedx.org/bom":
        return 'predicate.components.all(c, c.name != "log4j-core")', "log4j-core is not allowed"
    if kind == "https://openvex.dev/ns":
        return 'predicate.statements.all(s, s.status != "affected")', "an affected component: see its VEX statement"
    member = next((name for name in predicate if name.isidentifier()), "member")
    return f"has(predicate.{member})", "what is wrong, and the way out"


def _at(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
