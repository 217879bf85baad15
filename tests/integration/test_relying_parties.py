"""docs/relying-parties.md: each client does what the page says of it, against a real verifier."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.lab import toolchain
from tests.stack.cookbook import blocks
from tests.stack.governed import Governed
from tests.stack.objects import revocation
from tests.stack.proxies import Projected

FILES = {
    block.file: block.text for block in blocks(Path(__file__).parents[2] / "docs/relying-parties.md") if block.file
}


def _python(folder: Path) -> list[str]:
    return [sys.executable, "-P", str(folder / "introspect.py")]


def _go(folder: Path) -> list[str]:
    subprocess.run(
        [toolchain.find_go(), "build", "-o", folder / "introspect", folder / "introspect.go"], check=True, cwd=folder
    )
    return [str(folder / "introspect")]


def _java(folder: Path) -> list[str]:
    return [_installed("java"), str(folder / "Introspect.java")]


def _node(folder: Path) -> list[str]:
    return [_installed("node"), str(folder / "introspect.mjs")]


def _installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"this machine has no {name}")
    return found


LANGUAGES: dict[str, Callable[[Path], list[str]]] = {"python": _python, "go": _go, "java": _java, "node": _node}


class Client:
    """A running client: a token in, a line out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, token: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{token}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def running(command: Sequence[str]) -> Iterator[Client]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Client(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_of_the_page_does_what_the_page_says(governed: Governed, language: str, tmp_path: Path) -> None:
    countersign, lab = governed.countersign, governed.lab
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    volume = Projected(tmp_path / "secrets")
    ca = countersign.ca_file("verifier").read_text()
    volume.write({"token": governed.asker, "ca.crt": ca})
    pod = governed.running()
    token = governed.token(pod)
    port = countersign.start_service("verifier", key="asked").port
    command = [*LANGUAGES[language](tmp_path), f"https://127.0.0.1:{port}", str(volume.folder)]
    try:
        with running([*command, governed.audience]) as client, running([*command, "other.example.com"]) as other:
            active = f"active system:serviceaccount:{governed.namespace}:worker"
            # The first handshake of a cold virtual machine may take longer than a question may.
            lab.wait_for(lambda: client.say(token) == active, what="the client has warmed up")
            lab.wait_for(lambda: other.say("junk") == "not active", what="so has the other")
            assert client.say("junk") == "not active"
            assert client.say("a&b=c d%\u00e9") == "not active"
            assert other.say(token) == "not active"
            volume.write({"token": countersign.asker(governed.namespace, "default"), "ca.crt": ca})
            assert client.say(token) == "not active"
            volume.write({"token": governed.asker, "ca.crt": ca})
            assert client.say(token) == active
            grant = countersign.grant_of(pod)["metadata"]["name"]
            made = revocation(governed.namespace, {"grant": {"name": grant}})
            path = f"/apis/countersign.dev/v1alpha1/namespaces/{governed.namespace}/revocations"
            lab.admin.post(path, made, expect=201)
            governed.await_inactive(token)
            lab.wait_for(lambda: client.say(token) == "not active", what="the client learns of it")
            countersign.stop("asked")
            assert client.say(token).startswith("no answer")
    finally:
        if "asked" in countersign.services:
            countersign.stop("asked")


def test_a_client_trusts_no_other_ca(governed: Governed, tmp_path: Path) -> None:
    (tmp_path / "introspect.py").write_text(FILES["introspect.py"])
    volume = Projected(tmp_path / "secrets")
    volume.write({"token": governed.asker, "ca.crt": governed.lab.ca_file.read_text()})
    url = f"https://127.0.0.1:{governed.countersign.services['verifier'].port}"
    with running([*_python(tmp_path), url, str(volume.folder), governed.audience]) as client:
        assert client.say("any").startswith("no answer")


def test_the_pages_objects_are_what_the_api_server_takes(governed: Governed) -> None:
    governed.lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f-", input_=FILES["audience.yaml"])
    volume = yaml.safe_load(FILES["pod.yaml"])["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": volume}
    for one in volume["containers"]:
        one["image"] = "registry.example.com/api:v1"
    volume["serviceAccountName"] = "default"
    governed.lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f-", input_=yaml.safe_dump(pod))
