"""`helm upgrade` and `helm rollback` by Helm's own library, from and to the previous release, whose code runs too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from countersign.api import names
from countersign.api.objects import KINDS
from tests.lab.lab import Lab
from tests.render import CHART
from tests.stack.governed import Governed, govern
from tests.stack.helm import HelmInstallation, NoHistoryError, documented, previous_release

helm_python = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release's tree."""
    try:
        return previous_release(tmp_path_factory.mktemp("previous"))
    except NoHistoryError as error:
        pytest.skip(f"the previous release is not in this clone: {error}")


@pytest.fixture
def countersign(helm_lab: Lab, previous: Path) -> Iterator[HelmInstallation]:
    """The previous release, its chart installed and its code running."""
    with HelmInstallation(helm_lab, chart=previous / "charts" / "countersign") as made:
        made.environment = {"PYTHONPATH": str(previous / "operator")}
        made.install()
        made.start_all()
        yield made


@pytest.fixture
def governed(countersign: HelmInstallation) -> Governed:
    return govern(countersign)


def replace_processes(countersign: HelmInstallation, environment: dict[str, str]) -> None:
    """As a rolling update does: the new ones come, the old ones go."""
    countersign.stop_all()
    countersign.environment = environment
    countersign.start_all()
    countersign.settle()


def adopt_crds(countersign: HelmInstallation) -> None:
    """What docs/install.md says to do once, coming from 0.1.0."""
    for command in documented("adopt-crds"):
        countersign.lab.kubectl(*command)


def owned(countersign: HelmInstallation) -> bool:
    """Whether everything that the controller writes belongs to an object of the chart."""
    base = f"/namespaces/{countersign.namespace}"
    paths = [
        *(f"/api/v1{base}/secrets/{name}" for name in (names.CA_SECRET, names.RECEIPT_KEYS_SECRET)),
        *(f"/api/v1{base}/secrets/{name}" for name in (names.GATE_TLS_SECRET, names.VERIFIER_TLS_SECRET)),
        f"/api/v1{base}/configmaps/{names.CA_CONFIGMAP}",
        f"/apis/coordination.k8s.io/v1{base}/leases/{names.LEASE_NAME}",
    ]
    written = [countersign.lab.admin.get(path, expect=200).body for path in paths]
    written += countersign.webhook_configurations()
    return len(written) == 8 and all(one["metadata"].get("ownerReferences") for one in written)


def test_helm_refuses_crds_that_are_not_its_own_and_changes_nothing(governed: Governed) -> None:
    countersign = governed.countersign
    assert isinstance(countersign, HelmInstallation)
    token = governed.token(governed.running())
    with pytest.raises(helm_python.HelmError, match="invalid ownership metadata"):
        countersign.upgrade(chart=CHART)
    assert governed.active(token)
    deployment = f"/apis/apps/v1/namespaces/{countersign.namespace}/deployments/countersign-gate"
    image = countersign.lab.admin.get(deployment).body["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(":0.1.0")


def test_an_upgrade_and_a_rollback_keep_grants_keys_and_what_is_enforced(governed: Governed) -> None:
    countersign, lab = governed.countersign, governed.lab
    assert isinstance(countersign, HelmInstallation)
    before = dict(countersign.environment)
    pod = governed.running()
    token = governed.token(pod)
    ended = governed.running()
    ended_token = governed.token(ended)
    governed.node.finish(ended)
    governed.await_inactive(ended_token)
    authority = countersign.ca_file("verifier").read_bytes()
    assert not owned(countersign), "the previous release wrote no owners"

    adopt_crds(countersign)
    countersign.upgrade(chart=CHART)
    replace_processes(countersign, {})
    lab.wait_for(lambda: owned(countersign), what="what the previous release wrote is adopted")
    assert countersign.ca_file("verifier").read_bytes() == authority
    assert governed.active(token)
    assert not governed.active(ended_token)
    assert governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403
    assert all(lab.admin.get(f"{CRDS}/{kind.PLURAL}.{names.GROUP}").ok for kind in KINDS)

    countersign.rollback(1)
    replace_processes(countersign, before)
    assert all(lab.admin.get(f"{CRDS}/{kind.PLURAL}.{names.GROUP}").ok for kind in KINDS), "a rollback keeps them"
    assert governed.active(token)
    assert not governed.active(ended_token)
    assert governed.active(governed.token(governed.running()))
    assert governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403

    countersign.upgrade(chart=CHART)
    replace_processes(countersign, {})
    lab.wait_for(lambda: owned(countersign), what="adopted again")
    assert governed.active(token)
    countersign.kill_all()
    countersign.remove()
    lab.wait_for(lambda: not countersign.left_behind(), what="nothing is left behind, of the previous release neither")
    assert countersign.grant_of(pod)["status"]["state"] == "Active"


def test_an_upgrade_brings_the_kinds_that_its_services_read(governed: Governed) -> None:
    countersign, lab = governed.countersign, governed.lab
    assert isinstance(countersign, HelmInstallation)
    adopt_crds(countersign)
    # As if the previous release had not known this kind.
    path = f"{CRDS}/revocations.{names.GROUP}"
    lab.admin.delete(path, expect=200)
    lab.wait_for(lambda: lab.admin.get(path).status == 404, what="the kind is gone")
    countersign.upgrade(chart=CHART)
    lab.wait_for(lambda: lab.admin.get(path).ok, what="the upgrade brought it")
    replace_processes(countersign, {})
    assert governed.active(governed.token(governed.running()))
