"""EvidenceRoot: what certificates, logs and timestamps must go back to. Policies name it; without a name: `public-good`.

The content is a Sigstore trust root, the `trusted_root.json` that cosign makes (sigstore/protobuf-specs,
sigstore_trustroot.proto, TrustedRoot). It stands in the object itself, in a ConfigMap of Countersign's own namespace, or
at a TUF mirror. What the controller reads from the latter two it writes into the status, so that every reader has the one
object, believes nobody else, and goes on with the last good content when controller, ConfigMap or mirror are away.
"""

from hashlib import sha256
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from countersign.api.meta import Condition, ObjectMeta, UTCTime
from countersign.api.schema import Column, Model, Reserved, Rule, doc

PUBLIC_GOOD_ROOT: Final = "public-good"
"""Name of the EvidenceRoot that counts where a policy names none. Until there is one, the one that this release brings does."""
MAX_CONTENT_CHARACTERS: Final = 262144
"""Of a trusted_root.json. The public-good one has 7,000 after five years of rotations (2026)."""
MAX_TUF_ROOT_CHARACTERS: Final = 65536
MAX_TUF_TIMESTAMP_CHARACTERS: Final = 16384
MAX_TUF_SNAPSHOT_CHARACTERS: Final = 65536
MAX_TUF_TARGETS_CHARACTERS: Final = 262144
"""Together with the contents under the 1.5 MiB that etcd takes in one request."""

_JSON_OBJECT: Final = r"^\s*\{"


class ConfigMapKeyRef(Model, frozen=True, kw_only=True):
    """A key of a ConfigMap in Countersign's own namespace. Whoever may write it says what is trusted."""

    name: Annotated[str, doc("Name of the ConfigMap.", min_length=1, max_length=253)]
    key: Annotated[
        str, doc("Key whose value is the content.", min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")
    ] = "trusted_root.json"


class TUFSource(Model, frozen=True, kw_only=True):
    """A repository of The Update Framework that distributes the content, as Sigstore's own does."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.root) != has(self.builtin)",
            "TUF needs its first trust from you: exactly one of `root` (the initial root.json) and `builtin`",
        ),
    )

    mirror: Annotated[
        str,
        doc(
            "https URL of the repository: <mirror>/timestamp.json, <mirror>/targets/... Nothing else is asked, and no redirect followed.",
            min_length=9,
            max_length=512,
            pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$|^https://\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
        ),
    ]
    root: Annotated[
        str,
        doc(
            "The initial root.json, from somebody whom you trust. Later ones count only if they are signed by the keys of the one before.",
            min_length=2,
            max_length=MAX_TUF_ROOT_CHARACTERS,
            pattern=_JSON_OBJECT,
        ),
    ] = ""
    builtin: Annotated[
        Literal["PublicGood"] | None,
        doc("PublicGood: the initial root.json of the public-good Sigstore, as this release brings it."),
    ] = None
    target_name: Annotated[
        str,
        doc(
            "Name of the target that holds the content.",
            min_length=1,
            max_length=253,
            pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        ),
    ] = "trusted_root.json"
    refresh_seconds: Annotated[
        int, doc("How often the repository is asked. The last good content stays in use meanwhile.", ge=300, le=86400)
    ] = 86400
    ca_bundle: Annotated[
        str,
        doc(
            "PEM certificates that the mirror's own may go back to, besides those of the system.",
            max_length=65536,
            pattern=r"^(\s*-----BEGIN CERTIFICATE-----[\s\S]*)?$",
        ),
    ] = ""


class SigstoreRoot(Model, frozen=True, kw_only=True):
    """Where the trusted_root.json of a Sigstore comes from. Exactly one member."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.trustedRoot), has(self.configMapRef), has(self.tuf)].filter(given, given).size() == 1",
            "exactly one of `trustedRoot` (the content itself), `configMapRef` and `tuf`",
        ),
    )

    trusted_root: Annotated[
        str,
        doc(
            "A whole trusted_root.json, such as `cosign trusted-root create` writes.",
            min_length=2,
            max_length=MAX_CONTENT_CHARACTERS,
            pattern=_JSON_OBJECT,
        ),
    ] = ""
    config_map_ref: Annotated[
        ConfigMapKeyRef | None, doc("A ConfigMap in Countersign's own namespace that holds a trusted_root.json.")
    ] = None
    tuf: Annotated[TUFSource | None, doc("A TUF repository that distributes a trusted_root.json.")] = None


class EvidenceRootSpec(Model, frozen=True, kw_only=True):
    """What is trusted."""

    RESERVED: ClassVar[dict[str, Reserved]] = {
        "certificates": Reserved(
            "object",
            "plain certificate authorities are not supported in this release: use `sigstore` "
            "(`cosign trusted-root create` makes a trusted_root.json from certificates)",
        )
    }

    sigstore: Annotated[SigstoreRoot, doc("Certificate authorities, logs and timestamp authorities of one Sigstore.")]


class TUFMetadata(Model, frozen=True, kw_only=True):
    """What a repository said last and signed: kept so that it cannot go back."""

    root: Annotated[str, doc("The newest root.json.", max_length=MAX_TUF_ROOT_CHARACTERS)] = ""
    timestamp: Annotated[str, doc("The newest timestamp.json.", max_length=MAX_TUF_TIMESTAMP_CHARACTERS)] = ""
    snapshot: Annotated[str, doc("The newest snapshot.json.", max_length=MAX_TUF_SNAPSHOT_CHARACTERS)] = ""
    targets: Annotated[str, doc("The newest targets.json.", max_length=MAX_TUF_TARGETS_CHARACTERS)] = ""


class EvidenceRootStatus(Model, frozen=True, kw_only=True):
    """What is in use."""

    conditions: Annotated[
        tuple[Condition, ...], doc("Accepted, Ready, Refreshed.", max_length=8, map_keys=("type",))
    ] = ()
    observed_generation: Annotated[int, doc("The metadata.generation that was judged.")] = 0
    hash: Annotated[str, doc("Hash of the content in use (sha256:<hex>).", max_length=71)] = ""
    fetched_at: Annotated[
        UTCTime | None,
        doc("When ConfigMap or mirror last confirmed the content in use.", string_format="date-time"),
    ] = None
    last_attempt_at: Annotated[
        UTCTime | None,
        doc("When ConfigMap or mirror was last asked, with or without success.", string_format="date-time"),
    ] = None
    authorities: Annotated[int, doc("Certificate and timestamp authorities in the content.")] = 0
    logs: Annotated[int, doc("Transparency and certificate logs in the content.")] = 0
    names: Annotated[
        tuple[str, ...],
        doc(
            "What they call themselves: common names of authorities, addresses of logs.",
            max_length=64,
            item_max_length=253,
        ),
    ] = ()
    earliest_expiry: Annotated[
        UTCTime | None,
        doc("When the first of those that are valid now runs out.", string_format="date-time"),
    ] = None
    source: Annotated[
        str,
        doc("What `trustedRoot` was read under: it counts only while the spec says the same.", max_length=71),
    ] = ""
    trusted_root: Annotated[
        str,
        doc(
            "The last good content of ConfigMap or mirror: what every reader goes by.",
            max_length=MAX_CONTENT_CHARACTERS,
        ),
    ] = ""
    tuf: Annotated[TUFMetadata, doc("Signed metadata of the mirror, kept against a return to older ones.")] = (
        TUFMetadata()
    )


class EvidenceRoot(Model, frozen=True, kw_only=True):
    """What certificates, logs and timestamps must go back to; named by policies."""

    KIND: ClassVar[str] = "EvidenceRoot"
    PLURAL: ClassVar[str] = "evidenceroots"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("er",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether there is content to go by"),
        Column(
            "Refreshed",
            "string",
            '.status.conditions[?(@.type=="Refreshed")].status',
            "Whether the last refresh succeeded",
        ),
        Column("Fetched", "date", ".status.fetchedAt", "When the content was last confirmed"),
        Column("Authorities", "integer", ".status.authorities", "Certificate and timestamp authorities"),
        Column("Logs", "integer", ".status.logs", "Transparency and certificate logs"),
        Column("Expires", "string", ".status.earliestExpiry", "When the first of them runs out"),
        Column("Hash", "string", ".status.hash", "Hash of the content", 1),
        Column("Age", "date", ".metadata.creationTimestamp", "When it was made"),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[EvidenceRootSpec, doc("What is trusted.")]
    status: Annotated[EvidenceRootStatus, doc("Written by the controller.")] = EvidenceRootStatus()


def content_of(resource: EvidenceRoot) -> str:
    """The trusted_root.json that counts now; empty: there is none yet (`builtin` aside, which a release brings)."""
    given = resource.spec.sigstore
    if given.trusted_root:
        return given.trusted_root
    return resource.status.trusted_root if resource.status.source == source_of(resource.spec) else ""


def source_of(spec: EvidenceRootSpec) -> str:
    """What fetched content rests on (sha256:<hex>): of a TUF repository its first root and the target, not who mirrors it.

    Whoever names another ConfigMap, or trusts another first root, wants what was read under the old one to count no more.
    """
    given = spec.sigstore
    tuf = given.tuf
    resting = (
        ("tuf", tuf.builtin, tuf.root, tuf.target_name) if tuf is not None else ("configMap", given.config_map_ref)
    )
    return f"sha256:{sha256(msgspec.json.encode(resting)).hexdigest()}"


def without_metadata(resource: EvidenceRoot) -> EvidenceRoot:
    """Without what only the next refresh asks for, which may be larger than the content."""
    return msgspec.structs.replace(resource, status=msgspec.structs.replace(resource.status, tuf=TUFMetadata()))
