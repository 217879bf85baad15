"""What a developer sees of Countersign: an ordinary Deployment that holds an identity of its own."""

from __future__ import annotations

import json

from tests.e2e.scene import TOKEN_FILE, Scene
from tests.e2e.setting import LabSetting, Setting
from tests.lab.http import HttpClient
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


def test_the_first_request_for_a_token_is_answered_though_it_overtakes_the_grant(
    scene: Scene, setting: Setting
) -> None:
    pods = [scene.start(scene.pod(f"first-{number}")) for number in range(3)]
    for pod in pods:
        told = scene.cluster.events(scene.namespace, pod["metadata"]["name"])
        assert not [event for event in told if "FailedMount" in event], told
    if isinstance(setting, LabSetting):
        asked = setting.lab.audit_events(resource="serviceaccounts", subresource="token", namespace=scene.namespace)
        assert {event["responseStatus"]["code"] for event in asked} == {201}


def test_the_api_server_forwards_ports_into_pods(scene: Scene) -> None:
    """As `countersign token check --verifier` wants it: https on localhost, where no Service can be reached."""
    with scene.cluster.port_forward(scene.release.namespace, "deployment/countersign-verifier", 8081) as port:
        client = HttpClient(f"http://127.0.0.1:{port}")
        assert client.get("/readyz").status == 200
        client.close()
