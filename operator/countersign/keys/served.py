"""The serving certificate of gate and verifier, out of the Secret that the controller keeps: in force at once."""

import asyncio
from collections.abc import Mapping

import structlog

from countersign.keys.errors import KeysError
from countersign.keys.secrets import decode_serving, from_secret_data
from countersign.keys.serving import HotCertificate
from countersign.tls import UnusableKeyPairError

_log = structlog.get_logger(__name__)


class ServedCertificate:
    """Give it what the Secret holds, each time that it changes."""

    def __init__(self) -> None:
        self.hot: HotCertificate | None = None
        self._there = asyncio.Event()

    async def first(self) -> HotCertificate:
        """Wait until there is a certificate to serve."""
        await self._there.wait()
        assert self.hot is not None  # noqa: S101 - the event says so
        return self.hot

    def take(self, data: Mapping[str, str] | None) -> None:
        """Serve what the Secret's `data` (base64) holds now; None: the Secret is gone.

        What cannot be used, or a deletion, leaves the last certificate in service.
        """
        if data is None:
            _log.warning("serving certificate deleted: the last one stays in service")
            return
        try:
            serving = decode_serving(from_secret_data(data))
            if self.hot is None:
                self.hot = HotCertificate(serving.certificate, serving.private_key)
            elif not self.hot.swap(serving.certificate, serving.private_key):
                return
        except (KeysError, UnusableKeyPairError) as error:
            _log.error("serving certificate cannot be used", error=str(error))
            return
        _log.info("serving certificate", not_after=self.hot.not_after.isoformat())
        self._there.set()
