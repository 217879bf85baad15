"""TrustException: a named, owned, time-boxed exemption from single checks of named policies.

It ends by itself, stays as a record, and can be made shorter but not longer. `trust.orders.exceptions` says when it is in
force and whom it reaches, `trust.verdicts.waivers` what it waives. A Revocation beats it always.
"""

from typing import Annotated, ClassVar, Literal

from countersign.api.image_rule import DIGEST_PATTERN, NAME_PATTERN
from countersign.api.meta import Condition, LabelSelector, ObjectMeta, UTCTime
from countersign.api.policy import ServiceAccountBinding
from countersign.api.schema import Column, Model, Rule, doc

WaivableCheck = Literal[
    "ImageNotCovered",
    "ImageUnsigned",
    "AttestationMissing",
    "AttestationFailed",
    "AttestationTooOld",
    "CommandNotAllowed",
    "EnvNotAllowed",
    "ServiceAccountNotBound",
    "ControllerNotBound",
    "RequesterNotBound",
    "PodTooPrivileged",
    "EphemeralContainerDenied",
]
"""Reason codes (`trust.verdicts.findings`) that may be waived. Left out, and why:

- ImageRevoked: a Revocation beats every exception;
- ImageUnverifiable, ImageNotFound, ImageMalformed, ImageNotPinned, EvidenceRootMissing, EvidenceRootUnusable: what is not
  known may be revoked; a registry that is down is what AdmissionPause is for;
- TokenExposed, ReceiptTampered, ClockSkew, TokenNotInjected, TokenClash, ApiTokenKept: they say who else could hold a token, or that
  there is none to hold;
- PodTooLarge: such a pod is not judged at all;
- AudienceUnavailable, RequiredPolicyMissing: these are the word of the audience's owner, not of a policy.
"""

ExceptionTokens = Literal["Withhold", "Issue"]

_IMMUTABLE = (
    "a TrustException is a record: all but expiresAt stays as it is. Create another, and end this one by an earlier "
    "expiresAt or by deleting it"
)
_SAME = " && ".join(
    (
        "self.policyRefs == oldSelf.policyRefs",
        "self.match == oldSelf.match",
        "self.waives == oldSelf.waives",
        "self.tokens == oldSelf.tokens",
        "self.owner == oldSelf.owner",
        "self.reason == oldSelf.reason",
        "has(self.requestedBy) == has(oldSelf.requestedBy)",
        "(!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)",
    )
)
_GUARDED_KEY = "(key == 'kubernetes.io/metadata.name' || key.startsWith('countersign.dev/'))"


class ExceptionPolicyRef(Model, frozen=True, kw_only=True):
    """A policy, by name: one that is deleted and made again is the same to an exception."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.kind == 'TrustPolicy') == has(self.__namespace__)",
            "a TrustPolicy is named with its namespace, a ClusterTrustPolicy has none",
        ),
    )

    kind: Annotated[Literal["ClusterTrustPolicy", "TrustPolicy"], doc("Kind.")]
    namespace: Annotated[str, doc("Namespace of a TrustPolicy.", pattern=NAME_PATTERN, max_length=63)] = ""
    name: Annotated[str, doc("Name.", min_length=1, max_length=253)]


class ExceptionMatch(Model, frozen=True, kw_only=True):
    """Whom it is for. Each member that is given narrows it; of a list one entry must match."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.namespaces) || has(self.namespaceSelector) || has(self.images) || has(self.digests) || has(self.serviceAccounts)",
            "name namespaces, a namespaceSelector, images, digests or serviceAccounts: podSelector alone is no bound, "
            "since a pod's author writes its labels",
        ),
    )

    namespaces: Annotated[
        tuple[str, ...],
        doc(
            "Namespaces, by name.",
            min_length=1,
            max_length=32,
            item_max_length=63,
            item_pattern=NAME_PATTERN,
            unique=True,
        ),
    ] = ()
    namespace_selector: Annotated[
        LabelSelector | None,
        doc(
            "Namespaces, by labels that only administrators write: kubernetes.io/metadata.name and those under "
            "countersign.dev/ (the ClusterRole countersign-namespace-relabeler).",
            rules=(
                Rule(
                    "has(self.matchLabels) || has(self.matchExpressions)",
                    "an empty namespaceSelector selects every namespace: leave it out, and bound the exception otherwise",
                ),
                Rule(
                    f"(!has(self.matchLabels) || self.matchLabels.all(key, {_GUARDED_KEY})) && "
                    f"(!has(self.matchExpressions) || self.matchExpressions.map(one, one.key).all(key, {_GUARDED_KEY}))",
                    "an exception selects namespaces by kubernetes.io/metadata.name or labels under countersign.dev/ only: "
                    "whoever may write other labels could bring a namespace under it",
                ),
            ),
        ),
    ] = None
    pod_selector: Annotated[
        LabelSelector | None, doc("Pods, by their labels at admission. A pod's author writes these: they bound nobody.")
    ] = None
    images: Annotated[
        tuple[str, ...],
        doc(
            "Images, as globs over `registry/repository` like those of image rules. A check about the whole pod is "
            "waived only if each of its images matches.",
            min_length=1,
            max_length=32,
            item_max_length=255,
            item_min_length=1,
            item_pattern=r"^[a-z0-9.*-]+(:[0-9]{1,5})?(/[a-z0-9._*-]+)*(/\*\*)?$",
            unique=True,
        ),
    ] = ()
    digests: Annotated[
        tuple[str, ...],
        doc(
            "Images, by digest (of the manifest or index that a tag resolves to).",
            min_length=1,
            max_length=64,
            item_max_length=71,
            item_pattern=DIGEST_PATTERN,
            unique=True,
        ),
    ] = ()
    service_accounts: Annotated[
        tuple[ServiceAccountBinding, ...],
        doc(
            "Service accounts of the pods, each with its namespace.",
            min_length=1,
            max_length=32,
            rules=(Rule("self.all(one, has(one.__namespace__))", "name each service account with its namespace"),),
        ),
    ] = ()


class Waive(Model, frozen=True, kw_only=True):
    """One check that is waived."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.predicateType) || self.check in ['AttestationMissing', 'AttestationFailed', 'AttestationTooOld']",
            "only checks of attestations have a predicateType",
            "predicateType",
        ),
    )

    check: Annotated[WaivableCheck, doc("The reason code that a denial begins with.")]
    predicate_type: Annotated[
        str, doc("Only for attestations of this type; none: of any. As the policy writes it.", max_length=253)
    ] = ""


class TrustExceptionSpec(Model, frozen=True, kw_only=True):
    """The exemption. Immutable, but for an earlier end."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(_SAME, _IMMUTABLE),
        Rule(
            "self.expiresAt <= oldSelf.expiresAt",
            "expiresAt may only be moved earlier: create another TrustException for more time",
            "expiresAt",
        ),
        Rule(
            "self.tokens != 'Issue' || !self.waives.exists(one, one.check in ['PodTooPrivileged', 'EphemeralContainerDenied'])",
            "PodTooPrivileged and EphemeralContainerDenied can be waived with tokens: Withhold only: others could read "
            "the tokens of such a pod",
            "tokens",
        ),
    )

    policy_refs: Annotated[
        tuple[ExceptionPolicyRef, ...],
        doc("Policies whose checks it waives; no other is touched.", min_length=1, max_length=16),
    ]
    match: Annotated[ExceptionMatch, doc("Whom it is for.")]
    waives: Annotated[tuple[Waive, ...], doc("What is waived, and nothing else.", min_length=1, max_length=16)]
    tokens: Annotated[
        ExceptionTokens,
        doc("Withhold: the pod is let in without identity. Issue: it also receives tokens, until the exception ends."),
    ] = "Withhold"
    owner: Annotated[str, doc("Who answers for it. A mail address or a team.", min_length=1, max_length=253)]
    reason: Annotated[str, doc("Why, for people and for the record.", min_length=1, max_length=512)]
    expires_at: Annotated[
        UTCTime,
        doc(
            "When it ends, at most 90 days after its creation. May only ever be moved earlier; a time that has passed "
            "ends it now, and so does deleting it.",
            string_format="date-time",
        ),
    ]
    requested_by: Annotated[
        str, doc("Who asked: set by the cluster from the request's user. Leave it out.", max_length=253)
    ] = ""


class TrustExceptionStatus(Model, frozen=True, kw_only=True):
    """Whether it is in force, and what rests on it."""

    conditions: Annotated[
        tuple[Condition, ...], doc("Active, Expiring, Expired, ResolvedRefs.", max_length=8, map_keys=("type",))
    ] = ()
    observed_generation: Annotated[int, doc("The metadata.generation that was judged.")] = 0
    pods: Annotated[int, doc("Running pods with a finding that it waives.")] = 0
    warned_at: Annotated[UTCTime | None, doc("When people were told that it runs out.", string_format="date-time")] = (
        None
    )


class TrustException(Model, frozen=True, kw_only=True):
    """A named, owned, time-boxed exemption from checks of policies; nothing after it ends, nothing against a Revocation."""

    KIND: ClassVar[str] = "TrustException"
    PLURAL: ClassVar[str] = "trustexceptions"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("te",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Active", "string", '.status.conditions[?(@.type=="Active")].status', "Whether it is in force"),
        Column("Expiring", "string", '.status.conditions[?(@.type=="Expiring")].status', "Whether it runs out soon"),
        Column("Expires", "string", ".spec.expiresAt", "When it ends"),
        Column("Tokens", "string", ".spec.tokens", "Withhold or Issue"),
        Column("Pods", "integer", ".status.pods", "Running pods with a finding that it waives"),
        Column("Owner", "string", ".spec.owner", "Who answers for it"),
        Column("By", "string", ".spec.requestedBy", "Who asked", 1),
        Column("Reason", "string", ".spec.reason", "Why", 1),
        Column("Age", "date", ".metadata.creationTimestamp", "When it was created"),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[TrustExceptionSpec, doc("The exemption. Immutable, but for an earlier end.")]
    status: Annotated[TrustExceptionStatus, doc("Written by the controller.")] = TrustExceptionStatus()
