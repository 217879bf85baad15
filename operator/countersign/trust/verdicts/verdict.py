"""The verdict: what the policies make of a pod and its evidence. A pure function.

Each governing policy is judged alone. A finding under Enforce keeps the pod out; under Warn and Audit it does not, and
softens no other. A token needs its own policy to pass in any mode, the audience's required policies, and every Enforce
policy.
"""

from collections.abc import Iterator
from datetime import datetime

from countersign.api.names import TOKEN_VOLUME_PREFIX
from countersign.api.pod import Container, Pod, Volume
from countersign.api.policy import Mode
from countersign.trust.evidence.image_evidence import (
    Evidence,
    ImageEvidence,
    KnownImage,
    RuleEvidence,
    known_images,
)
from countersign.trust.evidence.image_verdict import judge_image
from countersign.trust.evidence.signers import Weights
from countersign.trust.images.extraction import ImageUse, extract
from countersign.trust.pods import api_token, binding, exposure, runtime
from countersign.trust.pods.recipients import nobody_receives, recipients
from countersign.trust.pods.size import too_large
from countersign.trust.pods.subject import Subject
from countersign.trust.pods.tokens import TokenGrant, audiences_in
from countersign.trust.policies import audiences
from countersign.trust.policies.compiled import CompiledPolicy, CompiledSnapshot, CompiledToken, compiled
from countersign.trust.policies.composition import Claims
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.policies.profiles import stricter
from countersign.trust.policies.scope import governing_compiled
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.outcome import UNGOVERNED, Verdict
from countersign.trust.verdicts.problem import Problem, Stage
from countersign.trust.verdicts.waivers import Waivers

__all__ = ["UNGOVERNED", "Evidence", "ImageEvidence", "RuleEvidence", "Stage", "TokenGrant", "Verdict", "judge"]

_STRICTNESS: dict[Mode, int] = {"Audit": 0, "Warn": 1, "Enforce": 2}


def judge(
    snapshot: PolicySnapshot,
    subject: Subject,
    evidence: Evidence,
    *,
    stage: Stage,
    now: datetime,
    found_at: float | None = None,
) -> Verdict:
    """Judge a pod as of `now`.

    `mutate`: the pod as its author wrote it; tokens are decided, images may still bear tags. `validate`: the pod that
    is about to be stored, which must carry exactly what was decided. `live`: a pod of the cluster, with the facts of
    its receipt; the images of ephemeral containers are then left to the response `ephemeral_container`.

    `found_at`: when the evidence was found (a receipt's `issued_at`), in seconds since the epoch, by which the age of
    attestations is measured; None: now.
    """
    index = compiled(snapshot)
    policies = governing_compiled(index, subject)
    if not policies:
        return UNGOVERNED
    weights = Weights(
        index.standing.for_namespace(subject.namespace.name),
        index.roots,
        now.timestamp() if found_at is None else found_at,
    )
    return _Judgement(index, policies, subject, evidence, weights, stage=stage, now=now).verdict()


class _PolicyState:
    """One governing policy while the pod is under judgement."""

    __slots__ = ("blocked", "mode", "policy", "problems", "receiving", "waivers")

    def __init__(self, policy: CompiledPolicy, mode: Mode) -> None:
        self.policy = policy
        self.mode = mode
        self.problems: list[Problem] = []
        self.blocked = False
        self.waivers: Waivers | None = None
        """None: there are no exceptions at all."""
        self.receiving: dict[str, tuple[Container, dict[str, CompiledPolicy]]] = {}
        """Containers that receive some token of the policy, and by UID the policies that say what they may run."""

    def add(self, problem: Problem, *, of: CompiledPolicy | None = None) -> Problem:
        """Take it in, waived where an exception says so. `of`: the policy whose rule it is, where it is another one."""
        if self.waivers is not None:
            problem = self.waivers.waived(problem, (of or self.policy).ref)
        if of is None or problem not in self.problems:
            self.problems.append(problem)
        self.blocked = self.blocked or problem.blocks_identity
        return problem


class _PlannedToken:
    """A token of a governing policy while the pod is under judgement."""

    __slots__ = ("available", "containers", "state", "token")

    def __init__(
        self, state: _PolicyState, token: CompiledToken, containers: tuple[Container, ...], available: bool
    ) -> None:
        self.state = state
        self.token = token
        self.containers = containers
        self.available = available

    def grant(self) -> TokenGrant:
        spec = self.token.spec
        return TokenGrant(
            name=spec.name,
            audience=spec.audience,
            expiration_seconds=spec.expiration_seconds,
            path=spec.path,
            env_var=spec.env_var,
            containers=tuple([container.name for container in self.containers]),
            policy=self.state.policy.ref,
            owner=self.state.policy.spec.owner,
            shape=self.token.shape,
        )


class _Judgement:
    """The steps of one judgement and what they share."""

    def __init__(
        self,
        index: CompiledSnapshot,
        policies: tuple[CompiledPolicy, ...],
        subject: Subject,
        evidence: Evidence,
        weights: Weights,
        *,
        stage: Stage,
        now: datetime,
    ) -> None:
        self.now = now
        self.index = index
        self.subject = subject
        self.pod: Pod = subject.pod
        self.stage = stage
        namespace = subject.namespace.name
        self.states = [_PolicyState(policy, policy.policy.mode_in(namespace)) for policy in policies]
        self.strictest = max(self.states, key=lambda state: _STRICTNESS[state.mode])
        self.weights = weights
        self.uses = extract(subject.pod)
        self.given = evidence
        self.images: dict[str, KnownImage] = {}
        self.pod_wide: list[Problem] = []
        self.exposed: dict[str, str] = {}
        self.evidence: dict[ImageUse, list[RuleEvidence]] = {}

    def verdict(self) -> Verdict:
        excess = too_large([state.policy for state in self.states], self.pod)
        if excess:
            self.pod_wide.append(
                Problem("PodTooLarge", "a pod that can be judged in time", excess, "divide it, or have rules merged")
            )
            return self._assemble([], [])
        self.images = known_images(self.uses, self.given)
        if self.index.exceptions:
            waivers = Waivers(self.index.exceptions, self.subject, self.images, self.weights.standing, self.now)
            for state in self.states:
                state.waivers = waivers
        planned = self._plan_tokens()
        self._judge_pod()
        for state in self.states:
            self._judge_policy(state)
        due = self._due(planned)
        if self.stage != "mutate":
            due = self._injected(due)
        self._judge_foreign_volumes(planned, due)
        if self.exposed:
            due = [token for token in due if token.token.spec.audience not in self.exposed]
        if self._is_blocked_pod_wide():
            due = []
        return self._assemble(planned, due)

    def _plan_tokens(self) -> list[_PlannedToken]:
        planned: list[_PlannedToken] = []
        claims = Claims()
        for state in self.states:
            policy = state.policy
            for token in policy.tokens:
                containers = recipients(policy, token, self.pod)
                lost = claims.take(policy.ref, token.spec)
                problem = (
                    Problem(
                        "TokenClash",
                        f"a free {lost[0]} for token {token.spec.name}",
                        f"{lost[1]} has it",
                        "choose another one in the policy, or selectors that do not overlap",
                        denies=False,
                        blocks_identity=False,
                    )
                    if lost is not None
                    else audiences.unavailable(self.index, policy, token.spec, self.subject.namespace)
                )
                if problem is not None:
                    state.add(problem)
                planned.append(_PlannedToken(state, token, containers, problem is None))
        for one in planned:
            if self._may_receive(one.token):
                self._receive(one)
        return planned

    def _receive(self, planned: _PlannedToken) -> None:
        """Note who receives the token, and whose rules about what they may run count: its own policy's, and those of
        the policies that its audience requires. A namespace's policy, which may be laxer, hands the audience out; the
        required ones speak for its owner. What they find is laid to the token's own policy, and denies in its mode.
        """
        rules = {planned.state.policy.ref.uid: planned.state.policy}
        if planned.available:
            required = self.index.audiences[planned.token.spec.audience].spec.issuance.required_policies
            for state in self.states:
                if state.policy.is_cluster and state.policy.ref.name in required:
                    rules[state.policy.ref.uid] = state.policy
        for container in planned.containers:
            planned.state.receiving.setdefault(container.name, (container, {}))[1].update(rules)

    def _may_receive(self, token: CompiledToken) -> bool:
        """A live pod that does not carry a token will never receive it: what the policy asks of recipients is moot."""
        name = token.shape.volume.name
        return self.stage != "live" or any(volume.name == name for volume in self.pod.spec.volumes)

    def _judge_pod(self) -> None:
        revoked = self.weights.standing.digests
        if not revoked:
            return
        for use in self.uses:
            hits = [digest for digest in self.images[use.image].digests if digest in revoked]
            if hits:
                self.pod_wide.append(
                    Problem(
                        "ImageRevoked",
                        "an image that is not revoked",
                        f"a standing Revocation of {hits[0]}",
                        "use another build of the image",
                        use.container,
                        use.image,
                    )
                )

    def _judge_policy(self, state: _PolicyState) -> None:
        policy, pod = state.policy, self.pod
        for use in self.uses:
            if use.kind != "ephemeral" or self.stage != "live":
                self._judge_use(state, use, self.images[use.image])
        for container, rules in state.receiving.values():
            for rule in rules.values():
                for problem in runtime.problems(rule, container, self.images[container.image]):
                    state.add(problem, of=rule)
        bound = policy.spec.binding
        if bound.service_accounts or bound.controllers or bound.requesters:
            for problem in binding.problems(policy, self.subject):
                state.add(problem)
        if state.receiving and (privileges := exposure.privileges(pod)):
            state.add(exposure.privilege_problem(privileges, debugged=bool(pod.spec.ephemeral_containers)))
        if pod.spec.ephemeral_containers and policy.settings.ephemeral_container == "Deny":
            for container in pod.spec.ephemeral_containers:
                state.add(exposure.ephemeral_problem(container))
        if self.stage != "live":
            kept = api_token.problem(pod, policy.settings.api_token, patched=self.stage == "validate")
            if kept is not None:
                state.add(kept)

    def _judge_use(self, state: _PolicyState, use: ImageUse, image: KnownImage) -> None:
        problems, evidence = judge_image(state.policy, image, self.stage, self.weights)
        waived = False
        for problem in problems:
            kept = state.add(problem._replace(container=use.container, image=use.image))
            waived = waived or kept.waiver is not None
        if evidence or waived:  # what an exception lets in has digests, too, which an order may name
            self.evidence.setdefault(use, []).extend(evidence)

    def _due(self, planned: list[_PlannedToken]) -> list[_PlannedToken]:
        """The tokens that nothing stands in the way of."""
        for token in planned:
            if token.available and token.containers:
                for problem in self._token_problems(token):
                    token.state.add(problem)
        governing = frozenset(state.policy.ref.name for state in self.states if state.policy.is_cluster)
        open_tokens = []
        for token in planned:
            if not token.available:
                continue
            audience = self.index.audiences[token.token.spec.audience]
            missing = audiences.missing_required(audience, governing)
            if missing is not None:
                token.state.add(missing)
            elif not token.containers:
                token.state.add(nobody_receives(token.token))
            else:
                open_tokens.append(token)
        if any(state.blocked and state.mode == "Enforce" for state in self.states):
            return []
        blocked = frozenset(state.policy.ref.name for state in self.states if state.blocked and state.policy.is_cluster)
        return [
            token
            for token in open_tokens
            if not token.state.blocked
            and blocked.isdisjoint(self.index.audiences[token.token.spec.audience].spec.issuance.required_policies)
        ]

    def _token_problems(self, token: _PlannedToken) -> Iterator[Problem]:
        yield from exposure.mount_problems(self.pod, token.token.spec.name, token.containers)
        if self.pod.spec.ephemeral_containers:
            yield from exposure.target_problems(self.pod, token.token.spec.name, token.containers)
        if self.stage != "live":
            yield from exposure.clashes(self.pod, token.token, token.containers)

    def _injected(self, due: list[_PlannedToken]) -> list[_PlannedToken]:
        """Of the due tokens those that the pod really carries."""
        carried = []
        for token in due:
            problem = exposure.missing(self.pod, token.token, token.containers, self.stage)
            if problem is None:
                carried.append(token)
            else:
                token.state.add(problem)
        return carried

    def _judge_foreign_volumes(self, planned: list[_PlannedToken], due: list[_PlannedToken]) -> None:
        """Protected audiences in volumes that the injector did not write or will not take out."""
        # At mutation a volume of a token that is withheld will be taken out again; afterwards it must be gone. Where
        # the pod is kept out for what withholds the token, its volume is no second reason.
        ours = planned if self.stage == "mutate" or self._is_denied() else due
        volumes = [token.token.shape.volume for token in ours if token.available]
        if self.stage == "live":
            volumes = self._of_our_making(due)
        self.exposed = exposure.exposed_audiences(self.pod, self.index.declared, volumes)
        for audience, volume in self.exposed.items():
            declared = self.index.audiences.get(audience)
            enforced = declared is None or declared.spec.mode == "Enforce"
            givers = [token.state.mode for token in planned if token.token.spec.audience == audience]
            self.pod_wide.append(
                Problem(
                    "TokenExposed",
                    f"audience {audience} only in the volume that Countersign injects",
                    f"volume {volume} projects it",
                    "remove the volume: a policy's token comes by itself",
                    # An audience in Audit refuses nobody, unless an enforced policy vouches for who holds it.
                    denies=enforced or "Enforce" in givers,
                    blocks_identity=(enforced or bool(givers)) and self.stage != "live",
                )
            )

    def _of_our_making(self, due: list[_PlannedToken]) -> list[Volume]:
        """The volumes of a live pod that may be ours. They were written under the policy of that day.

        A token that is due has one volume. Any other with its audience is the pod's author's, whom Audit and Warn let
        in with it, whatever its name.
        """
        carriers = {token.token.spec.audience: token.token.shape.volume.name for token in due}
        return [
            volume
            for volume in self.pod.spec.volumes
            if volume.name.startswith(TOKEN_VOLUME_PREFIX)
            and all(carriers.get(audience, volume.name) == volume.name for audience in audiences_in(volume))
        ]

    def _is_denied(self) -> bool:
        return any(state.mode == "Enforce" and any(one.denies for one in state.problems) for state in self.states)

    def _is_blocked_pod_wide(self) -> bool:
        return any(problem.blocks_identity for problem in self.pod_wide)

    def _assemble(self, planned: list[_PlannedToken], due: list[_PlannedToken]) -> Verdict:
        given = {id(token) for token in due}
        first = due[0].state if due else self.states[0]
        return Verdict(
            governed=tuple([state.policy.policy for state in self.states]),
            findings=tuple(self._findings()),
            tokens=tuple([token.grant() for token in due]),
            withheld=tuple([token.grant() for token in planned if id(token) not in given]),
            evidence_used=self._evidence_used(),
            settings=stricter(state.policy.settings for state in self.states),
            owner=first.policy.spec.owner,
            hands_out=any(token.containers for token in planned),
        )

    def _findings(self) -> Iterator[Finding]:
        for problem in self.pod_wide:
            yield _finding(problem, self.strictest, pod_wide=True)
        for state in sorted(self.states, key=lambda state: -_STRICTNESS[state.mode]):
            for problem in state.problems:
                yield _finding(problem, state)

    def _evidence_used(self) -> tuple[ImageEvidence, ...]:
        used = []
        for use, evidence in self.evidence.items():
            image = self.images[use.image]
            used.append(
                ImageEvidence(
                    container=use.container,
                    image=use.image,
                    digest=image.digest or "",
                    runtime_digests=image.digests,
                    evidence=tuple(evidence),
                )
            )
        return tuple(used)


def _finding(problem: Problem, state: _PolicyState, *, pod_wide: bool = False) -> Finding:
    return Finding(
        code=problem.code,
        policy=state.policy.ref,
        mode=state.mode,
        container=problem.container,
        image=problem.image,
        expected=problem.expected,
        found=problem.found,
        remedy=problem.remedy,
        transient=problem.transient,
        blocks_identity=problem.blocks_identity,
        denies=problem.denies,
        waiver=problem.waiver,
        pod_wide=pod_wide,
    )
