from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from countersign.api import names
from countersign.api.secret import Secret
from countersign.cluster.cache import Added, Key, Modified
from countersign.cluster.client import ApiClient
from countersign.controller.keys.certificates import KeyKeeper, service_names
from countersign.controller.keys.ownership import Owners
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.store import NotLeadingError
from countersign.keys.receipt_keys import ROTATE_AFTER, ReceiptKeys, revoke_receipt_key
from countersign.keys.secrets import (
    decode_receipt_keys,
    decode_serving,
    encode_receipt_keys,
    from_secret_data,
    to_secret_data,
)
from tests.fakes.api_server import FakeApiServer, running

OURS = names.SYSTEM_NAMESPACE
NAMES = service_names("countersign-gate", OURS, "cluster.local", ["127.0.0.1"])


class Leader:
    leads = True

    def fence(self) -> None:
        if not self.leads:
            raise NotLeadingError


class Bench:
    def __init__(self, server: FakeApiServer, client: ApiClient) -> None:
        self.server = server
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.leader = Leader()
        self.changes = 0
        self.marks: list[frozenset[str]] = []
        self._client = client
        self.registry = CollectorRegistry()
        self.metrics = ControllerMetrics(self.registry)

    def keeper(self) -> KeyKeeper:
        return KeyKeeper(
            self._client, self.leader, OURS, self.metrics, owner=Owners(self._client, OURS).namespaced,
            serving={names.GATE_TLS_SECRET: NAMES}, clock=lambda: self.now, changed=self._changed,
            marked=self.marks.append,
        )  # fmt: skip

    def _changed(self) -> None:
        self.changes += 1

    def secret(self, name: str) -> dict[str, bytes]:
        return from_secret_data(self.server.objects["secrets", OURS, name]["data"])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running() as server, ApiClient(server.config()) as client:
        yield Bench(server, client)


async def test_everything_is_made_once(bench: Bench) -> None:
    keeper = bench.keeper()
    assert await keeper.ensure()
    assert {name for _, _, name in bench.server.objects} == {
        names.CA_SECRET, names.GATE_TLS_SECRET, names.RECEIPT_KEYS_SECRET, names.CA_CONFIGMAP,
    }  # fmt: skip
    assert bench.server.objects["secrets", OURS, names.GATE_TLS_SECRET]["type"] == "kubernetes.io/tls"
    serving = decode_serving(bench.secret(names.GATE_TLS_SECRET))
    assert serving.trust_bundle == keeper.ca_bundle
    public = bench.server.objects["configmaps", OURS, names.CA_CONFIGMAP]["data"]["ca.crt"]
    assert public.encode() == keeper.ca_bundle
    writes = bench.server.version
    assert await keeper.ensure()
    assert await bench.keeper().ensure()
    assert bench.server.version == writes, "what is right is not written again"


async def test_the_ca_bundle_is_told_when_it_changes(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    assert bench.changes == 1
    await keeper.ensure()
    assert bench.changes == 1


async def test_a_receipt_key_that_a_person_revokes_or_restores_is_told_and_kept(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    assert not bench.marks
    keys = decode_receipt_keys(bench.secret(names.RECEIPT_KEYS_SECRET))
    revoked = revoke_receipt_key(keys, keys.keys[0].id, bench.now)
    keeper.on_receipt_keys(_written(keys, revoked))
    assert bench.marks == [{keys.keys[0].id}]
    assert keeper.receipts.keys == revoked
    keeper.on_receipt_keys(_written(revoked, keys))
    assert bench.marks == [{keys.keys[0].id}] * 2


async def test_receipt_keys_that_cannot_be_read_leave_the_last_ones_in_force(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    before = keeper.receipts.keys
    keeper.on_receipt_keys(Added(Key(OURS, names.RECEIPT_KEYS_SECRET), "uid", Secret(data={"keys.json": "bm8="})))
    assert keeper.receipts.keys == before


def _written(old: ReceiptKeys, new: ReceiptKeys) -> Modified[Secret]:
    one, other = (Secret(data=to_secret_data(encode_receipt_keys(keys))) for keys in (old, new))
    return Modified(Key(OURS, names.RECEIPT_KEYS_SECRET), "uid", one, other)


async def test_a_certificate_is_renewed_in_time_under_the_same_ca(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    before, bundle = decode_serving(bench.secret(names.GATE_TLS_SECRET)), keeper.ca_bundle
    bench.now += timedelta(days=21)
    await keeper.ensure()
    after = decode_serving(bench.secret(names.GATE_TLS_SECRET))
    assert after.certificate != before.certificate
    assert keeper.ca_bundle == bundle


async def test_receipt_keys_are_rotated_and_old_ones_still_verify(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    (old,) = keeper.receipts.keys.keys
    bench.now += ROTATE_AFTER
    await keeper.ensure()
    stored = decode_receipt_keys(bench.secret(names.RECEIPT_KEYS_SECRET))
    assert len(stored.keys) == 2
    assert stored.find(old.id) is not None
    assert keeper.receipts.keys == stored


async def test_a_revocation_in_the_secret_is_taken_over(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    (key,) = keeper.receipts.keys.keys
    content = json.loads(bench.secret(names.RECEIPT_KEYS_SECRET)["keys.json"]) | {"revoked": [key.id]}
    put_secret(bench, names.RECEIPT_KEYS_SECRET, {"keys.json": json.dumps(content).encode()})
    await keeper.refresh_receipt_keys()
    assert key.id in keeper.receipts.keys.revoked


async def test_keys_are_read_anew_at_most_once_a_second(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    reads = bench.server.counted("GET")
    for _ in range(5):
        await keeper.refresh_receipt_keys()
    assert bench.server.counted("GET") == reads + 1


@pytest.mark.parametrize("name", [names.CA_SECRET, names.RECEIPT_KEYS_SECRET])
async def test_keys_that_cannot_be_read_are_left_alone_and_reported(bench: Bench, name: str) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    put_secret(bench, name, {"authorities.json": b"{", "keys.json": b"{"})
    version = bench.server.objects["secrets", OURS, name]["metadata"]["resourceVersion"]
    assert not await keeper.ensure()
    assert bench.server.objects["secrets", OURS, name]["metadata"]["resourceVersion"] == version
    assert bench.registry.get_sample_value("countersign_controller_key_errors_total", {"object": name}) == 1
    assert keeper.receipts.keys.keys, "what was known stays in use"


async def test_a_serving_certificate_that_cannot_be_read_is_replaced(bench: Bench) -> None:
    keeper = bench.keeper()
    await keeper.ensure()
    put_secret(bench, names.GATE_TLS_SECRET, {"tls.crt": b"rubbish"})
    assert await keeper.ensure()
    assert decode_serving(bench.secret(names.GATE_TLS_SECRET)).trust_bundle == keeper.ca_bundle


async def test_a_process_that_does_not_lead_writes_nothing(bench: Bench) -> None:
    bench.leader.leads = False
    with pytest.raises(NotLeadingError):
        await bench.keeper().ensure()
    assert not bench.server.objects


async def test_the_expiry_is_a_metric(bench: Bench) -> None:
    await bench.keeper().ensure()
    left = bench.registry.get_sample_value(
        "countersign_controller_certificate_expiry_seconds", {"certificate": names.GATE_TLS_SECRET}
    )
    assert left == pytest.approx(30 * 86400, abs=1)


def test_the_name_that_the_api_server_asks_for_comes_first() -> None:
    assert NAMES[0] == f"countersign-gate.{OURS}.svc"
    assert NAMES[-1] == "127.0.0.1"


def put_secret(bench: Bench, name: str, files: dict[str, bytes]) -> None:
    from countersign.keys.secrets import to_secret_data

    held: dict[str, Any] = bench.server.objects["secrets", OURS, name]
    bench.server.put("secrets", name, namespace=OURS, **{**held, "data": to_secret_data(files)})
