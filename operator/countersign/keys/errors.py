"""What can be wrong with stored keys and with receipts."""


class KeysError(Exception):
    """Base of every error of this package."""


class UnreadableKeysError(KeysError):
    """A Secret or a PEM block does not have the shape that Countersign writes. Names the Secret key and the way out."""


class ReceiptError(KeysError):
    """A receipt that must not be believed."""


class MalformedReceiptError(ReceiptError):
    """Not a compact JWS as Countersign writes it (RFC 7515 section 7.1)."""


class ReceiptTooLargeError(ReceiptError):
    """Larger than `receipts.MAX_RECEIPT_BYTES`."""


class UnknownReceiptKeyError(ReceiptError):
    """Signed by a key that is not, or no longer, among the receipt keys."""


class RevokedReceiptKeyError(ReceiptError):
    """Signed by a key that was revoked."""


class BadReceiptSignatureError(ReceiptError):
    """The signature is not that of the named key over these bytes."""
