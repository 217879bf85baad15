"""The order that ends the identity of a pod which somebody goes into, written before he is let in."""

from typing import Final, NamedTuple

from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta, OwnerReference
from countersign.api.names import CAUSE_LABEL, TOKEN_VOLUME_PREFIX
from countersign.api.pod import Pod, is_terminal
from countersign.api.revocation import ObjectTarget, Revocation, RevocationSpec, Target
from countersign.trust.images.extraction import all_containers
from countersign.trust.orders.reach import ends

MAX_REASON: Final = 512
"""Of RevocationSpec.reason (api.revocation)."""
MAX_WORD: Final = 60


class Entry(NamedTuple):
    """Who does what to which part of a pod."""

    verb: str
    """`exec`, `attach` or `port-forward`."""
    user: str
    container: str = ""
    """Empty: the pod's only one, or the pod as a whole."""
    program: str = ""
    """The first word of an exec's command. Never more: arguments may hold secrets."""

    def __str__(self) -> str:
        """`exec sh in container app by eve`: for a Revocation's reason, printable and bounded."""
        program = f" {_word(self.program)}" if self.program else ""
        where = f" in container {_word(self.container)}" if self.container else ""
        return f"{self.verb}{program}{where} by {_word(self.user, 253)}"


def may_hold_tokens(pod: Pod) -> bool:
    """Whether the pod carries a volume of ours. One that does not never gets a token: its volumes cannot change."""
    return any(volume.name.startswith(TOKEN_VOLUME_PREFIX) for volume in pod.spec.volumes)


def order_name(pod_uid: str, distinct: str = "") -> str:
    """Name of the order for a pod. `distinct`: where somebody put another object in its place."""
    return f"exec-{pod_uid}-{distinct}" if distinct else f"exec-{pod_uid}"


def order(pod: Pod, entry: Entry, *, requested_by: str, distinct: str = "") -> Revocation:
    """The Revocation of this very instance. It goes when the pod goes: the grant keeps what it says."""
    meta = pod.metadata
    owner = OwnerReference(api_version="v1", kind="Pod", name=meta.name, uid=meta.uid)
    return Revocation(
        metadata=ObjectMeta(
            name=order_name(meta.uid, distinct),
            namespace=meta.namespace,
            labels={CAUSE_LABEL: entry.verb},
            owner_references=(owner,),
        ),
        spec=RevocationSpec(
            target=Target(pod=ObjectTarget(name=meta.name, uid=meta.uid)),
            reason=f"entered: {entry}"[:MAX_REASON],
            requested_by=requested_by,
        ),
    )


def ends_instance(revocation: Revocation, pod: Pod, grant: WorkloadGrant | None, system_namespace: str) -> bool:
    """Whether an order that exists ends this instance: by the grant that it has, or by naming its UID."""
    if grant is not None and ends(revocation, grant, system_namespace, node=pod.spec.node_name):
        return True
    target, meta = revocation.spec.target.pod, pod.metadata
    return (
        revocation.metadata.namespace == meta.namespace
        and target is not None
        and target.namespace in ("", meta.namespace)
        and (target.name, target.uid) == (meta.name, meta.uid)
    )


def nothing_to_enter(pod: Pod, container: str, *, by_container: bool) -> str:
    """Why the API server will let nobody in, whoever it is; empty if it may.

    Its own checks come after admission (kubernetes pkg/registry/core/pod/strategy.go, streamLocation and
    validateContainer): an identity is not to end for a name that was mistyped. `by_container`: exec and attach, which
    go into one container.
    """
    if is_terminal(pod):
        return f"it has ended ({pod.status.phase}): nothing runs in it any more"
    if not pod.spec.node_name:
        return "it has no node yet: nothing runs in it"
    if not by_container:
        return ""
    names = [one.name for one in all_containers(pod.spec)]
    if not container:
        return "" if len(pod.spec.containers) == 1 else f"it has several containers: name one of {', '.join(names)}"
    return "" if container in names else f"it has no container {container}: name one of {', '.join(names)}"


def _word(text: str, length: int = MAX_WORD) -> str:
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= length else clean[: length - 3] + "..."
