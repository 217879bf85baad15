"""The text of a first policy: what was found on an image, with comments that say where to go from there."""

import json
import re
from collections.abc import Mapping, Sequence

from countersign.api.names import API_VERSION
from countersign.cli.image.command import KeyFile
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.pods.launchers import runs_its_arguments

_MAX_NAME = 63


def first_policy(
    facts: ImageFacts, keys: Sequence[KeyFile], *, name: str | None, labels: Mapping[str, str], owner: str
) -> str:
    """YAML of a ClusterTrustPolicy in mode Audit. `keys` have signed the image; without any, its digest is listed."""
    project, _, repository = facts.image.rpartition("/")
    rule = dns_label(repository)
    lines = [
        f"# From {facts.image}@{facts.digest}",
        f"apiVersion: {API_VERSION}",
        "kind: ClusterTrustPolicy",
        "metadata:",
        f"  name: {_quoted(name or rule)}",
        "spec:",
        "  # Who answers for these identities; stands on every grant.",
        f"  owner: {_quoted(owner)}",
        "  # Audit only records what would be denied; then Warn, then Enforce. Tokens are given in every mode, to",
        "  # pods that satisfy the policy.",
        "  mode: Audit",
        *_match(labels),
        "  images:",
        f"    # Every rule that matches an image must hold. For a whole project: {project}/**",
        f"    - name: {_quoted(rule)}",
        f"      globs: [{_quoted(facts.image)}]",
        *(_authorities(keys) if keys else _digest(facts)),
        "  # What becomes of images that no rule matches, such as sidecars. Deny them once each has a rule.",
        "  unmatchedImages: Allow",
        *_runtime(facts),
        "  # The pod's ordinary API token, whose real lifetime is a year: Keep, Shorten or Remove.",
        "  apiToken: Keep",
        "  # Tokens that such a pod receives. The audience must be declared first, by a ProtectedAudience.",
        "  # tokens:",
        "  #   - name: ledger",
        "  #     audience: ledger.example.com",
        "  #     envVar: LEDGER_TOKEN_FILE",
    ]
    return "\n".join(lines) + "\n"


def dns_label(text: str) -> str:
    """A name of a Kubernetes object that looks like the text (RFC 1123 label)."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_MAX_NAME].strip("-") or "images"


def _match(labels: Mapping[str, str]) -> list[str]:
    if not labels:
        return [
            "  # No selector: pods of every namespace but the cluster's own. Narrow it, for example with",
            "  #   namespaceSelector: {matchLabels: {team: payments}}",
            "  match: {}",
        ]
    pairs = ", ".join(f"{_quoted(key)}: {_quoted(value)}" for key, value in labels.items())
    return ["  match:", f"    namespaceSelector: {{matchLabels: {{{pairs}}}}}"]


def _digest(facts: ImageFacts) -> list[str]:
    return [
        "      # A listed digest counts as vouched for, and each new build must be added. Better sign the builds",
        "      # (cosign sign --key cosign.key) and name the key: `countersign policy init --key cosign.pub` does so.",
        f"      digests: [{_quoted(facts.digest)}]",
    ]


def _authorities(keys: Sequence[KeyFile]) -> list[str]:
    lines = [
        "      # Signers, one of which must vouch. Each may have several keys, so that one can be rotated.",
        "      authorities:",
    ]
    names: set[str] = set()
    for one in keys:
        lines += [
            f"        - name: {_quoted(_unused(dns_label(one.path.stem), names))}",
            "          key:",
            "            pem:",
            f"              # {one.key.description}, {one.key.fingerprint}",
            "              - |",
            *(f"                {line}" for line in one.pem.splitlines()),
        ]
    return lines


def _unused(name: str, taken: set[str]) -> str:
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name[: _MAX_NAME - 4]}-{number}"
    taken.add(chosen)
    return chosen


def _runtime(facts: ImageFacts) -> list[str]:
    lines = ["  # A container that receives a token may run what its image was built to run:"]
    for entrypoint, cmd in dict.fromkeys((config.entrypoint, config.cmd) for config in facts.configs):
        free = "args are free"
        if runs_its_arguments(entrypoint):
            free = "it runs what args name, so they" if entrypoint else "no entrypoint, so args"
            free += " may not be changed"
        lines.append(f"  #   entrypoint {json.dumps(list(entrypoint))}, cmd {json.dumps(list(cmd))} ({free})")
    return [*lines, "  runtime: {command: FromImage}"]


def _quoted(text: str) -> str:
    """A YAML scalar: JSON's strings are YAML's double-quoted ones."""
    return json.dumps(text, ensure_ascii=False)
