"""Which accounts, controllers and requesters the images of a policy belong to."""

from collections.abc import Iterator

from countersign.api.policy import Requester
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.compiled import CompiledPolicy
from countersign.trust.policies.scope import account_of
from countersign.trust.verdicts.problem import Problem

_ACCOUNT_PREFIX = "system:serviceaccount:"


def problems(policy: CompiledPolicy, subject: Subject) -> Iterator[Problem]:
    """What of the policy's `binding` the pod does not satisfy. What is not known does not satisfy it."""
    binding = policy.spec.binding
    if binding.service_accounts and account_of(subject) not in policy.accounts:
        accounts = ", ".join(sorted(f"{namespace}/{name}" for namespace, name in policy.accounts)[:3])
        yield Problem(
            "ServiceAccountNotBound",
            f"a service account among {accounts or 'none'}{' and others' if len(policy.accounts) > 3 else ''}",
            "/".join(account_of(subject)),
            "set serviceAccountName to a bound account, or ask the policy's owner to bind this one",
        )
    if binding.controllers and not _is_bound_controller(policy, subject):
        kinds = ", ".join(
            f"{wanted.kind} {wanted.name}" if wanted.name else f"any {wanted.kind}"
            for wanted in binding.controllers[:3]
        )
        yield Problem(
            "ControllerNotBound",
            f"a pod of {kinds}{' or others' if len(binding.controllers) > 3 else ''}",
            _controller(subject),
            "create the workload that the policy names rather than the pod itself",
        )
    if binding.requesters and not any(_is_requester(wanted, subject) for wanted in binding.requesters):
        wanted_ones = ", ".join(_requester(wanted) for wanted in binding.requesters[:3])
        yield Problem(
            "RequesterNotBound",
            f"a request by {wanted_ones}{' or others' if len(binding.requesters) > 3 else ''}",
            subject.requester.username if subject.requester else "nobody known",
            "have the workload created by one of them",
        )


def _is_bound_controller(policy: CompiledPolicy, subject: Subject) -> bool:
    link = subject.controller
    if link is None or not subject.controller_known:
        return False
    return any(
        wanted.api_group == link.api_group and wanted.kind == link.kind and wanted.name in ("", link.name)
        for wanted in policy.spec.binding.controllers
    )


def _controller(subject: Subject) -> str:
    if not subject.controller_known:
        return "a controller that could not be vouched for"
    return f"{subject.controller.kind} {subject.controller.name}" if subject.controller else "no controller"


def _is_requester(wanted: Requester, subject: Subject) -> bool:
    requester = subject.requester
    if requester is None or not requester.username:
        return False
    match wanted.kind:
        case "User":
            return requester.username == wanted.name
        case "Group":
            return wanted.name in requester.groups
        case "ServiceAccount":
            return requester.username == f"{_ACCOUNT_PREFIX}{wanted.namespace}:{wanted.name}"


def _requester(wanted: Requester) -> str:
    name = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    return f"{wanted.kind} {name}"
