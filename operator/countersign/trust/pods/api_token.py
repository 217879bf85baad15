"""The pod's ordinary API token: where it stands, and whether it is what the policies leave of it.

The ServiceAccount admission plugin mounts it from a projected volume `kube-api-access-<random>`, 3607 seconds long on
paper. That very number makes the API server extend the token to a year (serviceaccount.WarnOnlyBoundTokenExpiration).
"""

from collections.abc import Iterator
from typing import Final, Literal

from countersign.api.pod import Pod, ServiceAccountTokenProjection, Volume
from countersign.trust.verdicts.problem import Problem

ApiToken = Literal["Keep", "Shorten", "Remove"]
SHORT_SECONDS: Final = 3600
"""What Shorten writes. Any longer lifetime is shortened, 3607 among them."""
DEFAULT_VOLUME_PREFIX: Final = "kube-api-access-"
"""plugin/pkg/admission/serviceaccount: ServiceAccountVolumeName."""


def is_api_audience(audience: str) -> bool:
    """Whether the API server takes tokens of that audience for its own: none named, or its usual name."""
    return not audience or audience.startswith("https://kubernetes.default")


def api_tokens(volume: Volume) -> Iterator[tuple[int, ServiceAccountTokenProjection]]:
    """The sources of the volume that are API tokens, with their index."""
    if volume.projected is None:
        return
    for index, source in enumerate(volume.projected.sources):
        token = source.service_account_token
        if token is not None and is_api_audience(token.audience):
            yield index, token


def is_default_volume(volume: Volume) -> bool:
    """Whether it is the volume that Kubernetes itself puts into pods."""
    return volume.name.startswith(DEFAULT_VOLUME_PREFIX) and any(True for _ in api_tokens(volume))


def is_long(token: ServiceAccountTokenProjection) -> bool:
    """Whether Shorten changes it."""
    return token.expiration_seconds is not None and token.expiration_seconds > SHORT_SECONDS


def problem(pod: Pod, wanted: ApiToken, *, patched: bool) -> Problem | None:
    """What stands in the way of the policy's `apiToken`. `patched`: our patch has been applied to this pod."""
    if wanted == "Keep" or (wanted == "Shorten" and not patched):
        return None
    for volume in pod.spec.volumes:
        if wanted == "Remove" and not patched and is_default_volume(volume):
            continue
        for _, token in api_tokens(volume):
            if wanted == "Remove" or is_long(token):
                return Problem(
                    "ApiTokenKept",
                    "no API token in the pod" if wanted == "Remove" else f"API tokens of at most {SHORT_SECONDS} s",
                    f"volume {volume.name} projects one"
                    + ("" if wanted == "Remove" else f" of {token.expiration_seconds} s"),
                    "remove the volume, or ask the policy's owner for apiToken: Keep"
                    if wanted == "Remove"
                    else "have the cluster's admins see which webhook puts it back",
                )
    return None
