"""The receipt on a pod, as the controller reads it: at the first judgement, and again for a pod that has its grant."""

import base64
import binascii

from countersign.api.names import DRY_RUN_RECEIPT, RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.grants.judgement import ReceiptProblem, SpentReceipt
from countersign.keys.errors import ReceiptError, RevokedReceiptKeyError, UnknownReceiptKeyError
from countersign.keys.receipts import ReceiptVerifier, key_id_of, receipt_hash
from countersign.trust import receipt as receipts
from countersign.trust.receipt import BadReceipt, Receipt


class UnknownKeyError(Exception):
    """The receipt names a key that is not known here: read the keys anew before it is refused."""


def present(pod: Pod, verifier: ReceiptVerifier, *, keys_are_fresh: bool) -> SpentReceipt | ReceiptProblem:
    """What a pod shows at its first judgement. Raises UnknownKeyError unless the keys were read just now."""
    text = pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")
    if not text:
        return ReceiptProblem(
            "ReceiptMissing", "The pod carries no admission receipt: no gate has seen it, or none was there to answer."
        )
    if text == DRY_RUN_RECEIPT:
        return ReceiptProblem("ReceiptInvalid", "The pod was made of the answer to a dry run.")
    try:
        payload, key_id = verifier.verify(text)
        return SpentReceipt(receipts.decode(payload), receipt_hash(text), key_id)
    except RevokedReceiptKeyError as error:
        return ReceiptProblem("ReceiptKeyRevoked", f"Its admission receipt does not count: {error}.", key_id_of(text))
    except UnknownReceiptKeyError as error:
        if not keys_are_fresh:
            raise UnknownKeyError(str(error)) from None
        return ReceiptProblem("ReceiptInvalid", f"Its admission receipt does not count: {error}.")
    except (ReceiptError, BadReceipt) as error:
        return ReceiptProblem("ReceiptInvalid", f"Its admission receipt does not count: {error}.")


def remember(pod: Pod, spent_hash: str) -> Receipt | None:
    """The receipt of a pod that has its grant; None: the pod does not carry it any more.

    Its text is the one that was verified when the grant was made, by its hash; so the key may be dropped by now, which
    happens to the receipts of pods that run for long. Whether it was revoked is asked by its id.
    """
    text = pod.metadata.annotations.get(RECEIPT_ANNOTATION, "")
    if not spent_hash or receipt_hash(text) != spent_hash:
        return None
    try:
        payload = text.split(".")[1]
        return receipts.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (BadReceipt, binascii.Error, IndexError):
        return None  # written by a release whose receipts this one cannot read
