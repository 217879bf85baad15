"""ProtectedAudience: a token audience that somebody owns."""

from typing import Annotated, ClassVar, Literal

import msgspec

from countersign.api.image_rule import NAME_PATTERN
from countersign.api.meta import Condition, LabelSelector, ObjectMeta
from countersign.api.policy import AUDIENCE_PATTERN
from countersign.api.schema import Column, Model, Rule, doc


class AllowedNamespaces(Model, frozen=True, kw_only=True):
    """Which namespaces' own TrustPolicies may hand the audience out. ClusterTrustPolicies always may."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.from == 'Names') == (has(self.names) && size(self.names) > 0)",
            "from Names needs `names`, and only from Names takes it",
        ),
        Rule(
            "(self.from == 'Selector') == has(self.selector)",
            "from Selector needs `selector`, and only from Selector takes it",
        ),
    )

    from_: Annotated[
        Literal["None", "All", "Names", "Selector"],
        doc("None, All, the listed Names, or those that the Selector matches."),
    ] = msgspec.field(name="from", default="None")
    names: Annotated[tuple[str, ...], doc("Names of namespaces.", max_length=256, item_max_length=63, unique=True)] = ()
    selector: Annotated[LabelSelector | None, doc("Namespaces by their labels.")] = None


class Issuance(Model, frozen=True, kw_only=True):
    """Who may be given the audience."""

    allowed_namespaces: Annotated[AllowedNamespaces, doc("Namespaces whose own TrustPolicies may hand it out.")] = (
        AllowedNamespaces()
    )
    required_policies: Annotated[
        tuple[str, ...],
        doc(
            "ClusterTrustPolicies that a pod must be governed by and satisfy besides.",
            max_length=16,
            item_max_length=253,
            unique=True,
        ),
    ] = ()
    max_expiration_seconds: Annotated[int, doc("Longest lifetime of a token, in seconds.", ge=600, le=86400)] = 3600


class Introspector(Model, frozen=True, kw_only=True):
    """A service account that may ask the verifier about tokens of this audience."""

    kind: Annotated[Literal["ServiceAccount"], doc("What may ask.")] = "ServiceAccount"
    namespace: Annotated[str, doc("Namespace of the account.", min_length=1, max_length=63)]
    name: Annotated[str, doc("Name of the account.", min_length=1, max_length=253)]


SourceAddresses = Literal["Ignored", "Steady", "Direct"]


class AllowRule(Model, frozen=True, kw_only=True):
    """A rule that admits uses of tokens of the audience."""

    name: Annotated[str, doc("Name of the rule, unique within the audience.", pattern=NAME_PATTERN, max_length=63)]
    expression: Annotated[
        str,
        doc(
            "CEL over `token`, `pod`, `grant` and `request`; it admits where it is true. One that fails, names what is not "
            "known, or takes too long does not.",
            min_length=1,
            max_length=1024,
        ),
    ]
    message: Annotated[
        str, doc("What whoever looks into a refused use reads: what the rule is for, and the way out.", max_length=256)
    ] = ""


class ProtectedAudienceSpec(Model, frozen=True, kw_only=True):
    """Specification of a ProtectedAudience."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.audience == oldSelf.audience", "audience is immutable: create another ProtectedAudience", "audience"
        ),
        Rule(
            "!self.audience.endsWith('countersign.dev')",
            "audiences that end in countersign.dev are reserved for Countersign itself: choose a name of your own",
            "audience",
        ),
        Rule(
            "!(self.audience in ['api', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local']) "
            "&& !self.audience.startsWith('https://kubernetes.default')",
            "the API server's own audiences cannot be protected, since the API server accepts such tokens whatever we say: choose a name of your own",
            "audience",
        ),
    )
    audience: Annotated[
        str,
        doc("The audience as it stands in tokens. Immutable.", pattern=AUDIENCE_PATTERN, min_length=1, max_length=253),
    ]
    owner: Annotated[str, doc("Who owns the audience. A mail address or a team.", min_length=1, max_length=253)]
    mode: Annotated[
        Literal["Audit", "Enforce"],
        doc("Enforce refuses requests for tokens of this audience that no grant covers; Audit counts them."),
    ]
    issuance: Annotated[Issuance, doc("Who may be given the audience.")] = Issuance()
    introspectors: Annotated[
        tuple[Introspector, ...], doc("Service accounts that may ask about tokens of this audience.", max_length=64)
    ] = ()
    allow: Annotated[
        tuple[AllowRule, ...],
        doc(
            "What must hold at each use besides: a token is active only if one of these rules admits it. None: the grant decides.",
            max_length=16,
            map_keys=("name",),
        ),
    ] = ()
    on_gate_outage: Annotated[
        Literal["Allow", "Refuse"],
        doc(
            "While no gate answers: Allow new tokens (the verifier still judges each use), or Refuse them "
            "(for relying parties that validate offline; workloads lose their token within one lifetime)."
        ),
    ] = "Allow"
    source_addresses: Annotated[
        SourceAddresses,
        doc(
            "What the source addresses are worth that relying parties tell. Direct: they see each pod's own address. Steady: they "
            "see one address for each pod at a time, such as its node's. Ignored: proxies, meshes or NAT may change "
            "them at any time, so no misuse is concluded from them."
        ),
    ] = "Ignored"


class ProtectedAudienceStatus(Model, frozen=True, kw_only=True):
    """What the controller sees of an audience."""

    conditions: Annotated[tuple[Condition, ...], doc("Accepted, Ready.", max_length=16, map_keys=("type",))] = ()
    observed_generation: Annotated[int, doc("The generation that the controller last judged.")] = 0
    grants: Annotated[int, doc("Active grants that list this audience.")] = 0


class ProtectedAudience(Model, frozen=True, kw_only=True):
    """A token audience that somebody owns: who may be given it, who may ask about it."""

    KIND: ClassVar[str] = "ProtectedAudience"
    PLURAL: ClassVar[str] = "protectedaudiences"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("pa",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Audience", "string", ".spec.audience", "The audience as it stands in tokens"),
        Column("Mode", "string", ".spec.mode", "Whether ungranted requests are refused"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether it is in force"),
        Column("Grants", "integer", ".status.grants", "Active grants that list it"),
        Column("Owner", "string", ".spec.owner", "Who owns it", 1),
        Column("Age", "date", ".metadata.creationTimestamp", "When it was created"),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[ProtectedAudienceSpec, doc("Who owns the audience and who may have it.")]
    status: Annotated[ProtectedAudienceStatus, doc("Written by the controller.")] = ProtectedAudienceStatus()
