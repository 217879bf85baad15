"""The brake on mass suspension: a change of policy that would suspend many grants waits for a person's word.

A grant that no longer qualifies is laid to the policies that it fails under, or that let it go. Where the grants that
one policy would suspend are both more than `Limits.grants` and more than `Limits.share` of the Active grants that rest
on it, none of them is suspended, and the policy carries the condition ImpactHeld, until `spec.acceptImpact` names the
held generation or the change is undone. Nothing is remembered: each evaluation counts anew, after a restart too. An
evidence root that is gone, or lost what signatures rest on, is laid to the policies that name it.

Not braked, and why:

- what ends an instance (completion, deletion, an order, a changed image): that is no change of policy;
- a new pod: it is judged by the policy as it stands, held or not;
- a deleted policy. No object is left that could carry the consent, and deleting names its object, where a typo
  in a field does not. Its grants are suspended, never revoked, and qualify again when it is created again;
- qualification Revocations: they end grants, which is what they are for.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from countersign.api.grant import WorkloadGrant
from countersign.grants.lifecycle import Qualification, covers
from countersign.trust.policies.policy import Policy, PolicyRef


class Limits(NamedTuple):
    """How much one policy may suspend without being asked. Both must be exceeded for a hold."""

    grants: int = 10
    share: float = 0.25


DEFAULT_LIMITS: Final = Limits()
_NOTICES: Final = frozenset({"EvidenceStale"})
"""Findings that take nothing from anybody."""


class Impact(NamedTuple):
    """What a policy as it now stands does to the grants that are Active."""

    policy: PolicyRef
    losing: int
    active: int
    held: bool


def loses(grant: WorkloadGrant, qualification: Qualification | None) -> bool:
    """Whether the policies of now would suspend the grant."""
    return qualification is None or not qualification.qualifies or not covers(qualification, grant.spec.tokens)


def blamed(grant: WorkloadGrant, qualification: Qualification | None, policies: Mapping[str, Policy]) -> frozenset[str]:
    """UIDs of the policies because of which a grant no longer qualifies, as far as they still exist.

    Those with findings; else those that governed the pod and do not any more, or that gave a token and do not any
    more; else all that the grant rests on. Empty only if every policy that could answer for it was deleted.
    """
    resting = {policy.uid for policy in grant.spec.policies} | {token.policy_uid for token in grant.spec.tokens}
    if qualification is None:
        return frozenset(resting & policies.keys())
    found = {one.policy_uid for one in qualification.findings if one.code not in _NOTICES}
    failing = found & policies.keys()
    if failing:
        return frozenset(failing)
    given = {(token.audience, token.policy_uid) for token in qualification.tokens}
    withdrawn = {t.policy_uid for t in grant.spec.tokens if (t.audience, t.policy_uid) not in given}
    gone = {uid for uid in resting if uid not in qualification.policies}
    return frozenset((withdrawn | gone) & policies.keys()) or frozenset(resting & policies.keys())


def weigh(
    losing: Mapping[str, AbstractSet[str]],
    active: Mapping[str, AbstractSet[str]],
    policies: Mapping[str, Policy],
    limits: Limits = DEFAULT_LIMITS,
) -> dict[str, Impact]:
    """The impact of each policy that would suspend something, by policy UID.

    `losing`: Active grants (by pod UID) that would be suspended, by the UID of the policy to blame. `active`: Active
    grants that rest on a policy, by its UID.
    """
    found = {}
    for uid, grants in losing.items():
        policy = policies.get(uid)
        if policy is None or not grants:
            continue
        resting = len(active.get(uid, frozenset()) | grants)
        many = len(grants) > limits.grants and len(grants) > limits.share * resting
        found[uid] = Impact(policy.ref, len(grants), resting, many and not accepted(policy))
    return found


def accepted(policy: Policy) -> bool:
    """Whether its author has accepted the impact of this very generation.

    `acceptImpact: G` is itself an edit, which makes generation G + 1, and covers both.
    """
    return policy.spec.accept_impact is not None and policy.spec.accept_impact >= policy.ref.generation - 1


def is_held(blame: AbstractSet[str], impacts: Mapping[str, Impact]) -> bool:
    """Whether a suspension waits: it has somebody to blame, and all of them are held."""
    return bool(blame) and all(uid in impacts and impacts[uid].held for uid in blame)


def hold_message(impact: Impact) -> str:
    """The text of the condition ImpactHeld."""
    return (
        f"{impact.policy} as it stands would suspend {impact.losing} of {impact.active} active grants; they stay as "
        f"they are. To go ahead set spec.acceptImpact: {impact.policy.generation}; otherwise undo the change."
    )
