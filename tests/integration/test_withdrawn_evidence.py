"""Evidence of a pod that runs is withdrawn and comes back: scans by the real cosign, timestamped by a private Sigstore,
in a real registry, under a controller that looks again every few seconds."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from countersign.api.clock import parse
from tests.lab.cosign import KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.registries import Registry
from tests.stack import objects
from tests.stack.installation import Installation

SCAN = "https://example.com/scan/v1"
CRITICALS = "predicate.criticals == 0"
_NUMBERS = itertools.count(1)
POLICIES = "/apis/countersign.dev/v1alpha1/clustertrustpolicies"


@pytest.fixture(scope="module")
def watchful(countersign: Installation) -> Iterator[Installation]:
    """The stack with a controller that looks again within seconds."""
    countersign.stop("controller")
    start_watchful(countersign)
    countersign.declare(objects.evidence_root("scans", trustedRoot=countersign.lab.sigstore.trusted_root.read_text()))
    yield countersign
    countersign.stop("controller")
    countersign.start_service("controller")


def start_watchful(stack: Installation, *, rate: str = "100") -> None:
    stack.start_service("controller", scan_requests_per_second=rate, scan_refresh_seconds="2")


class Scanned:
    """A pod whose image must be signed and scanned, and whoever scans it."""

    def __init__(self, stack: Installation, *, scans: tuple[bool, ...] = (True,), **want: Any) -> None:
        self.stack, self.lab = stack, stack.lab
        lab = self.lab
        self.name = f"scanned-{next(_NUMBERS)}"
        lab.create_namespace(self.name, {"governed-by": self.name})
        self.key, self.scanner = (lab.cosign.generate_key(f"{self.name}-{who}") for who in ("release", "scanner"))
        self.registry: Registry = lab.registry("referrers")
        repository = self.registry.repository(f"{self.name}/app")
        self.image: PushedImage = repository.push("v1", ImageSpec.distinct(self.name, entrypoint=["/app"]))
        lab.cosign.sign(self.registry, self.image, self.key)
        for clean in scans:
            self.scan(clean=clean)
        self.responses = {"evidenceWithdrawn": want.pop("response", "Suspend")}
        self.want = {"select": "Latest", "maxAgeSeconds": 3600, **want}
        self.audience = f"{self.name}.example.com"
        stack.declare(objects.protected_audience(self.name, self.audience), self.policy())
        made = objects.pod("app", self.name, objects.pod_spec(objects.container(self.image.by_tag)))
        answer = lab.admin.post(f"/api/v1/namespaces/{self.name}/pods", made)
        assert answer.status == 201, answer.message
        self.pod = dict(answer.body)

    def policy(self, *, key: KeyPair | None = None, **want: Any) -> objects.Object:
        authority = {"pem": [self.scanner.public_pem], "evidenceRootRef": {"name": "scans"}}
        rule = {
            **objects.image_rule([f"{self.registry.host}/{self.name}/**"], [(key or self.key).public_pem]),
            "attestors": [{"name": "scanner", "key": authority}],
            "attestations": [
                {
                    "name": "scan",
                    "predicateType": SCAN,
                    "authorities": ["scanner"],
                    "validations": [{"expression": CRITICALS}],
                    **self.want,
                    **want,
                }
            ],
        }
        return objects.cluster_policy(
            self.name, namespaces={"governed-by": self.name}, images=[rule], tokens=[objects.token(self.audience)],
            responses=self.responses,
        )  # fmt: skip

    def scan(self, *, clean: bool) -> None:
        """The scanner attests what it has found, with a timestamp of now."""
        self.lab.cosign.attest(
            self.registry, self.image, self.scanner,
            predicate={"criticals": 0 if clean else 2}, predicate_type=SCAN, sigstore=self.lab.sigstore,
        )  # fmt: skip

    def grant(self, state: str, reason: str = "", *, timeout: float = 30.0) -> objects.Object:
        found = self.stack.grant_of(self.pod, state=state, timeout=timeout)
        if reason:
            assert found["status"]["reason"] == reason, found["status"]
        return found

    def looks(self) -> float:
        """How many definite answers the controller had."""
        metric = 'countersign_controller_reverifications_total{outcome="definite"}'
        return _sample(self.stack, metric)

    def looked(self) -> None:
        """Wait until every image was looked at once more."""
        before = self.looks()
        self.lab.wait_for(lambda: self.looks() >= before + 3, what="the controller has looked again")


def _sample(stack: Installation, name: str) -> float:
    lines = stack.services["controller"].metrics().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)


@pytest.fixture(scope="module", autouse=True)
def ageing(watchful: Installation) -> Iterator[Scanned]:
    """One whose only scan grows too old while the other tests run: a minute is the least that a policy may say."""
    one = Scanned(watchful, maxAgeSeconds=60)
    yield one
    watchful.lab.admin.delete(f"{POLICIES}/{one.name}")


@contextmanager
def standing_still(registry: Registry) -> Iterator[None]:
    os.kill(registry.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, registry.process.pid, os.WSTOPPED)
    try:
        yield
    finally:
        os.kill(registry.process.pid, signal.SIGCONT)


@pytest.fixture
def scanned(watchful: Installation) -> Iterator[Any]:
    made: list[Scanned] = []

    def make(**members: Any) -> Scanned:
        made.append(Scanned(watchful, **members))
        return made[-1]

    yield make
    for one in made:
        watchful.lab.admin.delete(f"{POLICIES}/{one.name}")


def test_a_later_scan_that_fails_suspends_and_a_good_one_restores(scanned: Any) -> None:
    one: Scanned = scanned()
    one.grant("Active")
    one.scan(clean=False)
    found = one.grant("Suspended", "EvidenceWithdrawn")
    assert "AttestationFailed" in found["status"]["message"]
    assert one.image.digest in found["status"]["message"]
    one.scan(clean=True)
    one.grant("Active", "QualifiesAgain", timeout=60)


def test_where_it_is_only_reported_one_event_tells_it(scanned: Any) -> None:
    one: Scanned = scanned(response="Report")
    one.grant("Active")
    one.scan(clean=False)

    def events() -> list[objects.Object]:
        found = one.lab.admin.get(f"/apis/events.k8s.io/v1/namespaces/{one.name}/events").body["items"]
        return [event for event in found if event["reason"] == "EvidenceWithdrawn"]

    (event,) = one.lab.wait_for(lambda: events() or None, what="the Event is there")
    assert event["regarding"]["uid"] == one.pod["metadata"]["uid"]
    assert "AttestationFailed" in event["note"]
    one.looked()
    one.grant("Active")
    assert len(events()) == 1


def test_a_registry_that_stands_still_changes_nothing(scanned: Any) -> None:
    one: Scanned = scanned()
    before = one.grant("Active")
    one.scan(clean=False)
    with standing_still(one.registry):
        asked = _sample(one.stack, 'countersign_controller_reverifications_total{outcome="unknown"}')
        one.lab.wait_for(
            lambda: _sample(one.stack, 'countersign_controller_reverifications_total{outcome="unknown"}') > asked,
            what="the registry could not tell",
            timeout=60,
        )
        assert one.grant("Active")["metadata"]["uid"] == before["metadata"]["uid"]
    one.grant("Suspended", "EvidenceWithdrawn", timeout=120)


def test_a_key_that_leaves_the_policy_suspends_and_comes_back_with_it(scanned: Any) -> None:
    one: Scanned = scanned()
    one.grant("Active")
    one.stack.declare(one.policy(key=one.scanner))
    one.grant("Suspended", "NoLongerQualifies")
    one.stack.declare(one.policy())
    one.grant("Active", "QualifiesAgain")


def test_a_scan_that_a_registry_does_not_show_any_more_withdraws_nothing(scanned: Any) -> None:
    """It may have been cleaned up there: the receipt says who vouched, and time alone bounds for how long."""
    one: Scanned = scanned()
    one.grant("Active")
    repository = one.registry.repository(f"{one.name}/app")
    for manifest in repository.referrers(one.image.digest):
        repository.delete(manifest["digest"])
    assert repository.referrers(one.image.digest) == []
    one.looked()
    one.grant("Active")


def test_an_attestation_that_grows_too_old_suspends_on_time_is_told_before_and_a_new_one_restores(
    ageing: Scanned,
) -> None:
    found = ageing.grant("Suspended", "EvidenceWithdrawn", timeout=90)
    status = found["status"]
    late = parse(status["changedAt"]).timestamp() - parse(status["evidenceGoodUntil"]).timestamp()
    assert 0 <= late <= 3, late
    assert "AttestationTooOld" in status["message"]
    said = ageing.lab.admin.get(f"{POLICIES}/{ageing.name}").body["status"]["conditions"]
    assert "EvidenceExpiring" in {each["type"] for each in said}, "a tenth of maxAgeSeconds before"

    # A controller that starts now, and has not looked, leaves it as it is.
    stack = ageing.stack
    stack.stop("controller")
    ageing.scan(clean=True)
    start_watchful(stack, rate="0")
    ageing.lab.wait_for(
        lambda: (
            _sample(stack, "countersign_controller_survey_seconds_count") >= 1
            and _sample(stack, "countersign_controller_queue_depth") == 0
        ),
        what="the controller has judged every pod",
        timeout=60,
    )
    assert ageing.grant("Suspended")["status"]["reason"] == "EvidenceWithdrawn"
    stack.stop("controller")
    start_watchful(stack)
    ageing.grant("Active", "QualifiesAgain", timeout=60)
