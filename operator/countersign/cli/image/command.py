"""`countersign image verify`: who vouches for an image and what is attested of it, by the same search and the same
rules as the gate's.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from countersign.api.names import SYSTEM_NAMESPACE
from countersign.cli.files.manifests import given_root, snapshot
from countersign.cli.image.demands import Demands, policy_of
from countersign.cli.image.inputs import KeyFile, load_keys, parse_image
from countersign.cli.image.registries import (
    AddressRangeOption,
    DockerConfigOption,
    EvidenceRootOption,
    InsecureRegistryOption,
    Registries,
    RegistryCAOption,
)
from countersign.cli.image.verdict import Judged, PolicyOutcome, judge
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows, say
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.evidence.facts import Unverifiable
from countersign.trust.evidence.image_evidence import RuleEvidence
from countersign.trust.orders.standing import NOTHING
from countersign.trust.policies.compiled import compiled, compiled_policy

app = typer.Typer(help="Look at images as the gate does.", no_args_is_help=True)

KEYS: Final = ("key", "fingerprint", "signed", "format", "reference")
COLUMNS: Final = ("what", "type", "by", "at", "proofs", "on", "counts", "why")


class RequiredProof(StrEnum):
    """What a signature must bring."""

    TRANSPARENCY_LOG = "TransparencyLog"
    TIMESTAMP = "Timestamp"
    SCT = "SCT"


@app.callback()
def _group() -> None:
    # Typer makes a group of a single command only where there is a callback.
    pass


@app.command()
def verify(
    image: Annotated[str, typer.Argument(help="Image, by tag or digest.")],
    *,
    key: Annotated[
        list[Path] | None, typer.Option(help="PEM file of a public key (cosign.pub). Repeatable: any may vouch.")
    ] = None,
    certificate_identity: Annotated[str, typer.Option(help="Subject that a certificate must have.")] = "",
    certificate_identity_regexp: Annotated[
        str, typer.Option(help="Expression (RE2) that the whole subject must match.")
    ] = "",
    certificate_oidc_issuer: Annotated[str, typer.Option(help="Issuer that a certificate must have.")] = "",
    certificate_oidc_issuer_regexp: Annotated[
        str, typer.Option(help="Expression (RE2) that the whole issuer must match.")
    ] = "",
    certificate_extension: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of an extension that it must have, such as sourceRepositoryURI=... Repeatable."),
    ] = None,
    require: Annotated[
        list[RequiredProof] | None, typer.Option(help="Proof that a signature must bring. Repeatable.")
    ] = None,
    evidence_root: EvidenceRootOption = None,
    attestation: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask for an attestation of this type instead of a signature: a URI, or cosign's word for it "
            "(slsaprovenance1, vuln, spdxjson ...). Repeatable."
        ),
    ] = None,
    validate: Annotated[
        list[str] | None, typer.Option(help="CEL condition that the attestation must meet. Repeatable.")
    ] = None,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="YAML file of policies: all their rules that match the image must hold. Repeatable."),
    ] = None,
    signature_repository: Annotated[
        str, typer.Option(help="Where signatures are kept, if not beside the image (COSIGN_REPOSITORY).")
    ] = "",
    platforms: Annotated[
        bool, typer.Option("--platforms", help="Signatures on every platform's manifest count as well.")
    ] = False,
    output: OutputOption = Format.TABLE,
    registry_ca: RegistryCAOption = None,
    insecure_registry: InsecureRegistryOption = None,
    allow_address_range: AddressRangeOption = None,
    docker_config: DockerConfigOption = None,
) -> None:
    """Resolve an image and say who vouches for its digest, what is attested of it, and why the rest does not count.

    Exit code 0: all that is asked for is there. 1: it is not. 3: it could not be found out.
    """
    reference = parse_image(image)
    keys = load_keys(key or [])
    demands = Demands(
        keys=tuple(keys),
        identity=certificate_identity,
        identity_regexp=certificate_identity_regexp,
        issuer=certificate_oidc_issuer,
        issuer_regexp=certificate_oidc_issuer_regexp,
        extensions=tuple(certificate_extension or ()),
        attestations=tuple(attestation or ()),
        validations=tuple(validate or ()),
        require=tuple(one.value for one in require or ()),
        signature_repository=signature_repository,
        platforms=platforms,
    )
    registries = Registries(registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config)
    if policy:
        if demands.given:
            fail("--policy says all that is asked for: give it without options that say so, too")
        declared = snapshot(policy, "default", SYSTEM_NAMESPACE, evidence_root)
        each = map(compiled_policy, declared.policies)
        policies = [one for one in each if one.matching(reference.name)]
        if not policies:
            fail(f"no rule of these policies speaks about {reference.name}")
        roots = declared.roots if isinstance(declared.roots, KnownRoots) else KnownRoots()
        judged = judge(reference, policies, roots, compiled(declared).standing.for_namespace(""), registries)
    else:
        asked = policy_of(demands, reference, rooted=evidence_root is not None)
        judged = judge(reference, [compiled_policy(asked)], KnownRoots(given_root(evidence_root)), NOTHING, registries)
    _report(judged, keys, output)


def _report(judged: Judged, keys: Sequence[KeyFile], output: Format) -> None:
    facts = judged.look.facts
    if isinstance(facts, Unverifiable):
        if output is Format.JSON:
            print_json({"image": facts.image, "verified": None, "reason": facts.reason, "message": facts.message})
        fail(f"{facts.reason}: {facts.message}", Exit.UNKNOWN)
    pinned = f"{facts.image}@{facts.digest}"
    files = {one.key.fingerprint: one.path.name for one in keys}
    rows = [{**row, "by": f"{files[row['key']]} ({row['key']})"} if row["key"] in files else row for row in judged.rows]
    if output is Format.JSON:
        members = {
            "image": pinned,
            "digest": facts.digest,
            "verified": judged.verified,
            "keys": _key_rows(keys, judged),
            "policies": [_policy(one) for one in judged.policies],
            "found": rows,
        }
        print_json(members)
    else:
        note(pinned)
        print_rows(COLUMNS, rows, output, empty="no signature and no attestation")
        if output is Format.TABLE:
            for one in judged.policies:
                say("")
                say(f"{one.ref}: {one.message}" if one.problems else f"{one.ref}: {', '.join(map(_who, one.evidence))}")
    if judged.verified is False and keys and not any(row["key"] for row in judged.rows):
        note(f"not signed by {'this key' if len(keys) == 1 else 'any of these keys'}: cosign sign --key ... {pinned}")
    raise typer.Exit({True: Exit.YES, False: Exit.NO, None: Exit.UNKNOWN}[judged.verified])


def _key_rows(keys: Sequence[KeyFile], judged: Judged) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    vouches = [vouch for seen in judged.look.seen for vouch in seen.examined.vouches]
    for one in keys:
        base = {"key": one.path.name, "fingerprint": one.key.fingerprint}
        own = [vouch for vouch in vouches if vouch.key_fingerprint == one.key.fingerprint]
        rows += [{**base, "signed": "yes", "format": vouch.format, "reference": vouch.reference} for vouch in own]
        if not own:
            rows.append({**base, "signed": "no", "format": "", "reference": ""})
    return rows


def _policy(one: PolicyOutcome) -> dict[str, Any]:
    return {
        "policy": str(one.ref),
        "holds": not one.problems,
        "message": one.message,
        "reasons": [problem.code for problem in one.problems],
        "evidence": [each._asdict() for each in one.evidence],
    }


def _who(evidence: RuleEvidence) -> str:
    who = evidence.authority or "listed digest"
    what = f" attests {evidence.predicate_type}" if evidence.attestation else ""
    return f"rule {evidence.rule}: {who}{what}"
