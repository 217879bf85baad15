"""Tokens as a pod carries them: what exactly stands in the pod for one token of a policy.

The injector writes these shapes and the judge compares with them, so that both mean the same. Members that the API
server would default (`defaultMode`, `expirationSeconds`) are written out: what is stored is then what was meant.
"""

from typing import Final, NamedTuple

import msgspec

from countersign.api.names import TOKEN_MOUNT_ROOT, TOKEN_VOLUME_PREFIX
from countersign.api.pod import (
    EnvVar,
    ProjectedVolume,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from countersign.api.policy import TokenSpec
from countersign.trust.policies.policy import PolicyRef

DEFAULT_MODE: Final = 0o644
"""What the API server writes where `defaultMode` is missing (core/v1 ProjectedVolumeSource)."""


class TokenShape(NamedTuple):
    """Volume, mount and variable of one token."""

    volume: Volume
    mount: VolumeMount
    env: EnvVar | None


class TokenGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A token of one policy for one pod, and the containers that receive it."""

    name: str
    audience: str
    expiration_seconds: int
    """Lifetime that the pod's volume asks for, and the longest that counts at use."""
    path: str
    env_var: str
    containers: tuple[str, ...]
    """Containers and init containers of this pod that receive it."""
    policy: PolicyRef
    owner: str
    """Owner that the policy names."""
    shape: TokenShape
    """How it stands in the pod."""


def token_shape(spec: TokenSpec) -> TokenShape:
    """How the token stands in a pod."""
    name, folder = volume_name(spec.name), mount_path(spec.name)
    projection = ServiceAccountTokenProjection(
        audience=spec.audience, expiration_seconds=spec.expiration_seconds, path=spec.path
    )
    sources = (VolumeProjection(service_account_token=projection),)
    return TokenShape(
        volume=Volume(name=name, projected=ProjectedVolume(sources=sources, default_mode=DEFAULT_MODE)),
        mount=VolumeMount(name=name, mount_path=folder, read_only=True),
        env=EnvVar(name=spec.env_var, value=f"{folder}/{spec.path}") if spec.env_var else None,
    )


def volume_name(token_name: str) -> str:
    """Name of the volume that carries the token."""
    return TOKEN_VOLUME_PREFIX + token_name


def mount_path(token_name: str) -> str:
    """Folder that the volume is mounted at."""
    return f"{TOKEN_MOUNT_ROOT}/{token_name}"


def audiences_in(volume: Volume) -> tuple[str, ...]:
    """Audiences of the service-account tokens that the volume projects; empty text is the API server's own."""
    if volume.projected is None:
        return ()
    return tuple(
        source.service_account_token.audience
        for source in volume.projected.sources
        if source.service_account_token is not None
    )
