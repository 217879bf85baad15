"""Our own Secrets as their watches bring them: the serving certificate and the receipt keys, each in force at once.

What cannot be used, or a deletion, leaves the last good one in service.
"""

from typing import Final

import structlog

from countersign.api.secret import Secret
from countersign.cluster.cache import Change, Deleted
from countersign.keys.errors import KeysError
from countersign.keys.receipt_keys import ReceiptKeys
from countersign.keys.receipts import ReceiptSigner, ReceiptVerifier
from countersign.keys.secrets import decode_receipt_keys, from_secret_data
from countersign.keys.served import ServedCertificate

_NO_KEYS: Final = ReceiptKeys(())

_log = structlog.get_logger()


class OwnSecrets:
    """Feed it the changes of both Secrets."""

    def __init__(self) -> None:
        self.certificate = ServedCertificate()
        self.signer = ReceiptSigner(_NO_KEYS)
        self.verifier = ReceiptVerifier(_NO_KEYS)

    @property
    def has_receipt_keys(self) -> bool:
        """Whether receipts can be signed and verified."""
        return bool(self.verifier.keys.keys)

    def on_certificate(self, change: Change[Secret]) -> None:
        """A change of the Secret with the serving certificate."""
        self.certificate.take(None if isinstance(change, Deleted) else change.new.data)

    def on_receipt_keys(self, change: Change[Secret]) -> None:
        """A change of the Secret with the receipt keys."""
        if isinstance(change, Deleted):
            _log.warning("receipt keys deleted: the last ones stay in use")
            return
        try:
            keys = decode_receipt_keys(from_secret_data(change.new.data))
        except KeysError as error:
            _log.error("receipt keys cannot be used", error=str(error))
            return
        self.signer.keys = keys
        self.verifier.keys = keys
        _log.info("receipt keys", ids=[key.id for key in keys.keys], revoked=len(keys.revoked))
