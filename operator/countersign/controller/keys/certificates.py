"""Keeps the Secrets that hold keys: CA, serving certificates, receipt keys; and the CA's public half in a ConfigMap.

What they should hold is planned in `keys`; here it is read, compared and written, with resourceVersion as the lock. A
Secret that cannot be read is left alone and reported: a CA or a receipt key that was overwritten is lost.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import structlog

from countersign.api import names
from countersign.api.meta import OwnerReference
from countersign.api.secret import Secret
from countersign.cluster.cache import Change, Deleted
from countersign.cluster.client import ApiClient, Object
from countersign.cluster.errors import AlreadyExistsError, ClusterError, ConflictError, ForbiddenError, NotFoundError
from countersign.cluster.resource import CONFIG_MAPS, SECRETS, Resource
from countersign.controller.keys.ownership import Owner, references, repaired
from countersign.controller.leadership import Fence
from countersign.controller.metrics import ControllerMetrics
from countersign.keys.authority import (
    AuthoritySet,
    ServingCertificate,
    parse_certificate,
    plan_authorities,
    plan_serving,
)
from countersign.keys.errors import UnreadableKeysError
from countersign.keys.receipt_keys import ReceiptKeys, plan_receipt_keys
from countersign.keys.receipts import ReceiptVerifier
from countersign.keys.secrets import (
    Files,
    decode_authorities,
    decode_receipt_keys,
    decode_serving,
    encode_authorities,
    encode_receipt_keys,
    encode_serving,
    from_secret_data,
    to_secret_data,
)

RETRY_SECONDS: Final = 1.0
"""After a failure: an object that was collected between reading and writing is made anew at once."""
FIRST_REFRESH_SECONDS: Final = 1.0
"""Receipt keys are read anew for an unknown key id, but no more often than this."""
LABELS: Final = {"app.kubernetes.io/name": "countersign", "app.kubernetes.io/managed-by": "countersign-controller"}

_log = structlog.get_logger(__name__)


class KeyKeeper:
    """Writes while it leads; reads the receipt keys and the CA at any time."""

    def __init__(
        self,
        client: ApiClient,
        fence: Fence,
        namespace: str,
        metrics: ControllerMetrics,
        *,
        owner: Owner,
        serving: dict[str, Sequence[str]],
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        marked: Callable[[frozenset[str]], None],
    ) -> None:
        """`serving`: names on the certificate, by the Secret that holds it. `changed` is told of another CA bundle,
        `marked` of the ids of receipt keys that were revoked or restored.
        """
        self.receipts = ReceiptVerifier(ReceiptKeys(()))
        self.ca_bundle = b""
        self._client = client
        self._fence = fence
        self._namespace = namespace
        self._metrics = metrics
        self._owner = owner
        self._serving = serving
        self._clock = clock
        self._changed = changed
        self._marked = marked
        self._refreshed_at = float("-inf")
        self._owned_by: OwnerReference | None = None
        self._failures = 0
        self._told = False

    async def run(self, every: float) -> None:
        """Keep them until cancelled."""
        while True:
            done = await self.ensure()
            await asyncio.sleep(every if done else min(every, RETRY_SECONDS))

    async def ensure(self) -> bool:
        """Bring everything up to date; False if some of it failed: logged, counted, tried again by `run`."""
        failures = self._failures
        try:
            self._owned_by = await self._owner.find()
        except ClusterError as error:
            self._failed("owner", error)
            return False
        authorities = await self._try(names.CA_SECRET, self._ensure_authorities())
        if authorities is not None:
            for secret, hosts in self._serving.items():
                await self._try(secret, self._ensure_serving(secret, hosts, authorities))
            await self._try(f"configmap/{names.CA_CONFIGMAP}", self._ensure_configmap(authorities))
        await self._try(names.RECEIPT_KEYS_SECRET, self._ensure_receipt_keys())
        return self._failures == failures

    async def refresh_receipt_keys(self) -> None:
        """Read the receipt keys anew, for a receipt whose key is not known."""
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at < FIRST_REFRESH_SECONDS:
            return
        self._refreshed_at = now
        stored = await self._read(SECRETS, names.RECEIPT_KEYS_SECRET)
        if stored is not None:
            self._adopt(decode_receipt_keys(_files(stored)))

    def on_receipt_keys(self, change: Change[Secret]) -> None:
        """A change of the Secret with the receipt keys: a person revoked one, or another replica rotated them."""
        if isinstance(change, Deleted):
            return  # `ensure` makes new ones
        try:
            self._adopt(decode_receipt_keys(from_secret_data(change.new.data)))
        except UnreadableKeysError as error:
            self._metrics.certificate_errors.labels(names.RECEIPT_KEYS_SECRET).inc()
            _log.error("keys not kept", object=names.RECEIPT_KEYS_SECRET, error=str(error))

    async def _try(self, what: str, attempt: Any) -> Any:
        try:
            return await attempt
        except (ClusterError, UnreadableKeysError) as error:
            self._failed(what, error)
            return None

    def _failed(self, what: str, error: Exception) -> None:
        self._failures += 1
        self._metrics.certificate_errors.labels(what).inc()
        _log.error("keys not kept", object=what, error=str(error))

    async def _ensure_authorities(self) -> AuthoritySet:
        stored = await self._read(SECRETS, names.CA_SECRET)
        current = decode_authorities(_files(stored)) if stored else None
        planned = plan_authorities(current, self._clock())
        if planned is not None:
            await self._write_secret(names.CA_SECRET, encode_authorities(planned), stored)
        await self._own(SECRETS, names.CA_SECRET, stored)
        authorities = planned or current
        assert authorities is not None  # noqa: S101 - a plan for nothing is a new set
        bundle = authorities.trust_bundle()
        if bundle != self.ca_bundle:
            self.ca_bundle = bundle
            self._changed()
        self._observe("ca", authorities.authorities[-1].certificate)
        return authorities

    async def _ensure_serving(self, name: str, hosts: Sequence[str], authorities: AuthoritySet) -> None:
        stored = await self._read(SECRETS, name)
        current: ServingCertificate | None = None
        if stored is not None:
            try:
                current = decode_serving(_files(stored))
            except UnreadableKeysError as error:
                _log.warning("certificate cannot be read, a new one is made", object=name, error=str(error))
        planned = plan_serving(current, authorities, hosts, self._clock())
        if planned is not None:
            await self._write_secret(name, encode_serving(planned), stored, kind="kubernetes.io/tls")
            _log.info("certificate written", object=name)
        await self._own(SECRETS, name, stored)
        if serving := planned or current:
            self._observe(name, serving.certificate)

    async def _ensure_configmap(self, authorities: AuthoritySet) -> None:
        stored = await self._read(CONFIG_MAPS, names.CA_CONFIGMAP)
        data = {"ca.crt": authorities.trust_bundle().decode("ascii")}
        if stored is None:
            await self._create(CONFIG_MAPS, "ConfigMap", names.CA_CONFIGMAP, {"data": data})
        elif stored.get("data") != data:
            await self._patch(CONFIG_MAPS, names.CA_CONFIGMAP, {"data": data}, stored)
        await self._own(CONFIG_MAPS, names.CA_CONFIGMAP, stored)

    async def _ensure_receipt_keys(self) -> ReceiptKeys:
        stored = await self._read(SECRETS, names.RECEIPT_KEYS_SECRET)
        current = decode_receipt_keys(_files(stored)) if stored else None
        planned = plan_receipt_keys(current, self._clock())
        if planned is not None:
            await self._write_secret(names.RECEIPT_KEYS_SECRET, encode_receipt_keys(planned), stored)
        await self._own(SECRETS, names.RECEIPT_KEYS_SECRET, stored)
        keys = planned or current
        assert keys is not None  # noqa: S101 - a plan for nothing is a new set
        self._adopt(keys)
        return keys

    def _adopt(self, keys: ReceiptKeys) -> None:
        marks = keys.revoked ^ self.receipts.keys.revoked
        if keys != self.receipts.keys:
            self.receipts.keys = keys
        if marks:
            _log.warning("receipt keys revoked or restored", ids=sorted(marks), revoked=sorted(keys.revoked))
            self._marked(marks)

    def _observe(self, what: str, certificate: bytes) -> None:
        left = parse_certificate(certificate).not_valid_after_utc - self._clock()
        self._metrics.certificate_expiry.labels(what).set(left.total_seconds())

    async def _read(self, resource: Resource, name: str) -> Object | None:
        try:
            return await self._client.get(resource, name, dict[str, Any], namespace=self._namespace)
        except NotFoundError:
            return None

    async def _write_secret(self, name: str, files: Files, stored: Object | None, *, kind: str = "Opaque") -> None:
        data = to_secret_data(files)
        if stored is None:
            await self._create(SECRETS, "Secret", name, {"type": kind, "data": data})
        else:
            # Files that are not ours any more go; a type cannot be changed and is left.
            gone = dict.fromkeys(set(stored.get("data") or {}) - set(data))
            await self._patch(SECRETS, name, {"data": data | gone}, stored)

    async def _create(self, resource: Resource, kind: str, name: str, content: Object) -> None:
        self._fence.fence()
        meta = {
            "name": name,
            "namespace": self._namespace,
            "labels": LABELS,
            "ownerReferences": references(self._owned_by),
        }
        body = {"apiVersion": "v1", "kind": kind, "metadata": meta, **content}
        try:
            await self._client.create(resource, body, namespace=self._namespace)
        except AlreadyExistsError as error:
            raise ConflictError(409, "Conflict", f"{name} was made meanwhile: {error}") from error

    async def _own(self, resource: Resource, name: str, stored: Object | None) -> None:
        """A write of its own: it may be refused where the keys may be written, and those must go on being kept."""
        wanted = repaired(stored, self._owned_by) if stored is not None else None
        if stored is None or wanted is None:
            return
        self._fence.fence()
        # The UID makes it conditional: another object of that name is looked at by the next check.
        patch = {"metadata": {"uid": stored["metadata"]["uid"], "ownerReferences": wanted}}
        try:
            await self._client.merge_patch(resource, name, patch, dict[str, Any], namespace=self._namespace)
        except ForbiddenError as error:
            # OwnerReferencesPermissionEnforcement wants the right to delete, which the controller does not need.
            if not self._told:
                _log.warning("owner not set, this will outlive an uninstall", object=name, error=str(error))
                self._told = True

    async def _patch(self, resource: Resource, name: str, content: Object, stored: Object) -> None:
        self._fence.fence()
        patch = {"metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]}, **content}
        await self._client.merge_patch(resource, name, patch, dict[str, Any], namespace=self._namespace)


def service_names(service: str, namespace: str, domain: str, more: Sequence[str]) -> tuple[str, ...]:
    """The names on a Service's certificate, from what the API server asks for (`<service>.<namespace>.svc`) on."""
    short = (f"{service}.{namespace}.svc", service, f"{service}.{namespace}", f"{service}.{namespace}.svc.{domain}")
    return (*short, *more)


def _files(secret: Object) -> dict[str, bytes]:
    return from_secret_data(secret.get("data"))
