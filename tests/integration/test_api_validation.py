"""What the API server refuses of our kinds by itself, and what it says: no process of ours runs here."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from countersign.api.names import API_VERSION
from countersign.api.objects import KINDS
from tests.lab.http import Answer
from tests.lab.lab import Lab
from tests.stack.installation import Installation

Object = dict[str, Any]

PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
DIGEST = "sha256:" + "a" * 64

AUDIENCE: Object = {"audience": "ledger.example.com", "owner": "ledger@example.com", "mode": "Audit"}
RULE: Object = {
    "name": "payments",
    "globs": ["registry.example.com/payments/**"],
    "authorities": [{"name": "release", "key": {"pem": [PEM]}}],
}
POLICY: Object = {
    "owner": "payments@example.com",
    "mode": "Audit",
    "images": [RULE],
    "tokens": [{"name": "ledger", "audience": "ledger.example.com"}],
}
GRANT: Object = {
    "pod": {"name": "api-0", "uid": "1", "createdAt": "2026-01-02T03:04:05Z"},
    "serviceAccount": {"name": "api", "uid": "2"},
}
REVOCATION: Object = {"target": {"pod": {"name": "api-0"}}, "reason": "leak", "requestedBy": "lab-admin"}
PAUSE: Object = {"reason": "outage", "expiresAt": "2026-01-02T03:04:05Z", "requestedBy": "lab-admin"}
ROOT: Object = {"sigstore": {"tuf": {"mirror": "https://tuf.example.com/repo", "root": "{}", "refreshSeconds": 300}}}
EXCEPTION: Object = {
    "policyRefs": [{"kind": "ClusterTrustPolicy", "name": "payments"}],
    "match": {"namespaces": ["payments"]},
    "waives": [{"check": "ImageUnsigned"}],
    "owner": "legacy@example.com",
    "reason": "the vendor signs from May on",
    "expiresAt": "2026-01-02T03:04:05Z",
    "requestedBy": "lab-admin",
}
VALID = {
    "ProtectedAudience": AUDIENCE,
    "ClusterTrustPolicy": POLICY,
    "TrustPolicy": POLICY,
    "Revocation": REVOCATION,
    "AdmissionPause": PAUSE,
    "EvidenceRoot": ROOT,
    "TrustException": EXCEPTION,
}


@pytest.fixture(scope="module")
def lab(programs: None) -> Iterator[Lab]:
    """A control plane of their own: the guards bind whoever uses it."""
    with Lab.start() as own:
        yield own


@pytest.fixture(scope="module", autouse=True)
def installed(lab: Lab) -> Installation:
    installation = Installation(lab)
    installation.install()
    return installation


class Kind:
    """Paths and bodies of one of our kinds, in one namespace."""

    def __init__(self, lab: Lab, kind: str, namespace: str) -> None:
        model = next(model for model in KINDS if kind == model.KIND)
        self.kind, self.admin = kind, lab.admin
        self.path = f"/apis/{API_VERSION}/" + (f"namespaces/{namespace}/" if model.NAMESPACED else "") + model.PLURAL

    def body(self, spec: Object, name: str = "probe") -> Object:
        return {"apiVersion": API_VERSION, "kind": self.kind, "metadata": {"name": name}, "spec": spec}

    def dry_run(self, spec: Object) -> Answer:
        return self.admin.post(self.path, self.body(spec), query={"dryRun": "All"})


@pytest.fixture
def kinds(lab: Lab, namespace: str) -> dict[str, Kind]:
    return {model.KIND: Kind(lab, model.KIND, namespace) for model in KINDS}


@pytest.fixture
def created(kinds: dict[str, Kind]) -> Iterator[dict[str, Object]]:
    """One stored object of each kind that a person may create."""
    stored = {
        kind: kinds[kind].admin.post(kinds[kind].path, kinds[kind].body(spec), expect=201).body
        for kind, spec in VALID.items()
    }
    yield stored
    for kind in VALID:
        kinds[kind].admin.delete(f"{kinds[kind].path}/probe")


def changed(spec: Object, path: str, value: Any) -> Object:
    """A copy of `spec` with `value` at a dotted path; numbers index lists."""
    if not path:
        return copy.deepcopy(dict(value))
    copied = copy.deepcopy(spec)
    *parents, last = path.split(".")
    at: Any = copied
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    at[int(last) if isinstance(at, list) else last] = value
    return copied


TOKEN = POLICY["tokens"][0]


def by_identity(what: str, identity: Object, says: str) -> tuple[str, str, str, Any, str]:
    """A policy with a keyless authority of that one identity."""
    authority = {"name": "ci", "keyless": {"identities": [identity]}}
    return (what, "TrustPolicy", "images.0.authorities.0", authority, says)


REFUSED = [
    # what, kind, path, value, what the message says
    ("ttl-too-short", "TrustPolicy", "tokens.0.expirationSeconds", 60, "expirationSeconds must be from 600"),
    ("ttl-too-long", "TrustPolicy", "tokens.0.expirationSeconds", 10**9, "to 86400 (a day)"),
    (
        "duplicate-token",
        "TrustPolicy",
        "tokens",
        [TOKEN, {**TOKEN, "audience": "b"}],
        'Duplicate value: {"name":"ledger"}',
    ),
    ("duplicate-audience", "TrustPolicy", "tokens", [TOKEN, {**TOKEN, "name": "b"}], "ask for the same one"),
    (
        "duplicate-variable",
        "TrustPolicy",
        "tokens",
        [{**TOKEN, "envVar": "A"}, {"name": "b", "audience": "b", "envVar": "A"}],
        "two tokens of this policy use the same variable",
    ),
    ("path-parent", "TrustPolicy", "tokens.0.path", "../token", "path must stay inside the token's mount"),
    ("path-inner-parent", "TrustPolicy", "tokens.0.path", "a/../../b", "path must stay inside the token's mount"),
    ("path-absolute", "TrustPolicy", "tokens.0.path", "/etc/passwd", "path must stay inside the token's mount"),
    ("tokens-without-images", "TrustPolicy", "images", [], "without evidence there is no identity"),
    ("no-mode", "ClusterTrustPolicy", "mode", None, "spec.mode: Required value"),
    ("unknown-mode", "ClusterTrustPolicy", "mode", "enforce", 'supported values: "Audit", "Enforce", "Warn"'),
    (
        "two-members",
        "TrustPolicy",
        "images.0.authorities.0.keyless",
        {"identities": [{"issuer": "i", "subject": "s"}]},
        "an authority needs exactly one member",
    ),
    ("no-member", "TrustPolicy", "images.0.authorities", [{"name": "a"}], "an authority needs exactly one member"),
    ("no-key", "TrustPolicy", "images.0.authorities.0.key.pem", [], "should have at least 1 items"),
    ("no-evidence", "TrustPolicy", "images.0.authorities", [], "an image rule needs `digests`, `authorities` or"),
    ("two-rules", "TrustPolicy", "images", [RULE, RULE], 'Duplicate value: {"name":"payments"}'),
    (
        "nobodys-attestation",
        "TrustPolicy",
        "images.0.attestations",
        [{"name": "scan", "predicateType": "p", "authorities": ["scanner"]}],
        "an attestation names an authority that the rule does not have",
    ),
    (
        "namesake",
        "TrustPolicy",
        "images.0.attestors",
        RULE["authorities"],
        "an authority and an attestor of one rule need different names",
    ),
    by_identity("keyless-no-issuer", {"subject": "s"}, "an identity needs its issuer"),
    by_identity("keyless-two-issuers", {"issuer": "i", "issuerRegExp": "i", "subject": "s"}, "needs its issuer"),
    by_identity("keyless-no-subject", {"issuer": "i"}, "an identity needs its subject"),
    by_identity(
        "keyless-extension", {"issuer": "i", "subject": "s", "extensions": {"sourceRepo": "x"}}, "unknown extension"
    ),
    ("key-require", "TrustPolicy", "images.0.authorities.0.key.require", ["Timestamp"], "`require` needs"),
    ("age", "TrustPolicy", "staleEvidenceSeconds", 86401, "spec.staleEvidenceSeconds"),
    (
        "match-conditions",
        "ClusterTrustPolicy",
        "match.matchConditions",
        [{"name": "a", "expression": "true"}],
        "`matchConditions` is not supported",
    ),
    (
        "agent-audiences",
        "TrustPolicy",
        "",
        POLICY | {"profile": "Agent", "tokens": [TOKEN, {"name": "other", "audience": "other.example.com"}]},
        "profiles Serverless and Agent have one audience",
    ),
    (
        "agent-exec",
        "TrustPolicy",
        "",
        POLICY | {"profile": "Agent", "responses": {"exec": "Allow"}},
        "in profile Agent exec ends the identity",
    ),
    (
        "agent-drift",
        "TrustPolicy",
        "",
        POLICY | {"profile": "Agent", "responses": {"drift": "Report"}},
        "in profile Agent drift ends the identity",
    ),
    (
        "overrides",
        "TrustPolicy",
        "modeOverrides",
        [{"namespace": "a", "mode": "Warn"}],
        "belongs to ClusterTrustPolicy",
    ),
    (
        "selector",
        "TrustPolicy",
        "match.namespaceSelector",
        {"matchLabels": {"a": "b"}},
        "governs its own namespace only",
    ),
    (
        "bound-without-namespace",
        "ClusterTrustPolicy",
        "binding.serviceAccounts",
        [{"name": "api"}],
        "write the `namespace` of each bound service account",
    ),
    ("listed-nothing", "TrustPolicy", "runtime.command", "Listed", "command Listed needs `allowedCommands`"),
    (
        "requester-account",
        "TrustPolicy",
        "binding.requesters",
        [{"kind": "ServiceAccount", "name": "ci"}],
        "a requester of kind ServiceAccount needs `namespace`",
    ),
    (
        "requester-user",
        "TrustPolicy",
        "binding.requesters",
        [{"kind": "User", "namespace": "ci", "name": "jane"}],
        "the other kinds must not have it",
    ),
    (
        "label-key",
        "ClusterTrustPolicy",
        "match.namespaceSelector.matchLabels",
        {"not a key": "b"},
        "each key must be a label key",
    ),
    (
        "values-missing",
        "ClusterTrustPolicy",
        "match.podSelector.matchExpressions",
        [{"key": "a", "operator": "In"}],
        "In and NotIn need `values`",
    ),
    (
        "reserved-audience",
        "ProtectedAudience",
        "audience",
        "verifier.countersign.dev",
        "reserved for Countersign itself",
    ),
    (
        "api-server-audience",
        "ProtectedAudience",
        "audience",
        "https://kubernetes.default.svc",
        "the API server's own audiences cannot be protected",
    ),
    ("audience-quote", "ProtectedAudience", "audience", 'x"] || true || a in ["y', "should match"),
    ("allow-empty", "ProtectedAudience", "allow", [{"name": "a", "expression": ""}], "spec.allow[0].expression"),
    ("allow-long", "ProtectedAudience", "allow", [{"name": "a", "expression": "t" * 1025}], "spec.allow[0].expression"),
    ("allow-twice", "ProtectedAudience", "allow", [{"name": "a", "expression": "true"}] * 2, "Duplicate value"),
    ("allow-nameless", "ProtectedAudience", "allow", [{"expression": "true"}], "spec.allow[0].name"),
    (
        "allow-many",
        "ProtectedAudience",
        "allow",
        [{"name": f"a{number}", "expression": "true"} for number in range(17)],
        "must have at most 16 items",
    ),
    ("names-empty", "ProtectedAudience", "issuance.allowedNamespaces.from", "Names", "from Names needs `names`"),
    ("names-unused", "ProtectedAudience", "issuance.allowedNamespaces.names", ["a"], "only from Names takes it"),
    ("selector-empty", "ProtectedAudience", "issuance.allowedNamespaces.from", "Selector", "from Selector needs"),
    ("no-target", "Revocation", "target", {}, "a target has exactly one member"),
    ("two-targets", "Revocation", "target.node", {"name": "n"}, "a target has exactly one member"),
    ("signer-half", "Revocation", "target", {"signer": {"issuer": "i"}}, "spec.target.signer.subject"),
    ("signer-empty", "Revocation", "target", {"signer": {"issuer": "i", "subject": ""}}, "spec.target.signer.subject"),
    ("signer-and", "Revocation", "target.signer", {"issuer": "i", "subject": "s"}, "a target has exactly one member"),
    ("fingerprint", "Revocation", "target", {"keyFingerprint": "abc"}, "should match"),
    ("no-reason", "Revocation", "reason", "", "spec.reason"),
    ("pause-no-reason", "AdmissionPause", "reason", "", "spec.reason"),
    ("pause-no-time", "AdmissionPause", "expiresAt", "tomorrow", "spec.expiresAt"),
    ("te-no-policy", "TrustException", "policyRefs", [], "spec.policyRefs"),
    (
        "te-homeless-policy",
        "TrustException",
        "policyRefs",
        [{"kind": "TrustPolicy", "name": "own"}],
        "a TrustPolicy is named with its namespace",
    ),
    ("te-everything", "TrustException", "match", {}, "name namespaces, a namespaceSelector, images"),
    (
        "te-pods-only",
        "TrustException",
        "match",
        {"podSelector": {"matchLabels": {"app": "api"}}},
        "podSelector alone is no bound",
    ),
    (
        "te-selects-all",
        "TrustException",
        "match.namespaceSelector",
        {},
        "an empty namespaceSelector selects every namespace",
    ),
    (
        "te-anybodys-label",
        "TrustException",
        "match.namespaceSelector",
        {"matchLabels": {"countersign.dev/legacy": "yes", "team": "legacy"}},
        "labels under countersign.dev/ only",
    ),
    (
        "te-anybodys-expression",
        "TrustException",
        "match.namespaceSelector",
        {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
        "labels under countersign.dev/ only",
    ),
    (
        "te-homeless-account",
        "TrustException",
        "match.serviceAccounts",
        [{"name": "api"}],
        "name each service account with its namespace",
    ),
    ("te-nothing", "TrustException", "waives", [], "spec.waives"),
    *(
        (f"te-{check}", "TrustException", "waives", [{"check": check}], "supported values")
        for check in ("ImageRevoked", "TokenExposed", "ReceiptTampered", "ImageUnverifiable", "Everything")
    ),
    (
        "te-type-of-nothing",
        "TrustException",
        "waives",
        [{"check": "ImageUnsigned", "predicateType": "https://spdx.dev/Document"}],
        "only checks of attestations have a predicateType",
    ),
    (
        "te-privileged-with-tokens",
        "TrustException",
        "",
        {**EXCEPTION, "waives": [{"check": "PodTooPrivileged"}], "tokens": "Issue"},
        "with tokens: Withhold only",
    ),
    ("te-no-owner", "TrustException", "owner", "", "spec.owner"),
    ("te-no-reason", "TrustException", "reason", "", "spec.reason"),
    ("te-no-time", "TrustException", "expiresAt", "tomorrow", "spec.expiresAt"),
    ("te-too-long", "TrustException", "expiresAt", "2099-01-01T00:00:00Z", "an exception lasts 90 days at the most"),
    ("pause-too-long", "AdmissionPause", "expiresAt", "2099-01-01T00:00:00Z", "a pause lasts 24 hours at the most"),
    ("root-of-nothing", "EvidenceRoot", "sigstore", {}, "exactly one of `trustedRoot` (the content itself)"),
    ("root-of-two", "EvidenceRoot", "sigstore.trustedRoot", "{}", "exactly one of `trustedRoot` (the content itself)"),
    ("root-of-no-json", "EvidenceRoot", "sigstore", {"trustedRoot": "-----BEGIN"}, "spec.sigstore.trustedRoot"),
    ("root-too-long", "EvidenceRoot", "sigstore", {"trustedRoot": "{" + " " * 262144}, "262144"),
    (
        "root-of-certificates",
        "EvidenceRoot",
        "certificates",
        {"pem": "x"},
        "plain certificate authorities are not supported",
    ),
    (
        "root-config-map-key",
        "EvidenceRoot",
        "sigstore",
        {"configMapRef": {"name": "a", "key": "a/b"}},
        "configMapRef.key",
    ),
    ("tuf-http", "EvidenceRoot", "sigstore.tuf.mirror", "http://tuf.example.com", "spec.sigstore.tuf.mirror"),
    ("tuf-user", "EvidenceRoot", "sigstore.tuf.mirror", "https://me@tuf.example.com", "spec.sigstore.tuf.mirror"),
    ("tuf-query", "EvidenceRoot", "sigstore.tuf.mirror", "https://tuf.example.com/?a=b", "spec.sigstore.tuf.mirror"),
    ("tuf-two-roots", "EvidenceRoot", "sigstore.tuf.builtin", "PublicGood", "exactly one of `root`"),
    ("tuf-no-root", "EvidenceRoot", "sigstore.tuf", {"mirror": "https://tuf.example.com"}, "exactly one of `root`"),
    ("tuf-builtin", "EvidenceRoot", "sigstore.tuf.builtin", "Staging", "spec.sigstore.tuf.builtin"),
    ("tuf-target-up", "EvidenceRoot", "sigstore.tuf.targetName", "../a", "spec.sigstore.tuf.targetName"),
    ("tuf-too-often", "EvidenceRoot", "sigstore.tuf.refreshSeconds", 299, "spec.sigstore.tuf.refreshSeconds"),
    ("tuf-too-seldom", "EvidenceRoot", "sigstore.tuf.refreshSeconds", 86401, "spec.sigstore.tuf.refreshSeconds"),
    ("tuf-ca", "EvidenceRoot", "sigstore.tuf.caBundle", "bm8gUEVN", "spec.sigstore.tuf.caBundle"),
]


@pytest.mark.parametrize(("kind", "path", "value", "says"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_refuses_and_says_what_to_write(kinds: dict[str, Kind], kind: str, path: str, value: Any, says: str) -> None:
    answer = kinds[kind].dry_run(changed(VALID[kind], path, value))
    assert answer.status == 422, answer
    assert says in answer.message.replace('\\"', '"')


@pytest.mark.parametrize("kind", VALID)
def test_takes_the_object_that_each_refusal_was_made_from(kinds: dict[str, Kind], kind: str) -> None:
    assert kinds[kind].dry_run(VALID[kind]).status == 201


IMMUTABLE = [
    ("ProtectedAudience", "audience", "other.example.com", "audience is immutable"),
    ("Revocation", "reason", "another", "a Revocation is create-only"),
    ("Revocation", "target", {"node": {"name": "n1"}}, "a Revocation is create-only"),
    ("AdmissionPause", "reason", "another", "its reason and its asker stay as they are"),
    ("AdmissionPause", "requestedBy", "somebody", "its reason and its asker stay as they are"),
    ("AdmissionPause", "expiresAt", "2026-01-02T03:04:06Z", "expiresAt may only be moved earlier"),
    ("TrustException", "expiresAt", "2026-01-02T03:04:06Z", "expiresAt may only be moved earlier"),
    ("TrustException", "policyRefs.0.name", "other", "all but expiresAt stays as it is"),
    ("TrustException", "match.namespaces", ["payments", "more"], "all but expiresAt stays as it is"),
    ("TrustException", "match.images", ["registry.example.com/**"], "all but expiresAt stays as it is"),
    ("TrustException", "waives", [{"check": "ImageNotCovered"}], "all but expiresAt stays as it is"),
    ("TrustException", "tokens", "Issue", "all but expiresAt stays as it is"),
    ("TrustException", "owner", "another", "all but expiresAt stays as it is"),
    ("TrustException", "reason", "another", "all but expiresAt stays as it is"),
    ("TrustException", "requestedBy", "somebody", "all but expiresAt stays as it is"),
]


@pytest.mark.parametrize("case", IMMUTABLE)
def test_refuses_to_change_what_is_immutable(
    kinds: dict[str, Kind], created: dict[str, Object], case: tuple[str, str, Any, str]
) -> None:
    kind, path, value, says = case
    stored = {**created[kind], "spec": changed(created[kind]["spec"], path, value)}
    answer = kinds[kind].admin.put(f"{kinds[kind].path}/probe", stored)
    assert answer.status == 422, answer
    assert says in answer.message


def test_fills_in_the_defaults_that_kubectl_explain_promises(created: dict[str, Object]) -> None:
    spec = created["TrustPolicy"]["spec"]
    assert spec["tokens"][0] | {"expirationSeconds": 600, "path": "token"} == spec["tokens"][0]
    assert spec["runtime"]["command"] == "FromImage"
    assert "LD_*" in spec["runtime"]["deniedEnv"]
    assert spec["profile"] == "Service"
    assert "responses" not in spec  # what is not said is the profile's word: status.effective
    assert spec["unmatchedImages"] == "Deny"
    assert created["ProtectedAudience"]["spec"]["issuance"] == {
        "allowedNamespaces": {"from": "None"},
        "maxExpirationSeconds": 3600,
    }


class TestGrant:
    """As the controller, with every permission besides: the rules of the CRD bind it, too."""

    @pytest.fixture
    def controller(self, lab: Lab, installed: Installation) -> Any:
        return lab.api(f"system:serviceaccount:{installed.namespace}:countersign-controller", ["system:masters"])

    @pytest.fixture
    def grant(self, controller: Any, kinds: dict[str, Kind]) -> Object:
        kind = kinds["WorkloadGrant"]
        return dict(controller.post(kind.path, kind.body(GRANT), expect=201).body)

    def status(self, controller: Any, kinds: dict[str, Kind], grant: Object, status: Object | None) -> Answer:
        path = f"{kinds['WorkloadGrant'].path}/probe"
        current = controller.get(path, expect=200).body
        return controller.put(f"{path}/status", {**current, "status": status})  # type: ignore[no-any-return]

    def test_a_status_given_at_creation_is_not_taken(self, controller: Any, kinds: dict[str, Kind]) -> None:
        kind = kinds["WorkloadGrant"]
        body = {**kind.body(GRANT), "status": {"state": "Active"}}
        assert "status" not in controller.post(kind.path, body, expect=201).body

    def test_its_spec_never_changes(self, controller: Any, kinds: dict[str, Kind], grant: Object) -> None:
        grant["spec"]["pod"]["uid"] = "another"
        answer = controller.put(f"{kinds['WorkloadGrant'].path}/probe", grant)
        assert answer.status == 422
        assert "the spec of a WorkloadGrant is immutable" in answer.message

    @pytest.mark.parametrize(
        "after",
        [
            {"state": "Active"},
            {"state": "Suspended", "reason": "Completed"},
            {"reason": "Completed"},
            {},
            None,
            {"state": "Revoked", "reason": "Other"},
            {"state": "Revoked"},
        ],
    )
    def test_revoked_is_final(
        self, controller: Any, kinds: dict[str, Kind], grant: Object, after: Object | None
    ) -> None:
        for state in ("Active", "Suspended", "Active"):
            assert self.status(controller, kinds, grant, {"state": state}).ok
        assert self.status(controller, kinds, grant, {"state": "Revoked", "reason": "Completed"}).ok
        answer = self.status(controller, kinds, grant, after)
        assert answer.status == 422
        assert "Revoked is final" in answer.message
        again = {"state": "Revoked", "reason": "Completed", "message": "the pod is gone, too"}
        assert self.status(controller, kinds, grant, again).ok

    def test_a_revoked_grant_is_not_revived_past_the_status(
        self, controller: Any, kinds: dict[str, Kind], grant: Object
    ) -> None:
        assert self.status(controller, kinds, grant, {"state": "Revoked", "reason": "Completed"}).ok
        path = f"{kinds['WorkloadGrant'].path}/probe"
        controller.patch(path, {"status": {"state": "Active"}})
        assert controller.get(path).body["status"]["state"] == "Revoked"


def test_every_kind_is_established_and_structural(lab: Lab, kinds: dict[str, Kind]) -> None:
    for model in KINDS:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{model.PLURAL}.countersign.dev"
        conditions = {c["type"]: c["status"] for c in lab.admin.get(path, expect=200).body["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions.get("NonStructuralSchema", "False") == "False"


def test_kubectl_explains_every_field(lab: Lab) -> None:
    for model in KINDS:
        told = lab.kubectl("explain", f"{model.PLURAL}.countersign.dev", "--recursive")
        assert "spec" in told
        assert "<no description>" not in lab.kubectl("explain", f"{model.PLURAL}.countersign.dev.spec")
    assert "renews it at" in lab.kubectl("explain", "ctp.spec.tokens.expirationSeconds")


def test_kubectl_prints_columns(lab: Lab, namespace: str, created: dict[str, Object]) -> None:
    assert lab.kubectl("get", "pa", "probe").split()[:5] == ["NAME", "AUDIENCE", "MODE", "READY", "GRANTS"]
    table = lab.kubectl("get", "tp", "-n", namespace, "-o", "wide")
    assert "payments@example.com" in table
    assert lab.kubectl("get", "rvk", "-n", namespace).split()[:5] == ["NAME", "APPLIED", "REVOKED", "BY", "REASON"]
    assert "trustpolicy.countersign.dev/probe" in lab.kubectl("get", "countersign", "-n", namespace)
