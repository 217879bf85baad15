"""What the controller writes belongs to objects of the chart, so that the garbage collector removes it with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from countersign.api import names
from countersign.api.meta import OwnerReference
from countersign.cluster.client import ApiClient
from countersign.cluster.lease import LeaseElector
from countersign.controller.keys.certificates import KeyKeeper
from countersign.controller.keys.ownership import OWNER_NAME, OwnerGoneError, Owners, repaired
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.world import World
from countersign.controller.webhooks.registration import Registrar
from countersign.controller.webhooks.webhooks import GateEndpoint
from countersign.keys.authority import AuthoritySet, new_authority
from tests.fakes.api_server import FakeApiServer, Fault, running

OURS = names.SYSTEM_NAMESPACE
BUNDLE = AuthoritySet((new_authority(datetime.now(UTC)),)).trust_bundle()
ROLE = ("clusterroles", "", "ClusterRole", "rbac.authorization.k8s.io/v1")
ACCOUNT = ("serviceaccounts", OURS, "ServiceAccount", "v1")
WEBHOOKS = [(f"{kind}webhookconfigurations", "", names.WEBHOOK_CONFIGURATION) for kind in ("mutating", "validating")]
KEPT = [
    ("secrets", OURS, names.CA_SECRET),
    ("secrets", OURS, names.GATE_TLS_SECRET),
    ("secrets", OURS, names.RECEIPT_KEYS_SECRET),
    ("configmaps", OURS, names.CA_CONFIGMAP),
]
STRANGER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "somebodys", "uid": "theirs"}


class Leader:
    def fence(self) -> None:
        return


class Bench:
    """A controller's writers over one API server."""

    def __init__(self, server: FakeApiServer, client: ApiClient) -> None:
        self.server, self.client = server, client
        self.restart()

    def restart(self) -> None:
        metrics, owners = ControllerMetrics(CollectorRegistry()), Owners(self.client, OURS)
        self.registrar = Registrar(
            World(OURS), self.client, Leader(), GateEndpoint("", "", url="https://127.0.0.1:1"), metrics,
            owner=owners.cluster, ca_bundle=lambda: BUNDLE, paused=lambda: False,
            changed=lambda: None, load_seconds=0.0,
        )  # fmt: skip
        self.keys = KeyKeeper(
            self.client, Leader(), OURS, metrics, owner=owners.namespaced, serving={names.GATE_TLS_SECRET: ["gate"]},
            clock=lambda: datetime(2026, 3, 1, tzinfo=UTC), changed=lambda: None, marked=lambda _: None,
        )  # fmt: skip

    async def write(self) -> None:
        await self.registrar.register()
        assert await self.keys.ensure()

    def install(self) -> None:
        """The owners, new ones each time."""
        for plural, namespace, _, _ in (ROLE, ACCOUNT):
            if (plural, namespace, OWNER_NAME) in self.server.objects:
                self.server.remove(plural, OWNER_NAME, namespace=namespace)
            self.server.put(plural, OWNER_NAME, namespace=namespace)

    def owned(self, key: tuple[str, str, str]) -> list[dict[str, Any]]:
        return list(self.server.objects[key]["metadata"].get("ownerReferences") or [])

    def reference(self, owner: tuple[str, str, str, str]) -> dict[str, Any]:
        plural, namespace, kind, version = owner
        uid = self.server.objects[plural, namespace, OWNER_NAME]["metadata"]["uid"]
        return {"apiVersion": version, "kind": kind, "name": OWNER_NAME, "uid": uid}

    def assert_owned(self) -> None:
        for key in WEBHOOKS:
            assert self.owned(key) == [self.reference(ROLE)]
        for key in KEPT:
            assert self.owned(key) == [self.reference(ACCOUNT)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running() as server, ApiClient(server.config()) as client:
        yield Bench(server, client)


async def test_each_object_belongs_to_the_chart_from_its_creation(bench: Bench) -> None:
    bench.install()
    await bench.write()
    bench.assert_owned()
    version = bench.server.version
    await bench.write()
    bench.restart()
    await bench.write()
    assert bench.server.version == version, "what is right is not written again"


async def test_objects_of_an_earlier_release_are_adopted_and_stay_as_they_are(bench: Bench) -> None:
    await bench.write()
    assert not any(bench.owned(key) for key in (*WEBHOOKS, *KEPT))
    before = {key: bench.server.objects[key].get("data") for key in KEPT}
    bench.restart()
    bench.install()
    await bench.write()
    bench.assert_owned()
    assert {key: bench.server.objects[key].get("data") for key in KEPT} == before


async def test_a_reference_to_an_owner_that_was_made_again_is_repaired(bench: Bench) -> None:
    bench.install()
    await bench.write()
    bench.install()
    await bench.write()
    bench.assert_owned()


async def test_what_the_collector_removed_is_made_again(bench: Bench) -> None:
    bench.install()
    await bench.write()
    for plural, namespace, name in (*WEBHOOKS, *KEPT):
        bench.server.remove(plural, name, namespace=namespace)
    await bench.write()
    bench.assert_owned()


async def test_without_the_owners_objects_are_written_all_the_same(bench: Bench) -> None:
    await bench.write()
    assert all(key in bench.server.objects for key in (*WEBHOOKS, *KEPT))


async def test_an_owner_that_may_not_be_read_changes_no_reference(bench: Bench) -> None:
    bench.install()
    await bench.write()
    bench.restart()
    bench.server.faults.append(Fault(lambda r: r.path.endswith(f"/clusterroles/{OWNER_NAME}"), status=403, times=9))
    bench.server.faults.append(Fault(lambda r: r.path.endswith(f"/serviceaccounts/{OWNER_NAME}"), status=403, times=9))
    await bench.write()
    bench.assert_owned()


async def test_once_its_owner_has_gone_nothing_is_written_that_would_stay_behind(bench: Bench) -> None:
    bench.install()
    await bench.write()
    for plural, namespace, _, _ in (ROLE, ACCOUNT):
        bench.server.remove(plural, OWNER_NAME, namespace=namespace)
    for plural, namespace, name in (*WEBHOOKS, *KEPT):
        bench.server.remove(plural, name, namespace=namespace)
    with pytest.raises(OwnerGoneError):
        await bench.registrar.register()
    assert not await bench.keys.ensure()
    assert not bench.server.objects


async def test_where_an_owner_may_not_be_set_keys_and_entries_are_kept_all_the_same(bench: Bench) -> None:
    # OwnerReferencesPermissionEnforcement: whoever changes an owner must be allowed to delete the object.
    await bench.write()
    bench.restart()
    bench.install()

    def sets_an_owner(request: Any) -> bool:
        return request.method in {"PUT", "PATCH"} and b'"uid"' in bench.server.bodies[-1]

    bench.server.faults.append(Fault(sets_an_owner, status=403, times=99))
    key = ("configmaps", OURS, names.CA_CONFIGMAP)
    bench.server.put("configmaps", names.CA_CONFIGMAP, namespace=OURS, data={"ca.crt": "of somebody"})
    bench.server.put("mutatingwebhookconfigurations", names.WEBHOOK_CONFIGURATION, webhooks=[{"name": "theirs"}])
    await bench.write()
    assert bench.server.objects[key]["data"]["ca.crt"].encode() == bench.keys.ca_bundle
    assert bench.server.objects[WEBHOOKS[0]]["webhooks"] == []


def test_references_of_others_stay() -> None:
    owner = OwnerReference(api_version="v1", kind="ServiceAccount", name=OWNER_NAME, uid="new")
    ours = {"apiVersion": "v1", "kind": "ServiceAccount", "name": OWNER_NAME, "uid": "new"}
    stale = {**ours, "uid": "old"}
    assert repaired({"metadata": {"ownerReferences": [STRANGER]}}, owner) == [STRANGER, ours]
    assert repaired({"metadata": {"ownerReferences": [stale, STRANGER]}}, owner) == [STRANGER, ours]
    assert repaired({"metadata": {"ownerReferences": [STRANGER, ours]}}, owner) is None
    assert repaired({"metadata": {"ownerReferences": [stale]}}, None) is None


# The Lease

OWNER = OwnerReference(api_version="v1", kind="ServiceAccount", name=OWNER_NAME, uid="account")


def elector(client: ApiClient, owner: OwnerReference | None) -> LeaseElector:
    return LeaseElector(client, OURS, names.LEASE_NAME, "me", on_lost=lambda: None, owner=owner)


async def test_the_lease_belongs_to_the_account_and_keeps_that_over_renewals(bench: Bench) -> None:
    key = ("leases", OURS, names.LEASE_NAME)
    async with elector(bench.client, OWNER):
        assert [one["uid"] for one in bench.owned(key)] == ["account"]
    assert [one["uid"] for one in bench.owned(key)] == ["account"], "giving it back takes nothing away"
    async with elector(bench.client, None):
        assert [one["uid"] for one in bench.owned(key)] == ["account"], "without an owner of our own it stays"


async def test_a_lease_whose_owner_may_not_be_set_is_taken_all_the_same(bench: Bench) -> None:
    bench.server.put("leases", names.LEASE_NAME, namespace=OURS, spec={"holderIdentity": ""})
    bench.server.faults.append(Fault(lambda r: b'"ownerReferences"' in bench.server.bodies[-1], status=403, times=99))
    async with elector(bench.client, OWNER) as elected:
        assert elected.leads
