"""What a developer sees of Countersign: an ordinary Deployment that holds an identity of its own."""

from __future__ import annotations

import json

from tests.e2e.scene import TOKEN_FILE, Scene
from tests.stack import objects


def test_replicas_read_their_tokens_from_the_file_and_hold_grants_of_their_own(scene: Scene) -> None:
    scene.create(objects.deployment("api", scene.namespace, scene.spec(), replicas=2))
    pods = scene.cluster.running(scene.namespace, "app=api", 2)
    grants = [scene.grant(pod, "Active") for pod in pods]
    assert grants[0]["metadata"]["name"] != grants[1]["metadata"]["name"]
    for pod, grant in zip(pods, grants, strict=True):
        assert scene.token(pod).count(".") == 2
        told = scene.ask(pod)
        assert told.active, told
        evidence = json.dumps(told.body)
        assert grant["metadata"]["name"] in evidence
        assert scene.image.digest in evidence


def test_the_file_that_the_policy_named_stands_in_the_environment(scene: Scene) -> None:
    pod = scene.start(scene.pod("env"))
    assert {"name": "LEDGER_TOKEN_FILE", "value": TOKEN_FILE} in pod["spec"]["containers"][0]["env"]


def test_an_unsigned_image_is_refused_with_the_way_out(scene: Scene) -> None:
    message = scene.denial(scene.pod("unsigned", image=scene.unsigned.by_tag))
    assert message.startswith('admission webhook "')
    assert "ImageUnsigned" in message
    assert "cosign sign" in message
