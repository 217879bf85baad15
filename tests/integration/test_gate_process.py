"""The gate as a process: it starts by itself, ends in order, and takes up a new certificate while it serves."""

import os
import signal
import socket
import ssl
import time

import pytest

from tests.lab.http import HttpClient
from tests.stack.governed import Governed
from tests.stack.installation import Installation, Service


@pytest.fixture
def second_gate(countersign: Installation) -> Service:
    """A replica beside the one that the webhook configurations name, with a drain long enough to be looked at."""
    return countersign.start_service("gate", key="second-gate", drain_seconds="3")


def test_a_replica_that_is_told_to_end_fails_its_readiness_and_serves_until_it_has_drained(
    countersign: Installation, second_gate: Service
) -> None:
    client = HttpClient(f"https://127.0.0.1:{second_gate.port}", ca_file=countersign.ca_file("gate"))
    assert client.post("/validate", {"not": "a review"}).status == 400
    assert 'countersign_gate_rejected_requests_total{code="400"} 1.0' in second_gate.metrics()
    assert "countersign_gate_snapshot_age_seconds" in second_gate.metrics()

    os.kill(second_gate.pid, signal.SIGTERM)
    countersign.lab.wait_for(lambda: not second_gate.ready(), what="/readyz fails")
    assert second_gate.health.get("/healthz").status == 200
    answer = client.post("/validate", {"not": "a review"})
    assert answer.status == 400
    assert answer.headers["Connection"] == "close"
    process = second_gate.process
    assert process.popen.wait(timeout=15) == 0
    countersign.stop("second-gate")


def _served_certificate(service: Service) -> str:
    return ssl.get_server_certificate(("127.0.0.1", service.port))


def test_a_new_certificate_is_served_at_once_and_no_pod_is_refused_meanwhile(governed: Governed) -> None:
    countersign = governed.countersign
    gate = countersign.services["gate"]
    before, pid = _served_certificate(gate), gate.pid
    secret = f"/api/v1/namespaces/{countersign.namespace}/secrets/countersign-gate-tls"
    governed.lab.admin.delete(secret)
    deadline = time.monotonic() + 30
    while _served_certificate(gate) == before:
        governed.admitted()
        assert time.monotonic() < deadline, "the controller writes a new certificate and the gate serves it"
    governed.admitted()
    assert gate.pid == pid
    assert gate.ready()


def test_a_gate_that_starts_finds_out_about_the_images_that_run_before_anybody_asks(governed: Governed) -> None:
    countersign = governed.countersign
    governed.running()
    gate = countersign.start_service("gate", key="warm-gate")
    asked = 'countersign_gate_verifications_total{outcome="found"} 1.0'
    countersign.lab.wait_for(lambda: asked in gate.metrics(), what="the warm-up has verified the running image")
    assert "countersign_gate_admissions_total{" not in gate.metrics()
    countersign.stop("warm-gate")


@pytest.mark.parametrize("name", ["gate", "verifier"])
def test_whoever_says_that_it_is_ready_can_be_reached(countersign: Installation, name: str) -> None:
    service = countersign.start_service(name, key="punctual", wait=False)
    deadline = time.monotonic() + 30
    while not service.ready():
        assert time.monotonic() < deadline, "it is ready"
    socket.create_connection(("127.0.0.1", service.port), timeout=5).close()
    countersign.stop("punctual")
