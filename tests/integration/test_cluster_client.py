"""The cluster room against a real API server: what the fake can only imitate."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from countersign.cluster.cache import Added, Change, Deleted, Modified
from countersign.cluster.client import ApiClient, Object
from countersign.cluster.config import from_kubeconfig
from countersign.cluster.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)
from countersign.cluster.events import EventRecorder, ObjectReference
from countersign.cluster.jwks import JwksCache
from countersign.cluster.lease import LEASE_DURATION
from countersign.cluster.resource import CONFIG_MAPS, NAMESPACES, PODS, SECRETS
from countersign.cluster.reviews import ResourceAttributes, UserInfo, access_review, token_review
from countersign.cluster.watch import Reflector
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab


class Meta(msgspec.Struct):
    name: str


class ConfigMap(msgspec.Struct):
    metadata: Meta
    data: dict[str, str] = {}


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[ApiClient]:
    async with ApiClient(from_kubeconfig(lab.kubeconfig)) as opened:
        yield opened


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def reflecting(
    client: ApiClient, namespace: str, **options: Any
) -> AsyncIterator[Reflector[Any, dict[str, str]]]:
    resource = options.pop("resource", CONFIG_MAPS)
    reflector = Reflector(client, resource, ConfigMap, lambda found: found.data, namespace=namespace, **options)
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(reflector.cache.synced.wait(), 10)
        yield reflector
    finally:
        task.cancel()


async def test_every_kind_of_write_and_its_errors(client: ApiClient, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a", x="1"), namespace=namespace)
    with pytest.raises(AlreadyExistsError):
        await client.create(CONFIG_MAPS, config_map("a"), namespace=namespace)
    with pytest.raises(InvalidError):
        await client.create(CONFIG_MAPS, config_map("Not A Name"), namespace=namespace)
    await client.merge_patch(CONFIG_MAPS, "a", {"data": {"y": "2"}}, ConfigMap, namespace=namespace)
    with pytest.raises(ConflictError):
        await client.replace(CONFIG_MAPS, "a", made | {"data": {}}, namespace=namespace)
    add = [{"op": "add", "path": "/data/z", "value": "3"}]
    patched = await client.json_patch(CONFIG_MAPS, "a", add, ConfigMap, namespace=namespace)
    assert patched.data == {"x": "1", "y": "2", "z": "3"}
    test = [{"op": "test", "path": "/data/z", "value": "4"}]
    with pytest.raises(InvalidError):
        await client.json_patch(CONFIG_MAPS, "a", test, ConfigMap, namespace=namespace)
    with pytest.raises(ConflictError):
        await client.apply(
            CONFIG_MAPS, "a", config_map("a", x="9"), namespace=namespace, field_manager="other", force=False
        )
    applied = await client.apply(CONFIG_MAPS, "b", config_map("b", x="9"), namespace=namespace, field_manager="other")
    assert applied["metadata"]["uid"]
    tried = await client.create(CONFIG_MAPS, config_map("dry"), namespace=namespace, dry_run=True)
    assert tried["metadata"]["uid"]
    with pytest.raises(NotFoundError):
        await client.get(CONFIG_MAPS, "dry", ConfigMap, namespace=namespace)
    with pytest.raises(ConflictError):
        await client.delete(CONFIG_MAPS, "a", namespace=namespace, uid="another")
    await client.delete(CONFIG_MAPS, "a", namespace=namespace, uid=made["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await client.delete(CONFIG_MAPS, "a", namespace=namespace)


async def test_who_we_are_decides_what_we_may(lab: Lab, client: ApiClient, namespace: str) -> None:
    async with ApiClient(from_kubeconfig(lab.service_account_kubeconfig(namespace, "default"))) as nobody:
        with pytest.raises(ForbiddenError, match=f"system:serviceaccount:{namespace}:default"):
            await nobody.get(SECRETS, "a", Object, namespace=namespace)
        async with ApiClient(nobody.config.with_token("junk")) as stranger:
            with pytest.raises(UnauthorizedError):
                await stranger.list(NAMESPACES, Object)


async def test_a_watch_sees_what_is_created_changed_and_deleted(client: ApiClient, namespace: str) -> None:
    for number in range(5):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"), namespace=namespace)
    async with reflecting(client, namespace, page_size=2) as reflector:
        await until(lambda: reflector.watches == 1)
        changes: list[Change[dict[str, str]]] = []
        reflector.cache.on_change(changes.append)
        seen = len(changes)
        assert seen == 6  # kube-root-ca.crt as well
        await client.create(CONFIG_MAPS, config_map("new", x="1"), namespace=namespace)
        await client.merge_patch(CONFIG_MAPS, "new", {"data": {"x": "2"}}, ConfigMap, namespace=namespace)
        await client.delete(CONFIG_MAPS, "new", namespace=namespace)
        await until(lambda: len(changes) == seen + 3)
        assert [type(change) for change in changes[seen:]] == [Added, Modified, Deleted]
        assert changes[-1].key == (namespace, "new")


async def test_a_watch_that_the_server_ends_is_resumed_without_a_new_list(client: ApiClient, namespace: str) -> None:
    async with reflecting(client, namespace, server_seconds=2) as reflector:
        await until(lambda: reflector.watches >= 3)
        await client.create(CONFIG_MAPS, config_map("late"), namespace=namespace)
        await until(lambda: reflector.cache.get(namespace, "late") is not None)
        assert (reflector.lists, reflector.failures) == (1, 0)


async def test_an_object_near_the_size_limit_passes_through_list_and_watch(client: ApiClient, namespace: str) -> None:
    big = "x" * 1_000_000
    await client.create(CONFIG_MAPS, config_map("listed", x=big), namespace=namespace)
    async with reflecting(client, namespace) as reflector:
        await until(lambda: reflector.watches == 1)
        await client.create(CONFIG_MAPS, config_map("watched", x=big), namespace=namespace)
        await until(lambda: reflector.cache.get(namespace, "watched") == {"x": big})
        assert reflector.cache.get(namespace, "listed") == {"x": big}


async def test_one_object_is_watched_with_a_role_for_its_name_alone(
    lab: Lab, client: ApiClient, namespace: str
) -> None:
    for name in ("ours", "theirs"):
        await client.create(CONFIG_MAPS, config_map(name, x="1"), namespace=namespace)
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["ours"], "verbs": ["list", "watch"]}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    lab.admin.post(
        f"{rbac}/roles",
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [rule]},
        expect=201,
    )
    lab.admin.post(
        f"{rbac}/rolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        },
        expect=201,
    )
    async with ApiClient(from_kubeconfig(lab.service_account_kubeconfig(namespace, "default"))) as limited:
        with pytest.raises(ForbiddenError):
            await limited.list(CONFIG_MAPS, Object, namespace=namespace)
        async with reflecting(limited, namespace, name="ours") as reflector:
            await until(lambda: reflector.watches == 1)
            await client.merge_patch(CONFIG_MAPS, "theirs", {"data": {"x": "2"}}, ConfigMap, namespace=namespace)
            await client.merge_patch(CONFIG_MAPS, "ours", {"data": {"x": "2"}}, ConfigMap, namespace=namespace)
            await until(lambda: reflector.cache.get(namespace, "ours") == {"x": "2"})
            assert len(reflector.cache) == 1


async def test_a_restarted_server_is_found_again_and_its_410_answered_with_a_list() -> None:
    """A control plane of its own: its API server is stopped and started under a running watch."""
    with Lab.start() as lab:
        async with (
            ApiClient(from_kubeconfig(lab.kubeconfig)) as client,
            reflecting(client, "default") as reflector,
        ):
            await until(lambda: reflector.watches == 1)
            await client.create(CONFIG_MAPS, config_map("before"), namespace="default")
            await until(lambda: reflector.cache.get("default", "before") is not None)
            # Moves the cluster past the version that the reflector knows: the new server's watch cache begins later.
            await client.create(CONFIG_MAPS, config_map("elsewhere"), namespace="kube-public")
            await asyncio.to_thread(lab.control_plane.restart_apiserver)
            await client.delete(CONFIG_MAPS, "before", namespace="default")
            await until(lambda: reflector.cache.get("default", "before") is None)
            assert reflector.lists == 2


async def test_an_event_is_shown_by_kubectl_describe_and_kubectl_events(
    lab: Lab, client: ApiClient, namespace: str
) -> None:
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker"},
        "spec": {"containers": [{"name": "a", "image": "registry.test/a:1"}]},
    }
    made = await client.create(PODS, pod, namespace=namespace)
    regarding = ObjectReference("v1", "Pod", "worker", namespace, made["metadata"]["uid"])
    clock = [0.0]
    async with EventRecorder(client, "countersign.dev/controller", "test", clock=lambda: clock[0]) as events:
        for _ in range(2):
            events.emit(regarding, "Warning", "IdentityRevoked", "the task completed", action="Revoke")
            clock[0] += 120
    assert (events.written, events.dropped) == (2, 0)
    for shown in (
        lab.kubectl("describe", "pod", "worker", "-n", namespace),
        lab.kubectl("events", "--for", "pod/worker", "-n", namespace),
    ):
        assert "IdentityRevoked" in shown
        assert "the task completed" in shown
        assert "x2 over" in shown


async def test_tokens_are_verified_by_the_issuers_keys_without_asking(
    lab: Lab, client: ApiClient, namespace: str
) -> None:
    """Any service account may read the keys, by a role that Kubernetes brings along."""
    token = lab.service_account_token(namespace, "default", audience="ledger.example.com")
    async with ApiClient(from_kubeconfig(lab.service_account_kubeconfig(namespace, "default"))) as account:
        keys = JwksCache(account)
        await keys.refresh()
    key = keys.key(jwt.get_unverified_header(token)["kid"])
    assert key
    claims = jwt.decode(token, key, algorithms=[key.algorithm_name], audience="ledger.example.com", issuer=keys.issuer)
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"

    reviewed = await token_review(client, token, ["ledger.example.com"])
    assert reviewed.authenticated
    assert reviewed.user.username == claims["sub"]
    assert not (await token_review(client, token, ["another.example.com"])).authenticated
    assert not (await token_review(client, token[:-4] + "AAAA", ["ledger.example.com"])).authenticated
    attributes = ResourceAttributes("get", "secrets", namespace=namespace)
    assert not (await access_review(client, reviewed.user, attributes)).allowed
    assert (await access_review(client, UserInfo("x", groups=("system:masters",)), attributes)).allowed


_ELECTOR = """
import asyncio, signal, sys
from pathlib import Path
from countersign.cluster.client import ApiClient
from countersign.cluster.config import from_kubeconfig
from countersign.cluster.lease import LeaseElector

async def main(kubeconfig, namespace, identity):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with ApiClient(from_kubeconfig(Path(kubeconfig))) as client:
        print("ready", flush=True)
        async with LeaseElector(client, namespace, "election", identity, on_lost=lambda: sys.exit(1)):
            print("leading", flush=True)
            await stop.wait()

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def candidate(lab: Lab, namespace: str, identity: str) -> AsyncIterator[asyncio.subprocess.Process]:
    source = Path(__file__).parents[2] / "operator"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ELECTOR, str(lab.kubeconfig), namespace, identity,
        stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(source)},
    )  # fmt: skip
    try:
        await said(process, b"ready")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process, word: bytes) -> None:
    assert process.stdout
    async with asyncio.timeout(20):
        while (line := await process.stdout.readline()).strip() != word:
            assert line or process.returncode is None, "the candidate ended"


@pytest.mark.parametrize(("how", "at_most"), [(signal.SIGKILL, 20.0), (signal.SIGTERM, LEASE_DURATION)])
async def test_a_leader_that_dies_is_followed_and_one_that_leaves_before_its_lease_runs_out(
    lab: Lab, namespace: str, how: signal.Signals, at_most: float
) -> None:
    async with candidate(lab, namespace, "first") as first:
        await said(first, b"leading")
        async with candidate(lab, namespace, "second") as second:
            await asyncio.sleep(1)
            first.send_signal(how)
            ended = time.monotonic()
            await said(second, b"leading")
            took = time.monotonic() - ended
    print(f"failover after {how.name}: {took:.2f} s")
    assert took < at_most
