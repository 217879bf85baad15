"""What the controller counts: `countersign_controller_*`."""

import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from countersign.api.grant import MisuseKind
from countersign.grants.reasons import ActiveReason, RevokedReason, SuspendedReason

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ControllerMetrics:
    """The instruments of one controller, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.grants = Gauge(
            "countersign_controller_grants", "Grants that exist, by state.", ["state"], registry=registry
        )
        self.transitions = Counter(
            "countersign_controller_transitions",
            "States that grants were put into, by state and reason.",
            ["state", "reason"],
            registry=registry,
        )
        # From the first scrape on, so that `increase` sees the first of each, which is the one to be told of.
        for state, reasons in (("Active", ActiveReason), ("Suspended", SuspendedReason), ("Revoked", RevokedReason)):
            for reason in get_args(reasons):
                self.transitions.labels(state, reason)
        self.drifts = Counter(
            "countersign_controller_drifts",
            "Pods that were seen to differ from what was admitted (drifted), or may do so (unclear); once each.",
            ["certainty"],
            registry=registry,
        )
        for certainty in ("drifted", "unclear"):
            self.drifts.labels(certainty)  # at zero from the start, as the transitions
        self.reconcile_seconds = Histogram(
            "countersign_controller_reconcile_seconds",
            "Time for one pod, from its turn to the last write.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.survey_seconds = Histogram(
            "countersign_controller_survey_seconds",
            "Time to judge every pod anew after a change of policy.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.sweep_seconds = Histogram(
            "countersign_controller_sweep_seconds",
            "Time to list everything and compare it with what the watches told.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.pods = Gauge("countersign_controller_pods", "Pods that are followed.", registry=registry)
        self.impact_held = Gauge(
            "countersign_controller_impact_held",
            "Policies whose change would suspend many grants and waits for acceptImpact.",
            registry=registry,
        )
        self.leading = Gauge("countersign_controller_leading", "1 while this process leads.", registry=registry)
        self.certificate_expiry = Gauge(
            "countersign_controller_certificate_expiry_seconds",
            "Time until a certificate is over, by what it is for.",
            ["certificate"],
            registry=registry,
        )
        self.certificate_errors = Counter(
            "countersign_controller_key_errors",
            "Failed attempts to read or write a Secret that holds keys.",
            ["object"],
            registry=registry,
        )
        self.webhooks_registered = Gauge(
            "countersign_controller_webhooks_registered",
            "1 while this process keeps both webhook configurations, and could read or write them when it last looked.",
            registry=registry,
        )
        self.webhooks_fail_closed = Gauge(
            "countersign_controller_webhooks_fail_closed",
            "1 while some webhook entry refuses requests when no gate answers.",
            registry=registry,
        )
        self.paused = Gauge(
            "countersign_admission_paused",
            "1 while an AdmissionPause is in force: no pod is refused, none gets an identity.",
            registry=registry,
        )
        self.pause_end = Gauge(
            "countersign_admission_pause_end_timestamp_seconds",
            "When the AdmissionPause in force ends, in seconds since 1970; 0: none is in force.",
            registry=registry,
        )
        self.scan_requests = Counter(
            "countersign_controller_scan_registry_requests",
            "Requests to registries that the gates made to tell what would become of running pods.",
            registry=registry,
        )
        self.scan_waiting = Gauge(
            "countersign_controller_scan_waiting",
            "Running pods about which a gate is yet to be asked.",
            registry=registry,
        )
        self.reverifications = Counter(
            "countersign_controller_reverifications",
            "Questions to gates whether the evidence of running pods still holds, by outcome: definite, unknown (the "
            "registry could not tell) or unanswered (no gate did).",
            ["outcome"],
            registry=registry,
        )
        self.reverify_due = Gauge(
            "countersign_controller_reverifications_due",
            "Such questions that are due. Above 0 for long: the rate is too low for the images that run.",
            registry=registry,
        )
        self.evidence_withdrawn = Gauge(
            "countersign_controller_evidence_withdrawn",
            "Running pods whose evidence does not hold any more.",
            registry=registry,
        )
        self.evidence_expiring = Gauge(
            "countersign_controller_evidence_expiring",
            "Running pods with an attestation that will soon be too old: a tenth of maxAgeSeconds is left.",
            registry=registry,
        )
        self.evidence_reported = Counter(
            "countersign_controller_evidence_reported",
            "Times that evidence of a pod was found not to hold where the response is Report.",
            registry=registry,
        )
        self.gate_call_errors = Counter(
            "countersign_controller_gate_call_errors", "Calls that a gate did not answer.", ["path"], registry=registry
        )
        self.verifier_call_errors = Counter(
            "countersign_controller_verifier_call_errors",
            "Calls that a verifier did not answer.",
            ["path"],
            registry=registry,
        )
        self.misuse = Counter(
            "countersign_controller_misuse",
            "Misuse of a grant's tokens that was found, by kind (docs/misuse.md).",
            ["kind"],
            registry=registry,
        )
        for kind in get_args(MisuseKind):
            self.misuse.labels(kind)  # at zero from the start: what first appears as 1 is no increase to Prometheus
        self.use_writes = Counter(
            "countersign_controller_use_writes",
            "Writes of a grant for nothing but how its tokens are used.",
            registry=registry,
        )
        self._root_age = Gauge(
            "countersign_evidence_root_age_seconds",
            "Time since ConfigMap or mirror last confirmed the content of an EvidenceRoot.",
            ["root"],
            registry=registry,
        )
        self.root_failures = Counter(
            "countersign_evidence_root_refresh_failures",
            "Failed attempts to fetch the content of an EvidenceRoot.",
            ["root"],
            registry=registry,
        )
        self.exceptions = Gauge(
            "countersign_trust_exceptions",
            "TrustExceptions: Active, those of them that run out soon (Expiring), and those that are over (Expired).",
            ["state"],
            registry=registry,
        )
        self.exception_end = Gauge(
            "countersign_trust_exception_end_timestamp_seconds",
            "When a TrustException in force ends, in seconds since 1970; of the 64 that end first.",
            ["exception"],
            registry=registry,
        )
        self._registry = registry

    def root_confirmed(self, root: str, at: datetime) -> None:
        """Report the age of an EvidenceRoot's content from this moment on."""
        self._root_age.labels(root).set_function(lambda: time.time() - at.timestamp())

    def no_root_age(self, root: str) -> None:
        """Report it no more."""
        with contextlib.suppress(KeyError):
            self._root_age.remove(root)

    def queue_depth(self, depth: Callable[[], float]) -> None:
        """Report the work queue's depth from this function."""
        gauge = Gauge(
            "countersign_controller_queue_depth", "Pods that wait for their turn or have it.", registry=self._registry
        )
        gauge.set_function(depth)
