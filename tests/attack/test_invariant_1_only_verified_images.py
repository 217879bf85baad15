"""Invariant 1: under Enforce, no pod runs an image that its policies did not verify, by digest.

The attacker has the built-in `edit` role in the governed namespace.
"""

import base64
import json

from tests.lab.images import ImageSpec
from tests.stack import objects
from tests.stack.governed import Governed


def _refused(governed: Governed, pod: objects.Object, code: str) -> str:
    answer = governed.create(pod)
    assert answer.status == 403, f"{answer.status} {answer.message}"
    assert f"{code}:" in answer.message or f"{code} " in answer.message, answer.message
    return answer.message


def test_an_unsigned_image_is_refused_in_every_place_that_runs_one(governed: Governed) -> None:
    bad = governed.unsigned.by_tag
    good = objects.container(governed.image.by_tag)
    _refused(governed, governed.pod(image=bad), "ImageUnsigned")
    _refused(governed, governed.pod(initContainers=[objects.container(bad, "init")]), "ImageUnsigned")
    sidecar = objects.container(bad, "sidecar", restartPolicy="Always")
    _refused(governed, governed.pod(initContainers=[sidecar]), "ImageUnsigned")
    _refused(governed, governed.pod(good, objects.container(bad, "second")), "ImageUnsigned")
    volume = {"name": "data", "image": {"reference": bad, "pullPolicy": "IfNotPresent"}}
    assert "image volume data" in _refused(governed, governed.pod(volumes=[volume]), "ImageUnsigned")


def test_an_image_from_elsewhere_is_refused(governed: Governed) -> None:
    _refused(governed, governed.pod(image="docker.io/library/busybox:latest"), "ImageNotCovered")


def test_what_is_admitted_is_pinned_to_the_digest_that_was_verified(governed: Governed) -> None:
    pod = governed.admitted()
    assert pod["spec"]["containers"][0]["image"].endswith(governed.image.digest)


def test_a_tag_that_moves_to_an_unsigned_image_is_refused_at_once(governed: Governed) -> None:
    repository = governed.lab.registry("referrers").repository(f"{governed.namespace}/app")
    moved = repository.push("moving", ImageSpec.distinct(f"{governed.namespace}-moving"))
    governed.lab.cosign.sign(governed.lab.registry("referrers"), moved, governed.key)
    governed.admitted(governed.pod(image=moved.by_tag))
    repository.move_tag("moving", governed.unsigned)
    _refused(governed, governed.pod(image=moved.by_tag), "ImageUnsigned")


def test_a_signature_of_another_digest_stored_under_this_one_is_refused(governed: Governed) -> None:
    registry = governed.lab.registry("referrers")
    repository = registry.repository(f"{governed.namespace}/app")
    victim = repository.push("borrowed", ImageSpec.distinct(f"{governed.namespace}-borrowed"))
    governed.lab.cosign.sign(registry, governed.image, governed.key)
    signed_tag = "sha256-" + governed.image.digest.removeprefix("sha256:")
    borrowed_tag = "sha256-" + victim.digest.removeprefix("sha256:")
    for suffix in ("", ".sig"):
        if signed_tag + suffix in repository.tags():
            manifest = repository.get_manifest(signed_tag + suffix)
            media_type = json.loads(manifest).get("mediaType", "application/vnd.oci.image.manifest.v1+json")
            repository.push_manifest(borrowed_tag + suffix, manifest, media_type)
    _refused(governed, governed.pod(image=victim.by_tag), "ImageUnsigned")


def test_an_unsigned_ephemeral_container_is_refused(governed: Governed) -> None:
    pod = governed.running()
    debugger = {"spec": {"ephemeralContainers": [objects.container(governed.unsigned.by_tag, "debug")]}}
    path = f"{governed.pods}/{pod['metadata']['name']}/ephemeralcontainers"
    answer = governed.lab.admin.patch(path, debugger, content_type="application/strategic-merge-patch+json")
    assert answer.status == 403, answer.message
    assert "ImageUnsigned" in answer.message


def test_an_image_changed_in_place_is_verified_and_pinned(governed: Governed) -> None:
    pod = governed.running()
    path = f"{governed.pods}/{pod['metadata']['name']}"
    swap = [{"op": "replace", "path": "/spec/containers/0/image", "value": governed.unsigned.by_tag}]
    refused = governed.edit.patch(path, swap)
    assert refused.status == 403, refused.message
    assert "ImageUnsigned" in refused.message


def test_a_pod_that_slipped_in_has_no_grant_and_is_reported(governed: Governed) -> None:
    countersign = governed.countersign
    made = governed.slipped_in(governed.pod(image=governed.unsigned.by_tag))
    grant = countersign.grant_of(made)
    governed.lab.wait_for(
        lambda: countersign.grant_of(made).get("status", {}).get("reason"), what="the grant says why it gives nothing"
    )
    assert countersign.grant_of(made)["status"]["state"] != "Active"
    assert grant["spec"].get("tokens", []) == []


def test_a_forged_receipt_of_the_author_is_replaced(governed: Governed) -> None:
    forged = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=") + ".e30."
    pod = governed.pod(metadata={"annotations": {"countersign.dev/receipt": forged}})
    assert governed.admitted(pod)["metadata"]["annotations"]["countersign.dev/receipt"] != forged
    _refused(
        governed,
        governed.pod(image=governed.unsigned.by_tag, metadata={"annotations": {"countersign.dev/receipt": forged}}),
        "ImageUnsigned",
    )


def test_nobody_passes_a_pod_off_as_a_nodes_own(governed: Governed) -> None:
    pod = governed.pod(
        objects.container(governed.unsigned.by_tag),
        service_account="",
        nodeName=governed.node.name,
        automountServiceAccountToken=False,
        metadata={"annotations": {"kubernetes.io/config.mirror": "x"}},
    )
    del pod["spec"]["serviceAccountName"]
    answer = governed.create(pod)
    assert (answer.status, "MirrorForged" in answer.message) == (403, True), f"{answer.status} {answer.message}"


def test_a_pod_that_is_let_past_later_brings_no_other_image(governed: Governed) -> None:
    """What the gate leaves alone in an UPDATE, a mirror and what is being deleted, brings no image to a node."""
    made = governed.admitted(governed.pod(metadata={"finalizers": ["example.com/stay"]}))
    path = f"{governed.pods}/{made['metadata']['name']}"
    swap = {"op": "replace", "path": "/spec/containers/0/image", "value": governed.unsigned.by_tag}
    marked = {"op": "add", "path": "/metadata/annotations/kubernetes.io~1config.mirror", "value": "x"}
    answer = governed.edit.patch(path, [marked, swap])
    assert answer.status in (403, 422), answer
    assert governed.edit.patch(path, [marked]).status in (403, 422)
    assert governed.edit.patch(path, [swap]).status == 403
    governed.edit.delete(path, body={"gracePeriodSeconds": 0})
    going = governed.lab.admin.get(path, expect=200).body
    assert going["metadata"]["deletionTimestamp"]
    governed.edit.patch(path, [swap])
    # Whatever stands in it now: nobody with `edit` has it put on a node, and no scheduler takes one that is going.
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": made["metadata"]["name"]},
        "target": {"kind": "Node", "name": governed.node.name},
    }
    assert governed.edit.post(f"{path}/binding", binding).status == 403
    assert governed.lab.admin.post(f"{path}/binding", binding).status in (409, 422)
    governed.lab.admin.patch(path, {"metadata": {"finalizers": None}}, content_type="application/merge-patch+json")
