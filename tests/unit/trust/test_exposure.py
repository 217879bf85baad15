"""Who can read a token: only the containers that its policy names."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.api.pod import Pod
from countersign.api.responses import Responses
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.verdict import Verdict
from tests.unit.trust.build import (
    AUDIENCE,
    DIGEST,
    PINNED,
    audience,
    audiences_of,
    cluster_policy,
    codes,
    container,
    denied,
    judged,
    pod,
    snapshot,
    token,
)

MOUNT = {"name": "countersign-token-ledger", "mountPath": "/var/run/secrets/countersign.dev/ledger", "readOnly": True}
ENV = {"name": "LEDGER_TOKEN_FILE", "value": "/var/run/secrets/countersign.dev/ledger/token"}
TOKEN = token(env_var="LEDGER_TOKEN_FILE", containers=("api",))


def volume(
    name: str = "countersign-token-ledger", text: str = AUDIENCE, seconds: int = 600, **more: Any
) -> dict[str, Any]:
    source = {"serviceAccountToken": {"audience": text, "expirationSeconds": seconds, "path": "token"}}
    return {"name": name, "projected": {"sources": [source], "defaultMode": 420}, **more}


def injected(*others: dict[str, Any], api: dict[str, Any] | None = None, **spec: Any) -> Pod:
    """The pod as the injector leaves it."""
    members = {"volumeMounts": [MOUNT], "env": [ENV], **(api or {})}
    spec.setdefault("volumes", [volume()])
    return pod(container(image=PINNED, **members), *others, **spec)


def given(mode: str = "Enforce", **members: Any) -> PolicySnapshot:
    return snapshot(cluster_policy(mode=mode, tokens=(TOKEN,), **members))


def final(of: Pod, **members: Any) -> Verdict:
    return judged(given(**members), of, stage="validate")


def test_the_pod_as_injected_passes() -> None:
    verdict = final(injected())
    assert (codes(verdict), audiences_of(verdict)) == ([], [AUDIENCE])


@pytest.mark.parametrize(
    "spoilt",
    [
        injected(volumes=[]),
        injected(volumes=[volume(seconds=900)]),
        injected(volumes=[volume(name="other")]),
        injected(api={"volumeMounts": []}),
        injected(api={"volumeMounts": [{**MOUNT, "readOnly": False}]}),
        injected(api={"volumeMounts": [{**MOUNT, "subPath": "token"}]}),
        injected(api={"volumeMounts": [{**MOUNT, "mountPath": "/tmp/x"}]}),
        injected(api={"env": []}),
        injected(api={"env": [{**ENV, "value": "/tmp/fake"}]}),
        injected(api={"env": [ENV, {**ENV, "value": "/tmp/fake"}]}),
    ],
)
def test_the_final_pod_carries_the_token_exactly_as_decided(spoilt: Pod) -> None:
    verdict = final(spoilt)
    assert denied(verdict)
    assert set(denied(verdict)) <= {"TokenNotInjected", "TokenClash", "TokenExposed"}


@pytest.mark.parametrize("stage", ["mutate", "validate"])
@pytest.mark.parametrize(
    "foreign",
    [
        volume("mine"),
        volume("countersign-token-other"),
        {"name": "mine", "projected": {"sources": [{"configMap": {}}, volume()["projected"]["sources"][0]]}},
    ],
)
def test_a_protected_audience_stands_only_in_our_volume(stage: Any, foreign: dict[str, Any]) -> None:
    verdict = judged(given(), injected(volumes=[volume(), foreign]), stage=stage)
    assert "TokenExposed" in denied(verdict)
    assert audiences_of(verdict) == []


def test_so_do_protected_audiences_that_no_policy_of_the_pod_hands_out() -> None:
    declared = [audience(), audience("vault.example.com", name="vault")]
    foreign = injected(volumes=[volume(), volume("mine", "vault.example.com")])
    verdict = judged(snapshot(cluster_policy(tokens=(TOKEN,)), audiences=declared), foreign, stage="validate")
    assert denied(verdict) == ["TokenExposed"]


def test_an_audience_in_audit_is_reported_and_refused_to_nobody() -> None:
    declared = [audience(), audience("vault.example.com", name="vault", mode="Audit")]
    foreign = injected(volumes=[volume(), volume("mine", "vault.example.com")])
    verdict = judged(snapshot(cluster_policy(tokens=(TOKEN,)), audiences=declared), foreign, stage="validate")
    assert (codes(verdict), denied(verdict), audiences_of(verdict)) == (["TokenExposed"], [], [AUDIENCE])


def test_an_audience_in_audit_that_a_policy_hands_out_is_withheld_all_the_same() -> None:
    declared = [audience(mode="Audit")]
    foreign = injected(volumes=[volume(), volume("mine")])
    verdict = judged(snapshot(cluster_policy(tokens=(TOKEN,)), audiences=declared), foreign, stage="validate")
    assert (denied(verdict), audiences_of(verdict)) == (["TokenExposed"], [])


def test_a_token_that_is_not_due_may_not_stand_in_the_final_pod() -> None:
    absent = snapshot(cluster_policy())
    assert denied(judged(absent, injected(), stage="validate")) == ["TokenExposed"]


def test_tokens_for_audiences_that_nobody_protects_are_the_authors_business() -> None:
    assert denied(final(injected(volumes=[volume(), volume("mine", "other.example.com")]))) == []


def test_at_mutation_our_own_volume_of_an_earlier_call_is_no_exposure() -> None:
    assert denied(judged(given(), injected())) == []
    assert audiences_of(judged(given(), injected())) == [AUDIENCE]


@pytest.mark.parametrize("stage", ["mutate", "validate", "live"])
@pytest.mark.parametrize(
    "mount",
    [MOUNT, {**MOUNT, "mountPath": "/tmp/x"}, {**MOUNT, "mountPath": "/tmp/x", "subPath": "token"}],
)
@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
def test_no_other_container_mounts_our_volume(stage: Any, mount: dict[str, Any], kind: str) -> None:
    thief = container("thief", PINNED, volumeMounts=[mount])
    more: dict[str, Any] = {kind: [thief]}
    of = injected(thief) if kind == "containers" else injected(**more)
    verdict = judged(given(), of, stage=stage)
    assert "TokenExposed" in codes(verdict)
    assert audiences_of(verdict) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"shareProcessNamespace": True},
        {"hostPID": True},
        {"volumes": [volume(), {"name": "host", "hostPath": {"path": "/var/lib/kubelet"}}]},
    ],
)
def test_a_pod_with_tokens_shares_nothing_that_reads_them(spec: Any) -> None:
    assert denied(final(injected(**spec))) == ["PodTooPrivileged"]


@pytest.mark.parametrize(
    "members",
    [
        {"securityContext": {"privileged": True}},
        {"securityContext": {"procMount": "Unmasked"}},
        {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}},
        {"securityContext": {"capabilities": {"add": ["cap_sys_admin"]}}},
        {"securityContext": {"capabilities": {"add": ["ALL"]}}},
        {"volumeDevices": [{"name": "disk", "devicePath": "/dev/xvda"}]},
    ],
)
@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_no_container_of_a_pod_with_tokens_is_privileged(members: dict[str, Any], where: str) -> None:
    other = container("other", PINNED, **members)
    of = injected(other) if where == "containers" else injected(initContainers=[other])
    verdict = final(of)
    assert denied(verdict) == ["PodTooPrivileged"]
    assert audiences_of(verdict) == []


def test_harmless_capabilities_are_free() -> None:
    harmless = {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}, "privileged": False}
    assert denied(final(injected(container("other", PINNED, securityContext=harmless)))) == []


def test_pods_without_tokens_may_be_privileged() -> None:
    of = pod(container(image=PINNED, securityContext={"privileged": True}), hostPID=True)
    assert denied(judged(snapshot(cluster_policy()), of, stage="validate")) == []


@pytest.mark.parametrize(
    "of",
    [
        pod(volumes=[{"name": "countersign-token-ledger", "emptyDir": {}}]),
        pod(container(volumeMounts=[{"name": "data", "mountPath": MOUNT["mountPath"]}])),
        pod(container(volumeMounts=[{"name": "data", "mountPath": f"{MOUNT['mountPath']}/"}])),
        pod(container(volumeMounts=[{"name": "data", "mountPath": f"{MOUNT['mountPath']}/token"}])),
        pod(container(env=[{"name": "LEDGER_TOKEN_FILE", "value": "/mine"}])),
    ],
)
def test_what_the_author_already_uses_otherwise_is_a_clash_not_an_overwrite(of: Pod) -> None:
    assert denied(judged(given(), of)) == ["TokenClash"]


def test_what_containers_without_the_token_use_is_theirs() -> None:
    other = container("web", env=[{"name": "LEDGER_TOKEN_FILE", "value": "/mine"}])
    assert denied(judged(given(), pod(container(), other))) == []


# A live pod: judged by the policies of now, carrying what was injected under those of its day.


def live(of: Pod, *tokens: Any, declared: Any = None) -> Verdict:
    return judged(snapshot(cluster_policy(tokens=tokens or (TOKEN,)), audiences=declared), of, stage="live")


def test_a_live_pod_that_was_never_injected_holds_no_token() -> None:
    verdict = live(injected(volumes=[]))
    assert (audiences_of(verdict), verdict.qualifies) == ([], False)
    assert codes(verdict) == ["TokenNotInjected"]


def test_a_token_added_to_the_policy_later_costs_the_live_pod_no_other() -> None:
    declared = [audience(), audience("vault.example.com", name="vault")]
    verdict = live(injected(), TOKEN, token("vault", "vault.example.com"), declared=declared)
    assert (audiences_of(verdict), verdict.qualifies) == ([AUDIENCE], True)


def test_what_a_policy_asks_of_recipients_is_moot_for_a_live_pod_that_never_received_its_token() -> None:
    declared = [audience(), audience("vault.example.com", name="vault")]
    later = cluster_policy("later", tokens=(token("vault", "vault.example.com", containers=("web",)),))
    given_now = snapshot(cluster_policy(tokens=(TOKEN,)), later, audiences=declared)
    verdict = judged(given_now, injected(container("web", PINNED, command=["sh"])), stage="live")
    assert (audiences_of(verdict), verdict.qualifies) == ([AUDIENCE], True)


def test_a_token_taken_from_the_policy_costs_the_live_pod_no_other() -> None:
    declared = [audience(), audience("vault.example.com", name="vault")]
    old = volume("countersign-token-vault", "vault.example.com")
    verdict = live(injected(volumes=[volume(), old]), declared=declared)
    assert (audiences_of(verdict), codes(verdict)) == ([AUDIENCE], [])


def test_a_lifetime_that_the_policy_shortened_is_no_longer_covered() -> None:
    assert audiences_of(live(injected(volumes=[volume(seconds=3600)]))) == []
    assert audiences_of(live(injected(volumes=[volume(seconds=600)]))) == [AUDIENCE]


def test_another_path_or_variable_costs_a_live_pod_nothing() -> None:
    renamed = token(env_var="OTHER", path="other", containers=("api",))
    assert audiences_of(live(injected(), renamed)) == [AUDIENCE]


def test_a_container_that_the_policy_no_longer_names_exposes_the_token() -> None:
    assert audiences_of(live(injected(container("web", PINNED)), token(containers=("web",)))) == []


def test_a_newly_protected_audience_in_a_live_pod_costs_it_no_other() -> None:
    declared = [audience(), audience("vault.example.com", name="vault")]
    verdict = live(injected(volumes=[volume(), volume("mine", "vault.example.com")]), declared=declared)
    assert (audiences_of(verdict), codes(verdict)) == ([AUDIENCE], ["TokenExposed"])


def test_a_handed_out_audience_in_a_foreign_volume_of_a_live_pod_is_withheld() -> None:
    assert audiences_of(live(injected(volumes=[volume(), volume("mine")]))) == []


@pytest.mark.parametrize("stage", ["validate", "live"])
def test_an_ephemeral_container_beside_the_token_may_not_share_its_holders_processes(stage: Any) -> None:
    policy = cluster_policy(tokens=(TOKEN,), responses=Responses(ephemeral_container="Report"))
    debug = container("debug", targetContainerName="api")
    verdict = judged(snapshot(policy), injected(ephemeralContainers=[debug]), stage=stage)
    assert "TokenExposed" in denied(verdict)
    assert audiences_of(verdict) == []
    apart = container("debug", targetContainerName="other")
    assert "TokenExposed" not in codes(judged(snapshot(policy), injected(ephemeralContainers=[apart]), stage=stage))


def test_a_live_ephemeral_container_with_reach_ends_identity() -> None:
    policy = cluster_policy(tokens=(TOKEN,), responses=Responses(ephemeral_container="Report"))
    debug = container("debug", f"docker.io/debug@{DIGEST}", securityContext={"privileged": True})
    assert audiences_of(judged(snapshot(policy), injected(ephemeralContainers=[debug]), stage="live")) == []


# The ordinary API token.

API = {
    "name": "kube-api-access-x7k2p",
    "projected": {
        "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}],
        "defaultMode": 420,
    },
}


@pytest.mark.parametrize(
    ("setting", "stage", "denies"),
    [
        ("Keep", "validate", False),
        ("Shorten", "mutate", False),
        ("Shorten", "validate", True),
        ("Remove", "mutate", False),
        ("Remove", "validate", True),
        ("Remove", "live", False),
    ],
)
def test_the_api_token_is_what_the_policy_leaves_of_it(setting: str, stage: Any, denies: bool) -> None:
    policy = cluster_policy(api_token=setting)
    verdict = judged(snapshot(policy), pod(container(image=PINNED), volumes=[API]), stage=stage)
    assert denied(verdict) == (["ApiTokenKept"] if denies else [])


@pytest.mark.parametrize("stage", ["mutate", "validate"])
@pytest.mark.parametrize("text", ["", "https://kubernetes.default.svc"])
def test_remove_refuses_an_api_token_that_the_author_projects(stage: Any, text: str) -> None:
    policy = cluster_policy(api_token="Remove")
    of = pod(container(image=PINNED), volumes=[volume("mine", text)])
    assert denied(judged(snapshot(policy), of, stage=stage)) == ["ApiTokenKept"]


def admitted_under_audit(*others: dict[str, Any], **spec: Any) -> tuple[list[str], list[str]]:
    """What a pod is given at its admission under a policy in Audit, and once it lives."""
    of = injected(*others, **spec)
    final_ = judged(given("Audit"), of, stage="validate")
    live = judged(given("Audit"), of, stage="live")
    assert not denied(final_)
    return audiences_of(final_), audiences_of(live)


def test_a_live_pod_gains_nothing_by_a_volume_under_our_prefix_that_no_token_has() -> None:
    evil = container(
        "evil", image=PINNED, command=["sh"], volumeMounts=[{"name": "countersign-token-x", "mountPath": "/x"}]
    )
    ours = volume()
    ours["projected"]["sources"][0]["serviceAccountToken"]["path"] = "other"  # or the injector would take it out
    assert admitted_under_audit(evil, volumes=[ours, volume("countersign-token-x")]) == ([], [])


@pytest.mark.parametrize("whole", [True, False])
def test_a_container_that_is_a_process_of_a_windows_node_reads_every_token(whole: bool) -> None:
    context = {"securityContext": {"windowsOptions": {"hostProcess": True}}}
    of = injected(**context) if whole else injected(api=context)
    assert denied(final(of)) == ["PodTooPrivileged"]
