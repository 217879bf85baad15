"""`helm uninstall` by Helm's own library: nothing of ours stays but what people would miss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.helm import HelmInstallation, documented

pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

QUIET_SECONDS = 4.0
"""Longer than the controller's checks: what it would write anew would stand there by then."""


@pytest.fixture(scope="module")
def helm_lab(programs: None) -> Iterator[Lab]:
    with Lab.start() as own:
        yield own


@pytest.fixture
def countersign(helm_lab: Lab) -> Iterator[HelmInstallation]:
    with HelmInstallation(helm_lab) as made:
        made.install()
        made.start_all()
        yield made


@pytest.fixture
def governed(countersign: HelmInstallation) -> Governed:
    return govern(countersign)


def owners(countersign: HelmInstallation) -> set[tuple[str, str]]:
    """Kind and UID of the owners of both webhook configurations."""
    return {
        (one["kind"], one["uid"])
        for configuration in countersign.webhook_configurations()
        for one in configuration["metadata"].get("ownerReferences", ())
    }


def test_an_uninstall_leaves_nothing_behind_and_revokes_nothing(governed: Governed) -> None:
    countersign = governed.countersign
    assert isinstance(countersign, HelmInstallation)
    pod = governed.running()
    said = countersign.remove()  # while every process of ours still runs, as pods do that are being ended
    countersign.lab.wait_for(lambda: not countersign.left_behind(), what="the garbage collector has followed")
    time.sleep(QUIET_SECONDS)
    assert not countersign.left_behind(), "a controller that is ending writes nothing anew"
    assert "kept due to the resource policy" in said
    assert "workloadgrants.countersign.dev" in said
    assert countersign.grant_of(pod)["status"]["state"] == "Active"
    assert governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 201, "nothing judges pods any more"


def test_an_install_right_after_an_uninstall_ends_with_working_webhooks_and_keys(governed: Governed) -> None:
    countersign = governed.countersign
    assert isinstance(countersign, HelmInstallation)
    before = owners(countersign)
    countersign.remove()
    countersign.install()
    countersign.kill_all()
    countersign.start_all()
    countersign.lab.wait_for(
        lambda: bool(owners(countersign)) and not owners(countersign) & before, what="both have new owners"
    )
    countersign.settle()
    assert governed.active(governed.token(governed.running()))
    assert governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403
    time.sleep(QUIET_SECONDS)
    assert countersign.webhook_configurations(), "the collector finds no owner missing"
    assert governed.active(governed.token(governed.running()))


def test_webhook_configurations_that_lose_their_owner_are_back_within_seconds(governed: Governed) -> None:
    countersign = governed.countersign
    assert isinstance(countersign, HelmInstallation)
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/countersign-controller"
    role = countersign.lab.admin.get(path, expect=200).body
    made = {key: role[key] for key in ("apiVersion", "kind", "rules")}
    metadata = {key: role["metadata"][key] for key in ("name", "labels", "annotations")}
    countersign.lab.admin.delete(path, expect=200)
    remade = countersign.lab.admin.post(path.rpartition("/")[0], made | {"metadata": metadata}, expect=201).body
    countersign.lab.wait_for(
        lambda: owners(countersign) == {("ClusterRole", remade["metadata"]["uid"])},
        what="both configurations belong to the new ClusterRole",
    )
    time.sleep(QUIET_SECONDS)
    assert len(countersign.webhook_configurations()) == 2, "repaired in time, or collected and made again"
    countersign.settle()
    assert governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403


def test_the_crds_that_guards_read_cannot_go_before_the_guards(countersign: HelmInstallation) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/protectedaudiences.countersign.dev"
    answer = countersign.lab.admin.delete(path)
    assert answer.status == 403
    assert "Uninstall Countersign first" in answer.message


def test_an_api_server_that_starts_after_the_removal_of_everything_mints_tokens(governed: Governed) -> None:
    countersign, lab = governed.countersign, governed.lab
    assert isinstance(countersign, HelmInstallation)
    countersign.kill_all()
    countersign.remove()
    lab.wait_for(lambda: not countersign.left_behind(), what="nothing is left behind")
    for command in documented("remove-everything"):
        # The API server goes on enforcing a guard for up to a second after it has gone, as the page says.
        lab.wait_for(partial(_done, lab, command), what=f"kubectl {' '.join(command)}", timeout=60)
    assert "countersign" not in lab.kubectl("api-resources", "-o", "name")
    lab.control_plane.restart_apiserver()
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{governed.namespace}/serviceaccounts/default/token"
    lab.wait_for(lambda: lab.admin.post(path, asked).status == 201, what="tokens are minted")
    free = objects.pod("free", governed.namespace, objects.pod_spec(objects.container("docker.io/library/busybox")))
    assert lab.admin.post(governed.pods, free).status == 201


def _done(lab: Lab, command: list[str]) -> bool:
    return lab.try_kubectl(*command).returncode == 0
