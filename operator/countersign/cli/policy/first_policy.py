"""The text of a first policy: what was found on an image, with comments that say where to go from there."""

import json
from collections.abc import Iterable, Mapping

from countersign.api.names import API_VERSION
from countersign.cli.image.naming import dns_label
from countersign.cli.policy.first_signers import (
    Found,
    Signer,
    attestation_lines,
    attestation_name,
    quoted,
)
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.pods.launchers import runs_its_arguments


def first_policy(
    facts: ImageFacts,
    found: Found,
    *,
    name: str | None,
    labels: Mapping[str, str],
    owner: str,
    repository: str = "",
) -> str:
    """YAML of a ClusterTrustPolicy in mode Audit. Where nobody has signed the image, its digest is listed.

    `repository`: where signatures are kept, if not beside the image.
    """
    project, _, last = facts.image.rpartition("/")
    rule = dns_label(last)
    lines = [
        f"# From {facts.image}@{facts.digest}",
        f"apiVersion: {API_VERSION}",
        "kind: ClusterTrustPolicy",
        "metadata:",
        f"  name: {quoted(name or rule)}",
        "spec:",
        "  # Who answers for these identities; stands on every grant.",
        f"  owner: {quoted(owner)}",
        "  # Audit only records what would be denied; then Warn, then Enforce. Tokens are given in every mode, to",
        "  # pods that satisfy the policy.",
        "  mode: Audit",
        *_match(labels),
        "  images:",
        f"    # Every rule that matches an image must hold. For a whole project: {project}/**",
        f"    - name: {quoted(rule)}",
        f"      globs: [{quoted(facts.image)}]",
        *([f"      signatureRepository: {quoted(repository)}"] if repository else []),
        *(_authorities(found.authorities) if found.authorities else _digest(facts)),
        *_attestations(found),
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


def root_document(name: str, content: str) -> str:
    """YAML of an EvidenceRoot with this trusted_root.json, as the first of several documents."""
    return "\n".join(
        [
            "# What certificates, logs and timestamps must go back to.",
            f"apiVersion: {API_VERSION}",
            "kind: EvidenceRoot",
            f"metadata: {{name: {quoted(name)}}}",
            "spec:",
            "  sigstore:",
            "    trustedRoot: |",
            *(f"      {line}" for line in content.strip().splitlines()),
            "---\n",
        ]
    )


def _match(labels: Mapping[str, str]) -> list[str]:
    if not labels:
        return [
            "  # No selector: pods of every namespace but the cluster's own. Narrow it, for example with",
            "  #   namespaceSelector: {matchLabels: {team: payments}}",
            "  match: {}",
        ]
    pairs = ", ".join(f"{quoted(key)}: {quoted(value)}" for key, value in labels.items())
    return ["  match:", f"    namespaceSelector: {{matchLabels: {{{pairs}}}}}"]


def _digest(facts: ImageFacts) -> list[str]:
    return [
        "      # A listed digest counts as vouched for, and each new build must be added. Better sign the builds",
        "      # (cosign sign --key cosign.key) and name the key: `countersign policy init --key cosign.pub` does so.",
        f"      digests: [{quoted(facts.digest)}]",
    ]


def _authorities(signers: Iterable[Signer]) -> list[str]:
    return [
        "      # Signers, one of which must vouch. A key authority may have several keys, so that one can be rotated.",
        "      authorities:",
        *_signers(signers),
    ]


def _attestations(found: Found) -> list[str]:
    if not found.attestations:
        return []
    lines = []
    if found.attestors:
        lines = ["      # Who may attest only: their signature does not vouch for the image.", "      attestors:"]
        lines += _signers(found.attestors)
    lines += [
        "      # Attestations that it bears, and who made them. Each must hold: drop what you do not ask for.",
        "      attestations:",
    ]
    names: set[str] = set()
    for one in found.attestations:
        name = attestation_name(one.predicate_type, names)
        lines += [f"        {line}" for line in attestation_lines(one, name)]
    return lines


def _signers(signers: Iterable[Signer]) -> list[str]:
    lines = []
    for one in signers:
        lines += [f"        - name: {quoted(one.name)}", *(f"          {line}" for line in one.lines)]
    return lines


def _runtime(facts: ImageFacts) -> list[str]:
    lines = ["  # A container that receives a token may run what its image was built to run:"]
    for entrypoint, cmd in dict.fromkeys((config.entrypoint, config.cmd) for config in facts.configs):
        free = "args are free"
        if runs_its_arguments(entrypoint):
            free = "it runs what args name, so they" if entrypoint else "no entrypoint, so args"
            free += " may not be changed"
        lines.append(f"  #   entrypoint {json.dumps(list(entrypoint))}, cmd {json.dumps(list(cmd))} ({free})")
    return [*lines, "  runtime: {command: FromImage}"]
