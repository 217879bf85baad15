"""The annotations of a classic signature, which nobody has signed: damaged, they prove less or nothing."""

import base64
import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.annotations import BUNDLE_ANNOTATION, CERTIFICATE_ANNOTATION, SIGNATURE_ANNOTATION
from countersign.signatures.roots.trust_root import parse_trust_root
from countersign.signatures.signers import open_payload
from tests.fakes.sigstore import NOW, FakeSigstore, hashedrekord_body, sign, text

SIGSTORE = FakeSigstore()
ROOT = parse_trust_root(SIGSTORE.trusted_root())
LEAF, STRANGER = SIGSTORE.leaf(), SIGSTORE.leaf()
PAYLOAD = b"{}"
SIGNATURE = sign(LEAF.key, PAYLOAD)
ENTRY = SIGSTORE.entry_v1(hashedrekord_body(SIGNATURE, LEAF.pem, PAYLOAD))
ANNOTATIONS = {
    SIGNATURE_ANNOTATION: text(SIGNATURE),
    CERTIFICATE_ANNOTATION: LEAF.pem.decode(),
    BUNDLE_ANNOTATION: json.dumps(
        {
            "SignedEntryTimestamp": ENTRY["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": ENTRY["canonicalizedBody"],
                "integratedTime": int(NOW.timestamp()),
                "logIndex": 7,
                "logID": base64.b64decode(ENTRY["logId"]["keyId"]).hex(),
            },
        }
    ),
}
(GOOD,) = open_payload(PAYLOAD, ANNOTATIONS, (), (ROOT,))


@st.composite
def _damaged(draw: st.DrawFn, value: str) -> str:
    start = draw(st.integers(0, len(value)))
    end = draw(st.integers(start, min(len(value), start + 30)))
    return (
        value[:start] + draw(st.text(max_size=4) | st.sampled_from(["0", "A", "=", '"', "-----", "\n"])) + value[end:]
    )


@given(st.sampled_from(sorted(ANNOTATIONS)), st.data())
def test_a_damaged_annotation_vouches_for_the_same_signer_or_for_nobody(name: str, data: st.DataObject) -> None:
    changed = ANNOTATIONS | {name: data.draw(_damaged(ANNOTATIONS[name]))}
    with contextlib.suppress(SignatureError):
        assert open_payload(PAYLOAD, changed, (), (ROOT,)) == (GOOD,)


@given(st.dictionaries(st.sampled_from(sorted(ANNOTATIONS)), st.just(STRANGER.pem.decode()) | st.text(max_size=40)))
def test_annotations_of_anothers_vouch_for_nobody_else(others: dict[str, str]) -> None:
    with contextlib.suppress(SignatureError):
        assert open_payload(PAYLOAD, ANNOTATIONS | others, (), (ROOT,)) == (GOOD,)
