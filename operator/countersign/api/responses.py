"""How an instance is treated after its admission: responses, profiles, and what of them is in force for a policy."""

from typing import Annotated, Literal

from countersign.api.schema import Model, doc

Profile = Literal["Service", "Batch", "Serverless", "Agent"]
ApiToken = Literal["Keep", "Shorten", "Remove"]
OnTermination = Literal["GracePeriod", "Immediate"]
EphemeralResponse = Literal["Deny", "Revoke", "Suspend", "Report"]
ExecResponse = Literal["Deny", "Revoke", "Allow"]
InstanceResponse = Literal["Revoke", "Suspend", "Report"]
MisuseResponse = Literal["Revoke", "Report"]
NodeLostResponse = Literal["Suspend", "Keep"]


class Responses(Model, frozen=True, kw_only=True):
    """What happens when a pod stops being what was admitted. What is not said is the profile's word (status.effective)."""

    drift: Annotated[
        InstanceResponse | None,
        doc(
            "What the node reports to run is not what was admitted, or labels moved so that other policies govern: Revoke, "
            "Suspend or only Report. An image changed through the API always revokes. Default: Revoke."
        ),
    ] = None
    exec: Annotated[
        ExecResponse | None,
        doc(
            "Somebody asks for exec, attach or port-forward: Deny it, Revoke the identity before it is let in, or Allow it. "
            "Default: Revoke."
        ),
    ] = None
    ephemeral_container: Annotated[
        EphemeralResponse | None,
        doc(
            "An ephemeral container is added: Deny it at admission, or let it in and Revoke, Suspend or only Report. "
            "Default: Revoke."
        ),
    ] = None
    evidence_withdrawn: Annotated[
        InstanceResponse | None,
        doc(
            "The evidence that the pod was admitted by does not hold any more, as an attestation that is too old by now: "
            "Revoke, Suspend until it holds again, or only Report. Default: Suspend."
        ),
    ] = None
    misuse: Annotated[
        MisuseResponse | None,
        doc(
            "A token of the pod is used as no pod uses its own, as from another address: Revoke the identity, or only "
            "Report it. Default: Report; Revoke in profile Agent."
        ),
    ] = None
    node_lost: Annotated[
        NodeLostResponse | None,
        doc(
            "The pod's node is lost: not Ready for nodeLostAfterSeconds, gone, or replaced by another of its name. Suspend "
            "the identity until that node is Ready again (a replaced one never is), or Keep it. Default: Suspend."
        ),
    ] = None
    node_lost_after_seconds: (
        Annotated[
            int,
            doc(
                "How long a node may be not Ready before its pods count as lost, in seconds. Kubernetes evicts them after "
                "300, too. Default: 300; less in short-lived profiles.",
                ge=30,
                le=86400,
            ),
        ]
        | None
    ) = None


class EffectiveResponses(Model, frozen=True, kw_only=True):
    """The responses in force."""

    drift: Annotated[InstanceResponse, doc("To drift.")]
    exec: Annotated[ExecResponse, doc("To exec, attach and port-forward.")]
    ephemeral_container: Annotated[EphemeralResponse, doc("To an ephemeral container.")]
    evidence_withdrawn: Annotated[InstanceResponse, doc("To evidence that does not hold any more.")]
    misuse: Annotated[MisuseResponse, doc("To a token that is misused.")]
    node_lost: Annotated[NodeLostResponse, doc("To a lost node.")]
    node_lost_after_seconds: Annotated[int | None, doc("When a node counts as lost, in seconds.")] = None


class EffectiveSettings(Model, frozen=True, kw_only=True):
    """What holds for a pod of this policy: what it says, and its profile's defaults for the rest."""

    profile: Annotated[Profile, doc("The profile.")]
    api_token: Annotated[ApiToken, doc("What becomes of the ordinary API token.")]
    on_termination: Annotated[OnTermination, doc("When the identity of a deleted pod ends.")]
    drain_seconds: Annotated[int, doc("Bound on what GracePeriod leaves, in seconds.")]
    max_lifetime_seconds: Annotated[int | None, doc("Bound on an instance's identity, in seconds; none if absent.")] = (
        None
    )
    responses: Annotated[EffectiveResponses, doc("What happens when a pod stops being what was admitted.")]
