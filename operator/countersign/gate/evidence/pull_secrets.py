"""The registry credentials of a pod: its own imagePullSecrets and those of its service account, read live.

We may read Secrets only in the namespaces that were given to us (chart value `gate.pullSecretNamespaces`). Elsewhere
registries are asked anonymously, which is said in the log: the registry's refusal then reaches the pod's author.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog

from countersign.api.admission import ServiceAccount
from countersign.api.secret import Secret
from countersign.cluster.errors import ClusterError, ForbiddenError, InvalidNameError
from countersign.gate.evidence.memory import Memory
from countersign.gate.evidence.request import PullSecret, PullSecretsUnavailable

CACHE_SECONDS: Final = 10.0
"""How long what was read is believed: a rollout's pods ask for the same, and a new Secret is in force soon."""
CACHE_BYTES: Final = 16 * 1024 * 1024
"""Secrets may have a megabyte each, and a namespace as many as it likes."""
MAX_SECRETS: Final = 32
"""Pull secrets of one pod. Each is a read; the kubelet has no bound, and no pod has that many."""
READ_SECONDS: Final = 2.0
_KEYS: Final = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}

_Scope = tuple[str, str, tuple[str, ...]]

_log = structlog.get_logger()


class SecretReads(Protocol):
    """Live objects; each method raises ClusterError when the API server cannot tell."""

    async def service_account(self, namespace: str, name: str, within: float) -> ServiceAccount | None:
        """A service account."""

    async def secret(self, namespace: str, name: str, within: float) -> Secret | None:
        """A Secret. Raises ForbiddenError where we may not read it."""


class LivePullSecrets:
    """`gate.evidence.service.PullSecrets` over the API server, one read in flight for each pod's set of secrets."""

    def __init__(self, reads: SecretReads, clock: Callable[[], float] = time.monotonic) -> None:
        self._reads = reads
        self._clock = clock
        self._known: Memory[_Scope, tuple[PullSecret, ...]] = Memory(CACHE_BYTES)
        self._reading: dict[_Scope, asyncio.Task[tuple[PullSecret, ...]]] = {}

    async def for_pod(
        self, namespace: str, service_account: str, names: tuple[str, ...], within: float
    ) -> Sequence[PullSecret]:
        """As in `gate.evidence.service.PullSecrets`. Raises PullSecretsUnavailable."""
        scope = (namespace, service_account, names)
        known = self._known.fresh(scope, self._clock())
        if known is not None:
            return known
        reading = self._reading.get(scope)
        if reading is None:
            reading = self._reading[scope] = asyncio.create_task(self._read(*scope))
            reading.add_done_callback(lambda task: self._end(scope, task))
        try:
            async with asyncio.timeout(max(within, 0.0)):
                return await asyncio.shield(reading)
        except TimeoutError:
            raise PullSecretsUnavailable("its pull secrets could not be read in time") from None
        except ClusterError as error:
            _log.warning("pull secrets cannot be read", namespace=namespace, error=str(error))
            raise PullSecretsUnavailable(
                "its pull secrets cannot be read now: the API server does not answer"
            ) from error

    async def close(self) -> None:
        """Cancel what is being read."""
        tasks = tuple(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, scope: _Scope, task: asyncio.Task[tuple[PullSecret, ...]]) -> None:
        self._reading.pop(scope, None)
        if not task.cancelled() and task.exception() is None:
            secrets = task.result()
            size = sum(len(secret.data) for secret in secrets)
            self._known.put(scope, secrets, self._clock(), seconds=CACHE_SECONDS, size=size)

    async def _read(self, namespace: str, service_account: str, names: tuple[str, ...]) -> tuple[PullSecret, ...]:
        # The ServiceAccount plug-in copies the account's secrets into a pod that names none of its own; both are asked
        # for all the same, since a pod may be judged before it, as that of a template is.
        account = await _unless_forbidden(self._reads.service_account(namespace, service_account, READ_SECONDS))
        listed = account.image_pull_secrets if account is not None else ()
        wanted = dict.fromkeys((*names, *(reference.get("name", "") for reference in listed)))
        found = []
        for name in tuple(filter(None, wanted))[:MAX_SECRETS]:
            try:
                secret = await self._reads.secret(namespace, name, READ_SECONDS)
            except InvalidNameError:
                continue  # no object can have that name
            except ForbiddenError:
                _log.warning(
                    "pull secrets of this namespace may not be read: its registries are asked anonymously; "
                    "list it in the chart's gate.pullSecretNamespaces",
                    namespace=namespace,
                )
                return ()
            content = _content(secret)
            if content is not None:
                found.append(content)
        return tuple(found)


async def _unless_forbidden(reading: Awaitable[ServiceAccount | None]) -> ServiceAccount | None:
    try:
        return await reading
    except (ForbiddenError, InvalidNameError):
        return None


def _content(secret: Secret | None) -> PullSecret | None:
    if secret is None or secret.type not in _KEYS:
        return None
    try:
        return PullSecret(secret.type, base64.b64decode(secret.data.get(_KEYS[secret.type], ""), validate=True))
    except (binascii.Error, ValueError):
        return None
