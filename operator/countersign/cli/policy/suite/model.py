"""The file of a test suite for policies: cases, what is known of their images, and what is expected.

A file is one YAML document of kind PolicyTest. What stands at its top holds for all its cases; a case may say it anew.
docs/policy-tests.md tells it for people, docs/policy-tests.schema.json is this, for editors.
"""

from typing import Annotated, Any, Literal

import msgspec

from countersign.api.image_rule import Proof
from countersign.api.schema import Model, doc
from countersign.trust.evidence.facts import UnverifiableReason
from countersign.trust.verdicts.findings import ReasonCode

API_VERSION = "cli.countersign.dev/v1alpha1"
KIND = "PolicyTest"

_DIGEST = r"^sha256:[0-9a-f]{64}$"
_MAX_TEXT = 4096
_MAX_PEM = 4096

_Value = Annotated[str, msgspec.Meta(max_length=1024)]
_Object = Annotated[dict[str, Any], doc("An object, as one would apply it.")]


class CaseNamespace(Model, frozen=True, kw_only=True):
    """The namespace of the pod."""

    name: Annotated[str, doc("Its name. Default: the pod's, or default.", max_length=63)] = ""
    labels: Annotated[dict[str, _Value], doc("Its labels, besides kubernetes.io/metadata.name.", max_length=64)] = {}


class Requester(Model, frozen=True, kw_only=True):
    """Who creates the pod."""

    user: Annotated[str, doc("User name, such as system:serviceaccount:ci:deployer.", min_length=1, max_length=512)]
    groups: Annotated[
        tuple[str, ...],
        doc("Groups, besides those that the name brings along.", max_length=64, item_max_length=512),
    ] = ()


class SignerIdentity(Model, frozen=True, kw_only=True):
    """Whom a certificate was issued to."""

    issuer: Annotated[str, doc("Issuer of the OIDC token.", min_length=1, max_length=512)]
    subject: Annotated[str, doc("Subject of the certificate.", min_length=1, max_length=1024)]
    extensions: Annotated[
        dict[str, _Value], doc("Extensions of the certificate, by Fulcio's names.", max_length=32)
    ] = {}


class RecordedSignature(Model, frozen=True, kw_only=True):
    """A signature that was found good: by a key, or by a certified identity."""

    key: Annotated[str, doc("The public key, as PEM text.", max_length=_MAX_PEM)] = ""
    key_file: Annotated[str, doc("The public key, as a PEM file beside this one.", max_length=1024)] = ""
    identity: Annotated[SignerIdentity | None, doc("Whom the certificate was issued to.")] = None
    root: Annotated[
        str,
        doc(
            "Name of the EvidenceRoot that vouches for certificate and time. Default: public-good for an identity, none "
            "for a key.",
            max_length=253,
        ),
    ] = ""
    at: Annotated[str, doc("When it was signed, by trusted time. Without: nobody says.", string_format="date-time")] = (
        ""
    )
    proofs: Annotated[tuple[Proof, ...], doc("What shows its time.", max_length=3, unique=True)] = ()
    format: Annotated[Literal["bundle", "classic"], doc("How it is stored.")] = "bundle"
    reference: Annotated[str, doc("The repository that a classic signature names.", max_length=1024)] = ""
    digest: Annotated[
        str, doc("What was signed, if not the image's own digest: a platform's manifest.", max_length=71)
    ] = ""


class RecordedCondition(Model, frozen=True, kw_only=True):
    """What a condition of a policy makes of an attestation."""

    expression: Annotated[str, doc("The expression, as the policy has it.", min_length=1, max_length=1024)]
    holds: Annotated[bool, doc("Whether it is true.")]
    found: Annotated[str, doc("The value that made it false.", max_length=1024)] = ""


class RecordedAttestation(Model, frozen=True, kw_only=True):
    """An attestation whose signature was found good."""

    predicate_type: Annotated[str, doc("Type of its predicate.", min_length=1, max_length=253)]
    by: Annotated[RecordedSignature, doc("Who made it, and when.")]
    predicate: Annotated[
        dict[str, Any] | None,
        doc("What it says: the policies' conditions are then evaluated on it, as the gate does."),
    ] = None
    conditions: Annotated[
        tuple[RecordedCondition, ...],
        doc("Instead of the predicate: what the policies' conditions make of it.", max_length=64),
    ] = ()


class RecordedPlatform(Model, frozen=True, kw_only=True):
    """What the image was built to run on one platform."""

    platform: Annotated[str, doc("os/architecture[/variant].", max_length=128)] = "linux/amd64"
    digest: Annotated[str, doc("Digest of its manifest. Default: the image's.", max_length=71)] = ""
    config_digest: Annotated[str, doc("Digest of its config. Default: the manifest's.", max_length=71)] = ""
    entrypoint: Annotated[tuple[str, ...], doc("Entrypoint.", max_length=64, item_max_length=_MAX_TEXT)] = ()
    cmd: Annotated[tuple[str, ...], doc("Default arguments.", max_length=64, item_max_length=_MAX_TEXT)] = ()
    working_dir: Annotated[str, doc("Where relative names start.", max_length=_MAX_TEXT)] = ""
    path: Annotated[tuple[str, ...], doc("Folders of its PATH.", max_length=64, item_max_length=_MAX_TEXT)] = ()


class Unavailable(Model, frozen=True, kw_only=True):
    """The registry could not tell."""

    reason: Annotated[UnverifiableReason, doc("Why.")]
    message: Annotated[str, doc("What it said.", max_length=1024)] = "recorded so"
    transient: Annotated[bool, doc("Whether a retry may help.")] = False


class RecordedImage(Model, frozen=True, kw_only=True):
    """Everything that is known of one image: what is not listed was looked for, and is not there."""

    image: Annotated[
        str,
        doc(
            "The image as the pod has it; or without tag and digest, for any of the repository.",
            min_length=1,
            max_length=1024,
        ),
    ]
    digest: Annotated[
        str, doc("What the reference stands for. Default: the digest in it.", max_length=71, pattern=f"{_DIGEST}|^$")
    ] = ""
    signatures: Annotated[tuple[RecordedSignature, ...], doc("Who has signed it.", max_length=64)] = ()
    attestations: Annotated[tuple[RecordedAttestation, ...], doc("What was attested, by whom.", max_length=64)] = ()
    runs: Annotated[
        tuple[RecordedPlatform, ...],
        doc("What it was built to run. Asked of pods that receive a token.", max_length=32),
    ] = ()
    unavailable: Annotated[Unavailable | None, doc("Instead of all that: the registry could not tell.")] = None


class CaseEvidence(Model, frozen=True, kw_only=True):
    """Where evidence about images comes from."""

    registry: Annotated[
        Literal["recorded", "live"],
        doc("recorded: from `images` alone, offline. live: the registries are asked about images that are not listed."),
    ] = "recorded"
    images: Annotated[tuple[RecordedImage, ...], doc("What is known of images.", max_length=256)] = ()


class Expected(Model, frozen=True, kw_only=True):
    """What should come out. What is not given is not compared."""

    verdict: Annotated[Literal["admitted", "denied", "notGoverned"], doc("What becomes of the pod.")]
    message: Annotated[str, doc("Text within the denial.", max_length=_MAX_TEXT)] = ""
    exact_message: Annotated[str, doc("The whole denial.", max_length=_MAX_TEXT)] = ""
    reasons: (
        Annotated[
            tuple[ReasonCode, ...],
            doc("Reason codes of all findings, whatever their policy's mode; in any order.", max_length=64),
        ]
        | None
    ) = None
    tokens: (
        Annotated[
            tuple[str, ...],
            doc("Names of all tokens that the pod receives; in any order.", max_length=64, item_max_length=63),
        ]
        | None
    ) = None
    withheld: (
        Annotated[
            tuple[str, ...],
            doc("Names of all tokens that it does not receive; in any order.", max_length=64, item_max_length=63),
        ]
        | None
    ) = None
    warnings: (
        Annotated[
            tuple[str, ...],
            doc("A text within each warning; [] for none.", max_length=16, item_max_length=_MAX_TEXT),
        ]
        | None
    ) = None


class PolicyTestCase(Model, frozen=True, kw_only=True):
    """One pod, and what should become of it."""

    name: Annotated[str, doc("The rule that it shows, in a sentence.", min_length=1, max_length=256)]
    pod: Annotated[dict[str, Any] | None, doc("A Pod, or a workload that makes pods. Or `podFile`.")] = None
    pod_file: Annotated[str, doc("File of a Pod or workload, beside this one.", max_length=1024)] = ""
    namespace: Annotated[CaseNamespace | None, doc("Instead of the file's.")] = None
    requester: Annotated[Requester | None, doc("Instead of the file's.")] = None
    policies: Annotated[
        tuple[str, ...], doc("Instead of the file's.", max_length=64, item_max_length=1024, item_min_length=1)
    ] = ()
    objects: Annotated[tuple[_Object, ...], doc("Besides the file's.", max_length=64)] = ()
    now: Annotated[str, doc("Instead of the file's.", string_format="date-time")] = ""
    evidence: Annotated[
        CaseEvidence | None, doc("Instead of the file's; images of the file that are not listed here stay known.")
    ] = None
    expect: Annotated[Expected, doc("What should become of it.")]


class UseFacts(Model, frozen=True, kw_only=True):
    """What is known of one use of a token. Members that are left out are not known."""

    token: Annotated[dict[str, Any], doc("Members of `token`, as docs/audiences.md has them.")] = {}
    pod: Annotated[dict[str, Any], doc("Members of `pod`.")] = {}
    grant: Annotated[dict[str, Any], doc("Members of `grant`.")] = {}
    request: Annotated[
        dict[str, Any], doc("Members of `request`, as a relying party tells them. `time` is `now`, if it is left out.")
    ] = {}


class ExpectedUse(Model, frozen=True, kw_only=True):
    """What should come of a use. What is not given is not compared."""

    decision: Annotated[Literal["allowed", "refused"], doc("Whether the audience's rules admit it.")]
    rule: Annotated[str, doc("Name of the first rule that admits it.", max_length=63)] = ""
    message: Annotated[str, doc("Text within what is told of a use that is refused.", max_length=_MAX_TEXT)] = ""


class UseCase(Model, frozen=True, kw_only=True):
    """One use of a token that is active but for the rules of its audience, and what should come of it."""

    name: Annotated[str, doc("The rule that it shows, in a sentence.", min_length=1, max_length=256)]
    audience: Annotated[str, doc("The audience of the token.", min_length=1, max_length=253)]
    facts: Annotated[UseFacts, doc("What is known of it, besides the file's; written down, or recorded.")] = UseFacts()
    policies: Annotated[
        tuple[str, ...], doc("Instead of the file's.", max_length=64, item_max_length=1024, item_min_length=1)
    ] = ()
    objects: Annotated[tuple[_Object, ...], doc("Besides the file's.", max_length=64)] = ()
    now: Annotated[str, doc("Instead of the file's.", string_format="date-time")] = ""
    expect: Annotated[ExpectedUse, doc("What should come of it.")]


class PolicyTest(Model, frozen=True, kw_only=True):
    """Cases for `countersign policy test`."""

    api_version: Annotated[str, doc(f"{API_VERSION}.", max_length=64)]
    kind: Annotated[str, doc(f"{KIND}.", max_length=64)]
    policies: Annotated[
        tuple[str, ...],
        doc(
            "Files, or folders, of policies, audiences, exceptions, revocations and evidence roots that are in force, beside this file. "
            "Default: the folder policies/ beside it, or beside one of the folders that hold it.",
            max_length=64,
            item_max_length=1024,
            item_min_length=1,
        ),
    ] = ()
    objects: Annotated[
        tuple[_Object, ...],
        doc(
            "More that is in force, written out: TrustExceptions, Revocations, EvidenceRoots and so on.", max_length=64
        ),
    ] = ()
    system_namespace: Annotated[str, doc("Countersign's own namespace.", max_length=63)] = "countersign-system"
    namespace: Annotated[CaseNamespace | None, doc("The pods' namespace. Default: the object's, without labels.")] = (
        None
    )
    requester: Annotated[
        Requester | None, doc("Who creates the pods. Default: the built-in controller of the workload.")
    ] = None
    now: Annotated[str, doc("The time at which it is judged. Default: now.", string_format="date-time")] = ""
    evidence: Annotated[CaseEvidence | None, doc("What is known of images. Default: nothing.")] = None
    facts: Annotated[UseFacts | None, doc("What all uses have in common.")] = None
    cases: Annotated[
        tuple[PolicyTestCase, ...], doc("Pods, and what becomes of them.", max_length=512, map_keys=("name",))
    ] = ()
    uses: Annotated[
        tuple[UseCase, ...],
        doc("Uses of tokens, and what the rules of their audiences make of them.", max_length=512, map_keys=("name",)),
    ] = ()
