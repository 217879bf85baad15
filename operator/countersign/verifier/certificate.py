"""The serving certificate, from the Secret that the controller keeps: taken over as soon as it changes."""

import asyncio

import msgspec
import structlog

from countersign.cluster.cache import Change, Deleted
from countersign.keys.errors import KeysError
from countersign.keys.secrets import decode_serving, from_secret_data
from countersign.keys.serving import HotCertificate
from countersign.tls import UnusableKeyPairError

_log = structlog.get_logger(__name__)


class TlsSecret(msgspec.Struct, frozen=True):
    """A Secret of type kubernetes.io/tls, as far as it is read. Values are base64."""

    data: dict[str, str] = {}


class ServedCertificate:
    """Feed it every change of the Secret. `ready` is set once there is a certificate to serve."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.hot: HotCertificate | None = None

    def on_change(self, change: Change[TlsSecret]) -> None:
        """Take over what the Secret now holds; what cannot be used, or a deletion, leaves the last one in service."""
        if isinstance(change, Deleted):
            _log.warning("serving certificate deleted: the last one stays in service")
            return
        try:
            serving = decode_serving(from_secret_data(change.new.data))
            if self.hot is None:
                self.hot = HotCertificate(serving.certificate, serving.private_key)
            elif not self.hot.swap(serving.certificate, serving.private_key):
                return
        except (KeysError, UnusableKeyPairError) as error:
            _log.error("serving certificate cannot be used", error=str(error), secret=change.key.name)
            return
        _log.info("serving certificate", not_after=self.hot.not_after.isoformat())
        self.ready.set()
