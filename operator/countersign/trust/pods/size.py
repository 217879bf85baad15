"""How much of a pod is judged: what one pod may cost everybody else.

Each image of a pod is held against each glob of its policies, by a process that answers for the whole cluster. A pod of
thousands of containers, or a namespace's own policies with every list full, would keep all others waiting.
"""

from collections.abc import Sequence
from typing import Final

from countersign.api.pod import Pod
from countersign.trust.images.extraction import extract
from countersign.trust.policies.compiled import MAX_EXPRESSIONS, CompiledPolicy

MAX_IMAGES: Final = 256
"""Containers of every kind and image volumes of one pod. A node runs 110 pods by default (kubelet, --max-pods)."""
MAX_COMPARISONS: Final = 16_384
"""Images times globs and tokens of their policies. The costliest glob took 4.5 us an image, so that a first sight takes
about 75 ms at the most; it allows ten images under fifty policies of thirty-two globs each."""


def too_large(policies: Sequence[CompiledPolicy], pod: Pod) -> str:
    """Why the pod's images are not judged; empty: they are."""
    uses = extract(pod)
    if len(uses) > MAX_IMAGES:
        return f"{len(uses)} containers and image volumes, more than {MAX_IMAGES}"
    weight = sum(policy.globs + len(policy.tokens) for policy in policies)
    images = len({use.image for use in uses})
    if images * weight > MAX_COMPARISONS:
        return f"{images} images under policies of {weight} globs and tokens: more than {MAX_COMPARISONS} comparisons"
    expressions = sum(policy.expressions for policy in policies)
    if expressions > MAX_EXPRESSIONS:
        return f"policies of {expressions} regular expressions for signers: more than {MAX_EXPRESSIONS}"
    return ""
