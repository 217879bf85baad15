"""Questions about images, and whose credentials are used to answer them."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from countersign.signatures.keys import PublicKey
from countersign.trust.evidence.needs import PredicateNeed
from countersign.trust.images.reference import ImageReference


class EvidenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be found out about one image, and for whom."""

    reference: ImageReference
    keys: tuple[PublicKey, ...] = ()
    roots: tuple[str, ...] = ()
    """Names of the evidence roots by which certificates may vouch (`Roots.content`)."""
    predicates: tuple[PredicateNeed, ...] = ()
    """Attestations to look for, by these keys and under these roots."""
    platforms: bool = False
    """Look at the manifests of an index's platforms, too. Brings the configs along: which platforms there are."""
    repositories: tuple[str, ...] = ("",)
    """Where signatures are looked for, as `registry/repository`; empty: beside the image."""
    want_config: bool = False
    stale_seconds: int = 0
    """How old what was found out may be while the registry cannot answer."""
    max_age_seconds: float | None = None
    """How long ago what is remembered may have been found out; None: as long as it is fresh (`Lifetimes`)."""
    namespace: str
    service_account: str
    pull_secrets: tuple[str, ...] = ()
    """Names of the pod's own imagePullSecrets."""

    @property
    def wants_signatures(self) -> bool:
        """Whether anybody is asked about who could have signed."""
        return bool(self.keys or self.roots)

    @property
    def wants_configs(self) -> bool:
        """Whether the platforms' configs are needed."""
        return self.want_config or self.platforms


class PullSecret(msgspec.Struct, frozen=True):
    """A Secret with registry credentials, as the API server holds it (decoded)."""

    type: str
    """`kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`."""
    data: bytes


class PullSecretsUnavailable(Exception):  # noqa: N818 - the condition
    """The pod's pull secrets cannot be read now. The message is a phrase for a person."""


class PullSecrets(Protocol):
    """Where the credentials of a pod come from."""

    async def for_pod(
        self, namespace: str, service_account: str, names: tuple[str, ...], within: float
    ) -> Sequence[PullSecret]:
        """The named secrets and those of the service account, in the kubelet's order; missing ones are left out.

        Asked before every answer, warm ones too (what may be seen is part of the question), so answer from memory.
        `within` is in seconds. Raises PullSecretsUnavailable.
        """


class OwnCredentials(Protocol):
    """The gate's own credentials, tried after those of the pod."""

    def secrets(self) -> Sequence[PullSecret]:
        """What there is now. Asked before every answer."""


class NoOwnCredentials:
    """The gate has none."""

    def secrets(self) -> Sequence[PullSecret]:
        """Nothing."""
        return ()
