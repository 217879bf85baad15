"""`countersign trace` on a real API server with its audit log: each step of an identity in order, with who took it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.lab import Lab
from tests.lab.waiting import wait_for
from tests.stack.commandline import countersign as run
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation
from tests.stack.objects import Object

DOCS = Path(__file__).parents[2] / "docs"


class Story(NamedTuple):
    """A pod that was admitted, granted, given a token, served, revoked and deleted."""

    governed: Governed
    pod: Object
    grant: str
    jti: str
    access_log: Path


@pytest.fixture(scope="module")
def recorded(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Countersign on an API server that goes by the audit policy of docs/record.md."""
    policy = tmp_path_factory.mktemp("policy") / "audit.yaml"
    policy.write_text(audit_policy())
    with Lab.start(apiserver_flags=[f"--audit-policy-file={policy}"]) as lab, Installation.start(lab) as running:
        yield running


def audit_policy() -> str:
    """The page's snippet."""
    page = (DOCS / "record.md").read_text()
    return page.partition("```yaml\n")[2].partition("```")[0]


@pytest.fixture(scope="module")
def story(recorded: Installation, tmp_path_factory: pytest.TempPathFactory) -> Story:
    countersign = recorded
    governed = govern(countersign)
    pod = governed.running()
    meta = pod["metadata"]
    token = governed.token(pod)
    answer = governed.introspect(token)
    assert answer["active"]
    grant = countersign.grant_of(pod, state="Active")["metadata"]["name"]
    order = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "Revocation",
        "metadata": {"name": "leak", "namespace": governed.namespace},
        "spec": {"target": {"grant": {"name": grant}}, "reason": "the token leaked"},
    }
    assert countersign.create(order).ok
    governed.await_inactive(token)
    countersign.grant_of(pod, state="Revoked")
    assert governed.edit.delete(f"{governed.pods}/{meta['name']}", body={"gracePeriodSeconds": 0}).ok
    countersign.lab.audit.wait(verb="delete", resource="pods", namespace=governed.namespace, name=meta["name"])
    path = tmp_path_factory.mktemp("trace") / "verifier.log"
    process = countersign.services["verifier"].process
    wait_for(
        lambda: '"reason":"GrantRevoked"' in process.log.read_text() or '"reason":"Revoked"' in process.log.read_text(),
        what="the access log has the last use",
    )
    path.write_text(process.log.read_text())
    return Story(governed, pod, grant, str(answer["jti"]), path)


def traced(story: Story, target: str, *options: str) -> Any:
    lab = story.governed.lab
    result = run("trace", target, "-n", story.governed.namespace, "-o", "json", *options, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def logs(story: Story) -> list[str]:
    return [f"--audit-log={story.governed.lab.control_plane.audit_log}", f"--log={story.access_log}"]


STEPS = [
    "admitted", "grant made", "evidence", "token given", "used: active", "order: create", "grant Revoked",
    "used: not active", "deletion asked for",
]  # fmt: skip


@pytest.mark.parametrize("target", ["pod", "uid", "grant", "jti"])
def test_each_step_is_there_with_who_took_it_by_whatever_name_it_is_asked_for(story: Story, target: str) -> None:
    meta = story.pod["metadata"]
    name = {"pod": meta["name"], "uid": meta["uid"], "grant": story.grant, "jti": story.jti}[target]
    found = traced(story, name, *logs(story))
    steps: dict[str, tuple[int, str, str]] = {}
    for number, one in enumerate(found["timeline"]):
        steps.setdefault(one["what"], (number, one.get("who", ""), one.get("detail", "")))
    missing = [step for step in STEPS if step not in steps]
    assert not missing, [(one["what"], one["time"]) for one in found["timeline"]]
    order = [steps[step][0] for step in STEPS if step not in ("grant Revoked", "used: not active")]
    assert order == sorted(order), [(one["what"], one["time"]) for one in found["timeline"]]
    assert steps["admitted"][1] == story.governed.attacker
    assert steps["token given"][1] == f"system:node:{story.governed.node.name}"
    assert steps["used: active"][1] == f"{story.governed.namespace}/relying-party"
    assert steps["order: create"][1] == "lab-admin"
    assert steps["deletion asked for"][1] == story.governed.attacker
    assert "release" in steps["evidence"][2]
    assert (found["podUIDs"], found["grants"]) == (
        [meta["uid"]], [f"{story.governed.namespace}/{story.grant}"],
    )  # fmt: skip
    assert story.jti in found["tokens"]


def test_without_files_the_grant_its_evidence_and_its_end_are_shown_and_the_rest_is_missed(story: Story) -> None:
    found = traced(story, story.pod["metadata"]["uid"])
    steps = [one["what"] for one in found["timeline"]]
    assert [step for step in steps if not step.startswith("event ")] == [
        "grant made", "evidence", "order given", "grant Revoked",
    ]  # fmt: skip
    assert any(step.startswith("event Revoked") for step in steps)
    assert len(found["missing"]) == 2


def test_the_files_alone_tell_it_where_the_cluster_knows_nothing_more(story: Story) -> None:
    options = ["-n", story.governed.namespace, "-o", "json", "--offline", *logs(story)]
    result = run("trace", story.jti, *options)
    found = json.loads(result.stdout)
    steps = [one["what"] for one in found["timeline"]]
    wanted = [step for step in STEPS if step not in ("evidence", "grant Revoked")]
    assert [step for step in wanted if step not in steps] == []
    assert found["podUIDs"] == [story.pod["metadata"]["uid"]]


def test_neither_the_token_nor_the_askers_is_in_any_log_of_ours(story: Story) -> None:
    text = "".join(service.process.log.read_text() for service in story.governed.countersign.services.values())
    assert story.jti in text
    assert "eyJ" not in text


def test_the_pages_audit_policy_keeps_no_token_and_no_receipt_of_a_request_but_says_what_came_of_grants(
    story: Story,
) -> None:
    text = story.governed.lab.control_plane.audit_log.read_text()
    assert "eyJ" not in text
    found = traced(story, story.grant, *logs(story))
    written = {one["what"] for one in found["timeline"] if one["source"] == "audit log"}
    assert {"grant Active", "grant Revoked"} <= written


def test_what_an_author_writes_cannot_forge_an_entry_or_move_a_terminal(story: Story) -> None:
    governed = story.governed
    wild = "\x1b[2J\r\n2026-01-01T00:00:00Z  audit log  admitted\u202e"
    path = f"{governed.pods}/{story.pod['metadata']['name']}/exec"
    governed.edit.post(path, None, query={"command": wild, "stdout": "true"})
    lab = governed.lab
    lab.audit.wait(partial(_of_exec, story.pod["metadata"]["name"]), namespace=governed.namespace)
    options = ["-n", governed.namespace, *logs(story)]
    result = run("trace", story.pod["metadata"]["uid"], *options, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.split("\n"))
    assert sum(line.split("  ")[0].startswith("2026-01-01") for line in result.stdout.split("\n")) == 0


def _of_exec(name: str, event: Any) -> bool:
    reference = event.get("objectRef", {})
    return bool(reference.get("subresource") == "exec" and reference.get("name") == name)
