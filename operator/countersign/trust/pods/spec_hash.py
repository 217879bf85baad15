"""The hash that says whether a pod's spec is still the one that was judged."""

import hashlib

import msgspec

from countersign.api.pod import Pod

_encoder = msgspec.json.Encoder(order="deterministic")


def spec_hash(pod: Pod) -> str:
    """`sha256:<hex>` over the declared members of the spec (`api.pod`) in msgspec's deterministic JSON.

    Left out is what others write into an admitted pod: the scheduler (`nodeName`) and `pods/ephemeralcontainers`, which
    are judged on their own. The API server has written its defaults before a webhook sees the pod, and what we add
    leaves it nothing to default, so that the hash at mutation is that of the stored pod.
    """
    spec = pod.spec
    if spec.node_name or spec.ephemeral_containers:
        spec = msgspec.structs.replace(spec, node_name="", ephemeral_containers=())
    return f"sha256:{hashlib.sha256(_encoder.encode(spec)).hexdigest()}"
