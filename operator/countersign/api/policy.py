"""ClusterTrustPolicy and TrustPolicy: which pods are governed, what they must show, and the tokens they then receive."""

from typing import Annotated, ClassVar, Literal

import msgspec

from countersign.api.image_rule import NAME_PATTERN, ImageRule
from countersign.api.meta import LabelSelector, ObjectMeta
from countersign.api.policy_status import PolicyStatus
from countersign.api.responses import ApiToken, OnTermination, Profile, Responses
from countersign.api.schema import Column, Model, Reserved, Rule, doc

Mode = Literal["Audit", "Warn", "Enforce"]

DEFAULT_DENIED_ENV: tuple[str, ...] = (
    "BASHOPTS",
    "BASH_ENV",
    "BASH_FUNC_*",
    "CLASSPATH",
    "CORECLR_*",
    "COR_*",
    "DOTNET_STARTUP_HOOKS",
    "DYLD_*",
    "ENV",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_ZFLAGS",
    "GCONV_PATH",
    "GEM_HOME",
    "GEM_PATH",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LD_*",
    "LUA_CPATH*",
    "LUA_INIT*",
    "LUA_PATH*",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PYTHONBREAKPOINT",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "_JAVA_OPTIONS",
)
"""Variables by which loaders and interpreters can be made to run foreign code (ld.so(8), perlrun(1), ruby(1), ...)."""

AUDIENCE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}$"

# Messages of what the design names and this release does not honour yet: refused, never accepted and ignored.
_NOT_YET = "is not supported by this release: remove it"


class Runtime(Model, frozen=True, kw_only=True):
    """What a container that receives a token may be made to run."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.command != 'Listed' || (has(self.allowedCommands) && size(self.allowedCommands) > 0)",
            "command Listed needs `allowedCommands`: list each command line that may run",
        ),
    )

    command: Annotated[
        Literal["FromImage", "Listed", "Any"],
        doc(
            "FromImage: the entrypoint that the image was built with (args are free only where that is a program, not `tini --`, a shell or a bare interpreter, which run what args name). "
            "Listed: that, or one of allowedCommands. Any: no rule. With FromImage and Listed nothing may be mounted over the programs either, "
            "no working directory may lie in a mount, and envFrom needs a prefix under which no denied variable can arise."
        ),
    ] = "FromImage"
    allowed_commands: Annotated[
        tuple[
            Annotated[
                tuple[Annotated[str, msgspec.Meta(max_length=512)], ...], msgspec.Meta(min_length=1, max_length=32)
            ],
            ...,
        ],
        doc(
            "Command lines that may run besides the image's own, each as a list of words that must equal `command` whole. "
            "They are also what exec probes and lifecycle hooks may run, whatever `command` says (except Any).",
            max_length=16,
        ),
    ] = ()
    denied_env: Annotated[
        tuple[str, ...],
        doc(
            "Names of variables that the pod may not set on such a container; a final `*` matches any ending. "
            "Default: the variables by which loaders and interpreters can be made to run foreign code.",
            max_length=64,
            item_max_length=128,
            item_pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\*?$",
            unique=True,
        ),
    ] = DEFAULT_DENIED_ENV


class ServiceAccountBinding(Model, frozen=True, kw_only=True):
    """A service account. In a TrustPolicy the namespace is its own and may be left out."""

    namespace: Annotated[str, doc("Namespace of the account.", pattern=NAME_PATTERN, max_length=63)] = ""
    name: Annotated[str, doc("Name of the account.", min_length=1, max_length=253)]


class ControllerBinding(Model, frozen=True, kw_only=True):
    """The top-level controller of a pod (a Deployment rather than its ReplicaSet)."""

    api_group: Annotated[str, doc("API group, empty for core.", max_length=253)] = ""
    kind: Annotated[str, doc("Kind, such as Deployment or CronJob.", min_length=1, max_length=63)]
    name: Annotated[str, doc("Name; empty allows every object of the kind.", max_length=253)] = ""


class Requester(Model, frozen=True, kw_only=True):
    """Who may ask for the pod's creation. For most pods that is a controller of kube-controller-manager."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.kind == 'ServiceAccount') == (has(self.__namespace__) && size(self.__namespace__) > 0)",
            "a requester of kind ServiceAccount needs `namespace`, the other kinds must not have it",
        ),
    )

    kind: Annotated[Literal["User", "Group", "ServiceAccount"], doc("What `name` names.")]
    namespace: Annotated[str, doc("Namespace of the ServiceAccount.", max_length=63)] = ""
    name: Annotated[str, doc("Name of the user, group or account.", min_length=1, max_length=253)]


class Binding(Model, frozen=True, kw_only=True):
    """Which accounts, controllers and requesters the images belong to."""

    service_accounts: Annotated[
        tuple[ServiceAccountBinding, ...],
        doc(
            "Binds both ways: a pod under such an account is governed by this policy even where the selectors miss it, "
            "and a governed pod must run under one of these accounts.",
            max_length=32,
        ),
    ] = ()
    controllers: Annotated[
        tuple[ControllerBinding, ...],
        doc("Top-level controllers that a governed pod must belong to, one of them.", max_length=32),
    ] = ()
    requesters: Annotated[tuple[Requester, ...], doc("Who may create a governed pod, one of them.", max_length=32)] = ()


class TokenSpec(Model, frozen=True, kw_only=True):
    """A projected service-account token that an admitted pod receives."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.path.startsWith('/') && !self.path.split('/').exists(part, part == '..' || part == '.' || part == '')",
            "path must stay inside the token's mount: a relative path without `.`, `..` or empty parts, such as `token`",
        ),
    )

    name: Annotated[
        str,
        doc(
            "Name of the token, unique within the policy; part of its volume's name and mount path.",
            pattern=NAME_PATTERN,
            max_length=40,
        ),
    ]
    audience: Annotated[
        str,
        doc(
            "Audience of the token: one that a ProtectedAudience declares.",
            pattern=AUDIENCE_PATTERN,
            min_length=1,
            max_length=253,
        ),
    ]
    expiration_seconds: Annotated[
        int,
        doc(
            "Lifetime of each token in seconds. The kubelet renews it at 80 %. Kubernetes allows nothing shorter than 600.",
            ge=600,
            le=86400,
            rules=(
                Rule(
                    "self >= 600 && self <= 86400",
                    "expirationSeconds must be from 600 (the shortest that Kubernetes mints) to 86400 (a day); "
                    "write 600 to have tokens that end soon after they are stolen",
                ),
            ),
        ),
    ] = 600
    path: Annotated[
        str,
        doc(
            "File of the token inside its mount /var/run/secrets/countersign.dev/<name>/.",
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9._/-]+$",
        ),
    ] = "token"
    env_var: Annotated[
        str,
        doc(
            "Variable that tells the containers the file's full path; none if empty.",
            max_length=128,
            pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        ),
    ] = ""
    containers: Annotated[
        tuple[str, ...],
        doc(
            "Names of the containers and init containers that receive the token. Empty: every ordinary container whose image a rule of this policy matches.",
            max_length=32,
            item_max_length=63,
            unique=True,
        ),
    ] = ()


class Match(Model, frozen=True, kw_only=True):
    """Which pods of the selected namespaces are governed. Both selectors empty: all."""

    RESERVED: ClassVar[dict[str, Reserved]] = {
        "matchConditions": Reserved("array", f"`matchConditions` {_NOT_YET} and use the selectors"),
    }

    namespace_selector: Annotated[LabelSelector, doc("Namespaces by their labels; empty selects all.")] = (
        LabelSelector()
    )
    pod_selector: Annotated[LabelSelector, doc("Pods by their labels at admission; empty selects all.")] = (
        LabelSelector()
    )


class NamespacedMatch(Model, frozen=True, kw_only=True):
    """Which pods of the policy's own namespace are governed."""

    RESERVED: ClassVar[dict[str, Reserved]] = {
        "matchConditions": Reserved("array", f"`matchConditions` {_NOT_YET} and use the selector"),
        "namespaceSelector": Reserved(
            "object",
            "`namespaceSelector` belongs to ClusterTrustPolicy: a TrustPolicy governs its own namespace only",
        ),
    }

    pod_selector: Annotated[LabelSelector, doc("Pods by their labels at admission; empty selects all.")] = (
        LabelSelector()
    )


class ModeOverride(Model, frozen=True, kw_only=True):
    """The mode of a policy in one namespace, for a staged roll-out."""

    namespace: Annotated[str, doc("Name of the namespace.", pattern=NAME_PATTERN, max_length=63)]
    mode: Annotated[Mode, doc("Mode of the policy there.")]


class _PolicySpec(Model, frozen=True, kw_only=True):
    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.tokens) || self.tokens.all(t, self.tokens.exists_one(u, u.audience == t.audience))",
            "each token needs an audience of its own: two tokens of this policy ask for the same one",
        ),
        Rule(
            "!has(self.tokens) || self.tokens.all(t, !has(t.envVar) || t.envVar == '' || "
            "self.tokens.exists_one(u, has(u.envVar) && u.envVar == t.envVar))",
            "each token needs an envVar of its own: two tokens of this policy use the same variable",
        ),
        Rule(
            "!has(self.tokens) || size(self.tokens) == 0 || (has(self.images) && size(self.images) > 0)",
            "a policy that hands out tokens needs `images`: without evidence there is no identity",
        ),
        Rule(
            "!has(self.profile) || !(self.profile in ['Serverless', 'Agent']) || !has(self.tokens) || size(self.tokens) <= 1",
            "profiles Serverless and Agent have one audience: write a policy for each, or profile Service",
            "tokens",
        ),
        Rule(
            "!has(self.profile) || self.profile != 'Agent' || !has(self.responses) || !has(self.responses.exec) || "
            "self.responses.exec != 'Allow'",
            "in profile Agent exec ends the identity: leave responses.exec out, or Deny it",
            "responses.exec",
        ),
        Rule(
            "!has(self.profile) || self.profile != 'Agent' || !has(self.responses) || !has(self.responses.drift) || "
            "self.responses.drift == 'Revoke'",
            "in profile Agent drift ends the identity: leave responses.drift out",
            "responses.drift",
        ),
    )
    RESERVED: ClassVar[dict[str, Reserved]] = {}

    owner: Annotated[
        str,
        doc(
            "Who answers for these identities; stands on every grant. A mail address or a team.",
            min_length=1,
            max_length=253,
        ),
    ]
    mode: Annotated[
        Mode,
        doc(
            "Enforce denies a pod that fails; Warn tells its author; Audit only records. "
            "The mode changes admission, never identity: a pod with a finding receives no token in any mode."
        ),
    ]
    profile: Annotated[
        Profile,
        doc(
            "Named defaults for what the policy does not say: Service, Batch (ends with its task), Serverless (minutes, one "
            "audience) or Agent (an AI agent: the shortest lifetimes, one audience, anything odd ends it). See status.effective."
        ),
    ] = "Service"
    images: Annotated[
        tuple[ImageRule, ...],
        doc(
            "Every rule that matches an image must hold for it; an image that none matches falls under unmatchedImages.",
            max_length=32,
            map_keys=("name",),
        ),
    ] = ()
    unmatched_images: Annotated[
        Literal["Deny", "Allow"],
        doc(
            "What becomes of an image that no rule matches. Allow changes admission only: a token still needs every image of the pod verified by a rule."
        ),
    ] = "Deny"
    stale_evidence_seconds: Annotated[
        int,
        doc(
            "While a registry cannot answer, what was verified before counts until it is so many seconds old. "
            "Such an admission carries a warning. 0: never.",
            ge=0,
            le=86400,
        ),
    ] = 3600
    runtime: Annotated[Runtime, doc("What a container that receives a token may be made to run.")] = Runtime()
    binding: Annotated[Binding, doc("Which accounts, controllers and requesters the images belong to.")] = Binding()
    tokens: Annotated[
        tuple[TokenSpec, ...],
        doc("Tokens that a pod receives which satisfies this policy.", max_length=8, map_keys=("name",)),
    ] = ()
    api_token: Annotated[
        ApiToken | None,
        doc(
            "The pod's ordinary API token, whose real lifetime is a year: Keep it, Shorten it to about an hour (with no "
            "extension), or Remove it. Default: by profile."
        ),
    ] = None
    on_termination: Annotated[
        OnTermination | None,
        doc(
            "When a pod is being deleted its identity ends at once (Immediate), or with the grace period, at most "
            "drainSeconds later. Default: by profile."
        ),
    ] = None
    drain_seconds: (
        Annotated[int, doc("Bound on what onTermination GracePeriod leaves, in seconds. Default: 60.", ge=0, le=3600)]
        | None
    ) = None
    max_lifetime_seconds: (
        Annotated[
            int,
            doc(
                "An instance's identity ends this many seconds after the pod's creation. Default: by profile, in Service none.",
                ge=600,
                le=31536000,
            ),
        ]
        | None
    ) = None
    responses: Annotated[Responses, doc("What happens when a pod stops being what was admitted.")] = Responses()
    accept_impact: (
        Annotated[
            int,
            doc(
                "A change of this policy that would suspend many grants is held until this names the held generation "
                "(see the condition ImpactHeld). It also covers the edit that sets it.",
                ge=0,
            ),
        ]
        | None
    ) = None


class ClusterTrustPolicySpec(_PolicySpec, frozen=True, kw_only=True):
    """Specification of a ClusterTrustPolicy."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_PolicySpec.RULES,
        Rule(
            "!has(self.binding) || !has(self.binding.serviceAccounts) || "
            "self.binding.serviceAccounts.all(account, has(account.__namespace__) && account.__namespace__ != '')",
            "a ClusterTrustPolicy speaks about many namespaces: write the `namespace` of each bound service account",
            "binding.serviceAccounts",
        ),
    )

    mode_overrides: Annotated[
        tuple[ModeOverride, ...],
        doc("Modes that differ by namespace, for a staged roll-out.", max_length=256, map_keys=("namespace",)),
    ] = ()
    match: Annotated[Match, doc("Which pods the policy governs.")] = Match()


class TrustPolicySpec(_PolicySpec, frozen=True, kw_only=True):
    """Specification of a TrustPolicy."""

    RESERVED: ClassVar[dict[str, Reserved]] = {
        **_PolicySpec.RESERVED,
        "modeOverrides": Reserved(
            "array", "`modeOverrides` belongs to ClusterTrustPolicy: a TrustPolicy has one namespace, so set its mode"
        ),
    }

    match: Annotated[NamespacedMatch, doc("Which pods of this namespace the policy governs.")] = NamespacedMatch()


_COLUMNS = (
    Column("Mode", "string", ".spec.mode", "What happens to a pod that fails"),
    Column("Profile", "string", ".spec.profile", "Where its defaults come from", 1),
    Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the policy is in force"),
    Column("Governed", "integer", ".status.pods.governed", "Running pods that it governs"),
    Column(
        "Failing", "integer", ".status.pods.failing", "Governed pods that would be refused if they were created now"
    ),
    Column("Missed", "integer", ".status.pods.missed", "Governed pods that no gate admitted under it", 1),
    Column(
        "WouldDeny",
        "integer",
        ".status.admissions.wouldDeny",
        "New pods that it refused, or would have, since its last change",
        1,
    ),
    Column("Owner", "string", ".spec.owner", "Who answers for it", 1),
    Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready or not", 1),
    Column("Age", "date", ".metadata.creationTimestamp", "When it was created"),
)


class ClusterTrustPolicy(Model, frozen=True, kw_only=True):
    """A policy of the cluster: it governs pods of every namespace that its selector matches."""

    KIND: ClassVar[str] = "ClusterTrustPolicy"
    PLURAL: ClassVar[str] = "clustertrustpolicies"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ctp",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = _COLUMNS

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[ClusterTrustPolicySpec, doc("Which pods are governed, what they must show, what they receive.")]
    status: Annotated[PolicyStatus, doc("Written by the controller.")] = PolicyStatus()


class TrustPolicy(Model, frozen=True, kw_only=True):
    """A policy of one namespace, written by its owner. It adds to the cluster's policies and can weaken none."""

    KIND: ClassVar[str] = "TrustPolicy"
    PLURAL: ClassVar[str] = "trustpolicies"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("tp",)
    NAMESPACED: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = _COLUMNS

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[TrustPolicySpec, doc("Which pods are governed, what they must show, what they receive.")]
    status: Annotated[PolicyStatus, doc("Written by the controller.")] = PolicyStatus()


AnyPolicy = ClusterTrustPolicy | TrustPolicy
