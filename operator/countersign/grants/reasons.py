"""Why a grant is in its state: a closed list, since people and alerts match on it. And what to do about each."""

from typing import Final, Literal

ActiveReason = Literal["Admitted", "QualifiesAgain"]
SuspendedReason = Literal[
    "NotAdmitted",
    "NotQualified",
    "NoLongerQualifies",
    "ExceptionEnded",
    "EphemeralContainerAdded",
    "Drifted",
    "EvidenceWithdrawn",
    "ReceiptKeyRevoked",
    "NodeLost",
    "NodeReplaced",
    "EpochChanged",
]
RevokedReason = Literal[
    "Completed",
    "Failed",
    "Deleted",
    "ImageChanged",
    "ServiceAccountChanged",
    "EphemeralContainerAdded",
    "Drifted",
    "EvidenceWithdrawn",
    "Misused",
    "LifetimeOver",
    "RevokedByOrder",
    "ReceiptMissing",
    "ReceiptInvalid",
    "ReceiptSpent",
]
ReceiptReason = Literal["ReceiptMissing", "ReceiptInvalid", "ReceiptSpent", "ReceiptKeyRevoked"]
"""Why a pod has no acceptable receipt."""
Reason = ActiveReason | SuspendedReason | RevokedReason

DriftReport = Literal["DriftReported", "DriftUnclear"]
"""Reasons of Events about a drift that leaves the grant as it is."""

_RESTART: Final = "Delete the pod, so that its controller makes another that is admitted anew."

REMEDIES: Final[dict[Reason, str]] = {
    "Admitted": "Nothing to do.",
    "QualifiesAgain": "Nothing to do.",
    "NotAdmitted": f"It was created before a policy governed it. {_RESTART}",
    "NotQualified": "Resolve what the message names, in the policy or in the pod.",
    "NoLongerQualifies": "Undo the change of policy, or replace the pod by one that satisfies it.",
    "ExceptionEnded": (
        "Resolve what the message names, replace the pod by one that satisfies its policies, or have another "
        "TrustException created."
    ),
    "EphemeralContainerAdded": f"Debug a copy instead (kubectl debug --copy-to --share-processes=false). {_RESTART}",
    "Drifted": f"What runs is not what was admitted: see what the node runs, and who put it there. {_RESTART}",
    "EvidenceWithdrawn": (
        "Have the image signed or attested anew, or replace the pod by one of an image whose evidence holds."
    ),
    "Misused": f"Find out who holds the token besides the pod (countersign trace), and close that way. {_RESTART}",
    "NodeLost": "Bring the node back, or delete the pod, so that it is made anew on another.",
    "NodeReplaced": f"Whether it still runs, nobody can tell. {_RESTART}",
    "EpochChanged": "Nothing to do: it comes back when its node was heard from and it was judged anew.",
    "Completed": "Nothing to do: its work is over.",
    "Failed": "Its work is over. Its controller, if it has one, makes another pod.",
    "Deleted": "Nothing to do: the pod is gone or going.",
    "ImageChanged": f"Change images in the template of its controller, never in a running pod. {_RESTART}",
    "ServiceAccountChanged": f"Another account of the same name is another identity. {_RESTART}",
    "LifetimeOver": f"maxLifetimeSeconds of its policy is over. {_RESTART}",
    "RevokedByOrder": "Read the Revocation that it names; a new pod is judged anew.",
    "ReceiptMissing": f"It was created while no gate answered, or around it. {_RESTART}",
    "ReceiptInvalid": f"Its receipt was not made for this pod. {_RESTART}",
    "ReceiptSpent": f"Its receipt was copied from another pod, and a receipt counts once. {_RESTART}",
    "ReceiptKeyRevoked": (
        "The key that signed its receipt was revoked. If that was a mistake: countersign receipt-key restore. "
        f"Otherwise: {_RESTART}"
    ),
}

DRIFT_REMEDIES: Final[dict[DriftReport, str]] = {
    "DriftReported": (
        "Its identity stays, for its policy says `drift: Report`. See what the node runs, and who put it there. "
        f"{_RESTART}"
    ),
    "DriftUnclear": (
        "Its identity stays: nothing proves that another image runs. Compare that digest's content with what was "
        "admitted (countersign image verify)."
    ),
}
