"""What a policy's status tells before anybody enforces it: of pods that run, and of pods that come."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pytest

from countersign.api.gate_calls import OUTLOOK_PATH, TALLIES_PATH
from countersign.cluster.client import ApiClient
from countersign.cluster.config import load_config
from countersign.cluster.resource import ENDPOINT_SLICES
from countersign.controller.calls.calling import SERVICE_LABEL, EndpointSlice
from tests.lab.cosign import KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.balancer import Balancer
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

RATE = 20
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def _attentive(countersign: Installation) -> Iterator[None]:
    """A controller that asks the gates each second, for as long as these tests run."""
    countersign.stop("controller")
    start_controller(countersign)
    yield
    countersign.stop("controller")
    countersign.start_service("controller")


def start_controller(countersign: Installation, *, rate: float = RATE, **flags: str) -> None:
    chosen = {"collect_seconds": "1", "publish_seconds": "1", "scan_requests_per_second": str(rate), **flags}
    countersign.start_service("controller", **chosen)  # type: ignore[arg-type] # none of them is `wait`


class Legacy(NamedTuple):
    """A namespace whose pods were there before any policy."""

    countersign: Installation
    namespace: str
    key: KeyPair
    signed: PushedImage
    unsigned: PushedImage

    @property
    def lab(self) -> Lab:
        return self.countersign.lab

    def run(self, *images: str) -> None:
        for number, image in enumerate(images):
            pod = objects.pod(f"old-{number}", self.namespace, objects.pod_spec(objects.container(image)))
            self.lab.admin.post(objects.collection_path(pod), pod, expect=201)

    def policy(self, **spec: Any) -> objects.Object:
        host = self.lab.registry("plain").host
        rule = objects.image_rule([f"{host}/{self.namespace}/**"], [self.key.public_pem])
        spec = {"images": [rule], "mode": "Audit", **spec}
        return objects.cluster_policy(self.namespace, namespaces={"legacy": self.namespace}, **spec)


@pytest.fixture
def legacy(countersign: Installation) -> Iterator[Legacy]:
    lab = countersign.lab
    name = f"legacy-{next(_NUMBERS)}"
    lab.create_namespace(name, {"legacy": name})
    lab.wait_for(
        lambda: lab.admin.get(f"/api/v1/namespaces/{name}/serviceaccounts/default").ok, what="the default account"
    )
    registry, key = lab.registry("plain"), lab.cosign.generate_key(name)
    repository = registry.repository(f"{name}/app")
    signed = repository.push("v1", ImageSpec.distinct(f"{name}-signed"))
    lab.cosign.sign(registry, signed, key)
    unsigned = repository.push("unsigned", ImageSpec.distinct(f"{name}-unsigned"))
    yield Legacy(countersign, name, key, signed, unsigned)
    lab.admin.delete(f"/apis/countersign.dev/v1alpha1/clustertrustpolicies/{name}")


def status(lab: Lab, policy: objects.Object) -> Any:
    return lab.admin.get(objects.object_path(policy), expect=200).body.get("status", {})


def admissions(lab: Lab, policy: objects.Object) -> tuple[int, int]:
    found = status(lab, policy).get("admissions", {})
    return found.get("allowed", 0), found.get("wouldDeny", 0)


def await_admissions(scene: Governed, allowed: int, would_deny: int, policy: objects.Object | None = None) -> None:
    lab, policy = scene.lab, policy or scene.policy
    lab.wait_for(
        lambda: admissions(lab, policy) == (allowed, would_deny),
        what=f"{allowed} allowed and {would_deny} refused, not {admissions(lab, policy)}",
    )


def pods(lab: Lab, policy: objects.Object) -> Any:
    return status(lab, policy).get("pods", {})


def await_pods(legacy: Legacy, policy: objects.Object, **expected: int) -> None:
    legacy.lab.wait_for(
        lambda: {key: pods(legacy.lab, policy).get(key) for key in expected} == expected,
        what=f"pods {expected} in the policy's status",
        timeout=60,
    )


# Pods that run


def test_pods_from_before_a_policy_are_judged_by_what_the_registry_says(legacy: Legacy) -> None:
    legacy.run(legacy.signed.by_tag, legacy.signed.by_digest, legacy.unsigned.by_tag, "registry.invalid/other:1")
    policy = legacy.policy()
    legacy.countersign.declare(policy)
    await_pods(legacy, policy, governed=4, failing=2, unknown=0)
    found = {one["reason"]: one["count"] for one in status(legacy.lab, policy)["topReasons"]}
    assert found == {"ImageUnsigned": 1, "ImageNotCovered": 1}
    # Another mode is another generation, and the same word.
    legacy.countersign.declare(legacy.policy(mode="Warn"))
    await_pods(legacy, policy, governed=4, failing=2, unknown=0)


def test_a_registry_out_of_reach_makes_pods_unknown_and_not_failing(legacy: Legacy) -> None:
    legacy.run("127.0.0.1:9/gone/app:1")
    policy = legacy.policy(images=[objects.image_rule(["127.0.0.1:9/**"], [legacy.key.public_pem])])
    legacy.countersign.declare(policy)
    await_pods(legacy, policy, governed=1, failing=0, unknown=1)


def test_pods_of_one_image_are_one_verification(legacy: Legacy) -> None:
    count = 12
    legacy.run(*[legacy.signed.by_digest] * count)
    policy = legacy.policy()
    legacy.countersign.declare(policy)
    await_pods(legacy, policy, governed=count, failing=0, unknown=0)
    registry = legacy.lab.registry("plain")
    asked = registry.requests(f"{legacy.namespace}/app", "countersign/")
    verification = {path for _, path in asked}
    assert asked
    assert len(asked) <= len(verification) * 2, "twelve pods, one verification"


def test_requests_to_registries_are_counted_and_kept_within_the_rate(legacy: Legacy) -> None:
    registry = legacy.lab.registry("plain")
    repository = registry.repository(f"{legacy.namespace}/app")
    images = [repository.push(f"n{n}", ImageSpec.distinct(f"{legacy.namespace}-{n}")) for n in range(8)]
    legacy.run(*[image.by_digest for image in images])
    before = scanned(legacy.countersign)
    policy = legacy.policy()
    legacy.countersign.declare(policy)
    await_pods(legacy, policy, governed=8, failing=8, unknown=0)
    asked = registry.requests(f"{legacy.namespace}/app", "countersign/")
    assert scanned(legacy.countersign) - before >= len(asked) > 0, "requests below /v2/NAME, and for tokens besides"
    elapsed = (asked[-1][0] - asked[0][0]).total_seconds() + 1  # the log knows whole seconds
    one_pod = len(asked) / len(images)
    assert len(asked) <= RATE * elapsed + 2 * one_pod


def scanned(countersign: Installation) -> int:
    for line in countersign.services["controller"].metrics().splitlines():
        if line.startswith("countersign_controller_scan_registry_requests_total "):
            return int(float(line.split()[1]))
    raise AssertionError("no such metric")


def test_a_rate_of_nothing_asks_no_registry(legacy: Legacy) -> None:
    legacy.countersign.stop("controller")
    start_controller(legacy.countersign, rate=0)
    try:
        legacy.run(legacy.signed.by_digest)
        policy = legacy.policy()
        legacy.countersign.declare(policy)
        await_pods(legacy, policy, governed=1, failing=0, unknown=1)
        assert legacy.lab.registry("plain").requests(f"{legacy.namespace}/app", "countersign/") == []
    finally:
        legacy.countersign.stop("controller")
        start_controller(legacy.countersign)
    await_pods(legacy, policy, governed=1, failing=0, unknown=0)


# Pods that come


@pytest.fixture
def scene(countersign: Installation) -> Governed:
    return govern(countersign, mode="Audit")


def test_new_pods_are_counted_whatever_becomes_of_them(scene: Governed) -> None:
    for image in (scene.image, scene.image, scene.unsigned):
        scene.admitted(scene.pod(image=image.by_tag))
    assert scene.create(dryRun="All").status == 201
    await_admissions(scene, 2, 1)
    found = status(scene.lab, scene.policy)["admissions"]
    assert [(one["reason"], one["count"]) for one in found["topReasons"]] == [("ImageUnsigned", 1)]
    enforced = {**scene.policy, "spec": {**scene.policy["spec"], "mode": "Enforce"}}
    scene.countersign.declare(enforced)
    await_admissions(scene, 0, 0)
    assert status(scene.lab, scene.policy)["admissions"]["since"] >= found["since"]
    scene.lab.wait_for(
        lambda: scene.create(scene.pod(image=scene.unsigned.by_tag)).status == 403, what="an unsigned image is refused"
    )
    await_admissions(scene, 0, 1)


def test_a_mode_of_its_own_in_one_namespace_changes_no_count(scene: Governed) -> None:
    spec = {
        **scene.policy["spec"],
        "mode": "Enforce",
        "modeOverrides": [{"namespace": scene.namespace, "mode": "Warn"}],
    }
    scene.countersign.declare({**scene.policy, "spec": spec})
    scene.admitted(scene.pod(image=scene.unsigned.by_tag))
    await_admissions(scene, 0, 1)


def test_a_pod_that_two_webhook_entries_cover_counts_once_for_each_policy(scene: Governed) -> None:
    other = objects.cluster_policy(
        f"{scene.namespace}-too", namespaces={"kubernetes.io/metadata.name": scene.namespace},
        images=scene.policy["spec"]["images"], mode="Warn",
    )  # fmt: skip
    scene.countersign.declare(other)
    try:
        entries = scene.lab.admin.get(
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/countersign", expect=200
        ).body["webhooks"]
        # Beside the policies of all other tests the controller may have merged the entries (webhooks.MAX_ENTRIES).
        covering = [one for one in entries if one["name"].startswith("pods-")]
        assert len(covering) > 1 or not any(one.get("namespaceSelector", {}).get("matchLabels") for one in covering)
        for _ in range(3):
            scene.admitted()
        await_admissions(scene, 3, 0)
        await_admissions(scene, 3, 0, other)
        scene.admitted()
        await_admissions(scene, 4, 0)
        await_admissions(scene, 4, 0, other)
    finally:
        scene.lab.admin.delete(objects.object_path(other))


def test_two_gates_behind_one_address_count_each_pod_once(scene: Governed) -> None:
    installation = scene.countersign
    other = objects.cluster_policy(
        f"{scene.namespace}-too", namespaces={"kubernetes.io/metadata.name": scene.namespace},
        images=scene.policy["spec"]["images"], mode="Audit",
    )  # fmt: skip
    second = installation.start_service("gate", key="gate-2")
    ports = (installation.services["gate"].port, second.port)
    with Balancer(ports) as balancer:
        installation.stop("controller")
        start_controller(installation, gate_url=f"https://127.0.0.1:{balancer.port}")
        try:
            installation.declare(other)
            judged, gates = 0, ()
            for _ in range(5):
                with ThreadPoolExecutor(8) as threads:
                    made = list(threads.map(lambda _: scene.create(), range(24)))
                # Under Audit a pod comes in though no gate answers in time; that one nobody has counted.
                judged += sum("countersign.dev/receipt" in one.body["metadata"].get("annotations", {}) for one in made)
                await_admissions(scene, judged, 0)
                await_admissions(scene, judged, 0, other)
                gates = status(scene.lab, scene.policy)["admissions"]["gates"]
                if len(gates) == 2:
                    break
            assert len(gates) == 2, "both have counted"
        finally:
            scene.lab.admin.delete(objects.object_path(other))
            installation.stop("controller")
            start_controller(installation)
            installation.settle()
    installation.stop("gate-2")


def test_counts_outlive_gates_and_controllers(scene: Governed) -> None:
    scene.admitted()
    await_admissions(scene, 1, 0)
    scene.countersign.kill("gate")
    scene.countersign.start_service("gate")
    scene.lab.wait_for(partial(_judged, scene), what="the new gate gives a receipt")
    before = admissions(scene.lab, scene.policy)
    assert before[0] >= 1
    scene.countersign.stop("controller")
    start_controller(scene.countersign)
    scene.admitted()
    scene.lab.wait_for(
        lambda: admissions(scene.lab, scene.policy)[0] >= before[0] + 1, what="the sum goes on", timeout=90
    )
    found = status(scene.lab, scene.policy)["admissions"]
    assert len(found["gates"]) == 2
    assert sum(one["allowed"] for one in found["gates"]) == found["allowed"]


def _judged(scene: Governed) -> bool:
    answer = scene.create()
    return answer.status == 201 and "countersign.dev/receipt" in answer.body["metadata"].get("annotations", {})


@pytest.mark.parametrize("path", [TALLIES_PATH, OUTLOOK_PATH])
def test_a_gate_tells_strangers_nothing(governed: Governed, path: str) -> None:
    client = governed.countersign.client("gate")
    assert client.post(path, {}).status == 401
    forged = {"Authorization": "Countersign 0011223344556677.1.AAAA"}
    assert client.request("POST", path, b"{}", headers=forged, content_type="application/json").status == 401


async def test_the_controller_may_look_for_the_gates(governed: Governed) -> None:
    namespace = governed.countersign.namespace
    known = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "countersign-gate-x7k2p", "namespace": namespace, "labels": {SERVICE_LABEL: "countersign-gate"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
    }  # fmt: skip
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    governed.lab.admin.post(path, known, expect=201)
    try:
        account = governed.lab.service_account_kubeconfig(namespace, "countersign-controller")
        async with ApiClient(load_config(account)) as client:
            found = await client.list(
                ENDPOINT_SLICES, EndpointSlice, namespace=namespace, label_selector=f"{SERVICE_LABEL}=countersign-gate"
            )
        (only,) = found
        assert [one.addresses for one in only.endpoints or ()] == [("10.1.2.3",)]
        assert [one.port for one in only.ports or ()] == [8443]
    finally:
        governed.lab.admin.delete(f"{path}/countersign-gate-x7k2p")
