"""Invariant 5: no answer rests on something that a pod's author can write; and who can read the token."""

import pytest

from countersign.api.names import RECEIPT_ANNOTATION
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation


def _refused(governed: Governed, pod: objects.Object, *codes: str) -> None:
    answer = governed.create(pod)
    assert answer.status == 403, f"{answer.status} {answer.message}"
    assert any(code in answer.message for code in codes), answer.message


@pytest.mark.parametrize(
    "container",
    [
        {"command": ["sh", "-c", "cat /var/run/secrets/countersign.dev/ledger/token"]},
        {"lifecycle": {"postStart": {"exec": {"command": ["cat", "/var/run/secrets/countersign.dev/ledger/token"]}}}},
        {"livenessProbe": {"exec": {"command": ["cat", "/var/run/secrets/countersign.dev/ledger/token"]}}},
    ],
    ids=["command", "postStart hook", "liveness probe"],
)
def test_a_signed_image_runs_only_what_it_was_built_to_run(governed: Governed, container: objects.Object) -> None:
    _refused(governed, governed.pod(objects.container(governed.image.by_tag, **container)), "CommandNotAllowed")


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV", "PATH"])
def test_a_variable_that_injects_code_is_refused(governed: Governed, name: str) -> None:
    env = [{"name": name, "value": "/tmp/evil"}]
    _refused(governed, governed.pod(objects.container(governed.image.by_tag, env=env)), "EnvNotAllowed")


def test_a_second_container_does_not_get_the_token(countersign: Installation) -> None:
    audience = "two-containers.example.com"
    governed = govern(countersign, tokens=[objects.token(audience, containers=["app"])])
    countersign.declare(objects.protected_audience("two-containers", audience))
    good = objects.container(governed.image.by_tag)
    mount = {"name": "countersign-token-ledger", "mountPath": "/stolen"}
    thief = objects.container(governed.image.by_tag, "thief", volumeMounts=[mount])
    _refused(governed, governed.pod(good, thief), "TokenExposed", "TokenClash")


def test_a_volume_of_the_authors_under_our_prefix_gains_nothing_where_audit_lets_it_in(
    countersign: Installation,
) -> None:
    audience = "audited.example.com"
    governed = govern(countersign, mode="Audit", tokens=[objects.token(audience, containers=["app"])])
    countersign.declare(objects.protected_audience("audited", audience))
    volumes = [
        {"name": name, "projected": {"sources": [{"serviceAccountToken": {"audience": audience, **more}}]}}
        for name, more in (
            ("countersign-token-ledger", {"expirationSeconds": 600, "path": "not-where-the-injector-puts-it"}),
            ("countersign-token-thief", {"expirationSeconds": 600, "path": "token"}),
        )
    ]
    mount = {"name": "countersign-token-thief", "mountPath": "/stolen"}
    thief = objects.container(governed.image.by_tag, "thief", command=["sh"], volumeMounts=[mount])
    good = objects.container(governed.image.by_tag)
    made = governed.node.run(governed.admitted(governed.pod(good, thief, volumes=volumes)))
    grant = governed.countersign.grant_of(made, state="Suspended")
    assert "TokenExposed" in grant["status"]["message"]


@pytest.mark.parametrize(
    "spec",
    [
        {"shareProcessNamespace": True},
        {"hostPID": True},
        {"volumes": [{"name": "host", "hostPath": {"path": "/var/lib/kubelet"}}]},
    ],
    ids=["shared process namespace", "hostPID", "hostPath"],
)
def test_a_pod_whose_other_processes_could_read_the_token_is_refused(governed: Governed, spec: objects.Object) -> None:
    _refused(governed, governed.pod(**spec), "PodTooPrivileged", "TokenExposed")


@pytest.mark.parametrize(
    "context",
    [{"privileged": True}, {"capabilities": {"add": ["SYS_PTRACE"]}}],
    ids=["privileged", "SYS_PTRACE"],
)
def test_a_privileged_container_beside_the_token_is_refused(governed: Governed, context: objects.Object) -> None:
    pod = governed.pod(objects.container(governed.image.by_tag, securityContext=context))
    _refused(governed, pod, "PodTooPrivileged", "TokenExposed")


def test_labels_do_not_lead_out_of_a_policy_that_binds_the_account(countersign: Installation) -> None:
    governed = govern(countersign)
    namespace = governed.namespace
    bound = {**governed.policy, "spec": {**governed.policy["spec"]}}
    bound["spec"]["match"] = {
        **bound["spec"]["match"], "podSelector": {"matchLabels": {"app": "payments"}},
    }  # fmt: skip
    bound["spec"]["binding"] = {"serviceAccounts": [{"namespace": namespace, "name": "worker"}]}
    countersign.declare(bound)
    governed.lab.wait_for(
        lambda: governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403,
        what="a pod without the label, under the bound account, is governed",
    )


def test_the_receipt_cannot_be_changed_later_by_any_door(governed: Governed) -> None:
    pod = governed.running()
    name = pod["metadata"]["name"]
    change = {"metadata": {"annotations": {RECEIPT_ANNOTATION: "other"}}}
    for path in (f"{governed.pods}/{name}", f"{governed.pods}/{name}/status", f"{governed.pods}/{name}/resize"):
        answer = governed.lab.admin.patch(path, change)
        assert answer.status >= 400, f"{path}: {answer.status}"
    fresh = governed.admitted()
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": fresh["metadata"]["name"], "annotations": {RECEIPT_ANNOTATION: "other"}},
        "target": {"apiVersion": "v1", "kind": "Node", "name": governed.node.name},
    }
    assert governed.lab.admin.post(f"{governed.pods}/{fresh['metadata']['name']}/binding", binding).status >= 400


def test_a_forged_job_of_a_live_cronjob_is_refused(governed: Governed) -> None:
    cron = {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": governed.namespace},
        "spec": {
            "schedule": "0 0 1 1 *", "suspend": True,
            "jobTemplate": {"spec": objects.job("x", governed.namespace, governed.pod()["spec"])["spec"]},
        },
    }  # fmt: skip
    made = governed.edit.post(f"/apis/batch/v1/namespaces/{governed.namespace}/cronjobs", cron, expect=201).body
    forged = objects.job("forged", governed.namespace, governed.pod()["spec"])
    forged["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": made["metadata"]["uid"],
            "controller": True, "blockOwnerDeletion": False,
        }
    ]  # fmt: skip
    answer = governed.edit.post(f"/apis/batch/v1/namespaces/{governed.namespace}/jobs", forged)
    assert answer.status >= 400
    assert "cronjob" in answer.message.lower()
