"""Small builders: a pod, the policies around it and the facts about its images, each with one thing changed."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from countersign.api.admission import UserInfo
from countersign.api.audience import AllowedNamespaces, Issuance, ProtectedAudience, ProtectedAudienceSpec
from countersign.api.evidence_root import EvidenceRoot, EvidenceRootSpec, SigstoreRoot
from countersign.api.exception import (
    ExceptionMatch,
    ExceptionPolicyRef,
    TrustException,
    TrustExceptionSpec,
    Waive,
)
from countersign.api.image_rule import (
    AttestationRule,
    Authority,
    EvidenceRootRef,
    ImageRule,
    KeyAuthority,
    KeylessAuthority,
    KeylessIdentity,
    Validation,
)
from countersign.api.meta import LabelSelector, ObjectMeta
from countersign.api.pause import AdmissionPause, AdmissionPauseSpec
from countersign.api.pod import Pod
from countersign.api.policy import (
    ClusterTrustPolicy,
    ClusterTrustPolicySpec,
    Match,
    NamespacedMatch,
    TokenSpec,
    TrustPolicy,
    TrustPolicySpec,
)
from countersign.api.revocation import Revocation, RevocationSpec, SignerTarget, Target
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import (
    Attestation,
    Claim,
    Identity,
    ImageFacts,
    PlatformConfig,
    Proof,
    Unverifiable,
    Vouch,
)
from countersign.trust.evidence.fingerprints import pem_fingerprint
from countersign.trust.images.reference import ImageReference
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import (
    DEFAULT_ROOT,
    NamespaceFacts,
    Policy,
    PolicySnapshot,
    RootFacts,
    from_resource,
)
from countersign.trust.verdicts.problem import Stage
from countersign.trust.verdicts.verdict import Verdict, judge

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REPOSITORY = "registry.example.com/payments/api"
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
TAGGED = f"{REPOSITORY}:1.2"
PINNED = f"{REPOSITORY}:1.2@{DIGEST}"
AUDIENCE = "ledger.example.com"
NAMESPACE = "payments"
LABELS = {"kubernetes.io/metadata.name": NAMESPACE, "team": "payments"}
ENTRYPOINT = ("/usr/local/app/server",)


def key(number: int = 1) -> str:
    """A PEM block; nothing here verifies with it, so its bytes need not be a point of a curve."""
    body = base64.b64encode(bytes([48, number]) * 45).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def fingerprint(number: int = 1) -> str:
    found = pem_fingerprint(key(number))
    assert found is not None
    return found


def rule(
    name: str = "payments",
    globs: Iterable[str] = ("registry.example.com/payments/**",),
    keys: Iterable[int] = (1,),
    digests: Iterable[str] = (),
    *,
    require_reference: bool = False,
) -> ImageRule:
    pems = tuple(key(number) for number in keys)
    authority = Authority(name="release", key=KeyAuthority(pem=pems, require_reference=require_reference))
    return ImageRule(name=name, globs=tuple(globs), digests=tuple(digests), authorities=(authority,) if pems else ())


def token(name: str = "ledger", audience: str = AUDIENCE, **members: Any) -> TokenSpec:
    return TokenSpec(name=name, audience=audience, **members)


def cluster_policy(
    name: str = "payments",
    *,
    created: str = "2026-01-01T00:00:00Z",
    mode: str = "Enforce",
    pods: Mapping[str, str] | None = None,
    namespaces: Mapping[str, str] | None = None,
    **members: Any,
) -> Policy:
    members.setdefault("images", (rule(),))
    spec = ClusterTrustPolicySpec(
        owner=f"{name}@example.com",
        mode=mode,  # type: ignore[arg-type]
        match=Match(
            pod_selector=LabelSelector(match_labels=dict(pods or {})),
            namespace_selector=LabelSelector(match_labels=dict(namespaces or {})),
        ),
        **members,
    )
    metadata = ObjectMeta(name=name, uid=f"uid-{name}", generation=1, creation_timestamp=created)
    return from_resource(ClusterTrustPolicy(metadata=metadata, spec=spec))


def trust_policy(
    name: str = "own",
    *,
    namespace: str = NAMESPACE,
    created: str = "2026-01-02T00:00:00Z",
    mode: str = "Enforce",
    pods: Mapping[str, str] | None = None,
    **members: Any,
) -> Policy:
    members.setdefault("images", (rule(),))
    spec = TrustPolicySpec(
        owner=f"{name}@example.com",
        mode=mode,  # type: ignore[arg-type]
        match=NamespacedMatch(pod_selector=LabelSelector(match_labels=dict(pods or {}))),
        **members,
    )
    metadata = ObjectMeta(
        name=name, namespace=namespace, uid=f"uid-{namespace}-{name}", generation=1, creation_timestamp=created
    )
    return from_resource(TrustPolicy(metadata=metadata, spec=spec))


def audience(
    text: str = AUDIENCE,
    *,
    name: str = "ledger",
    created: str = "2026-01-01T00:00:00Z",
    mode: str = "Enforce",
    allowed: AllowedNamespaces | None = None,
    required: Iterable[str] = (),
    longest: int = 3600,
) -> ProtectedAudience:
    issuance = Issuance(
        allowed_namespaces=allowed or AllowedNamespaces(),
        required_policies=tuple(required),
        max_expiration_seconds=longest,
    )
    return ProtectedAudience(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", generation=1, creation_timestamp=created),
        spec=ProtectedAudienceSpec(audience=text, owner="ledger@example.com", mode=mode, issuance=issuance),  # type: ignore[arg-type]
    )


ALL_NAMESPACES = AllowedNamespaces(from_="All")


def snapshot(
    *policies: Policy,
    audiences: Iterable[ProtectedAudience] | None = None,
    revocations: Iterable[Revocation] = (),
    exceptions: Iterable[TrustException] = (),
    roots: Mapping[str, RootFacts] | None = None,
) -> PolicySnapshot:
    return PolicySnapshot(
        policies=policies,
        audiences=tuple([audience()] if audiences is None else audiences),
        revocations=tuple(revocations),
        exceptions=tuple(exceptions),
        roots={DEFAULT_ROOT: root()} if roots is None else roots,
    )


def revocation(namespace: str = "countersign-system", **target: Any) -> Revocation:
    if "signer" in target:
        target["signer"] = SignerTarget(**target["signer"])
    spec = RevocationSpec(target=Target(**target), reason="leaked")
    return Revocation(metadata=ObjectMeta(name="leak", namespace=namespace, uid="uid-leak"), spec=spec)


def container(name: str = "api", image: str = TAGGED, **members: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **members}


def pod(*containers: dict[str, Any], metadata: Mapping[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod from JSON members, as the API server would send it."""
    members = {"name": "api-1", "namespace": NAMESPACE, "labels": {"app": "api"}, **(metadata or {})}
    return msgspec.convert(
        {"metadata": members, "spec": {"containers": list(containers or (container(),)), **spec}}, Pod
    )


def subject(
    of: Pod | None = None, *, namespace: str = NAMESPACE, labels: Mapping[str, str] | None = None, **members: Any
) -> Subject:
    members.setdefault("requester", UserInfo(username="system:serviceaccount:kube-system:replicaset-controller"))
    facts = NamespaceFacts(namespace, {**LABELS, "kubernetes.io/metadata.name": namespace, **(labels or {})})
    return Subject(pod=of or pod(), namespace=facts, **members)


def vouch(number: int = 1, form: Literal["classic", "bundle"] = "bundle", reference: str = "") -> Vouch:
    return Vouch(key_fingerprint=fingerprint(number), format=form, reference=reference)


ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/api/.github/workflows/release.yml@refs/heads/main"
ROOT_HASH = "sha256:" + "1" * 64
ANCHORS = ("ca:acme", "log:acme", "tsa:acme", "ct:acme")
SIGNED_AT = int(NOW.timestamp()) - 3600
SCAN = "https://cosign.sigstore.dev/attestation/vuln/v1"


def root(hash: str = ROOT_HASH, anchors: Iterable[str] = ANCHORS, problem: str = "") -> RootFacts:  # noqa: A002
    return RootFacts(hash, frozenset(anchors), problem)


def identity(subject: str = WORKFLOW, issuer: str = ISSUER, **extensions: str) -> Identity:
    return Identity(issuer=issuer, subject=subject, extensions=tuple(sorted(extensions.items())))


def proof(*kinds: Any, signed_at: int | None = SIGNED_AT, anchors: Iterable[str] = ("ca:acme", "tsa:acme")) -> Proof:
    return Proof(root=ROOT_HASH, anchors=tuple(anchors), kinds=kinds or ("timestamp", "sct"), signed_at=signed_at)


def certified(
    subject: str = WORKFLOW,
    issuer: str = ISSUER,
    *,
    by: Proof | None = None,
    digest: str = "",
    extensions: Mapping[str, str] | None = None,
) -> Vouch:
    """A signature by whoever a certificate was issued to."""
    return Vouch(
        key_fingerprint="",
        format="bundle",
        reference="",
        identity=identity(subject, issuer, **(extensions or {})),
        digest=digest,
        proof=by or proof(),
    )


def keyless(name: str = "ci", *identities: KeylessIdentity, root: str = "", require: Iterable[Any] = ()) -> Authority:
    who = identities or (KeylessIdentity(issuer=ISSUER, subject=WORKFLOW),)
    reference = EvidenceRootRef(name=root) if root else None
    keyless = KeylessAuthority(identities=who, evidence_root_ref=reference, require=tuple(require))
    return Authority(name=name, keyless=keyless)


def keyed(
    name: str = "release", *numbers: int, root: str = "", require: Iterable[Any] = (), require_reference: bool = False
) -> Authority:
    return Authority(
        name=name,
        key=KeyAuthority(
            pem=tuple(key(number) for number in numbers or (1,)),
            evidence_root_ref=EvidenceRootRef(name=root) if root else None,
            require=tuple(require),
            require_reference=require_reference,
        ),
    )


def rule_by(*authorities: Authority, name: str = "payments", **members: Any) -> ImageRule:
    """A rule about the usual images."""
    return ImageRule(name=name, globs=("registry.example.com/payments/**",), authorities=authorities, **members)


def wants(
    name: str = "scan",
    *authorities: str,
    predicate_type: str = SCAN,
    conditions: Iterable[str] = (),
    message: str = "",
    **members: Any,
) -> AttestationRule:
    return AttestationRule(
        name=name,
        predicate_type=predicate_type,
        authorities=authorities or ("scanner",),
        validations=tuple(Validation(expression=one, message=message) for one in conditions),
        **members,
    )


def attestation(
    by: Vouch | None = None,
    *,
    predicate_type: str = SCAN,
    statement: str = "1",
    holds: Iterable[str] = (),
    fails: Mapping[str, str] | None = None,
) -> Attestation:
    """By key 2, unless somebody else is named. `holds`: conditions that do; `fails`: those that do not, and why."""
    return Attestation(
        predicate_type=predicate_type,
        statement="sha256:" + statement * 64,
        vouch=by or vouch(2),
        claims=(
            *(Claim(condition_name(predicate_type, one), True) for one in holds),
            *(Claim(condition_name(predicate_type, one), False, why) for one, why in (fails or {}).items()),
        ),
    )


def config(
    entrypoint: Iterable[str] = ENTRYPOINT,
    cmd: Iterable[str] = (),
    platform: str = "linux/amd64",
    digest: str = DIGEST,
) -> PlatformConfig:
    return PlatformConfig(
        platform=platform,
        digest=digest,
        entrypoint=tuple(entrypoint),
        cmd=tuple(cmd),
        config_digest="sha256:" + "c" * 64,
    )


def facts(
    repository: str = REPOSITORY,
    *,
    digest: str = DIGEST,
    vouches: Iterable[Vouch] | None = None,
    checked: Iterable[int] = (1, 2, 3),
    configs: Iterable[PlatformConfig] | None = None,
    **members: Any,
) -> ImageFacts:
    return ImageFacts(
        image=repository,
        digest=digest,
        vouches=tuple([vouch()] if vouches is None else vouches),
        checked_keys=tuple(fingerprint(number) for number in checked),
        configs=tuple([config()] if configs is None else configs),
        **members,
    )


def unsigned(**members: Any) -> ImageFacts:
    return facts(vouches=(), **members)


def unverifiable(image: str = TAGGED, *, reason: str = "Timeout", transient: bool = True) -> Unverifiable:
    return Unverifiable(
        image=image,
        reason=reason,  # type: ignore[arg-type]
        message="registry.example.com did not answer within 8 s",
        transient=transient,
    )


def evidence_for(of: Pod, found: ImageFacts | Unverifiable | None = None) -> dict[str, ImageFacts | Unverifiable]:
    """Signed facts for every image of the pod that can be read, unless `found` says otherwise."""
    evidence: dict[str, ImageFacts | Unverifiable] = {}
    for each in (*of.spec.containers, *of.spec.init_containers, *of.spec.ephemeral_containers):
        reference = ImageReference.parse(each.image)
        evidence[each.image] = found or facts(reference.name, digest=reference.digest or DIGEST)
    return evidence


def judged(
    given: PolicySnapshot,
    of: Pod | None = None,
    found: ImageFacts | Unverifiable | None = None,
    *,
    stage: Stage = "mutate",
    evidence: Mapping[str, ImageFacts | Unverifiable] | None = None,
    **members: Any,
) -> Verdict:
    """The verdict on the pod with signed images, unless `found` or `evidence` says otherwise."""
    of = of or pod()
    return judge(
        given, subject(of, **members), evidence_for(of, found) if evidence is None else evidence, stage=stage, now=NOW
    )


def codes(verdict: Verdict) -> list[str]:
    return [finding.code for finding in verdict.findings]


def denied(verdict: Verdict) -> list[str]:
    return [finding.code for finding in verdict.denials]


def audiences_of(verdict: Verdict) -> list[str]:
    return [granted.audience for granted in verdict.tokens]


def pause(
    name: str = "pause-1",
    *,
    created: str = "2026-03-01T11:50:00Z",
    expires: str = "2026-03-01T12:30:00Z",
    deleted: str | None = None,
    generation: int = 1,
) -> AdmissionPause:
    meta = ObjectMeta(
        name=name, uid=f"uid-{name}", creation_timestamp=created, deletion_timestamp=deleted, generation=generation
    )
    return AdmissionPause(
        metadata=meta,
        spec=AdmissionPauseSpec(reason="the registry is down", expires_at=expires, requested_by="night-shift"),
    )


def evidence_root(name: str = "private", *, generation: int = 1, **sigstore: Any) -> EvidenceRoot:
    """An EvidenceRoot, as the watches show it: one of trusted_root, config_map_ref and tuf."""
    meta = ObjectMeta(name=name, uid=f"uid-{name}", generation=generation, creation_timestamp="2026-01-01T00:00:00Z")
    return EvidenceRoot(metadata=meta, spec=EvidenceRootSpec(sigstore=SigstoreRoot(**sigstore)))


def policy_ref(name: str = "payments", namespace: str = "") -> ExceptionPolicyRef:
    kind: Literal["ClusterTrustPolicy", "TrustPolicy"] = "TrustPolicy" if namespace else "ClusterTrustPolicy"
    return ExceptionPolicyRef(kind=kind, namespace=namespace, name=name)


def _waive(text: str) -> Waive:
    """`CHECK`, or `CHECK=PREDICATE_TYPE`."""
    check, _, predicate_type = text.partition("=")
    return Waive(check=check, predicate_type=predicate_type)  # type: ignore[arg-type]


def exception(
    name: str = "legacy",
    *waives: str,
    policies: Iterable[ExceptionPolicyRef] = (policy_ref(),),
    tokens: str = "Withhold",
    created: str = "2026-03-01T11:50:00Z",
    expires: str = "2026-03-01T12:30:00Z",
    deleted: str | None = None,
    uid: str = "",
    **match: Any,
) -> TrustException:
    meta = ObjectMeta(name=name, uid=uid or f"uid-{name}", creation_timestamp=created, deletion_timestamp=deleted)
    return TrustException(
        metadata=meta,
        spec=TrustExceptionSpec(
            policy_refs=tuple(policies),
            match=ExceptionMatch(**(match or {"namespaces": (NAMESPACE,)})),
            waives=tuple(_waive(text) for text in waives or ("ImageUnsigned",)),
            tokens=tokens,  # type: ignore[arg-type]
            owner="legacy@example.com",
            reason="the vendor signs from May on",
            expires_at=expires,
            requested_by="admin",
        ),
    )
