"""Who can read the token's file: the containers that the policy names, whatever user they run as, and nobody else."""

from __future__ import annotations

import pytest

from tests.e2e.scene import PROGRAM, TOKEN_FILE, Scene
from tests.stack.objects import Object

HARDENED: Object = {
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
}


@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        # Mode, user and group as kubelet's projected volumes set them (pkg/volume/projected/projected.go, collectData):
        # readable by all without a user or a group to give the file to.
        ("image-user", {}, "644 0 0"),
        ("own-user", {"runAsUser": 12345}, "600 12345 0"),
        ("own-group", {"fsGroup": 2000}, "640 0 2000"),
        ("both", {"runAsUser": 12345, "runAsGroup": 12345, "fsGroup": 2000}, "640 12345 2000"),
    ],
)
def test_a_hardened_container_reads_its_token(scene: Scene, name: str, context: Object, expected: str) -> None:
    container = {**scene.container(), "securityContext": HARDENED}
    settings = {"seccompProfile": {"type": "RuntimeDefault"}, **context}
    pod = scene.start(scene.pod(name, containers=[container], securityContext=settings))
    assert scene.ask(pod).active
    assert scene.cluster.exec(pod, PROGRAM, "stat", TOKEN_FILE).strip() == expected


def test_a_container_that_the_policy_does_not_name_finds_no_token(scene: Scene) -> None:
    other = scene.container(name="other")
    pod = scene.start(scene.pod("two", containers=[scene.container(), other]))
    assert scene.ask(pod).active
    with pytest.raises(AssertionError, match="no such file"):
        scene.cluster.exec(pod, PROGRAM, "cat", TOKEN_FILE, container="other")
    [spec] = [one for one in pod["spec"]["containers"] if one["name"] == "other"]
    assert "LEDGER_TOKEN_FILE" not in {one["name"] for one in spec["env"]}


def test_nor_by_mounting_the_volume(scene: Scene) -> None:
    other = scene.container(name="other")
    other["volumeMounts"] = [{"name": "countersign-token-ledger", "mountPath": "/stolen"}]
    message = scene.denial(scene.pod("thief", containers=[scene.container(), other]))
    assert "TokenExposed" in message
    assert "container other" in message


def test_nor_by_a_volume_of_its_own_for_the_audience(scene: Scene) -> None:
    other = scene.container(name="other")
    other["volumeMounts"] = [{"name": "mine", "mountPath": "/mine"}]
    source = {"audience": scene.audience, "expirationSeconds": 600, "path": "token"}
    volumes = [{"name": "mine", "projected": {"sources": [{"serviceAccountToken": source}]}}]
    message = scene.denial(scene.pod("forger", containers=[scene.container(), other], volumes=volumes))
    assert scene.audience in message


def test_nor_through_the_processes_of_the_container_that_has_it(scene: Scene) -> None:
    containers = [scene.container(), scene.container(name="other")]
    message = scene.denial(scene.pod("watcher", containers=containers, shareProcessNamespace=True))
    assert "PodTooPrivileged" in message
