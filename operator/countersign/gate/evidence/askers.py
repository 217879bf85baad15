"""As whom a registry is asked: the pod's credentials, then the gate's own, as the kubelet tries its node's last.

Source: kubernetes pkg/credentialprovider (keyring.go, UnionDockerKeyring; secrets/secrets.go, MakeDockerKeyring).
"""

import asyncio
from typing import Final

import msgspec
import structlog

from countersign.gate.evidence.memory import Memory
from countersign.gate.evidence.request import EvidenceRequest, NoOwnCredentials, OwnCredentials, PullSecret, PullSecrets
from countersign.registry.client import Access
from countersign.registry.credentials import (
    ANONYMOUS,
    BadDockerConfig,
    Credential,
    Keyring,
    parse_docker_config,
    scope_of,
)
from countersign.registry.fairness import Share

_KEYRING_BYTES: Final = 8 * 1024 * 1024

_log = structlog.get_logger()


class Asker(msgspec.Struct, frozen=True):
    """Who asks, until when, and with what."""

    namespace: str
    deadline: float
    credentials: dict[str, tuple[Credential, ...]]
    """By repository (`registry/repository`), in the order in which to try them."""
    scope: str
    """A name for all of them (`registry.credentials.scope_of`): what they may see is part of every question."""

    def access(self, repository: str, share: Share) -> Access:
        """To one of the repositories."""
        return Access(share, self.credentials[repository])


class Askers:
    """Finds the credentials of requests."""

    def __init__(self, pull_secrets: PullSecrets | None, own: OwnCredentials | None = None) -> None:
        """Without `pull_secrets` pods have no credentials."""
        self._pull_secrets = pull_secrets
        self._own = own or NoOwnCredentials()
        self._keyrings: Memory[tuple[PullSecret, ...], Keyring] = Memory(_KEYRING_BYTES)

    async def of(self, request: EvidenceRequest, deadline: float) -> Asker:
        """The asker of a request. Raises PullSecretsUnavailable."""
        name = request.reference.name
        names = dict.fromkeys((name, *(one for one in request.repositories if one)))
        if not needs_registry(request):
            return Asker(request.namespace, deadline, dict.fromkeys(names, ()), "")
        keyring = ANONYMOUS
        if self._pull_secrets is not None:
            within = deadline - asyncio.get_running_loop().time()
            keyring = self._keyring(
                tuple(
                    await self._pull_secrets.for_pod(
                        request.namespace, request.service_account, request.pull_secrets, within
                    )
                )
            )
        own = self._keyring(tuple(self._own.secrets()))
        credentials = {one: tuple(dict.fromkeys((*keyring.lookup(one), *own.lookup(one)))) for one in names}
        scope = ",".join(scope_of(several) for several in credentials.values()) if len(names) > 1 else ""
        return Asker(request.namespace, deadline, credentials, scope or scope_of(credentials[name]))

    def _keyring(self, secrets: tuple[PullSecret, ...]) -> Keyring:
        if not secrets:
            return ANONYMOUS
        keyring = self._keyrings.fresh(secrets, 0.0)
        if keyring is None:
            entries: list[tuple[str, Credential]] = []
            for secret in secrets:
                try:
                    entries += parse_docker_config(secret.type, secret.data)
                except BadDockerConfig as error:
                    _log.warning("pull secret left out", message=str(error))
            keyring = Keyring(entries)
            size = 3 * sum(len(secret.data) for secret in secrets)
            # A function of its key: it never expires, for the clock here is 0.
            self._keyrings.put(secrets, keyring, 0.0, seconds=1.0, size=size)
        return keyring


def needs_registry(request: EvidenceRequest) -> bool:
    """Whether anything must be found out that does not stand in the request."""
    return bool(
        request.reference.digest is None or request.wants_signatures or request.want_config or request.platforms
    )
