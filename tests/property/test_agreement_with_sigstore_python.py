"""Two readings of one bundle: whatever is put together from genuine parts, sigstore-python's verdict and ours agree.

A part of one genuine bundle stands in another's place. What sigstore-python refuses for another reason than that it
cannot verify it, an entry too many, say, is no disagreement: we look at each proof on its own.
"""

import copy
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sigstore.errors import CertValidationError, Error, VerificationError
from sigstore.models import Bundle, InvalidBundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import UnsafeNoOp

from countersign.signatures.errors import SignatureError
from countersign.signatures.roots.trust_root import parse_trust_root
from tests.fakes.conformance import Vector, signers_of, vectors

GENUINE = sorted(
    name
    for name, vector in vectors().items()
    if not name.endswith("_fail")
    and not vector.key
    # Where sigstore-python gets sigstore-conformance's expectation wrong: see test_conformance.
    and name not in {"intoto-with-custom-trust-root", "trust-root-tsa-validity-end-inclusive"}
)
NOT_OURS = {"messageDigest", "mediaType"}
"""A blob's digest, which is a hint; and the version, which says how a certificate is written down."""

Path_ = tuple[str | int, ...]


def _places(value: Any, path: Path_ = ()) -> list[Path_]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner if key not in NOT_OURS for place in [(*path, key), *_places(one, (*path, key))]]


def _at(value: Any, path: Path_) -> Any:
    for key in path:
        value = value[key]
    return value


@cache
def _parts(name: str | int) -> list[Any]:
    """What stands under this name, in all genuine bundles."""
    members = [vectors()[one].members for one in GENUINE]
    return [_at(one, place) for one in members for place in _places(one) if place[-1] == name]


@cache
def _verifier(root: bytes) -> Verifier:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trusted_root.json"
        path.write_bytes(root)
        return Verifier(trusted_root=TrustedRoot.from_file(str(path)))


def _they_accept(vector: Vector) -> bool | None:
    """None: they have not come to verify it."""
    try:
        bundle = Bundle.from_json(vector.bundle)
        if "dsseEnvelope" in vector.members:
            _verifier(vector.root).verify_dsse(bundle, UnsafeNoOp())
        else:
            _verifier(vector.root).verify_artifact(vector.artifact, bundle, UnsafeNoOp())
    except InvalidBundle:
        return None
    except (VerificationError, CertValidationError):
        return False
    except (Error, ValueError):
        return None
    return True


def _we_accept(vector: Vector) -> bool:
    try:
        found = signers_of(vector, (parse_trust_root(vector.root),))
    except SignatureError:
        return False
    return any(vouch.proof is not None and {"log", "sct"} <= set(vouch.proof.kinds) for vouch in found.vouches)


@given(st.sampled_from(GENUINE), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_bundle_with_a_part_of_anothers_is_accepted_by_both_or_by_none(name: str, data: st.DataObject) -> None:
    vector = vectors()[name]
    members = copy.deepcopy(vector.members)
    *way, last = data.draw(st.sampled_from(_places(members)))
    _at(members, tuple(way))[last] = copy.deepcopy(data.draw(st.sampled_from(_parts(last))))
    spliced = vector._replace(bundle=json.dumps(members).encode())
    theirs = _they_accept(spliced)
    if theirs is None or (theirs and last == "keyId"):  # they try every key of the root; we, the one that is named
        return
    assert _we_accept(spliced) is theirs
