"""Revocation: a create-only order to end grants.

In Countersign's own namespace it reaches the whole cluster, in any other only that namespace. `grant`, `pod`, `node`,
`serviceAccount` and `namespace` end what exists when the order is given; `digest`, `keyFingerprint` and `signer` stand:
everything now and later.
"""

from typing import Annotated, ClassVar

from countersign.api.meta import Condition, ObjectMeta
from countersign.api.schema import Column, Model, Rule, doc

_NAMESPACE_DOC = (
    "Namespace of the object: required in Countersign's own namespace, otherwise the Revocation's own or empty."
)


class ObjectTarget(Model, frozen=True, kw_only=True):
    """One object by name, and by UID if given."""

    namespace: Annotated[str, doc(_NAMESPACE_DOC, max_length=63)] = ""
    name: Annotated[str, doc("Name.", min_length=1, max_length=253)]
    uid: Annotated[str, doc("Only this instance; empty: whatever bears the name.", max_length=64)] = ""


class NodeTarget(Model, frozen=True, kw_only=True):
    """A node: every instance on it."""

    name: Annotated[str, doc("Name of the node.", min_length=1, max_length=253)]


class NamespaceTarget(Model, frozen=True, kw_only=True):
    """A namespace: every instance in it."""

    name: Annotated[str, doc("Name of the namespace.", min_length=1, max_length=63)]


class SignerTarget(Model, frozen=True, kw_only=True):
    """Whoever certificates of this issuer and subject were issued to. Both are compared exactly."""

    issuer: Annotated[
        str,
        doc(
            "Issuer of the OIDC token, such as https://token.actions.githubusercontent.com.",
            min_length=1,
            max_length=512,
        ),
    ]
    subject: Annotated[str, doc("Subject of the certificate, as grants show it.", min_length=1, max_length=1024)]


class Target(Model, frozen=True, kw_only=True):
    """What to end. Exactly one member."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.grant), has(self.pod), has(self.node), has(self.serviceAccount), has(self.__namespace__), "
            "has(self.digest), has(self.keyFingerprint), has(self.signer)].exists_one(present, present)",
            "a target has exactly one member: grant, pod, node, serviceAccount, namespace, digest, keyFingerprint or signer",
        ),
    )

    grant: Annotated[ObjectTarget | None, doc("One WorkloadGrant.")] = None
    pod: Annotated[ObjectTarget | None, doc("The instances of one pod name, or one UID.")] = None
    node: Annotated[NodeTarget | None, doc("Every instance on a node.")] = None
    service_account: Annotated[ObjectTarget | None, doc("Every instance of an account.")] = None
    namespace: Annotated[NamespaceTarget | None, doc("Every instance of a namespace.")] = None
    digest: (
        Annotated[
            str,
            doc(
                "Standing: every instance of this image digest.",
                pattern=r"^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$",
                max_length=135,
            ),
        ]
        | None
    ) = None
    key_fingerprint: (
        Annotated[
            str,
            doc(
                "Standing: signatures by this key no longer vouch, and its attestations no longer count. sha256:<hex> of its SubjectPublicKeyInfo.",
                pattern=r"^sha256:[0-9a-f]{64}$",
                max_length=71,
            ),
        ]
        | None
    ) = None
    signer: (
        Annotated[
            SignerTarget,
            doc("Standing: keyless signatures by this identity no longer vouch, and its attestations no longer count."),
        ]
        | None
    ) = None


class RevocationSpec(Model, frozen=True, kw_only=True):
    """The order. Immutable."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("self == oldSelf", "a Revocation is create-only: create another one; what it ended stays ended"),
    )

    target: Annotated[Target, doc("What to end.")]
    reason: Annotated[str, doc("Why, for people and for the record.", min_length=1, max_length=512)]
    requested_by: Annotated[
        str, doc("Who asked: set by the cluster from the request's user. Leave it out.", max_length=253)
    ] = ""


class RevocationStatus(Model, frozen=True, kw_only=True):
    """What came of it."""

    conditions: Annotated[tuple[Condition, ...], doc("Applied.", max_length=8, map_keys=("type",))] = ()
    revoked: Annotated[int, doc("Grants that it ended.")] = 0


class Revocation(Model, frozen=True, kw_only=True):
    """A create-only order to end grants."""

    KIND: ClassVar[str] = "Revocation"
    PLURAL: ClassVar[str] = "revocations"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("rvk",)
    NAMESPACED: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Applied", "string", '.status.conditions[?(@.type=="Applied")].status', "Whether it was carried out"),
        Column("Revoked", "integer", ".status.revoked", "Grants that it ended"),
        Column("By", "string", ".spec.requestedBy", "Who asked"),
        Column("Reason", "string", ".spec.reason", "Why"),
        Column("Age", "date", ".metadata.creationTimestamp", "When it was given"),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[RevocationSpec, doc("The order. Immutable.")]
    status: Annotated[RevocationStatus, doc("Written by the controller.")] = RevocationStatus()
