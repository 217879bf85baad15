"""Images signed by the real cosign in each way that the gate verifies, each in a namespace with a policy of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.far_registry import FarRegistry
from tests.bench.setting import ACCOUNT, AUDIENCE, Setting
from tests.lab.cosign import KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.sigstore.services import Rekor
from tests.stack import objects
from tests.stack.objects import Object

ROOT: Final = "bench"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
CONDITION: Final = (
    "predicate.buildDefinition.externalParameters.workflow.repository == 'https://github.com/acme/ledger' && "
    "predicate.buildDefinition.resolvedDependencies.all(one, one.uri.startsWith('git+https://github.com/acme/'))"
)
PREDICATE: Final[Mapping[str, Any]] = {
    "buildDefinition": {
        "buildType": "https://actions.github.io/buildtypes/workflow/v1",
        "externalParameters": {"workflow": {"repository": "https://github.com/acme/ledger", "ref": "refs/tags/v1"}},
        "resolvedDependencies": [{"uri": "git+https://github.com/acme/ledger@refs/tags/v1"}],
    },
    "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}},
}


@dataclass(frozen=True)
class Signed:
    """An image, how it is signed, and the namespace whose policy asks for just that."""

    kind: str
    signatures: int
    image: PushedImage
    namespace: str


class SignedImages:
    """Makes them, and declares their policies. Names begin with a prefix, so that benchmarks do not meet."""

    def __init__(self, setting: Setting, far: FarRegistry, prefix: str) -> None:
        self._setting = setting
        self._far = far
        self._prefix = prefix
        self._objects: list[Object] = []

    def keyed(self, signatures: int = 1, *, authorities: int = 1) -> Signed:
        """By a key; before it so many others have signed, to make it so many signatures.

        The policy would take the word of so many authorities, of which only that one has signed.
        """
        kind = "keyed" if authorities == 1 else f"keyed, {authorities} keys"

        def sign(image: PushedImage) -> Object:
            *others, ours = self._keys(kind, signatures + authorities - 1)
            for key in (*others[: signatures - 1], ours):
                self._cosign.sign(self._far.near, image, key)
            asked = (*others[signatures - 1 :], ours)
            return {"authorities": [_by(key, f"release-{number}") for number, key in enumerate(asked)]}

        return self._signed(kind, signatures, sign)

    def keyless(self, rekor: Rekor, signatures: int = 1) -> Signed:
        """By a certificate, with a timestamp and an entry in this log."""

        def sign(image: PushedImage) -> Object:
            sigstore = self._setting.lab.sigstore
            names = [f"acme/other-{number}" for number in range(signatures - 1)] + ["acme/ledger"]
            for name in names:
                who = sigstore.issuers.github(name, ref="refs/tags/v1")
                self._cosign.sign_keyless(self._far.near, image, who, sigstore, rekor=rekor)
            if not any(one["kind"] == "EvidenceRoot" for one in self._objects):
                self._objects.append(objects.evidence_root(ROOT, trustedRoot=sigstore.trusted_root.read_text()))
            keyless = {
                "identities": [{"issuer": who.issuer, "subject": who.subject}],
                "evidenceRootRef": {"name": ROOT},
                "require": ["TransparencyLog", "Timestamp"],
            }
            return {"authorities": [{"name": "ci", "keyless": keyless}]}

        return self._signed(f"keyless, log {rekor}", signatures, sign)

    def attested(self, attestations: int = 1) -> Signed:
        """By a key, with provenance by the same key and a condition in CEL on it, and provenance by others."""

        def sign(image: PushedImage) -> Object:
            keys = self._keys("attested", attestations)
            for key in keys:
                self._cosign.attest(self._far.near, image, key, predicate=PREDICATE)
            self._cosign.sign(self._far.near, image, keys[-1])
            return {"authorities": [_by(keys[-1])], "attestations": [_attestation(PROVENANCE, CONDITION)]}

        return self._signed("attestation, CEL", attestations, sign)

    def large(self, predicate_type: str, predicate: Mapping[str, Any], condition: str) -> Signed:
        """By a key, with one attestation of a document of any size."""

        def sign(image: PushedImage) -> Object:
            (key,) = self._keys("large", 1)
            self._cosign.sign(self._far.near, image, key)
            self._cosign.attest(self._far.near, image, key, predicate=predicate, predicate_type=predicate_type)
            return {"authorities": [_by(key)], "attestations": [_attestation(predicate_type, condition)]}

        return self._signed("large attestation", 1, sign)

    def unsigned(self) -> Signed:
        """By nobody; the policy asks for a key's signature."""
        (key,) = self._keys("unsigned", 1)
        return self._signed("unsigned", 0, lambda _: {"authorities": [_by(key)]})

    def declare(self) -> None:
        """Apply the policies of all that were made, and wait until the gate goes by them."""
        roots = [one for one in self._objects if one["kind"] == "EvidenceRoot"]
        self._setting.countersign.declare(*roots, *(one for one in self._objects if one not in roots))

    @property
    def _cosign(self) -> Any:
        return self._setting.lab.cosign

    def _keys(self, kind: str, count: int) -> list[KeyPair]:
        return [
            self._setting.lab.cosign.generate_key(f"{_name(self._prefix, kind, count)}-{number}")
            for number in range(count)
        ]

    def _signed(self, kind: str, signatures: int, sign: Callable[[PushedImage], Object]) -> Signed:
        name = _name(self._prefix, kind, signatures)
        image = self._far.near.repository(f"bench/{name}").push("v1", ImageSpec.distinct(name, entrypoint=["/app"]))
        rule = objects.image_rule([self._far.glob(image)]) | sign(image)
        lab = self._setting.lab
        lab.create_namespace(name, {"bench": name})
        lab.admin.post(f"/api/v1/namespaces/{name}/serviceaccounts", objects.service_account(ACCOUNT, name), expect=201)
        self._objects.append(
            objects.cluster_policy(name, namespaces={"bench": name}, images=[rule], tokens=[objects.token(AUDIENCE)])
        )
        return Signed(kind, signatures, image, name)


def _name(prefix: str, kind: str, count: int) -> str:
    return "-".join([prefix, *kind.lower().replace(",", "").split(), str(count)])


def _by(key: KeyPair, name: str = "release") -> Object:
    return {"name": name, "key": {"pem": [key.public_pem]}}


def _attestation(predicate_type: str, condition: str) -> Object:
    return {
        "name": "statement",
        "predicateType": predicate_type,
        "authorities": ["release"],
        "validations": [{"expression": condition}],
    }
