"""Which namespaces the webhook entries cover, and where they fail closed. Pure.

- Each policy's namespaceSelector is passed through, so that a namespace is covered by its labels at the moment of the
  request. What selectors cannot say is covered by `kubernetes.io/metadata.name`: TrustPolicies, bound service accounts.
- kube-system & co. and our own namespace are never asked about for pods.
- Two entries that cover one namespace make the API server call twice, which costs time and changes nothing. So a name
  is left out where a selector as strict already covers the namespace as it is labelled now.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from countersign.api.meta import LabelSelector, SelectorRequirement
from countersign.api.names import EXEMPT_NAMESPACES
from countersign.api.policy import ClusterTrustPolicySpec
from countersign.api.responses import ExecResponse
from countersign.trust.policies.compiled import compiled_policy
from countersign.trust.policies.policy import Policy, PolicySnapshot

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Set by the API server on every namespace (KEP-2161); nobody can change it."""
MAX_ENTRIES: Final = 32
"""More distinct selectors than this are covered by one entry without any: each entry is matched on each write."""


class Coverage(NamedTuple):
    """Namespaces that one entry covers, and whether a request is refused when the gate does not answer."""

    selector: LabelSelector
    closed: bool


class _Reach(NamedTuple):
    """What one policy reaches, by selectors and by names, each with whether it fails closed there."""

    selectors: tuple[tuple[LabelSelector, bool], ...]
    names: tuple[tuple[str, bool], ...]


def coverage(snapshot: PolicySnapshot, namespaces: Mapping[str, Mapping[str, str]]) -> tuple[Coverage, ...]:
    """The namespaces that policies reach, in as few entries as selectors allow. Exempt ones are left out."""
    return _merged(snapshot, map(_by_mode, snapshot.policies), namespaces)


def entered(snapshot: PolicySnapshot, namespaces: Mapping[str, Mapping[str, str]]) -> tuple[Coverage, ...]:
    """The namespaces in which going into a pod by exec, attach or port-forward may have a price.

    Those are where a policy hands out tokens, unless all that may govern its pods say Allow; it fails closed in every
    mode, since modes change nothing for identities. And those where a policy says Deny, as strict as its mode.
    """
    strict = [policy for policy in snapshot.policies if _response(policy) != "Allow"]
    reaches = []
    for policy in snapshot.policies:
        if policy.spec.tokens and _response(policy) == "Allow":
            reaches += [_meeting(policy, other) for other in strict]
        elif policy.spec.tokens:
            reaches.append(_always(policy))
        elif _response(policy) == "Deny":
            reaches.append(_by_mode(policy))
    return _merged(snapshot, reaches, namespaces)


def _response(policy: Policy) -> ExecResponse:
    return compiled_policy(policy).settings.exec


def _meeting(lax: Policy, strict: Policy) -> _Reach:
    """Where both may govern one pod. More may be named than that, never less: labels of namespaces change."""
    spec, other = lax.spec, strict.spec
    if not isinstance(spec, ClusterTrustPolicySpec):
        meets = isinstance(other, ClusterTrustPolicySpec) or strict.ref.namespace == lax.ref.namespace
        return _always(lax) if meets else _Reach((), ())
    selector = spec.match.namespace_selector
    if not isinstance(other, ClusterTrustPolicySpec):
        return _Reach(((_only(selector, [strict.ref.namespace]), True),), _always(lax).names)
    selectors = []
    both = _both(selector, other.match.namespace_selector)
    if both is not None:
        selectors.append((both, True))
    if bound := sorted(_bound(other)):
        selectors.append((_only(selector, bound), True))
    return _Reach(tuple(selectors), _always(lax).names)


def _both(one: LabelSelector, other: LabelSelector) -> LabelSelector | None:
    """What both select; None if no labels satisfy their matchLabels at once."""
    if any(other.match_labels.get(key, value) != value for key, value in one.match_labels.items()):
        return None
    return LabelSelector(
        match_labels={**one.match_labels, **other.match_labels},
        match_expressions=tuple(dict.fromkeys((*one.match_expressions, *other.match_expressions))),
    )


def _merged(
    snapshot: PolicySnapshot, reaches: Iterable[_Reach], namespaces: Mapping[str, Mapping[str, str]]
) -> tuple[Coverage, ...]:
    exempt = (*EXEMPT_NAMESPACES, snapshot.system_namespace)
    selectors: dict[bytes, Coverage] = {}
    names: dict[str, bool] = {}
    for reach in reaches:
        for selector, closed in reach.selectors:
            key = msgspec.json.encode(selector, order="deterministic")
            known = selectors.get(key)
            selectors[key] = Coverage(selector, closed or (known is not None and known.closed))
        for name, closed in reach.names:
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


def _by_mode(policy: Policy) -> _Reach:
    """Closed where it enforces. A selector is split where modeOverrides make its strictness differ."""
    spec = policy.spec
    if not isinstance(spec, ClusterTrustPolicySpec):
        return _Reach((), ((policy.ref.namespace, spec.mode == "Enforce"),))
    selector = spec.match.namespace_selector
    closed = spec.mode == "Enforce"
    differing = sorted({o.namespace for o in spec.mode_overrides if (o.mode == "Enforce") is not closed})
    selectors = [(_without(selector, differing), closed)]
    if differing:
        selectors.append((_only(selector, differing), not closed))
    return _Reach(tuple(selectors), tuple((name, policy.mode_in(name) == "Enforce") for name in _bound(spec)))


def _always(policy: Policy) -> _Reach:
    """Closed wherever it reaches."""
    spec = policy.spec
    if not isinstance(spec, ClusterTrustPolicySpec):
        return _Reach((), ((policy.ref.namespace, True),))
    return _Reach(((spec.match.namespace_selector, True),), tuple((name, True) for name in _bound(spec)))


def _bound(spec: ClusterTrustPolicySpec) -> Iterable[str]:
    """Namespaces of the accounts that it binds, which it governs whatever its selector says."""
    return (account.namespace for account in spec.binding.service_accounts if account.namespace)


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
