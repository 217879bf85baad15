"""What a real node reports of what it runs, and that none of it is taken for drift."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.scene import PROGRAM, NewScene, Scene, workload
from tests.lab.cosign import Form
from tests.lab.images import INDEX, PushedImage
from tests.stack import objects


@pytest.fixture(scope="module")
def indexed(new_scene: NewScene) -> tuple[Scene, PushedImage]:
    scene = new_scene(responses={"ephemeralContainer": "Report"}, containers=["app"])
    repository = scene.store.repository(f"e2e/{scene.namespace}")
    index = repository.push_index("indexed", {"amd64": workload(f"{scene.namespace}-indexed")})
    scene.cosign.sign(scene.store, index, scene.key, form=Form.BUNDLE)
    return scene, index


def test_explore(indexed: tuple[Scene, PushedImage]) -> None:
    scene, index = indexed
    repository = scene.store.repository(f"e2e/{scene.namespace}")
    manifest = json.loads(repository.get_manifest(index.digest))["manifests"][0]["digest"]
    print("index", index.digest, "manifest", manifest)
    pod = scene.start(scene.pod("by-index", image=index.by_tag))
    show(scene, pod)
    # a stranger
    ns = scene.namespace + "-stranger"
    scene.cluster.create_namespace(ns)
    other = scene.store.repository("e2e/aaa-stranger")
    spec = workload(f"{scene.namespace}-indexed")
    pushed = other.push("plain", spec)
    stranger = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": json.loads(repository.get_manifest(index.digest))["manifests"],
            "annotations": {"a": "b"},
        }
    ).encode()
    mine = other.push_manifest("mine", stranger, INDEX)
    print("stranger plain", pushed.digest, "index", mine.digest)
    sp = objects.pod("stranger", ns, objects.pod_spec(objects.container(mine.by_digest, args=["work"])))
    scene.cluster.phase(scene.cluster.create(sp), "Running")
    show(scene, scene.cluster.pod(ns, "stranger"))
    pod2 = scene.start(scene.pod("by-index-2", image=index.by_tag))
    show(scene, pod2)
    vol = scene.container()
    vol["volumeMounts"] = [{"name": "model", "mountPath": "/mnt/image", "readOnly": True}]
    pod3 = scene.start(
        objects.pod(
            "vol",
            scene.namespace,
            scene.spec(
                containers=[vol],
                volumes=[{"name": "model", "image": {"reference": index.by_tag}}],
                initContainers=[
                    scene.container("stat", PROGRAM, name="prepare"),
                    scene.container("work", name="proxy", restartPolicy="Always"),
                ],
            ),
        )
    )
    done = scene.cluster.try_kubectl(
        "debug",
        "vol",
        "-n",
        scene.namespace,
        f"--image={scene.image.by_tag}",
        "--container=debugger",
        "--profile=restricted",
        "--",
        PROGRAM,
        "work",
    )
    print(done.stderr)
    scene.cluster.pause(4)
    show(scene, pod3)
    tagged = objects.pod("stranger2", ns, objects.pod_spec(objects.container(mine.by_tag, args=["work"])))
    scene.cluster.phase(scene.cluster.create(tagged), "Running")
    pod4 = scene.start(scene.pod("by-index-4", image=index.by_tag))
    scene.cluster.pause(1)
    show(scene, pod4)
    scene.cluster.pause(60)
    show(scene, pod)
    assert 0


def show(scene: Scene, pod: Mapping[str, Any]) -> None:
    now = scene.cluster.pod(pod["metadata"]["namespace"], pod["metadata"]["name"])
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for one in now["status"].get(field, []):
            print(
                now["metadata"]["name"],
                field,
                one["name"],
                "| imageID",
                one["imageID"],
                "| image",
                one["image"],
                [m for m in one.get("volumeMounts", []) if "volumeStatus" in m],
            )
    print([c["image"] for c in now["spec"]["containers"]])
    if pod["metadata"]["namespace"] == scene.namespace:
        g = scene.grant(pod)
        print(g["status"], [(i["container"], i["runtimeDigests"]) for i in g["spec"]["images"]])
