"""What a real node reports of what it runs: what of it is drift, and what is not.

Read off containerd 2.4.2 and kubelet 1.36.3 here. A pod whose images are pinned has `image: sha256:...`, its config's
digest, and `imageID: name@sha256:...`. That name is the first in order of all by which the node knows the same
config: a pod that was admitted by a platform's manifest is reported under its index where another pod brought that,
and both under a stranger's index over the same content where that comes first. Once anybody has run the content by a
tag, the tag stands in `image`, and nothing tells the config any more. Of image volumes the kubelet tells nothing
(ImageVolumeWithDigest is off). An image that was put under an admitted name on the node itself is reported by that
very name, and by its own config.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.scene import PROGRAM, NewScene, Scene, workload
from tests.lab.cosign import Form
from tests.lab.images import INDEX, PushedImage
from tests.stack import objects
from tests.stack.objects import Object


class Images(NamedTuple):
    """One content under two admitted names."""

    scene: Scene
    whole: PushedImage
    platform: PushedImage


@pytest.fixture(scope="module")
def images(new_scene: NewScene) -> Images:
    """A namespace where debug containers are reported, and a signed index with its signed manifest."""
    scene = new_scene(responses={"ephemeralContainer": "Report"})
    repository = scene.store.repository(f"e2e/{scene.namespace}")
    content = workload(f"{scene.namespace}-content")
    index = repository.push_index("index", {"amd64": content})
    manifest = repository.push("manifest", content)
    for image in (index, manifest):
        scene.cosign.sign(scene.store, image, scene.key, form=Form.BUNDLE)
    return Images(scene, index, manifest)


@pytest.fixture(scope="module")
def elsewhere(images: Images) -> Iterator[str]:
    """A namespace of somebody else's, which no policy governs."""
    name = images.scene.cluster.create_namespace(f"{images.scene.namespace}-stranger")
    yield name
    images.scene.cluster.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def test_no_admitted_image_drifts_whatever_its_node_calls_it(images: Images) -> None:
    scene = images.scene
    by_index = scene.start(scene.pod("by-index", image=images.whole.by_tag))
    by_manifest = scene.start(scene.pod("by-manifest", image=images.platform.by_tag))
    known = {images.whole.digest, images.platform.digest}
    for pod in (by_index, by_manifest):
        [status] = reported(scene, pod)
        assert status["imageID"].rpartition("@")[2] in known
        assert status["image"].startswith("sha256:")
    whole = scene.start(whole_pod(scene))
    debug(scene, whole)
    assert {one["name"] for one in reported(scene, whole)} == {"app", "prepare", "proxy", "debugger"}
    for pod in (by_index, by_manifest, whole):
        assert drifted(scene, pod) is None
        assert scene.ask(pod).active


def test_a_strangers_index_over_the_same_content_takes_no_identity_away(images: Images, elsewhere: str) -> None:
    scene = images.scene
    stranger = strangers_index(images)
    run_elsewhere(scene, elsewhere, stranger.by_digest)
    pod = scene.start(scene.pod("beside", image=images.whole.by_tag))
    [status] = reported(scene, pod)
    assert status["imageID"].endswith(f"@{stranger.digest}")
    assert drifted(scene, pod) is None

    run_elsewhere(scene, elsewhere, stranger.by_tag)
    pod = scene.start(scene.pod("beside-a-tag", image=images.whole.by_tag))
    [status] = reported(scene, pod)
    assert status["image"].endswith(":stranger")
    scene.cluster.wait(lambda: drifted(scene, pod) == "Unknown", what="it is told to be unclear")
    assert scene.ask(pod).active


def test_another_image_under_an_admitted_name_on_the_node_ends_the_identity(
    lab_cluster: Cluster, new_scene: NewScene
) -> None:
    scene = new_scene()
    run_elsewhere(scene, lab_cluster.create_namespace(f"{scene.namespace}-elsewhere"), scene.unsigned.by_digest)
    assert lab_cluster.machine
    lab_cluster.machine.containerd.rename(scene.unsigned.by_digest, scene.image.by_digest)
    pod = scene.cluster.phase(scene.create(scene.pod("swapped", image=scene.image.by_tag)), "Running")
    [status] = reported(scene, pod)
    grant = scene.grant(pod, "Revoked", "Drifted")
    assert status["image"] in grant["status"]["message"]
    assert grant["status"]["causedBy"] == f"Node {pod['spec']['nodeName']}"
    assert not scene.ask(pod).active
    scene.cluster.wait(
        lambda: any("Drifted" in line for line in scene.cluster.events(scene.namespace, "swapped")),
        what="an Event tells its developer",
    )


def whole_pod(scene: Scene) -> Object:
    """Every place that an image can stand in: container, init container, sidecar, image volume."""
    app = scene.container()
    app["volumeMounts"] = [{"name": "model", "mountPath": "/mnt/image", "readOnly": True}]
    spec = scene.spec(
        containers=[app],
        volumes=[{"name": "model", "image": {"reference": scene.image.by_tag}}],
        initContainers=[
            scene.container("stat", PROGRAM, name="prepare"),
            scene.container("work", name="proxy", restartPolicy="Always"),
        ],
    )
    return objects.pod("whole", scene.namespace, spec)


def debug(scene: Scene, pod: Object) -> None:
    name = pod["metadata"]["name"]
    scene.cluster.kubectl(
        "debug", name, "-n", scene.namespace, f"--image={scene.image.by_tag}", "--container=debugger",
        "--profile=restricted", "--", PROGRAM, "work",
    )  # fmt: skip
    scene.cluster.wait(
        lambda: any(one["name"] == "debugger" for one in reported(scene, pod)), what="the debugger is reported"
    )


def strangers_index(images: Images) -> PushedImage:
    """Another index over the same manifest, under a name that comes before the admitted one."""
    repository = images.scene.store.repository("e2e/aaa-stranger")
    inner = repository.push("inner", workload(f"{images.scene.namespace}-content"))
    assert inner.digest == images.platform.digest
    listed = [{**inner.descriptor(), "platform": {"os": "linux", "architecture": "amd64"}}]
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": {"by": "a stranger"}}
    return repository.push_manifest("stranger", json.dumps(content).encode(), INDEX)


def run_elsewhere(scene: Scene, namespace: str, image: str) -> None:
    name = f"stranger-{abs(hash(image)) % 10**6}"
    spec = objects.pod_spec(objects.container(image, args=["work"]))
    scene.cluster.phase(scene.cluster.create(objects.pod(name, namespace, spec)), "Running")


def reported(scene: Scene, pod: Object) -> list[Object]:
    """Statuses of all containers that the node has told of."""
    status = scene.cluster.pod(scene.namespace, pod["metadata"]["name"])["status"]
    fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    return [one for field in fields for one in status.get(field, []) if one["imageID"]]


def drifted(scene: Scene, pod: Object) -> Any:
    """Status of that condition on the pod's grant."""
    conditions = scene.grant(pod, "Active")["status"]["conditions"]
    return next((one["status"] for one in conditions if one["type"] == "Drifted"), None)
