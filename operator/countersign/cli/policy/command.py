"""`countersign policy`: write a first policy from what is found on an image, and try policies on pods."""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from countersign.api.names import SYSTEM_NAMESPACE
from countersign.cli.files.manifests import STDIN, Document, documents, given_root, snapshot
from countersign.cli.image.inputs import load_keys, parse_image
from countersign.cli.image.naming import dns_label
from countersign.cli.image.registries import (
    AddressRangeOption,
    DockerConfigOption,
    EvidenceRootOption,
    InsecureRegistryOption,
    OfflineOption,
    Registries,
    RegistryCAOption,
)
from countersign.cli.image.search import look
from countersign.cli.pods.workloads import Planned, planned, user
from countersign.cli.policy.findings import findings
from countersign.cli.policy.first_policy import first_policy, root_document
from countersign.cli.policy.first_signers import signers_of
from countersign.cli.policy.plan import plan
from countersign.cli.policy.suite.command import SuiteFormat, run_suite
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format
from countersign.cli.verdicts.judging import judge_creation
from countersign.cli.verdicts.report import print_judged
from countersign.gate.evidence.service import EvidenceRequest
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.evidence.facts import Unverifiable
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.composition import accept
from countersign.trust.policies.policy import DEFAULT_ROOT, NamespaceFacts

app = typer.Typer(help="Write policies, and try them before they are in force.", no_args_is_help=True)

_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?=[-A-Za-z0-9_.]*")

app.command("findings")(findings)
app.command("plan")(plan)


@app.command("init")
def init(
    image: Annotated[str, typer.Argument(help="Image to start from, by tag or digest.")],
    *,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            help="PEM file of a public key that signed it (cosign.pub). Repeatable. Without: by the identities that "
            "certificates name."
        ),
    ] = None,
    evidence_root: EvidenceRootOption = None,
    signature_repository: Annotated[
        str, typer.Option(help="Where signatures are kept, if not beside the image (COSIGN_REPOSITORY).")
    ] = "",
    name: Annotated[str | None, typer.Option(help="Name of the policy; else from the repository.")] = None,
    namespace_label: Annotated[
        list[str] | None,
        typer.Option(help="Govern namespaces with this label, key=value. Repeatable. Without: every namespace."),
    ] = None,
    owner: Annotated[str, typer.Option(help="Who answers for these identities.")] = "platform-team@example.com",
    registry_ca: RegistryCAOption = None,
    insecure_registry: InsecureRegistryOption = None,
    allow_address_range: AddressRangeOption = None,
    docker_config: DockerConfigOption = None,
) -> None:
    """Print a first ClusterTrustPolicy in mode Audit, with comments, for the image's repository.

    It names who has signed the image, and what is attested of it by whom: by these keys, or by the identities that
    certificates name. Where nobody has, it lists the digest. An --evidence-root is printed as an EvidenceRoot besides.

    Exit code 0: printed. 1: keys were given and none of them has signed the image. 3: the registry could not tell.
    """
    keys = load_keys(key or [])
    labels = parse_labels(namespace_label or [], "--namespace-label")
    registries = Registries(registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config)
    request = EvidenceRequest(
        reference=parse_image(image),
        keys=tuple(one.key for one in keys),
        roots=() if keys and not evidence_root else (DEFAULT_ROOT,),
        repositories=(_repository(signature_repository),),
        want_config=True,
        namespace="",
        service_account="",
    )
    found = look(request, registries, KnownRoots(given_root(evidence_root)))
    facts = found.facts
    if isinstance(facts, Unverifiable):
        fail(f"{facts.reason}: {facts.message}", Exit.UNKNOWN)
    signed = {vouch.key_fingerprint for vouch in facts.vouches}
    if keys and not any(one.key.fingerprint in signed for one in keys):
        fail(
            f"none of these keys has signed {facts.image}@{facts.digest}: sign it (cosign sign --key ...), "
            "or leave --key out for a policy that goes by what else is found",
            Exit.NO,
        )
    attesting = {one.vouch.key_fingerprint for one in facts.attestations}
    for one in keys:
        if one.key.fingerprint not in signed | attesting:
            note(f"{one.path} has not signed the image and is left out")
    root = dns_label(evidence_root.stem) if evidence_root else ""
    if evidence_root:
        typer.echo(root_document(root, evidence_root.read_text("utf-8")), nl=False)
    signers = signers_of(facts, found.seen, keys, root)
    text = first_policy(facts, signers, name=name, labels=labels, owner=owner, repository=signature_repository)
    typer.echo(text, nl=False)


@app.command("test")
def try_policies(
    path: Annotated[
        list[Path],
        typer.Argument(
            help="Files of cases, or folders of them. With --pod: YAML files of ClusterTrustPolicies, TrustPolicies, "
            "ProtectedAudiences and what else is in force."
        ),
    ],
    *,
    pod: Annotated[
        Path | None,
        typer.Option(help="Judge this one: YAML file of a Pod or of a workload that makes pods; - for stdin."),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="With --pod: namespace of the pod; else the object's, or default."),
    ] = None,
    namespace_labels: Annotated[
        list[str] | None,
        typer.Option(help="With --pod: labels of that namespace, key=value. Repeatable, or comma-separated."),
    ] = None,
    requester: Annotated[
        str | None,
        typer.Option(help="With --pod: user who creates the pod; else the built-in controller of its workload."),
    ] = None,
    requester_group: Annotated[
        list[str] | None, typer.Option(help="With --pod: group of that user. Repeatable.")
    ] = None,
    audience: Annotated[
        list[Path] | None, typer.Option(help="With --pod: more files, of ProtectedAudiences. Repeatable.")
    ] = None,
    offline: OfflineOption = False,
    record: Annotated[
        bool, typer.Option("--record", help="Ask the registries, and write what is found into the files of cases.")
    ] = False,
    output: Annotated[
        SuiteFormat, typer.Option("--output", "-o", help="How to print: table, json, csv; of cases also junit.")
    ] = SuiteFormat.TABLE,
    file: Annotated[
        Path | None,
        typer.Option(help="Write JSON or JUnit's XML of cases into this file; the table is printed besides."),
    ] = None,
    system_namespace: Annotated[str, typer.Option(help="With --pod: Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    evidence_root: EvidenceRootOption = None,
    registry_ca: RegistryCAOption = None,
    insecure_registry: InsecureRegistryOption = None,
    allow_address_range: AddressRangeOption = None,
    docker_config: DockerConfigOption = None,
) -> None:
    """Judge pods as the gate would, were these policies in force: one pod, or cases as a test suite.

    Of a pod (--pod), exit code 0: admitted, and its tokens are decided. 1: denied. 3: the registry could not tell, or
    was not asked. Of cases, 0: all came out as expected. 1: some did not. 2: some could not be run.
    """
    registries = Registries(
        registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config, offline
    )
    if pod is None:
        if namespace or namespace_labels or requester or requester_group or audience:
            fail("a case says its namespace, its requester and what is in force itself: these options go with --pod")
        raise typer.Exit(run_suite(path, registries, output, file, record=record, root=evidence_root))
    if record or file or output is SuiteFormat.JUNIT:
        fail("--record, --file and junit are for cases: without --pod")
    policy, shown = path, Format(output.value)
    document = _only_document(pod)
    home = namespace or document.namespace or "default"
    labels = {**parse_labels(namespace_labels or [], "--namespace-labels"), "kubernetes.io/metadata.name": home}
    facts = NamespaceFacts(home, labels)
    policies = snapshot([*policy, *(audience or ())], home, system_namespace, evidence_root)
    acceptance = accept(policies, {home: facts})
    for one in acceptance.audiences:
        if not one.accepted:
            note(f"ProtectedAudience {one.name}: Accepted=False {one.accepted_reason}: {one.accepted_message}")
    for judgement in acceptance.policies:
        if not judgement.accepted:
            note(f"{judgement.ref}: Accepted=False {judgement.accepted_reason}: {judgement.accepted_message}")
        if not judgement.resolved_refs:
            note(f"{judgement.ref}: ResolvedRefs=False {judgement.resolved_reason}: {judgement.resolved_message}")
    plan = _planned(document, home)
    subject = Subject(
        pod=plan.pod,
        namespace=facts,
        requester=user(requester, tuple(requester_group or ())) if requester else plan.requester,
        controller=plan.controller,
        controller_known=True,
    )
    judged = judge_creation(policies, subject, registries)
    heading = {"pod": f"{home}/{plan.name}" + (f" (of {plan.kind.kind} {plan.name})" if plan.controller else "")}
    print_judged(judged, heading, shown)
    raise typer.Exit(judged.exit)


def _repository(text: str) -> str:
    return parse_image(text).name if text else ""


def parse_labels(texts: list[str], option: str) -> dict[str, str]:
    """Labels from `key=value` texts, comma-separated or not. Ends the command on anything else."""
    labels = {}
    for text in ",".join(texts).split(",") if texts else ():
        if not _LABEL.fullmatch(text):
            fail(f"{option} {text!r}: write a label as key=value")
        key, _, value = text.partition("=")
        labels[key] = value
    return labels


def _only_document(path: Path) -> Document:
    found = list(documents(path))
    if len(found) != 1:
        source = "standard input" if path == STDIN else path
        fail(f"{source}: holds {len(found)} objects: give one Pod, or one workload that makes pods")
    return found[0]


def _planned(document: Document, namespace: str) -> Planned:
    try:
        return planned(document.content, namespace)
    except (msgspec.ValidationError, ValueError) as error:
        fail(f"{document.name}: {error}")
