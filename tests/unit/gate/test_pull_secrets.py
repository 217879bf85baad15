"""Pull secrets: the pod's own and its account's, read once in a while, and only where we may."""

import asyncio
import base64

import pytest

from countersign.api.admission import ServiceAccount
from countersign.api.secret import Secret
from countersign.cluster.errors import ClusterError, ForbiddenError
from countersign.gate.evidence.pull_secrets import CACHE_BYTES, CACHE_SECONDS, LivePullSecrets
from countersign.gate.evidence.service import PullSecret, PullSecretsUnavailable

JSON = "kubernetes.io/dockerconfigjson"


def secret(text: str, kind: str = JSON, key: str = ".dockerconfigjson") -> Secret:
    return Secret(type=kind, data={key: base64.b64encode(text.encode()).decode()})


class Reads:
    def __init__(self) -> None:
        self.accounts: dict[str, ServiceAccount] = {}
        self.secrets: dict[str, Secret] = {}
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.wait = asyncio.Event()
        self.wait.set()

    async def service_account(self, namespace: str, name: str, within: float) -> ServiceAccount | None:
        self.asked.append(f"account {namespace}/{name}")
        await self.wait.wait()
        return self.accounts.get(name)

    async def secret(self, namespace: str, name: str, within: float) -> Secret | None:
        self.asked.append(f"secret {namespace}/{name}")
        if self.error is not None:
            raise self.error
        return self.secrets.get(name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_pods_own_come_first_then_the_accounts() -> None:
    reads = Reads()
    reads.secrets = {"own": secret("1"), "shared": secret("2", "kubernetes.io/dockercfg", ".dockercfg")}
    reads.accounts["worker"] = ServiceAccount(image_pull_secrets=({"name": "shared"}, {"name": "own"}, {}))
    found = await LivePullSecrets(reads).for_pod("shop", "worker", ("own", "gone"), 1.0)
    assert list(found) == [PullSecret(JSON, b"1"), PullSecret("kubernetes.io/dockercfg", b"2")]
    assert reads.asked == ["account shop/worker", "secret shop/own", "secret shop/gone", "secret shop/shared"]


async def test_what_holds_no_registry_credentials_is_left_out() -> None:
    reads = Reads()
    reads.secrets = {
        "opaque": Secret(type="Opaque", data={".dockerconfigjson": "e30="}),
        "token": Secret(type="kubernetes.io/service-account-token"),
        "torn": Secret(type=JSON, data={".dockerconfigjson": "###"}),
        "good": secret("{}"),
    }
    found = await LivePullSecrets(reads).for_pod("shop", "worker", (*reads.secrets, "../x", ".."), 1.0)
    assert list(found) == [PullSecret(JSON, b"{}")]


async def test_large_secrets_of_many_accounts_are_not_all_remembered() -> None:
    reads = Reads()
    reads.secrets = {"large": secret("x" * 1_000_000)}
    pull_secrets = LivePullSecrets(reads)
    for number in range(40):
        await pull_secrets.for_pod("shop", f"account-{number}", ("large",), 1.0)
    assert pull_secrets._known.size <= CACHE_BYTES
    asked = len(reads.asked)
    await pull_secrets.for_pod("shop", "account-39", ("large",), 1.0)
    assert len(reads.asked) == asked


async def test_they_are_read_once_in_a_while_and_once_for_all_who_ask_at_once() -> None:
    reads, clock = Reads(), Clock()
    pull_secrets = LivePullSecrets(reads, clock)
    await asyncio.gather(*(pull_secrets.for_pod("shop", "worker", (), 1.0) for _ in range(5)))
    await pull_secrets.for_pod("shop", "worker", (), 1.0)
    assert reads.asked == ["account shop/worker"]
    clock.now += CACHE_SECONDS
    await pull_secrets.for_pod("shop", "worker", (), 1.0)
    await pull_secrets.for_pod("shop", "other", (), 1.0)
    await pull_secrets.for_pod("bank", "worker", (), 1.0)
    assert len(reads.asked) == 4


async def test_where_we_may_not_read_them_registries_are_asked_anonymously() -> None:
    reads = Reads()
    reads.error = ForbiddenError(403, "Forbidden", "no")
    assert list(await LivePullSecrets(reads).for_pod("shop", "worker", ("own",), 1.0)) == []


async def test_an_api_server_that_fails_is_said_and_not_remembered() -> None:
    reads = Reads()
    reads.error = ClusterError("down")
    pull_secrets = LivePullSecrets(reads)
    with pytest.raises(PullSecretsUnavailable, match="cannot be read now"):
        await pull_secrets.for_pod("shop", "worker", ("own",), 1.0)
    reads.error = None
    reads.secrets["own"] = secret("{}")
    assert list(await pull_secrets.for_pod("shop", "worker", ("own",), 1.0)) == [PullSecret(JSON, b"{}")]


async def test_reading_goes_on_after_an_asker_has_run_out_of_time() -> None:
    reads = Reads()
    reads.wait.clear()
    pull_secrets = LivePullSecrets(reads)
    with pytest.raises(PullSecretsUnavailable, match="in time"):
        await pull_secrets.for_pod("shop", "worker", (), 0.01)
    reads.wait.set()
    assert list(await pull_secrets.for_pod("shop", "worker", (), 1.0)) == []
    assert reads.asked == ["account shop/worker"]
    await pull_secrets.close()
