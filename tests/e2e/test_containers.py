"""Every kind of container and image that a pod can hold is verified, or refused."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.scene import PROGRAM, TOKEN_FILE, NewScene, Scene
from tests.stack import objects
from tests.stack.objects import Object

MOUNT = "/mnt/image"


@pytest.fixture(scope="module")
def closed(new_scene: NewScene) -> Scene:
    """A namespace whose policy lets no ephemeral container in."""
    return new_scene(responses={"ephemeralContainer": "Deny"})


@pytest.fixture(scope="module")
def sidecars(new_scene: NewScene) -> Scene:
    """A namespace whose policy gives the token to containers called `app` and `proxy`."""
    return new_scene(containers=["app", "proxy"])


def test_an_init_container_is_verified_and_holds_no_token_unless_named(scene: Scene) -> None:
    init = scene.container("stat", TOKEN_FILE, name="prepare")
    refused = scene.pod("unsigned-init", initContainers=[{**init, "image": scene.unsigned.by_tag}])
    assert "ImageUnsigned: container prepare" in scene.denial(refused)

    init["args"] = ["stat", PROGRAM]
    pod = scene.start(scene.pod("init", initContainers=[init]))
    [prepared] = pod["spec"]["initContainers"]
    assert prepared["image"].endswith(f"@{scene.image.digest}")
    assert not [mount for mount in prepared["volumeMounts"] if mount["name"].startswith("countersign-token")]
    assert _images(scene.grant(pod, "Active")) == {"app": scene.image.digest, "prepare": scene.image.digest}
    assert scene.ask(pod).active


def test_a_native_sidecar_is_verified_and_reads_the_token_that_names_it(sidecars: Scene) -> None:
    proxy = sidecars.container("work", name="proxy", restartPolicy="Always")
    refused = sidecars.pod("unsigned-sidecar", initContainers=[{**proxy, "image": sidecars.unsigned.by_tag}])
    assert "ImageUnsigned: container proxy" in sidecars.denial(refused)

    spec = sidecars.spec("work", "-for", "6s", initContainers=[proxy])
    sidecars.create(objects.job("meshed", sidecars.namespace, spec))
    pod = sidecars.pod_of("meshed")
    tokens = {name: sidecars.cluster.exec(pod, PROGRAM, "cat", TOKEN_FILE, container=name) for name in ("app", "proxy")}
    assert tokens["app"] == tokens["proxy"]
    assert sidecars.ledger.ask(tokens["proxy"]).active
    # The kubelet ends the sidecar once the container beside it has completed.
    sidecars.cluster.phase(pod, "Succeeded")
    sidecars.inactive(tokens["proxy"])
    sidecars.grant(pod, "Revoked", "Completed")


def test_a_debug_container_of_a_verified_image_ends_the_identity_of_its_pod(scene: Scene) -> None:
    pod = scene.start(scene.pod("debugged"))
    token = scene.token(pod)
    refused = _debug(scene, pod, scene.unsigned.by_tag)
    assert "ImageUnsigned: container debugger" in refused.stderr
    assert scene.ledger.ask(token).active

    # What `kubectl debug` adds unless it is told otherwise could read the file of the container beside it.
    prying = _debug(scene, pod, scene.image.by_tag, profile="general")
    assert "PodTooPrivileged" in prying.stderr
    assert "--profile=restricted" in prying.stderr
    assert scene.ledger.ask(token).active

    done = _debug(scene, pod, scene.image.by_tag)
    assert done.returncode == 0, done.stderr
    scene.inactive(token)
    scene.grant(pod, "Revoked", "EphemeralContainerAdded")
    scene.cluster.wait(lambda: _debugger_runs(scene, pod), what="the debugger runs")
    now = scene.cluster.pod(scene.namespace, pod["metadata"]["name"])
    assert now["spec"]["ephemeralContainers"][0]["image"].endswith(f"@{scene.image.digest}")
    with pytest.raises(AssertionError, match="no such file"):
        scene.cluster.exec(pod, PROGRAM, "cat", TOKEN_FILE, container="debugger")
    assert scene.ask(pod).status == 403


def test_where_debug_containers_are_denied_the_pod_keeps_its_identity(closed: Scene) -> None:
    pod = closed.start(closed.pod("closed"))
    refused = _debug(closed, pod, closed.image.by_tag)
    assert "EphemeralContainerDenied" in refused.stderr
    assert "--copy-to" in refused.stderr
    assert closed.ask(pod).active


def test_a_copy_for_debugging_is_a_pod_of_its_own(closed: Scene) -> None:
    pod = closed.start(closed.pod("original"))
    name = pod["metadata"]["name"]
    copied = closed.cluster.try_kubectl(
        "debug", name, "-n", closed.namespace, f"--copy-to={name}-copy", f"--image={closed.image.by_tag}",
        "--container=debugger", "--profile=restricted", "--share-processes=false", "--", PROGRAM, "work",
    )  # fmt: skip
    assert copied.returncode == 0, copied.stderr
    copy = closed.cluster.phase(closed.cluster.pod(closed.namespace, f"{name}-copy"), "Running")
    grants = [closed.grant(one, "Active")["metadata"]["name"] for one in (pod, copy)]
    assert grants[0] != grants[1]
    assert closed.token(copy) != closed.token(pod)
    assert closed.ask(copy).active
    with pytest.raises(AssertionError, match="no such file"):
        closed.cluster.exec(copy, PROGRAM, "cat", TOKEN_FILE, container="debugger")
    closed.cluster.delete(copy)
    closed.cluster.gone(copy)
    assert closed.ask(pod).active


def test_an_image_volume_is_verified_and_pinned(scene: Scene) -> None:
    refused = scene.pod("unsigned-volume", **_with_image(scene, scene.unsigned.by_tag))
    message = scene.denial(refused)
    assert "ImageUnsigned" in message
    assert scene.unsigned.by_tag in message

    pod = scene.start(scene.pod("image-volume", **_with_image(scene, scene.image.by_tag)))
    [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == "model"]
    assert volume["image"]["reference"].endswith(f"@{scene.image.digest}")
    assert scene.cluster.exec(pod, PROGRAM, "stat", f"{MOUNT}{PROGRAM}").strip()
    assert scene.ask(pod).active


def _with_image(scene: Scene, reference: str) -> Object:
    container = scene.container()
    container["volumeMounts"] = [{"name": "model", "mountPath": MOUNT, "readOnly": True}]
    return {"containers": [container], "volumes": [{"name": "model", "image": {"reference": reference}}]}


def _debug(scene: Scene, pod: Object, image: str, profile: str = "restricted") -> subprocess.CompletedProcess[str]:
    return scene.cluster.try_kubectl(
        "debug", pod["metadata"]["name"], "-n", scene.namespace, f"--image={image}", "--container=debugger",
        f"--profile={profile}", "--", PROGRAM, "work",
    )  # fmt: skip


def _debugger_runs(scene: Scene, pod: Object) -> bool:
    now = scene.cluster.pod(scene.namespace, pod["metadata"]["name"])
    return any(one["state"].get("running") for one in now["status"].get("ephemeralContainerStatuses", []))


def _images(grant: Object) -> dict[str, str]:
    return {one["container"]: one["digest"] for one in grant["spec"]["images"]}
