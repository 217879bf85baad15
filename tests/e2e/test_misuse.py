"""From where a token is used, seen by a relying party that tells the address of its peer, while real pods call it."""

from __future__ import annotations

import pytest

from tests.e2e.scene import NewScene, Scene
from tests.stack.objects import Object


@pytest.fixture(scope="module")
def direct(new_scene: NewScene) -> Scene:
    """A namespace under a policy that ends an identity for misuse, at a relying party that sees pods' own addresses."""
    return new_scene(audience_spec={"sourceAddresses": "Direct"}, responses={"misuse": "Revoke"})


def test_a_pod_is_seen_at_its_own_address_and_its_token_nowhere_else(direct: Scene) -> None:
    pod = direct.start(direct.pod("caller", "work", "-every", "500ms"))
    assert direct.ask(pod).active
    used = direct.cluster.wait(lambda: _used(direct, pod), what="the grant says when it was last used", seconds=30)
    assert used["audiences"] == [direct.audience]
    assert "misuse" not in direct.grant(pod, "Active")["status"]
    token = direct.token(pod)
    # The same token out of another pod.
    assert direct.ledger.ask(token).active
    revoked = direct.grant(pod, "Revoked", "Misused")
    direct.inactive(token)
    (found,) = revoked["status"]["misuse"]
    own = direct.cluster.pod(direct.namespace, "caller")["status"]["podIP"]
    other = direct.cluster.pod(direct.ledger.namespace, "client")["status"]["podIP"]
    assert found["kind"] == "OtherAddress"
    assert own in found["message"]
    assert f"from {other} " in found["message"]


def _used(scene: Scene, pod: Object) -> Object | None:
    uses: Object | None = scene.grant(pod)["status"].get("uses")
    return uses
