"""Replicas of one Deployment, made by the real controllers: one that uses an audience which the others leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation, introspect
from tests.stack.objects import Object

REPLICAS = 3


@pytest.fixture(scope="module")
def comparing(countersign: Installation) -> Iterator[Installation]:
    """A controller that compares replicas after five seconds of use."""
    countersign.stop("controller")
    countersign.start_service("controller", replicas_observed_seconds="5", replicas_settled_seconds="5")
    yield countersign
    countersign.stop("controller")
    countersign.start_service("controller")


def with_vault(countersign: Installation, **policy: Any) -> tuple[Governed, str]:
    """A namespace whose pods hold tokens for a ledger and for a vault; the vault's audience."""
    scene = govern(countersign, **policy)
    vault = f"vault-of-{scene.namespace}.example.com"
    spec = scene.policy["spec"]
    countersign.declare(
        objects.protected_audience(
            f"{scene.namespace}-vault", vault, introspectors=[(scene.namespace, "relying-party")]
        ),
        {**scene.policy, "spec": {**spec, "tokens": [*spec["tokens"], objects.token(vault, "vault")]}},
    )
    return scene, vault


def replicas(scene: Governed) -> list[Object]:
    """Running pods of a Deployment."""
    spec = objects.pod_spec(objects.container(scene.image.by_tag), service_account="worker")
    made = objects.deployment("api", scene.namespace, spec, replicas=REPLICAS)
    scene.lab.admin.post(objects.collection_path(made), made, expect=201)
    pods = [scene.node.run(pod) for pod in scene.lab.pods(scene.namespace, "app=api", count=REPLICAS)]
    for pod in pods:
        scene.countersign.grant_of(pod, state="Active")
    return pods


def use(scene: Governed, pod: Object, audience: str) -> None:
    token = scene.node.token(pod, audience)
    assert introspect(scene.countersign.verifier_client(), token, scene.asker).body["active"]


def misuse(scene: Governed, pod: Object) -> list[Object]:
    return list(scene.countersign.grant_of(pod)["status"].get("misuse") or ())


def test_the_replica_that_goes_where_no_other_goes_is_told_apart_and_its_identity_ends(
    comparing: Installation,
) -> None:
    scene, vault = with_vault(comparing, responses={"misuse": "Revoke"})
    strange, *others = replicas(scene)
    for pod in (strange, *others):
        use(scene, pod, scene.audience)
    use(scene, strange, vault)
    ended = comparing.grant_of(strange, state="Revoked")
    assert ended["status"]["reason"] == "Misused"
    (found,) = misuse(scene, strange)
    assert (found["kind"], found["audience"]) == ("UnlikeSiblings", vault)
    assert f"None of the {len(others)} other replicas" in found["message"]
    assert f"{scene.namespace}/relying-party" in found["message"]
    for pod in others:
        assert comparing.grant_of(pod)["status"]["state"] == "Active"
        assert misuse(scene, pod) == []


def test_what_one_other_replica_does_as_well_is_ordinary(comparing: Installation) -> None:
    scene, vault = with_vault(comparing)
    first, second, third = replicas(scene)
    for pod in (first, second, third):
        use(scene, pod, scene.audience)
    for pod in (first, second):
        use(scene, pod, vault)
    # Another Deployment's odd one is found after all of these were compared.
    witness, other = with_vault(comparing)
    strange, *rest = replicas(witness)
    for pod in (strange, *rest):
        use(witness, pod, witness.audience)
    use(witness, strange, other)
    witness.lab.wait_for(lambda: misuse(witness, strange), what="the odd one of others is found")
    assert [misuse(scene, pod) for pod in (first, second, third)] == [[], [], []]
