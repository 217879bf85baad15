"""Image rules: which images a policy speaks about, and who must vouch for them and attest what."""

from typing import Annotated, ClassVar, Literal, get_args

import msgspec

from countersign.api.schema import Model, Rule, doc

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
MAX_PATTERN_LENGTH = 512
"""Of a regular expression, in characters."""

Proof = Literal["TransparencyLog", "Timestamp", "SCT"]
"""What can show that a signature was made at its time and in the open: an inclusion proof of a transparency log, a
timestamp by an authority (RFC 3161), a signed certificate timestamp of a certificate log (RFC 6962)."""

CertificateExtension = Literal[
    "buildConfigDigest",
    "buildConfigURI",
    "buildSignerDigest",
    "buildSignerURI",
    "buildTrigger",
    "deploymentEnvironment",
    "runInvocationURI",
    "runnerEnvironment",
    "sourceRepositoryDigest",
    "sourceRepositoryIdentifier",
    "sourceRepositoryOwnerIdentifier",
    "sourceRepositoryOwnerURI",
    "sourceRepositoryRef",
    "sourceRepositoryURI",
    "sourceRepositoryVisibilityAtSigning",
    "githubWorkflowName",
    "githubWorkflowRef",
    "githubWorkflowRepository",
    "githubWorkflowSHA",
    "githubWorkflowTrigger",
]
"""What Fulcio writes into a certificate besides issuer and subject (sigstore/fulcio docs/oid-info.md, 1.3.6.1.4.1.57264.1.*)."""

_EXTENSION_NAMES = ", ".join(f"'{name}'" for name in get_args(CertificateExtension))
_EXTENSION_RULE = Rule(
    f"self.all(name, name in [{_EXTENSION_NAMES}])",
    "unknown extension: use a name of Fulcio's certificates, such as sourceRepositoryURI, sourceRepositoryRef, "
    "buildSignerURI or runnerEnvironment",
)

_RootRef = Annotated[
    "EvidenceRootRef",
    doc("The EvidenceRoot that certificates, logs and timestamps must go back to. Default: the public-good Sigstore."),
]
_Require = Annotated[
    tuple[Proof, ...],
    doc(
        "Proofs that a signature must bring. Some trusted time, from a log or a timestamp, is always needed of a "
        "certificate, which lives for minutes only.",
        max_length=3,
        unique=True,
    ),
]


class EvidenceRootRef(Model, frozen=True, kw_only=True):
    """An EvidenceRoot by name."""

    name: Annotated[str, doc("Name of the EvidenceRoot.", min_length=1, max_length=253)]


class KeyAuthority(Model, frozen=True, kw_only=True):
    """Public keys, any of which may have signed. Several, so that a key can be rotated without a gap."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.require) || size(self.require) == 0 || has(self.evidenceRootRef)",
            "`require` needs `evidenceRootRef`: whose log or timestamp authority is to be believed",
        ),
        Rule(
            "!has(self.require) || !('SCT' in self.require)",
            "a key has no certificate, so no SCT: require TransparencyLog or Timestamp",
        ),
    )

    pem: Annotated[
        tuple[str, ...],
        doc(
            "PEM public keys (ECDSA P-256, P-384 or P-521, Ed25519, or RSA of at least 2048 bits). Any of them vouches.",
            min_length=1,
            max_length=8,
            item_max_length=2048,
            item_pattern=r"^\s*-----BEGIN PUBLIC KEY-----",
        ),
    ]
    require_reference: Annotated[
        bool,
        doc(
            "Also require that a classic signature's payload names this very repository. "
            "Bundles name no repository, so with this set only classic signatures vouch."
        ),
    ] = False
    evidence_root_ref: (
        Annotated[
            EvidenceRootRef,
            doc(
                "The EvidenceRoot whose logs and timestamp authorities are believed. A key alone brings no trusted time, "
                "which `require` and an attestation's maxAgeSeconds need."
            ),
        ]
        | None
    ) = None
    require: _Require = ()


class KeylessIdentity(Model, frozen=True, kw_only=True):
    """Who a certificate was issued to: every member that is given must fit."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.issuer) != has(self.issuerRegExp)",
            "an identity needs its issuer: exactly one of `issuer` and `issuerRegExp`",
        ),
        Rule(
            "has(self.subject) != has(self.subjectRegExp)",
            "an identity needs its subject: exactly one of `subject` and `subjectRegExp`",
        ),
    )

    issuer: Annotated[
        str,
        doc(
            "Issuer of the OIDC token, such as https://token.actions.githubusercontent.com.",
            min_length=1,
            max_length=512,
        ),
    ] = ""
    issuer_reg_exp: Annotated[
        str,
        doc(
            "Expression (RE2 syntax, linear time) that the whole issuer must match.",
            min_length=1,
            max_length=MAX_PATTERN_LENGTH,
        ),
    ] = ""
    subject: Annotated[
        str,
        doc(
            "Subject of the certificate: a mail address, or the URI of a workflow or a service.",
            min_length=1,
            max_length=1024,
        ),
    ] = ""
    subject_reg_exp: Annotated[
        str,
        doc(
            "Expression (RE2 syntax, linear time) that the whole subject must match.",
            min_length=1,
            max_length=MAX_PATTERN_LENGTH,
        ),
    ] = ""
    extensions: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=1024)]],
        doc(
            "Values that extensions of the certificate must have, by Fulcio's names, such as sourceRepositoryURI, "
            "sourceRepositoryRef or runnerEnvironment.",
            max_length=16,
            rules=(_EXTENSION_RULE,),
        ),
    ] = {}
    extensions_reg_exp: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=MAX_PATTERN_LENGTH)]],
        doc(
            "Expressions (RE2 syntax, linear time) that the whole values of extensions must match, by the same names.",
            max_length=16,
            rules=(_EXTENSION_RULE,),
        ),
    ] = {}


class KeylessAuthority(Model, frozen=True, kw_only=True):
    """Identities, certified for the minutes of a signature (Sigstore's keyless signing). Any of them vouches."""

    identities: Annotated[
        tuple[KeylessIdentity, ...], doc("Who may have signed; one of them must fit.", min_length=1, max_length=16)
    ]
    evidence_root_ref: _RootRef | None = None
    require: _Require = ()


class Authority(Model, frozen=True, kw_only=True):
    """Somebody whose signature counts. Exactly one member says who."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) != has(self.keyless)",
            "an authority needs exactly one member: `key` with PEM public keys, or `keyless` with identities",
        ),
    )

    name: Annotated[str, doc("Name of the authority, unique within the rule.", pattern=NAME_PATTERN, max_length=63)]
    key: Annotated[KeyAuthority | None, doc("Public keys of the signer.")] = None
    keyless: Annotated[KeylessAuthority | None, doc("Certified identities of the signer.")] = None


class Validation(Model, frozen=True, kw_only=True):
    """A condition on what an attestation says."""

    expression: Annotated[
        str,
        doc(
            "CEL over `statement` (the in-toto statement), `predicate` and `subject` (its name at the registry and the digest). "
            "It must be true. At most two comprehensions (all, exists, exists_one, map, filter) may be nested.",
            min_length=1,
            max_length=1024,
        ),
    ]
    message: Annotated[
        str, doc("What a developer reads if it does not hold: what is wrong, and the way out.", max_length=256)
    ] = ""


class AttestationRule(Model, frozen=True, kw_only=True):
    """An attestation that an image must have: an in-toto statement about it, signed by one who may make it."""

    name: Annotated[str, doc("Name of the requirement, unique within the rule.", pattern=NAME_PATTERN, max_length=63)]
    predicate_type: Annotated[
        str,
        doc(
            "Type of the statement's predicate, exactly: https://slsa.dev/provenance/v1, https://spdx.dev/Document, "
            "https://cyclonedx.org/bom, https://cosign.sigstore.dev/attestation/vuln/v1 or any other.",
            min_length=1,
            max_length=253,
        ),
    ]
    authorities: Annotated[
        tuple[str, ...],
        doc(
            "Names of the rule's authorities or attestors that may make it; one of them must have.",
            min_length=1,
            max_length=8,
            item_max_length=63,
            unique=True,
        ),
    ]
    select: Annotated[
        Literal["Any", "Latest"],
        doc(
            "Any: one attestation that holds is enough. Latest: the one with the latest trusted time must hold. A registry "
            "can withhold the latest one; only maxAgeSeconds bounds that."
        ),
    ] = "Any"
    max_age_seconds: (
        Annotated[
            int,
            doc(
                "How old it may be at admission, in seconds, by trusted time (a log's or a timestamp's; one without does not count).",
                ge=60,
                le=315360000,
            ),
        ]
        | None
    ) = None
    validations: Annotated[tuple[Validation, ...], doc("Conditions on its contents; all must hold.", max_length=8)] = ()


class ImageRule(Model, frozen=True, kw_only=True):
    """What an image whose name matches must show: a listed digest or one authority that vouches, and each attestation."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.digests) && size(self.digests) > 0) || (has(self.authorities) && size(self.authorities) > 0) || "
            "(has(self.attestations) && size(self.attestations) > 0)",
            "an image rule needs `digests`, `authorities` or `attestations`: with none, no image could satisfy it",
        ),
        Rule(
            "!has(self.attestations) || self.attestations.all(a, a.authorities.all(n, "
            "(has(self.authorities) && self.authorities.exists(x, x.name == n)) || "
            "(has(self.attestors) && self.attestors.exists(x, x.name == n))))",
            "an attestation names an authority that the rule does not have: add it to `attestors` (who may attest only) "
            "or to `authorities` (whose signature vouches for the image, too)",
        ),
        Rule(
            "!has(self.authorities) || !has(self.attestors) || "
            "self.authorities.all(a, !self.attestors.exists(x, x.name == a.name))",
            "an authority and an attestor of one rule need different names",
        ),
    )

    name: Annotated[str, doc("Name of the rule, unique within the policy.", pattern=NAME_PATTERN, max_length=63)]
    globs: Annotated[
        tuple[str, ...],
        doc(
            "Images that the rule speaks about, as `registry/repository` without tag or digest. `*` matches within one "
            "path segment, a final `/**` any number of segments. The registry must be written out.",
            min_length=1,
            max_length=32,
            item_max_length=255,
            item_min_length=1,
            item_pattern=r"^[a-z0-9.*-]+(:[0-9]{1,5})?(/[a-z0-9._*-]+)*(/\*\*)?$",
            unique=True,
        ),
    ]
    digests: Annotated[
        tuple[str, ...],
        doc(
            "Digests that count as vouched for without a signature (of the manifest or index that the tag resolves to).",
            max_length=64,
            item_max_length=71,
            item_pattern=DIGEST_PATTERN,
            unique=True,
        ),
    ] = ()
    authorities: Annotated[
        tuple[Authority, ...],
        doc("Signers; one of them must vouch.", max_length=16, map_keys=("name",)),
    ] = ()
    attestors: Annotated[
        tuple[Authority, ...],
        doc(
            "Who may make attestations only: their signature does not vouch for the image.",
            max_length=16,
            map_keys=("name",),
        ),
    ] = ()
    attestations: Annotated[
        tuple[AttestationRule, ...],
        doc("Attestations that the image must have; each of them must hold.", max_length=8, map_keys=("name",)),
    ] = ()
    signature_on: Annotated[
        Literal["Digest", "Platforms", "Either"],
        doc(
            "What must bear signature and attestations where the image is an index of platforms. Digest: the index itself, which names "
            "its platforms' manifests by digest. Platforms: the manifest of each platform that could run. Either: one or the other."
        ),
    ] = "Digest"
    signature_repository: Annotated[
        str,
        doc(
            "Repository where signatures and attestations are kept, as `registry/repository` (cosign's COSIGN_REPOSITORY). "
            "Default: beside the image.",
            max_length=255,
            pattern=r"^([a-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9._-]+)+)?$",
        ),
    ] = ""
