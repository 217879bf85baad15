"""What a policy tells where Countersign is installed as people install it: two gates, found by their Service."""

from __future__ import annotations

from typing import Any

from tests.e2e.scene import Scene, declare
from tests.stack import objects

STATUS_SECONDS = 150.0
"""The chart's publishSeconds twice, and some time for a busy machine."""


def test_pods_that_come_and_pods_that_run_are_told_of_before_anybody_enforces(scene: Scene) -> None:
    scene.start(scene.pod("well"))
    scene.denial(scene.pod("unsigned", image=scene.unsigned.by_tag))
    # No receipt holds anything about this key, so a gate has to ask the registry.
    key = scene.cosign.generate_key(f"{scene.namespace}-next")
    (rule,) = scene.policy["spec"]["images"]
    stricter = objects.cluster_policy(
        f"{scene.namespace}-next", namespaces={"scene": scene.namespace}, mode="Audit",
        images=[objects.image_rule(rule["globs"], [key.public_pem])],
    )  # fmt: skip
    declare(scene.cluster, stricter)

    def status(policy: objects.Object) -> Any:
        return scene.cluster.get(objects.object_path(policy)).get("status", {})

    scene.cluster.wait(
        lambda: (pods := status(stricter).get("pods", {})).get("failing") == 1 and pods.get("unknown") == 0,
        what="a gate said what the registry says",
        seconds=STATUS_SECONDS,
    )
    assert [one["reason"] for one in status(stricter)["topReasons"]] == ["ImageUnsigned"]
    found = scene.cluster.wait(
        lambda: (counts := status(scene.policy).get("admissions", {})).get("wouldDeny") == 1 and counts,
        what="the gates' counts stand in the status",
        seconds=STATUS_SECONDS,
    )
    assert found["allowed"] >= 1
    assert found["gates"]
