"""Which containers receive a policy's tokens. Ephemeral containers never do."""

from collections.abc import Iterable

from countersign.api.pod import Container, Pod
from countersign.trust.images.extraction import image_name
from countersign.trust.policies.compiled import CompiledPolicy, CompiledToken
from countersign.trust.verdicts.problem import Problem


def recipients(policy: CompiledPolicy, token: CompiledToken, pod: Pod) -> tuple[Container, ...]:
    """The named containers that the pod has; if none are named, every ordinary one whose image a rule matches."""
    wanted = token.spec.containers
    if wanted:
        both = (*pod.spec.containers, *pod.spec.init_containers)
        return tuple(container for container in both if container.name in wanted)
    return tuple([container for container in pod.spec.containers if policy.covers(image_name(container.image))])


def all_recipients(policy: CompiledPolicy, pod: Pod) -> tuple[Container, ...]:
    """Every container that receives some token of the policy, each once."""
    each: Iterable[tuple[Container, ...]] = (recipients(policy, token, pod) for token in policy.tokens)
    return tuple({container.name: container for found in each for container in found}.values())


def nobody_receives(token: CompiledToken) -> Problem:
    """A report: the policy has a token, and the pod no container for it."""
    wanted = ", ".join(token.spec.containers[:3])
    return Problem(
        "TokenNotInjected",
        f"a container that receives token {token.spec.name}",
        f"no container called {wanted}" if wanted else "no container whose image a rule of the policy matches",
        "name the container as the policy does",
        denies=False,
        blocks_identity=False,
    )
