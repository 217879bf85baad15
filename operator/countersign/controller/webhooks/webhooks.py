"""The webhook configurations, worked out from policies, audiences and namespaces. Pure; `registration` writes them.

- The namespaces of an entry are worked out in `coverage`.
- An entry fails closed only where a policy enforces, and only once the gate has answered (`fail_closed`).
- Exec, attach and port-forward are asked about where a policy hands out tokens or refuses them (`entered`). These
  entries fail closed in every mode: with no gate there is nobody who could put an end of the identity on record.
- While admission is paused the entries about pods fail open, and the configurations remember whether they failed closed
  before. Those about tokens and about exec stay as they are: a pause gives no identity, and saves none.
- Token requests are kept apart by audience alone: nothing of the cluster's own asks for a protected one.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from countersign.api.audience import ProtectedAudience
from countersign.api.meta import LabelSelector
from countersign.api.names import CLOSED_ANNOTATION, CONNECT_ENTRIES, POD_ENTRIES, WEBHOOK_CONFIGURATION
from countersign.controller.webhooks import cel
from countersign.controller.webhooks.coverage import Coverage, coverage, entered
from countersign.trust.policies.policy import PolicySnapshot

TIMEOUT_SECONDS: Final = 10
"""The API server's default. The gate answers before it, by its own deadline."""
WARNING_TIMEOUT_SECONDS: Final = 5
"""For templates, where no answer does no harm."""
AUDIENCES_PER_ENTRY: Final = 500
"""1,000 literals in one matchCondition were accepted by the API server, 5,000 refused (CEL cost and size limits)."""
FIELD_MANAGER: Final = "countersign-controller"

Object = dict[str, Any]


class GateEndpoint(NamedTuple):
    """How the API server reaches the gate: by Service, or by URL if one is given."""

    namespace: str
    service: str
    port: int = 443
    url: str = ""

    def client_config(self, path: str, ca_bundle: bytes) -> Object:
        """`clientConfig` of a webhook entry."""
        bundle = base64.b64encode(ca_bundle).decode()
        if self.url:
            return {"url": self.url.rstrip("/") + path, "caBundle": bundle}
        service = {"namespace": self.namespace, "name": self.service, "path": path, "port": self.port}
        return {"service": service, "caBundle": bundle}


def webhook_configurations(
    snapshot: PolicySnapshot,
    namespaces: Mapping[str, Mapping[str, str]],
    gate: GateEndpoint,
    ca_bundle: bytes,
    *,
    fail_closed: bool,
    paused: bool = False,
) -> tuple[Object, Object]:
    """The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration, complete.

    `snapshot` holds accepted policies and every audience; `namespaces` is labels by name. `fail_closed`: a gate has
    answered; `paused`: pods come in all the same.
    """
    pods_closed = fail_closed and not paused
    covered = coverage(snapshot, namespaces)
    mutate = gate.client_config("/mutate", ca_bundle)
    validate = gate.client_config("/validate", ca_bundle)
    mutating = [
        _pods(f"{POD_ENTRIES}{index}.mutate", mutate, one, pods_closed) | {"reinvocationPolicy": "IfNeeded"}
        for index, one in enumerate(covered)
    ]
    validating = [
        _pods(f"{POD_ENTRIES}{index}.validate", validate, one, pods_closed) for index, one in enumerate(covered)
    ]
    validating += [_templates(f"templates-{index}.validate", validate, one) for index, one in enumerate(covered)]
    validating += _tokens(validate, snapshot.audiences, fail_closed)
    validating += [
        _connect(f"{CONNECT_ENTRIES}{index}.validate", validate, one, fail_closed)
        for index, one in enumerate(entered(snapshot, namespaces))
    ]
    return (
        _configuration("MutatingWebhookConfiguration", mutating, remember=fail_closed and paused),
        _configuration("ValidatingWebhookConfiguration", validating, remember=fail_closed and paused),
    )


def has_failed_closed(configuration: Object) -> bool:
    """Whether entries of a stored configuration fail closed, or did before a pause that keeps them open."""
    return fails_closed(configuration) or _remembers(configuration)


def fails_closed(configuration: Object) -> bool:
    """Whether some entry refuses requests when no gate answers."""
    return any(entry.get("failurePolicy") == "Fail" for entry in configuration.get("webhooks") or ())


def differs(stored: Object, wanted: Object) -> bool:
    """Whether a stored configuration must be written anew."""
    return stored.get("webhooks", []) != wanted["webhooks"] or _remembers(stored) is not _remembers(wanted)


def _remembers(configuration: Object) -> bool:
    return CLOSED_ANNOTATION in (configuration["metadata"].get("annotations") or {})


def enforces(snapshot: PolicySnapshot) -> bool:
    """Whether anything at all wants an entry that fails closed."""
    covered = (*coverage(snapshot, {}), *entered(snapshot, {}))
    return any(one.closed for one in covered) or any(_refuses(one) for one in snapshot.audiences)


def _pods(name: str, client_config: Object, covered: Coverage, fail_closed: bool) -> Object:
    rules = [
        _rule([""], ["v1"], ["pods"], ["CREATE", "UPDATE"]),
        _rule([""], ["v1"], ["pods/ephemeralcontainers"], ["UPDATE"]),
    ]
    conditions = {
        "not-being-deleted": cel.NOT_DELETING,
        "not-a-mirror-pod": cel.NOT_A_MIRROR,
        "changes-what-counts": cel.POD_MATTERS,
    }
    entry = _entry(name, client_config, rules, conditions)
    entry["failurePolicy"] = "Fail" if covered.closed and fail_closed else "Ignore"
    entry["namespaceSelector"] = _selector(covered.selector)
    return entry


def _templates(name: str, client_config: Object, covered: Coverage) -> Object:
    rules = [
        _rule(["apps"], ["v1"], ["deployments", "statefulsets", "daemonsets"], ["CREATE", "UPDATE"]),
        _rule(["batch"], ["v1"], ["jobs", "cronjobs"], ["CREATE", "UPDATE"]),
    ]
    conditions = {
        "not-being-deleted": cel.NOT_DELETING,
        "written-by-a-person": cel.NOT_OWNED,
        "changes-what-counts": cel.TEMPLATE_MATTERS,
    }
    entry = _entry(name, client_config, rules, conditions)
    entry["namespaceSelector"] = _selector(covered.selector)
    entry["timeoutSeconds"] = WARNING_TIMEOUT_SECONDS
    return entry


def _connect(name: str, client_config: Object, covered: Coverage, fail_closed: bool) -> Object:
    """The API server takes no dry run of CONNECT (apiserver endpoints/handlers, ConnectResource)."""
    rules = [_rule([""], ["v1"], ["pods/exec", "pods/attach", "pods/portforward"], ["CONNECT"])]
    entry = _entry(name, client_config, rules, {})
    entry["failurePolicy"] = "Fail" if covered.closed and fail_closed else "Ignore"
    entry["namespaceSelector"] = _selector(covered.selector)
    entry["sideEffects"] = "NoneOnDryRun"
    return entry


def _tokens(client_config: Object, audiences: Iterable[ProtectedAudience], fail_closed: bool) -> list[Object]:
    refuse: dict[str, bool] = {}
    for audience in audiences:
        name = audience.spec.audience
        refuse[name] = refuse.get(name, False) or _refuses(audience)
    rules = [_rule([""], ["v1"], ["serviceaccounts/token"], ["CREATE"])]
    entries = []
    for outage, closed in (("refuse", True), ("allow", False)):
        chosen = sorted(name for name, is_closed in refuse.items() if is_closed is closed)
        for index in range(0, len(chosen), AUDIENCES_PER_ENTRY):
            some = chosen[index : index + AUDIENCES_PER_ENTRY]
            conditions = {"asks-for-a-protected-audience": cel.asks_for(some)}
            name = f"tokens-{outage}-{index // AUDIENCES_PER_ENTRY}.validate"
            entry = _entry(name, client_config, rules, conditions)
            entry["failurePolicy"] = "Fail" if closed and fail_closed else "Ignore"
            entries.append(entry)
    return entries


def _refuses(audience: ProtectedAudience) -> bool:
    return audience.spec.mode == "Enforce" and audience.spec.on_gate_outage == "Refuse"


def _entry(name: str, client_config: Object, rules: list[Object], conditions: Mapping[str, str]) -> Object:
    """An entry that fails open and sees every namespace, until its caller says otherwise.

    Complete, and without an empty `matchConditions`, which the API server leaves out: the stored one compares equal.
    """
    entry = {
        "name": f"{name}.countersign.dev",
        "clientConfig": client_config,
        "rules": rules,
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "admissionReviewVersions": ["v1"],
    }
    if conditions:
        entry["matchConditions"] = [{"name": key, "expression": text} for key, text in conditions.items()]
    return entry


def _selector(selector: LabelSelector) -> Object:
    """As the API server gives it back: with lists, so that it compares equal."""
    found: Object = msgspec.json.decode(msgspec.json.encode(selector))
    return found


def _rule(groups: list[str], versions: list[str], resources: list[str], operations: list[str]) -> Object:
    return {
        "apiGroups": groups,
        "apiVersions": versions,
        "resources": resources,
        "operations": operations,
        "scope": "Namespaced",
    }


def _configuration(kind: str, webhooks: list[Object], *, remember: bool) -> Object:
    made: Object = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": WEBHOOK_CONFIGURATION,
            "labels": {"app.kubernetes.io/name": "countersign", "app.kubernetes.io/managed-by": FIELD_MANAGER},
        },
        "webhooks": webhooks,
    }
    if remember:
        made["metadata"]["annotations"] = {CLOSED_ANNOTATION: "true"}
    return made
