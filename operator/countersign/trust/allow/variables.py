"""What the rules of an audience are about: every variable with its members, their types and what they hold.

`docs/audiences.md` has the same table, and a test holds the two together. Names are stable: they are part of the API.

Nothing is in here that a pod's author writes freely (labels, annotations, environment, owner references): a rule by
them would admit whoever asks to be admitted. What the node or the API server vouches for is, and what Countersign has
recorded itself. The names of a pod and of its containers are chosen by its author, too; they tell instances apart, and
say nothing of what runs in them.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

MAX_EVIDENCE: Final = 128
"""Entries of `grant.evidence` that a rule looks through. A grant with more is too large for a rule that names it."""


class Type(NamedTuple):
    """The type of a value in a rule. Types of values are equal or they are not: nothing is converted."""

    kind: str
    """bool, int, string, timestamp, cidr, list, record; or `none`: of the elements of `[]`."""
    of: "Type | None" = None
    """Of a list: its elements'."""
    name: str = ""
    """Of a record."""

    def __str__(self) -> str:
        """As the documentation has it."""
        return f"list of {self.of}" if self.kind == "list" else self.name or self.kind


BOOL: Final = Type("bool")
INT: Final = Type("int")
STRING: Final = Type("string")
TIMESTAMP: Final = Type("timestamp")
CIDR: Final = Type("cidr")
NONE: Final = Type("none")


def scalar(one: Type) -> bool:
    """Whether its values can be compared and listed."""
    return one in (BOOL, INT, STRING, TIMESTAMP)


def list_of(of: Type) -> Type:
    """The type of a list of these."""
    return Type("list", of)


def record(name: str) -> Type:
    """The type of the record of that name in `RECORDS`."""
    return Type("record", name=name)


class Described(NamedTuple):
    """A member."""

    type: Type
    text: str
    """What it holds."""
    absent: str = ""
    """When it is not there: a rule that names it then does not admit. Empty: it always is."""


_UNTOLD: Final = "the relying party does not tell it"

RECORDS: Final[Mapping[str, Mapping[str, Described]]] = {
    "token": {
        "audience": Described(STRING, "the audience, which is this one"),
        "subject": Described(STRING, "`system:serviceaccount:<namespace>:<name>`"),
        "jti": Described(STRING, "the token's own id", "the token has none"),
        "issuedAt": Described(TIMESTAMP, "when it was issued"),
        "expiresAt": Described(TIMESTAMP, "when it expires"),
        "ageSeconds": Described(INT, "since it was issued"),
        "lifetimeSeconds": Described(INT, "from its issue to its expiry"),
    },
    "pod": {
        "namespace": Described(STRING, "its namespace"),
        "name": Described(STRING, "its name, which its author chose"),
        "uid": Described(STRING, "its UID"),
        "node": Described(STRING, "the node that it runs on"),
        "serviceAccount": Described(STRING, "name of its service account"),
        "phase": Described(STRING, "Pending or Running, as its node reports"),
        "ageSeconds": Described(INT, "since its creation"),
    },
    "grant": {
        "owner": Described(STRING, "who answers for the identity, by its policy", "the policy names none"),
        "requester": Described(STRING, "the user who asked for the pod's creation", "it is not recorded"),
        "controller": Described(record("controller"), "the top of the chain of controllers, each link resolved live"),
        "profile": Described(
            STRING,
            "profile of the policy that gives the token, as the pod was judged: Service, Batch, Serverless or Agent",
            "the grant was written by a release that did not record it",
        ),
        "ageSeconds": Described(INT, "since the grant was written"),
        "policies": Described(list_of(record("policy")), "the policies that the pod was judged by"),
        "evidence": Described(
            list_of(record("evidence")),
            "who vouched for the images and attested them, one entry for each time that it counted",
            f"there are more than {MAX_EVIDENCE} entries",
        ),
        "exceptions": Described(
            list_of(record("exception")), "the TrustExceptions by which a finding about the pod is waived"
        ),
    },
    "request": {
        "relyingParty": Described(record("relyingParty"), "the service account that asks"),
        "time": Described(TIMESTAMP, "the verifier's time"),
        "sourceAddress": Described(STRING, "the client's IP address, as the relying party tells it", _UNTOLD),
        "method": Described(STRING, "the method of the client's request, in capitals", _UNTOLD),
        "path": Described(
            STRING,
            "the path of the client's request, without the query",
            "the relying party does not tell it, or it has more than 2048 characters, or more than one reading",
        ),
        "scopes": Described(
            list_of(STRING),
            "what the relying party is about to allow (RFC 6749, section 3.3)",
            "the relying party tells none, or more than 64",
        ),
    },
    "controller": {
        "apiGroup": Described(STRING, "its API group, empty for core", "there is none, or it is not known"),
        "kind": Described(STRING, "its kind", "there is none, or it is not known"),
        "name": Described(STRING, "its name", "there is none, or it is not known"),
    },
    "relyingParty": {
        "namespace": Described(STRING, "its namespace"),
        "name": Described(STRING, "its name"),
    },
    "policy": {
        "kind": Described(STRING, "ClusterTrustPolicy or TrustPolicy"),
        "namespace": Described(STRING, "of a TrustPolicy; else empty"),
        "name": Described(STRING, "its name"),
        "profile": Described(STRING, "its profile; empty in the grant of an earlier release"),
    },
    "evidence": {
        "container": Described(STRING, "the container, or `volume/<name>`"),
        "image": Described(STRING, "the image as admitted"),
        "digest": Described(STRING, "the digest that was verified"),
        "policyKind": Described(STRING, "ClusterTrustPolicy or TrustPolicy: whose rule it counted for"),
        "policyNamespace": Described(STRING, "of a TrustPolicy; else empty"),
        "policyName": Described(STRING, "name of that policy"),
        "rule": Described(STRING, "name of that rule"),
        "authority": Described(STRING, "name of the authority; empty if the digest is listed"),
        "keyFingerprint": Described(STRING, "of the signer's key, as `sha256:<hex>`; else empty"),
        "issuer": Described(STRING, "issuer of the signer's certified identity; else empty"),
        "subject": Described(STRING, "subject of the signer's certified identity; else empty"),
        "attestation": Described(STRING, "name of the attestation in the rule; empty if it is a signature"),
        "predicateType": Described(STRING, "type of the attestation's predicate; empty if it is a signature"),
        "digestListed": Described(BOOL, "the policy lists the digest itself"),
    },
    "exception": {
        "name": Described(STRING, "its name"),
        "tokens": Described(STRING, "Issue or Withhold"),
        "checks": Described(list_of(STRING), "reason codes that it waives here"),
    },
}
"""By name of the record. The first four are the variables."""

VARIABLES: Final = ("token", "pod", "grant", "request")


def paths() -> Iterator[tuple[str, Described]]:
    """Each value that a rule may name, such as `grant.controller.kind`."""
    for variable in VARIABLES:
        yield from _below(variable, variable)


def _below(path: str, name: str) -> Iterator[tuple[str, Described]]:
    for member, described in RECORDS[name].items():
        if described.type.kind == "record":
            yield from _below(f"{path}.{member}", described.type.name)
        else:
            yield f"{path}.{member}", described
