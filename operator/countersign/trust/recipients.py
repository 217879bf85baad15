"""Which containers receive a policy's tokens. Ephemeral containers never do."""

from collections.abc import Iterable, Mapping

from countersign.api.pod import Container, Pod
from countersign.trust.compiled import CompiledPolicy, CompiledToken
from countersign.trust.reference import BadReference, ImageReference


def image_name(image: str) -> str | None:
    """Normalised `registry/repository`, or None for what is no image reference."""
    try:
        return ImageReference.parse(image).name
    except BadReference:
        return None


def recipients(
    policy: CompiledPolicy, token: CompiledToken, pod: Pod, names: Mapping[str, str | None]
) -> tuple[Container, ...]:
    """The named containers that the pod has; if none are named, every ordinary one whose image a rule matches.

    `names` maps an image string to its normalised name, where the caller knows it already.
    """
    wanted = token.spec.containers
    if wanted:
        both = (*pod.spec.containers, *pod.spec.init_containers)
        return tuple(container for container in both if container.name in wanted)
    return tuple(
        container
        for container in pod.spec.containers
        if (name := names.get(container.image) or image_name(container.image)) is not None
        and any(rule.matches(name) for rule in policy.rules)
    )


def all_recipients(policy: CompiledPolicy, pod: Pod, names: Mapping[str, str | None]) -> tuple[Container, ...]:
    """Every container that receives some token of the policy, each once."""
    each: Iterable[tuple[Container, ...]] = (recipients(policy, token, pod, names) for token in policy.tokens)
    return tuple({container.name: container for found in each for container in found}.values())
