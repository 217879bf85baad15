"""The webhook configurations, worked out from policies, audiences and namespaces. Pure; `registration` writes them.

- Each policy's namespaceSelector is passed through, so that a namespace is covered by its labels at the moment of the
  request. What selectors cannot say is covered by `kubernetes.io/metadata.name`: TrustPolicies, bound service accounts.
- An entry fails closed only where a policy enforces, and only once the gate has answered (`fail_closed`).
- While admission is paused the entries about pods fail open, and the configurations remember whether they failed closed
  before. Those about tokens stay as they are: a pause gives no identity.
- kube-system & co. and our own namespace are never asked about for pods. Token requests are kept apart by audience
  alone: nothing of the cluster's own asks for a protected one.
- Two entries that cover one namespace make the API server call twice, which costs time and changes nothing. So a name
  is left out where a selector as strict already covers the namespace as it is labelled now.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from countersign.api.audience import ProtectedAudience
from countersign.api.meta import LabelSelector, SelectorRequirement
from countersign.api.names import CLOSED_ANNOTATION, EXEMPT_NAMESPACES, POD_ENTRIES, WEBHOOK_CONFIGURATION
from countersign.api.policy import ClusterTrustPolicySpec
from countersign.controller import cel
from countersign.trust.policies.policy import Policy, PolicySnapshot

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Set by the API server on every namespace (KEP-2161); nobody can change it."""
TIMEOUT_SECONDS: Final = 10
"""The API server's default. The gate answers before it, by its own deadline."""
WARNING_TIMEOUT_SECONDS: Final = 5
"""For templates, where no answer does no harm."""
AUDIENCES_PER_ENTRY: Final = 500
"""1,000 literals in one matchCondition were accepted by the API server, 5,000 refused (CEL cost and size limits)."""
MAX_ENTRIES: Final = 32
"""More distinct selectors than this are covered by one entry without any: each entry is matched on each write."""
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


class Coverage(NamedTuple):
    """Namespaces that one entry covers, and whether a request is refused when the gate does not answer."""

    selector: LabelSelector
    closed: bool


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
    return any(one.closed for one in coverage(snapshot, {})) or any(_refuses(one) for one in snapshot.audiences)


def coverage(snapshot: PolicySnapshot, namespaces: Mapping[str, Mapping[str, str]]) -> tuple[Coverage, ...]:
    """The namespaces that policies reach, in as few entries as selectors allow. Exempt ones are left out."""
    exempt = (*EXEMPT_NAMESPACES, snapshot.system_namespace)
    selectors: dict[bytes, Coverage] = {}
    names: dict[str, bool] = {}
    for policy in snapshot.policies:
        for selector, closed in _selectors(policy):
            key = msgspec.json.encode(selector, order="deterministic")
            known = selectors.get(key)
            selectors[key] = Coverage(selector, closed or (known is not None and known.closed))
        for name, closed in _names(policy):
            names[name] = names.get(name, False) or closed
    for name in list(names):
        if name in exempt or _is_covered(selectors.values(), name, namespaces.get(name), names[name]):
            del names[name]
    entries = [Coverage(_without(one.selector, exempt), one.closed) for _, one in sorted(selectors.items())]
    for closed in (True, False):
        chosen = sorted(name for name, is_closed in names.items() if is_closed is closed)
        if chosen:
            entries.append(Coverage(_only(LabelSelector(), chosen), closed))
    if len(entries) > MAX_ENTRIES:
        return (Coverage(_without(LabelSelector(), exempt), any(one.closed for one in entries)),)
    return tuple(entries)


def _selectors(policy: Policy) -> Iterable[tuple[LabelSelector, bool]]:
    """A cluster policy's selector, split where modeOverrides make its strictness differ."""
    spec = policy.spec
    if not isinstance(spec, ClusterTrustPolicySpec):
        return
    selector = spec.match.namespace_selector
    closed = spec.mode == "Enforce"
    differing = sorted({o.namespace for o in spec.mode_overrides if (o.mode == "Enforce") is not closed})
    yield _without(selector, differing), closed
    if differing:
        yield _only(selector, differing), not closed


def _names(policy: Policy) -> Iterable[tuple[str, bool]]:
    """Namespaces that a policy reaches by name: its own, or those of the accounts that it binds."""
    spec = policy.spec
    if not isinstance(spec, ClusterTrustPolicySpec):
        yield policy.ref.namespace, spec.mode == "Enforce"
        return
    for account in spec.binding.service_accounts:
        if account.namespace:
            yield account.namespace, policy.mode_in(account.namespace) == "Enforce"


def _is_covered(entries: Iterable[Coverage], name: str, labels: Mapping[str, str] | None, closed: bool) -> bool:
    if labels is None:
        return False  # not there yet, or not known: keep it by name
    known = {**labels, NAME_LABEL: name}
    return any(entry.selector.matches(known) and (entry.closed or not closed) for entry in entries)


def _without(selector: LabelSelector, names: Sequence[str]) -> LabelSelector:
    return _with_names(selector, "NotIn", names) if names else selector


def _only(selector: LabelSelector, names: Sequence[str]) -> LabelSelector:
    return _with_names(selector, "In", names)


def _with_names(selector: LabelSelector, operator: Literal["In", "NotIn"], names: Sequence[str]) -> LabelSelector:
    clause = SelectorRequirement(key=NAME_LABEL, operator=operator, values=tuple(names))
    return msgspec.structs.replace(selector, match_expressions=(*selector.match_expressions, clause))


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
    """An entry that fails open and sees every namespace, until its caller says otherwise."""
    return {
        "name": f"{name}.countersign.dev",
        "clientConfig": client_config,
        "rules": rules,
        "matchConditions": [{"name": key, "expression": expression} for key, expression in conditions.items()],
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "admissionReviewVersions": ["v1"],
    }


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
