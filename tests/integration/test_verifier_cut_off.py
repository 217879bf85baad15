"""A verifier that hears nothing of the API server any more, and one whose API server signs with another key.

It goes on for a bounded time by what it knows, and then says that it cannot tell (docs/bad-days.md).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.lab.http import HttpClient
from tests.lab.lab import Lab
from tests.lab.pki import write_signing_key
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation, introspect
from tests.stack.interposer import Interposer

pytestmark = pytest.mark.lab

HEARTBEAT_SECONDS = 5
WATCH_SECONDS = 90
"""The API server sends a bookmark about each minute, so that nothing shorter would do."""


@pytest.fixture(scope="module")
def own(programs: None) -> Iterator[Installation]:
    """A control plane whose API server may be started anew."""
    with Lab.start() as lab, Installation.start(lab) as running:
        yield running


@pytest.fixture
def scene(own: Installation) -> Governed:
    return govern(own)


@pytest.fixture
def interposer(own: Installation) -> Iterator[Interposer]:
    with Interposer(own.lab) as between:
        yield between


@pytest.fixture
def far(own: Installation, interposer: Interposer) -> Iterator[str]:
    """A second verifier, whose every word from the API server goes through the interposer."""
    kubeconfig = interposer.kubeconfig(own.namespace, "countersign-verifier")
    own.start_service(
        "verifier",
        key="far",
        kubeconfig=str(kubeconfig),
        heartbeat_limit_seconds=str(HEARTBEAT_SECONDS),
        watch_limit_seconds=str(WATCH_SECONDS),
    )
    yield "far"
    own.kill("far")


def asked(scene: Governed, token: str, service: str = "far") -> str:
    """What that verifier says: `active`, `inactive`, or the HTTP status of no answer."""
    countersign = scene.countersign
    url = f"https://127.0.0.1:{countersign.services[service].port}"
    answer = introspect(HttpClient(url, ca_file=countersign.ca_file("verifier")), token, scene.asker)
    return str(answer.status) if answer.status != 200 else "active" if answer.body["active"] else "inactive"


def test_a_verifier_that_is_cut_off_says_that_it_cannot_tell(scene: Governed, interposer: Interposer, far: str) -> None:
    pod = scene.running()
    token = scene.token(pod)
    scene.lab.wait_for(lambda: asked(scene, token) == "active", what="both verifiers serve it")
    interposer.silence(lambda path: True)
    cut = time.monotonic()
    scene.node.finish(pod)
    scene.await_inactive(token)  # to the verifier that hears of it
    scene.lab.wait_for(lambda: asked(scene, token) == "503", what="503", timeout=HEARTBEAT_SECONDS + 10)
    assert time.monotonic() - cut > HEARTBEAT_SECONDS - 2, "it was cut off, not late"
    for _ in range(10):
        assert asked(scene, token) == "503"
        time.sleep(0.1)
    interposer.silence(lambda path: False)
    scene.lab.wait_for(lambda: asked(scene, token) == "inactive", what="it has heard of the end")


@pytest.mark.slow
def test_a_watch_that_hangs_alone_is_noticed(scene: Governed, interposer: Interposer, far: str) -> None:
    """All else is alive, the controller's Lease above all: only the pods are not heard of any more."""
    pod = scene.running()
    token = scene.token(pod)
    scene.lab.wait_for(lambda: asked(scene, token) == "active", what="both verifiers serve it")
    interposer.silence(lambda path: path == "/api/v1/pods")
    scene.lab.wait_for(lambda: asked(scene, token) == "503", what="503", timeout=WATCH_SECONDS + 15)
    interposer.silence(lambda path: False)
    scene.lab.wait_for(lambda: asked(scene, token) == "active", what="it hears of pods again")


def test_a_new_signing_key_of_the_api_server_costs_no_valid_token_its_answer(
    own: Installation, scene: Governed
) -> None:
    pod = scene.running()
    before = scene.token(pod)
    assert scene.active(before)
    heard: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        client = own.verifier_client()
        while not over.is_set():
            answer = introspect(client, before, scene.asker)
            heard[str(answer.status) if answer.status != 200 else str(answer.body["active"])] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        new = write_signing_key(own.lab.folder / "pki" / "another-service-account.key")
        own.lab.control_plane.restart_apiserver(
            [f"--service-account-key-file={new}", f"--service-account-signing-key-file={new}"]
        )
        own.await_guards()
        after = own.lab.wait_for(lambda: scene.token(pod), what="the kubelet mints by the new key")

        def known() -> bool:
            return asked(scene, after, "verifier") == "active"

        own.lab.wait_for(known, what="the new key is known")
    finally:
        over.set()
        asking.join()
    assert after.split(".")[0] != before.split(".")[0], "another key id"
    assert asked(scene, before, "verifier") == "active", "the old key is still published"
    assert heard["True"] > 0
    assert set(heard) <= {"True", "503"}, heard
