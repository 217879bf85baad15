"""WorkloadGrant: the record of one pod instance, by UID. Only the controller writes it."""

from typing import Annotated, ClassVar, Literal

import msgspec

from countersign.api.exception import ExceptionTokens
from countersign.api.meta import Condition, ObjectMeta, UTCTime
from countersign.api.schema import Column, Model, Rule, doc

GrantState = Literal["Active", "Suspended", "Revoked"]


class GrantPod(Model, frozen=True, kw_only=True):
    """The instance: this pod and no other of the same name, spec or address."""

    name: Annotated[str, doc("Name of the pod.", max_length=253)]
    uid: Annotated[str, doc("UID of the pod.", min_length=1, max_length=64)]
    node_name: Annotated[
        str, doc("Node that it was bound to when the grant was made; may be empty.", max_length=253)
    ] = ""
    generation: Annotated[int, doc("The pod's metadata.generation when it was judged.")] = 0
    spec_hash: Annotated[str, doc("Hash of the members of the spec that a verdict reads.", max_length=71)] = ""
    receipt_hash: Annotated[
        str, doc("SHA-256 of the admission receipt that the grant rests on, as sha256:<hex>.", max_length=71)
    ] = ""
    receipt_key_id: Annotated[
        str,
        doc("Id of the key that signed the receipt, so that a leaked key's grants can be listed.", max_length=64),
    ] = msgspec.field(name="receiptKeyID", default="")
    created_at: Annotated[UTCTime, doc("Creation of the pod.", string_format="date-time")]


class GrantServiceAccount(Model, frozen=True, kw_only=True):
    """The account that the pod runs under."""

    name: Annotated[str, doc("Name of the account.", max_length=253)]
    uid: Annotated[str, doc("UID of the account: another one of the same name is another identity.", max_length=64)]


class GrantController(Model, frozen=True, kw_only=True):
    """The top-level controller, each link of the chain resolved live by UID."""

    api_group: Annotated[str, doc("API group, empty for core.", max_length=253)] = ""
    kind: Annotated[str, doc("Kind.", max_length=63)]
    name: Annotated[str, doc("Name.", max_length=253)]
    uid: Annotated[str, doc("UID.", max_length=64)]


class GrantPolicy(Model, frozen=True, kw_only=True):
    """A policy that the pod was judged by."""

    kind: Annotated[Literal["ClusterTrustPolicy", "TrustPolicy"], doc("Kind.")]
    namespace: Annotated[str, doc("Namespace of a TrustPolicy.", max_length=63)] = ""
    name: Annotated[str, doc("Name.", max_length=253)]
    uid: Annotated[str, doc("UID.", max_length=64)]
    generation: Annotated[int, doc("The generation that was judged.")]
    profile: Annotated[
        str, doc("Its profile; empty where the grant was written by a release that did not record it.", max_length=32)
    ] = ""


class GrantToken(Model, frozen=True, kw_only=True):
    """An audience that the instance may hold."""

    audience: Annotated[str, doc("The audience.", max_length=253)]
    policy_uid: Annotated[str, doc("UID of the policy that gives it.", max_length=64)] = msgspec.field(name="policyUID")
    max_expiration_seconds: Annotated[int, doc("Longest lifetime of a token that counts, in seconds.")]


class GrantEvidence(Model, frozen=True, kw_only=True):
    """Who vouched for an image, and by which policy's rule that counted."""

    policy_uid: Annotated[str, doc("UID of the policy.", max_length=64)] = msgspec.field(name="policyUID")
    rule: Annotated[str, doc("Name of the policy's image rule.", max_length=63)] = ""
    authority: Annotated[str, doc("Name of the authority; empty if the digest is listed.", max_length=63)] = ""
    key_fingerprint: Annotated[
        str, doc("SHA-256 of the signer's SubjectPublicKeyInfo, as sha256:<hex>.", max_length=71)
    ] = ""
    digest_listed: Annotated[bool, doc("The policy lists the digest itself.")] = False
    issuer: Annotated[str, doc("Issuer of a keyless signer's OIDC token.", max_length=512)] = ""
    subject: Annotated[str, doc("Subject of a keyless signer's certificate.", max_length=1024)] = ""
    attestation: Annotated[
        str,
        doc("Name of the rule's attestation that this is; empty if it is a signature of the image.", max_length=63),
    ] = ""
    predicate_type: Annotated[str, doc("Type of that attestation's predicate.", max_length=253)] = ""
    signed_digest: Annotated[
        str,
        doc("What was signed, where it is not the image's digest: the manifest of a platform.", max_length=135),
    ] = ""


class GrantImage(Model, frozen=True, kw_only=True):
    """An image of the instance, as verified."""

    container: Annotated[str, doc("Container, or volume/<name> for an image volume.", max_length=80)]
    image: Annotated[str, doc("Image reference as admitted.", max_length=512)]
    digest: Annotated[str, doc("Verified digest (manifest or index).", max_length=135)]
    runtime_digests: Annotated[
        tuple[str, ...],
        doc(
            "Digests that a node may report for it: its own, and its platforms' manifests and configs.",
            max_length=64,
            item_max_length=135,
        ),
    ] = ()
    evidence: Annotated[tuple[GrantEvidence, ...], doc("Who vouched, and who attested.", max_length=64)] = ()


class WorkloadGrantSpec(Model, frozen=True, kw_only=True):
    """What was judged. Immutable: another judgement of another instance is another grant."""

    RULES: ClassVar[tuple[Rule, ...]] = (Rule("self == oldSelf", "the spec of a WorkloadGrant is immutable"),)

    pod: Annotated[GrantPod, doc("The instance.")]
    service_account: Annotated[GrantServiceAccount, doc("The account that it runs under.")]
    controller: Annotated[GrantController | None, doc("Its top-level controller, if it has one.")] = None
    owner: Annotated[
        str, doc("Who answers for this identity: the owner of the policy that gives it.", max_length=253)
    ] = ""
    requester: Annotated[str, doc("Who asked for the pod's creation.", max_length=253)] = ""
    policies: Annotated[tuple[GrantPolicy, ...], doc("Policies that the pod was judged by.", max_length=64)] = ()
    tokens: Annotated[
        tuple[GrantToken, ...], doc("Audiences that the instance may hold; empty: none.", max_length=64)
    ] = ()
    images: Annotated[tuple[GrantImage, ...], doc("Images as verified.", max_length=64)] = ()
    expires_at: Annotated[
        UTCTime | None, doc("End of the instance's lifetime, by maxLifetimeSeconds.", string_format="date-time")
    ] = None


class GrantException(Model, frozen=True, kw_only=True):
    """A TrustException that a finding about the instance is waived by."""

    name: Annotated[str, doc("Name of the TrustException.", max_length=253)]
    uid: Annotated[str, doc("UID: another one of the same name is another exception.", max_length=64)]
    expires_at: Annotated[UTCTime, doc("When it ends, as far as was known.", string_format="date-time")]
    tokens: Annotated[
        ExceptionTokens, doc("Issue: the identity rests on it, and is over with it. Withhold: it does not.")
    ] = "Withhold"
    checks: Annotated[tuple[str, ...], doc("Checks that it waives here.", max_length=16, item_max_length=64)] = ()
    containers: Annotated[
        tuple[str, ...],
        doc("Containers that this is about; none: the pod as a whole.", max_length=64, item_max_length=80),
    ] = ()


class VerifierRefusals(Model, frozen=True, kw_only=True):
    """How often one verifier has refused tokens of the instance since that verifier started. Such numbers only grow."""

    verifier: Annotated[
        str, doc("Name that the verifier's process gave itself: when it started, and something random.", max_length=64)
    ]
    count: Annotated[int, doc("Refused uses.")] = 0


class GrantUses(Model, frozen=True, kw_only=True):
    """How the instance's tokens are used, as relying parties ask. Coalesced: while they are used it lags a while behind."""

    first_used_at: Annotated[
        UTCTime | None, doc("First use that was accepted, as far as it was seen.", string_format="date-time")
    ] = None
    last_used_at: Annotated[UTCTime | None, doc("Last use that was accepted.", string_format="date-time")] = None
    audiences: Annotated[
        tuple[str, ...],
        doc("Audiences for which tokens were used and accepted.", max_length=64, item_max_length=253, unique=True),
    ] = ()
    refused: Annotated[int, doc("Uses that were refused.")] = 0
    last_refused_at: Annotated[UTCTime | None, doc("Last use that was refused.", string_format="date-time")] = None
    last_refused_reason: Annotated[str, doc("Why that one was refused: a stable reason code.", max_length=64)] = ""
    refused_by: Annotated[
        tuple[VerifierRefusals, ...],
        doc("Refused uses by verifier: `refused` is their sum.", max_length=8, map_keys=("verifier",)),
    ] = ()
    earlier: Annotated[
        VerifierRefusals | None,
        doc("Of verifiers that are no longer listed, together; `verifier` is the latest of them."),
    ] = None


MisuseKind = Literal["UsedAfterEnd", "OtherAddress", "TwoAddresses", "UnlikeSiblings"]


class GrantMisuse(Model, frozen=True, kw_only=True):
    """A misuse of the instance's tokens, as it was first found."""

    kind: Annotated[
        MisuseKind,
        doc(
            "UsedAfterEnd: after the pod had ended. OtherAddress: from an address that is not the pod's. TwoAddresses: from "
            "two addresses in turn. UnlikeSiblings: for an audience that none of the pod's replicas uses."
        ),
    ]
    audience: Annotated[str, doc("Audience of the token.", max_length=253)]
    at: Annotated[UTCTime, doc("When the token was so used.", string_format="date-time")]
    message: Annotated[str, doc("What was expected and what was found.", max_length=1024)]


class WorkloadGrantStatus(Model, frozen=True, kw_only=True):
    """Whether the instance is trusted now. No state (not judged to the end yet) is not Active."""

    state: Annotated[GrantState | None, doc("Active, Suspended (may come back) or Revoked (final).")] = None
    reason: Annotated[str, doc("Stable reason code.", max_length=64)] = ""
    message: Annotated[str, doc("What was found and what to do.", max_length=1024)] = ""
    caused_by: Annotated[str, doc("Object that caused it, such as Revocation payments/leak-42.", max_length=512)] = ""
    changed_at: Annotated[UTCTime | None, doc("When the state last changed.", string_format="date-time")] = None
    pod_generation: Annotated[
        int,
        doc("The pod's metadata.generation up to which every change was seen, without the one of its deletion."),
    ] = 0
    epoch: Annotated[
        str,
        doc("Epoch in which it was last judged. In services of another epoch it is not Active.", max_length=63),
    ] = ""
    exceptions: Annotated[
        tuple[GrantException, ...],
        doc(
            "TrustExceptions that findings about it are waived by. Once one with tokens: Issue is over, the grant is not "
            "Active until it was judged without it.",
            max_length=16,
            map_keys=("uid",),
        ),
    ] = ()
    evidence_good_until: Annotated[
        UTCTime | None,
        doc(
            "Until when its evidence was known to hold: the first attestation that its policies ask for grows too old "
            "then. A time that is past: it does not hold, until it was verified anew. Absent: time alone ends nothing.",
            string_format="date-time",
        ),
    ] = None
    uses: Annotated[GrantUses | None, doc("How its tokens are used; absent: no use was seen.")] = None
    misuse: Annotated[
        tuple[GrantMisuse, ...],
        doc("How its tokens were misused; one entry of each kind.", max_length=8, map_keys=("kind",)),
    ] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        doc("Ready; Drifted, once something was seen (Unknown: nothing proves it).", max_length=8, map_keys=("type",)),
    ] = ()


class WorkloadGrant(Model, frozen=True, kw_only=True):
    """The record of one pod instance: owner, evidence, audiences, expiry, state and reason."""

    KIND: ClassVar[str] = "WorkloadGrant"
    PLURAL: ClassVar[str] = "workloadgrants"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("wg",)
    NAMESPACED: ClassVar[bool] = True
    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(oldSelf.status) || !has(oldSelf.status.state) || oldSelf.status.state != 'Revoked' || "
            "(has(self.status) && has(self.status.state) && self.status.state == 'Revoked' && "
            "has(self.status.reason) == has(oldSelf.status.reason) && "
            "(!has(self.status.reason) || self.status.reason == oldSelf.status.reason))",
            "Revoked is final: a revoked grant never becomes anything else, nor does its reason",
        ),
    )
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Pod", "string", ".spec.pod.name", "The instance"),
        Column("State", "string", ".status.state", "Active, Suspended or Revoked"),
        Column("Reason", "string", ".status.reason", "Why"),
        Column("Audience", "string", ".spec.tokens[0].audience", "The first audience of those in spec.tokens"),
        Column("Owner", "string", ".spec.owner", "Who answers for it"),
        Column("Account", "string", ".spec.serviceAccount.name", "Service account", 1),
        Column("Expires", "string", ".spec.expiresAt", "End of its lifetime", 1),
        Column("Last-Used", "date", ".status.uses.lastUsedAt", "Last accepted use of a token, as last recorded", 1),
        Column("Misuse", "string", ".status.misuse[*].kind", "How its tokens were misused", 1),
        Column("Age", "date", ".metadata.creationTimestamp", "When it was made"),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[WorkloadGrantSpec, doc("What was judged. Immutable.")]
    status: Annotated[WorkloadGrantStatus, doc("Written by the controller.")] = WorkloadGrantStatus()
