"""What options of `image verify` ask of an image, written as the image rule that a policy would have."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import msgspec

from countersign.api.image_rule import (
    AttestationRule,
    Authority,
    CertificateExtension,
    EvidenceRootRef,
    ImageRule,
    KeyAuthority,
    KeylessAuthority,
    KeylessIdentity,
    Proof,
    Validation,
)
from countersign.api.policy import ClusterTrustPolicySpec
from countersign.cli.image.inputs import KeyFile
from countersign.cli.image.naming import dns_label, unused
from countersign.cli.terminal.exits import fail
from countersign.trust.evidence import conditions
from countersign.trust.images.reference import ImageReference
from countersign.trust.policies.authorities import CompiledIdentity
from countersign.trust.policies.policy import DEFAULT_ROOT, Policy, PolicyRef

PREDICATE_TYPES: Final = {
    "custom": "https://cosign.sigstore.dev/attestation/v1",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "spdx": "https://spdx.dev/Document",
    "spdxjson": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "link": "https://in-toto.io/Link/v1",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
    "openvex": "https://openvex.dev/ns",
}
"""cosign's words for types (sigstore/cosign cmd/cosign/cli/options/predicate.go)."""

IDENTITY: Final = "identity"


class Demands(msgspec.Struct, frozen=True, kw_only=True):
    """Options, as they were given."""

    keys: tuple[KeyFile, ...] = ()
    identity: str = ""
    identity_regexp: str = ""
    issuer: str = ""
    issuer_regexp: str = ""
    extensions: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    validations: tuple[str, ...] = ()
    require: tuple[Proof, ...] = ()
    signature_repository: str = ""
    platforms: bool = False

    @property
    def given(self) -> bool:
        """Whether they say whose signature counts, or anything that would need that."""
        return any(bool(getattr(self, name)) for name in self.__struct_fields__)


def policy_of(demands: Demands, image: ImageReference, *, rooted: bool) -> Policy:
    """A policy with the one rule. `rooted`: an evidence root was given, so that a key's times are asked for, too.

    Ends the command where the options do not fit together.
    """
    authorities = []
    names: set[str] = {IDENTITY}
    root = EvidenceRootRef(name=DEFAULT_ROOT) if rooted or demands.require else None
    required: tuple[Proof, ...] = tuple(one for one in demands.require if one != "SCT")
    for one in demands.keys:
        key = KeyAuthority(pem=(one.pem,), evidence_root_ref=root, require=required)
        authorities.append(Authority(name=unused(dns_label(one.path.stem), names), key=key))
    if identity := _identity(demands):
        keyless = KeylessAuthority(identities=(identity,), require=demands.require)
        authorities.append(Authority(name=IDENTITY, keyless=keyless))
    if not authorities:
        fail(
            "say whose signature counts: --key FILE, --certificate-identity with --certificate-oidc-issuer, or "
            "--policy FILE. What there is on an image, and by whom: countersign policy init IMAGE"
        )
    attestations = _attestations(demands, tuple(one.name for one in authorities))
    on: Literal["Digest", "Either"] = "Either" if demands.platforms else "Digest"
    rule = ImageRule(
        name="options",
        globs=(image.name,),
        # Whoever asks for attestations asks for these alone, as `cosign verify-attestation` does.
        authorities=() if attestations else tuple(authorities),
        attestors=tuple(authorities) if attestations else (),
        attestations=attestations,
        signature_on=on,
        signature_repository=demands.signature_repository,
    )
    spec = ClusterTrustPolicySpec(owner="the command line", mode="Enforce", images=(rule,))
    return Policy(ref=PolicyRef("ClusterTrustPolicy", "", "command-line", "command-line", 1), spec=spec, created="")


def _identity(demands: Demands) -> KeylessIdentity | None:
    named = demands.identity or demands.identity_regexp
    issued = demands.issuer or demands.issuer_regexp
    if not (named or issued or demands.extensions):
        return None
    if bool(demands.identity) == bool(demands.identity_regexp):
        fail("give one of --certificate-identity and --certificate-identity-regexp")
    if bool(demands.issuer) == bool(demands.issuer_regexp):
        fail("give one of --certificate-oidc-issuer and --certificate-oidc-issuer-regexp")
    identity = KeylessIdentity(
        issuer=demands.issuer,
        issuer_reg_exp=demands.issuer_regexp,
        subject=demands.identity,
        subject_reg_exp=demands.identity_regexp,
        extensions=_extensions(demands.extensions),
    )
    for problem in CompiledIdentity(identity).problems():
        fail(problem)
    return identity


def _extensions(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in get_args(CertificateExtension):
            names = ", ".join(get_args(CertificateExtension))
            fail(f"--certificate-extension {text!r}: write NAME=VALUE, NAME one of {names}")
        found[name] = value
    return found


def _attestations(demands: Demands, names: tuple[str, ...]) -> tuple[AttestationRule, ...]:
    taken: set[str] = set()
    types = {PREDICATE_TYPES.get(one, one): dns_label(one.partition("://")[2] or one) for one in demands.attestations}
    if demands.validations and len(types) != 1:
        fail("--validate goes with exactly one --attestation")
    for expression in demands.validations:
        if problem := conditions.problem(expression):
            fail(f"--validate {expression!r}: {problem}")
    validations = tuple(Validation(expression=one) for one in demands.validations)
    return tuple(
        AttestationRule(name=unused(name, taken), predicate_type=type_, authorities=names, validations=validations)
        for type_, name in types.items()
    )
