"""EvidenceRoots on a real API server: from a ConfigMap and over TUF, kept when their source fails, refused in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from countersign.signatures.roots.trust_root import public_good_root
from tests.fakes.tuf_repository import MisbehavingMirror
from tests.stack import objects
from tests.stack.installation import Installation

ROOTS = "/apis/countersign.dev/v1alpha1/evidenceroots"
CONTENT = public_good_root().decode()
OTHER = json.dumps({**json.loads(CONTENT), "tlogs": []})


@pytest.fixture(autouse=True)
def _gone_afterwards(countersign: Installation) -> Iterator[None]:
    yield
    for one in countersign.lab.admin.get(ROOTS, expect=200).body["items"]:
        countersign.lab.admin.delete(f"{ROOTS}/{one['metadata']['name']}")


@pytest.fixture
def mirror(countersign: Installation, tmp_path: Path) -> Iterator[MisbehavingMirror]:
    with MisbehavingMirror(tmp_path, countersign.lab.ca, CONTENT) as found:
        yield found


def told(countersign: Installation, name: str, kind: str) -> tuple[str, str] | None:
    status = countersign.lab.admin.get(f"{ROOTS}/{name}", expect=200).body.get("status", {})
    found = [(one["status"], one["reason"]) for one in status.get("conditions", []) if one["type"] == kind]
    return found[0] if found else None


def await_told(countersign: Installation, name: str, **conditions: tuple[str, str]) -> Any:
    """The status, once it says all of this."""
    countersign.lab.wait_for(
        lambda: all(told(countersign, name, kind) == said for kind, said in conditions.items()),
        what=f"EvidenceRoot {name} says {conditions}",
    )
    return countersign.lab.admin.get(f"{ROOTS}/{name}", expect=200).body["status"]


def from_mirror(mirror: MisbehavingMirror, countersign: Installation, **tuf: Any) -> objects.Object:
    given = {"mirror": mirror.url, "root": mirror.initial, "caBundle": countersign.lab.ca_file.read_text(), **tuf}
    return objects.evidence_root("private", tuf=given)


def age(countersign: Installation, name: str) -> float | None:
    text = countersign.services["controller"].metrics()
    found = re.search(rf'^countersign_evidence_root_age_seconds{{root="{name}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else None


def test_what_stands_in_the_object_is_judged(countersign: Installation) -> None:
    countersign.declare(objects.evidence_root("private", trustedRoot=CONTENT))
    status = await_told(countersign, "private", Accepted=("True", "Accepted"), Ready=("True", "Ready"))
    assert status["hash"].startswith("sha256:")
    assert status["authorities"] > 0
    countersign.declare(objects.evidence_root("private", trustedRoot='{"mediaType": "nothing"}'))
    await_told(countersign, "private", Accepted=("False", "BadContent"), Ready=("False", "BadContent"))


def test_a_config_map_is_read_and_its_last_good_content_kept(countersign: Installation) -> None:
    admin, path = countersign.lab.admin, f"/api/v1/namespaces/{countersign.namespace}/configmaps"
    data = {"root.json": CONTENT}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sigstore"}, "data": data}
    admin.post(path, config_map, expect=201)
    countersign.apply(objects.evidence_root("private", configMapRef={"name": "sigstore", "key": "root.json"}))
    status = await_told(countersign, "private", Ready=("True", "Ready"), Refreshed=("True", "Refreshed"))
    assert status["trustedRoot"] == CONTENT
    admin.delete(f"{path}/sigstore", expect=200)
    # Another generation is looked at at once, not after half a minute.
    countersign.apply(objects.evidence_root("private", configMapRef={"name": "sigstore", "key": "gone.json"}))
    status = await_told(countersign, "private", Refreshed=("False", "ConfigMapMissing"), Ready=("False", "NotFetched"))
    assert "trustedRoot" not in status, "what another key held counts no more"


def test_a_mirror_is_followed_and_its_last_good_content_kept(
    countersign: Installation, mirror: MisbehavingMirror
) -> None:
    countersign.apply(from_mirror(mirror, countersign))
    status = await_told(countersign, "private", Ready=("True", "Ready"), Refreshed=("True", "Refreshed"))
    assert status["trustedRoot"] == CONTENT
    assert (age(countersign, "private") or 0) >= 0
    old = dict(mirror.files)
    mirror.rotate_root_key()
    mirror.release(OTHER)
    countersign.apply(from_mirror(mirror, countersign, refreshSeconds=300))
    countersign.lab.wait_for(
        lambda: countersign.lab.admin.get(f"{ROOTS}/private").body["status"]["trustedRoot"] == OTHER,
        what="the new content is in use",
    )
    # A controller that has just started remembers what the mirror said, for it stands in the object.
    countersign.stop("controller")
    mirror.put_back(old)
    countersign.apply(from_mirror(mirror, countersign, refreshSeconds=301))
    countersign.start_service("controller")
    status = await_told(countersign, "private", Ready=("True", "Ready"), Refreshed=("False", "RolledBack"))
    assert status["trustedRoot"] == OTHER
    mirror.close()
    countersign.apply(from_mirror(mirror, countersign, refreshSeconds=302))
    status = await_told(countersign, "private", Ready=("True", "Ready"), Refreshed=("False", "MirrorUnreachable"))
    assert status["trustedRoot"] == OTHER
    events = countersign.lab.admin.get("/apis/events.k8s.io/v1/namespaces/default/events", expect=200).body["items"]
    reasons = {one["reason"] for one in events if one["regarding"].get("name") == "private"}
    assert {"RefreshFailed", "ContentChanged"} <= reasons
    countersign.lab.admin.delete(f"{ROOTS}/private", expect=200)
    countersign.lab.wait_for(lambda: age(countersign, "private") is None, what="its age is told no more")


def test_no_service_may_write_one_and_only_the_controller_its_status(
    countersign: Installation,
) -> None:
    lab = countersign.lab
    ours = f"system:serviceaccount:{countersign.namespace}"
    for service, allowed in (("controller", True), ("gate", False), ("verifier", False)):
        for verb, subresource, may in (("patch", "status", allowed), ("patch", "", False), ("create", "", False)):
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"{ours}:countersign-{service}",
                    "groups": ["system:serviceaccounts", f"system:serviceaccounts:{countersign.namespace}"],
                    "resourceAttributes": {
                        "group": "countersign.dev",
                        "resource": "evidenceroots",
                        "subresource": subresource,
                        "verb": verb,
                        "name": "private",
                    },
                },
            }
            answer = lab.admin.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review, expect=201)
            assert answer.body["status"]["allowed"] is may, (service, verb, subresource)


def test_whoever_administers_a_namespace_says_nothing_about_roots(countersign: Installation) -> None:
    lab = countersign.lab
    namespace = lab.create_namespace("roots-of-others")
    for role in ("edit", "admin"):
        lab.grant_role(namespace, f"{role}-of-others", role)
        api = lab.api(f"{role}-of-others")
        assert api.post(ROOTS, objects.evidence_root("mine", trustedRoot=CONTENT)).status == 403
        # Nor by the ConfigMap that a root may name: it stands in our namespace.
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sigstore"}, "data": {}}
        assert api.post(f"/api/v1/namespaces/{countersign.namespace}/configmaps", config_map).status == 403
