"""Not one byte leaves for anywhere but API server and registries, and the mirror that an EvidenceRoot names.

The services run behind a wall (`tests.stack.wall`) that refuses and records every other address, names included, since
asking for one means speaking to a resolver.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from countersign.signatures.roots.trust_root import public_good_root
from tests.lab.images import ImageSpec
from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation
from tests.stack.wall.kernel import machine
from tests.stack.wall.wall import Wall

pytestmark = pytest.mark.skipif(machine() is None, reason="the wall is built for Linux on amd64 and arm64")

SERVICE = (sys.executable, "-m", "countersign.cli.main")
ROOTS = "/apis/countersign.dev/v1alpha1/evidenceroots"


class Walled(NamedTuple):
    governed: Governed
    wall: Wall


@pytest.fixture(scope="module")
def walled(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walled]:
    """Countersign on a control plane of its own, every service of it behind the wall."""
    folder = tmp_path_factory.mktemp("wall")
    with Wall(folder, SERVICE) as wall, Lab.start() as lab:
        installation = Installation(lab, program=wall.program)
        registry = lab.registry("referrers")
        # The controller asks both.
        ours = {f"127.0.0.1:{port}" for port in (installation.gate_port, installation.verifier_port)}
        # The controller looks whether the gate answers before it registers it.
        wall.allowed |= {urlsplit(lab.url).netloc, registry.host, *ours}
        installation.install()
        with installation:
            installation.start_all()
            installation.declare(objects.evidence_root("private", trustedRoot=public_good_root().decode()))
            yield Walled(govern(installation), wall)


def test_the_wall_sees_and_refuses_whatever_a_process_does(tmp_path: Path) -> None:
    attempts = """
import asyncio, socket, subprocess, sys, uvloop
def tried(call):
    try: call()
    except OSError: return
    raise SystemExit("it got through")
tried(lambda: socket.create_connection(("192.0.2.1", 443)))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tried(lambda: datagrams.sendto(b"x", ("192.0.2.2", 53)))
tried(lambda: datagrams.sendmsg([b"x"], [], 0, ("192.0.2.3", 53)))
tried(lambda: socket.create_connection(("::ffff:192.0.2.4", 443)))
async def by_uvloop(): await asyncio.open_connection("192.0.2.5", 443)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner: tried(lambda: runner.run(by_uvloop()))
child = "import socket; socket.socket().connect_ex(('192.0.2.6', 443))"
subprocess.run([sys.executable, "-c", child], check=True)
socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
"""
    with socket.create_server(("127.0.0.1", 0)) as inside, Wall(tmp_path, (sys.executable,)) as wall:
        port = inside.getsockname()[1]
        wall.allowed.add(f"127.0.0.1:{port}")
        command = [*wall.program, "-c", attempts, str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert wall.guarded == 1
    expected = [("1", 443), ("2", 53), ("3", 53), ("4", 443), ("5", 443), ("6", 443)]
    assert wall.refused == [f"192.0.2.{last}:{port}" for last, port in expected]


def test_signed_images_are_verified_and_identities_live_and_end_within_the_walls(walled: Walled) -> None:
    governed, wall = walled
    assert wall.guarded == 3
    pod = governed.running()
    token = governed.token(pod)
    assert governed.active(token)
    assert governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403
    governed.node.finish(pod)
    governed.await_inactive(token)
    assert wall.refused == []


def test_an_image_of_another_registry_is_all_that_the_gate_would_go_out_for(walled: Walled) -> None:
    governed, wall = walled
    policy = objects.trust_policy(
        "elsewhere", governed.namespace, images=[objects.image_rule(["192.0.2.8/**"], [governed.key.public_pem])]
    )
    governed.countersign.declare(policy)
    try:
        assert governed.create(governed.pod(image="192.0.2.8/app:v1")).status >= 400
    finally:
        governed.lab.admin.delete(objects.object_path(policy), expect=200)
    assert set(wall.refused) == {"192.0.2.8:443"}
    wall.refused.clear()


def test_a_mirror_is_spoken_to_by_the_controller_only_and_nobody_else_besides(walled: Walled) -> None:
    governed, wall = walled
    lab = governed.lab
    governed.countersign.apply(
        objects.evidence_root("mirrored", tuf={"mirror": "https://192.0.2.9:8443/repo", "builtin": "PublicGood"})
    )

    def refreshed() -> bool:
        conditions = lab.admin.get(f"{ROOTS}/mirrored").body.get("status", {}).get("conditions", [])
        return any((one["type"], one["status"]) == ("Refreshed", "False") for one in conditions)

    try:
        lab.wait_for(refreshed, what="the mirror was asked")
    finally:
        lab.admin.delete(f"{ROOTS}/mirrored", expect=200)
    assert set(wall.refused) == {"192.0.2.9:8443"}
    wall.refused.clear()


def test_a_keyless_signature_of_a_private_sigstore_is_verified_with_nobody_asked(walled: Walled) -> None:
    governed, wall = walled
    lab, countersign, namespace = governed.lab, governed.countersign, governed.namespace
    sigstore, registry = lab.sigstore, lab.registry("referrers")
    who = sigstore.issuers.github("octo/app")
    image = registry.repository(f"{namespace}/keyless").push(
        "v1", ImageSpec.distinct(f"{namespace}-keyless", entrypoint=["/app"])
    )
    unsigned = registry.repository(f"{namespace}/keyless").push(
        "v2", ImageSpec.distinct(f"{namespace}-keyless-unsigned", entrypoint=["/app"])
    )
    lab.cosign.sign_keyless(registry, image, who, sigstore)
    rule = objects.image_rule([f"{registry.host}/{namespace}/keyless"])
    identity = {"issuer": who.issuer, "subject": who.subject}
    keyless = {
        "identities": [identity],
        "evidenceRootRef": {"name": "lab"},
        "require": ["TransparencyLog", "Timestamp"],
    }
    rule["authorities"] = [{"name": "ci", "keyless": keyless}]
    home = lab.create_namespace(f"{namespace}-keyless", {"governed-by": f"{namespace}-keyless"})
    countersign.declare(
        objects.evidence_root("lab", trustedRoot=sigstore.trusted_root.read_text()),
        objects.cluster_policy(home, namespaces={"governed-by": home}, images=[rule]),
    )
    path = f"/api/v1/namespaces/{home}/pods"
    for name, tried, status in (("signed", image, 201), ("unsigned", unsigned, 403)):
        pod = objects.pod(name, home, objects.pod_spec(objects.container(tried.by_tag)))
        answer = lab.admin.post(path, pod)
        assert answer.status == status, answer.message
    assert wall.refused == []
