"""What the dashboard asks. Every selector is bound to one installation by `OURS`.

A metric of a later release is a `Panel` more in the row where its reader looks; its name, and the labels that it is
asked by, must be those of docs/metrics.md.
"""

from __future__ import annotations

from tests.dashboards.grafana import Panel, Query, Row, Unit

OURS = 'namespace="$namespace",job=~"$job"'
RATE = "$__rate_interval"
REASONS_OF_HARM = "ImageChanged|ServiceAccountChanged|EphemeralContainerAdded|Drifted|EvidenceWithdrawn|Misused"
"""Why grants end by what was done to their pod (grants/reasons.py)."""


def rate(metric: str, by: str = "", more: str = "") -> str:
    """Per second."""
    matchers = ",".join(filter(None, (OURS, more)))
    return f"sum{_by(by)} (rate({metric}{{{matchers}}}[{RATE}]))"


def grew(metric: str, by: str = "", more: str = "") -> str:
    """In the range that is shown per point."""
    matchers = ",".join(filter(None, (OURS, more)))
    return f"sum{_by(by)} (increase({metric}{{{matchers}}}[{RATE}]))"


def top(metric: str, by: str = "", more: str = "") -> str:
    """The largest, of all pods."""
    matchers = ",".join(filter(None, (OURS, more)))
    return f"max{_by(by)} ({metric}{{{matchers}}})"


def quantile(share: float, histogram: str, by: str = "", more: str = "") -> str:
    """Of a histogram."""
    labels = ", ".join(filter(None, (by, "le")))
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels, more)})"


def latency(title: str, about: str, histogram: str, by: str = "", warn: float | None = None) -> Panel:
    """p50 and p99."""
    name = f" {{{{{by}}}}}" if by else ""
    shares = ((0.5, "p50"), (0.99, "p99"))
    queries = [Query(quantile(share, histogram, by), f"{word}{name}") for share, word in shares]
    return Panel(title, about, queries, "s", warn=warn)


def one(title: str, about: str, expr: str, unit: Unit = "short", **limits: float) -> Panel:
    """One number."""
    return Panel(title, about, [Query(expr)], unit, stat=True, **limits)  # type: ignore[arg-type]


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


NOW = Row("Now", (
    one("Leader", "Exactly one controller leads. None: nothing is granted or revoked.",
        f"sum(countersign_controller_leading{{{OURS}}})", warn=1, bad=0.5),
    one("Webhooks", "1: the controller keeps both webhook configurations.",
        top("countersign_controller_webhooks_registered"), warn=1, bad=0.5),
    one("Active grants", "Pod instances that have an identity now.",
        top("countersign_controller_grants", more='state="Active"')),
    one("Suspended grants", "Policy or evidence turned against them. They come back when that is mended.",
        top("countersign_controller_grants", more='state="Suspended"'), warn=1),
    one("Gates", "Gates that are scraped.", f"count(countersign_gate_inflight{{{OURS}}})", warn=2, bad=1),
    one("Verifiers", "Verifiers that are scraped.",
        f"count(countersign_verifier_etcd_restore_suspected{{{OURS}}})", warn=2, bad=1),
    one("Paused", "1: an AdmissionPause lets every pod in, and gives none an identity.",
        top("countersign_admission_paused"), bad=1),
    one("Held changes", "Policies whose change would suspend many grants and waits for acceptImpact.",
        top("countersign_controller_impact_held"), warn=1),
    one("Registries left alone", "They failed so often in a row that they are asked twice a minute only.",
        top("countersign_gate_registry_circuits_open"), warn=1),
    one("Certificate ends in", "The first of all certificates. Renewed long before, if nothing is in the way.",
        f"min(countersign_controller_certificate_expiry_seconds{{{OURS}}})", "s", warn=604800, bad=259200),
    one("Oldest evidence root", "Since its ConfigMap or mirror last confirmed it.",
        top("countersign_evidence_root_age_seconds"), "s", warn=86400, bad=259200),
    one("Restore suspected", "1: etcd went back in time under a verifier, which answers 503 until it is restarted.",
        top("countersign_verifier_etcd_restore_suspected"), bad=1),
))  # fmt: skip

ADMISSIONS = Row("Admissions", (
    Panel("Reviews", "What the gate answered. `retry` asks the caller to come again, `error` is a defect.",
          [Query(rate("countersign_gate_admissions_total", "result"), "{{result}}")], "reqps", stacked=True),
    Panel("Not allowed, by reason", "Reason codes as they stand at the head of each denial.",
          [Query(rate("countersign_gate_admissions_total", "reason", 'result!="allowed"'), "{{reason}}")], "reqps",
          stacked=True),
    latency("Time of a review", "From the whole body read to the answer. The API server waits 10 s.",
            "countersign_gate_admission_seconds", "path", warn=1.0),
    Panel("Reviews in flight", "Judged at this moment, by gate. From 1000 on, a gate turns reviews away.",
          [Query(top("countersign_gate_inflight", "pod"), "{{pod}}")], warn=500, bad=1000),
    Panel("Requests that were no review", "HTTP errors by status code; 503: not ready yet, or overloaded.",
          [Query(rate("countersign_gate_rejected_requests_total", "code"), "{{code}}")], "reqps"),
    Panel("Receipts", "What became of those that the gate met. `rejected` and `removed` were not its own.",
          [Query(rate("countersign_gate_receipts_total", "outcome"), "{{outcome}}")], "reqps"),
    Panel("Tokens asked for without a grant", "Of protected audiences. Refused in Enforce, counted in Audit.",
          [Query(grew("countersign_gate_ungranted_token_requests_total", "audience, refused"),
                 "{{audience}} refused={{refused}}")], warn=1),
))  # fmt: skip

EVIDENCE = Row("Evidence and registries", (
    Panel("Questions about images", "warm: from memory; asked: a registry; stale: an older answer, since none came.",
          [Query(rate("countersign_gate_evidence_seconds_count", "outcome"), "{{outcome}}")], "reqps", stacked=True),
    latency("Time to answer one", "By where the answer came from.", "countersign_gate_evidence_seconds", "outcome"),
    Panel("Verifications", "Searches for signatures and attestations. failed: it could not be found out.",
          [Query(rate("countersign_gate_verifications_total", "outcome"), "{{outcome}}")], "reqps"),
    latency("Time of a verification", "One image, with all its requests.", "countersign_gate_verification_seconds"),
    Panel("Requests to registries", "Each try counts. `unauthorized` also opens every talk that wants a token.",
          [Query(rate("countersign_gate_registry_requests_total", "outcome"), "{{outcome}}")], "reqps", stacked=True),
    latency("Time of a request", "By what was asked for.", "countersign_gate_registry_request_seconds", "kind"),
    Panel("Second tries", "After 429, 5xx, a broken connection or silence.",
          [Query(rate("countersign_gate_registry_retries_total", "kind"), "{{kind}}")], "reqps"),
    Panel("Registries left alone", "The gate's log names them.",
          [Query(top("countersign_gate_registry_circuits_open", "pod"), "{{pod}} now"),
           Query(grew("countersign_gate_registry_circuits_opened_total"), "began")], warn=1),
    Panel("Memory of facts", "Estimated size, by gate (gate.evidence.cacheMiB bounds it).",
          [Query(top("countersign_gate_evidence_cache_bytes", "pod"), "{{pod}}")], "bytes"),
))  # fmt: skip

GRANTS = Row("Grants", (
    Panel("Grants by state", "The inventory of identities.",
          [Query(top("countersign_controller_grants", "state"), "{{state}}")], stacked=True),
    Panel("Transitions by reason", "States that grants were put into, and why (docs/pods.md).",
          [Query(grew("countersign_controller_transitions_total", "state, reason"), "{{state}} {{reason}}")],
          stacked=True),
    Panel("Ended for what was done to the pod", "Drift, exec, misuse, another image or account: look at each.",
          [Query(grew("countersign_controller_transitions_total", "reason",
                      f'state="Revoked",reason=~"{REASONS_OF_HARM}"'), "{{reason}}")], bad=1),
    Panel("Drift", "What nodes report, or labels lead to, against what was admitted; unclear: nothing proves it.",
          [Query(grew("countersign_controller_drifts_total", "certainty"), "{{certainty}}")], warn=1),
    Panel("Refused receipts", "Pods without one, with one that is not theirs, or with a spent one.",
          [Query(grew("countersign_controller_transitions_total", "reason", 'reason=~"Receipt.*"'), "{{reason}}")],
          warn=1),
    Panel("Suspended", "By reason. A change of policy that would suspend many is held first.",
          [Query(grew("countersign_controller_transitions_total", "reason", 'state="Suspended"'), "{{reason}}")]),
    Panel("Ended by order", "Revocations that people created.",
          [Query(grew("countersign_controller_transitions_total", "reason", 'reason="RevokedByOrder"'),
                 "{{reason}}")]),
))  # fmt: skip

USES = Row("Uses", (
    Panel("Decisions", "Answers about tokens.",
          [Query(rate("countersign_verifier_decisions_total", "result"), "{{result}}")], "reqps", stacked=True),
    Panel("Inactive, by reason", "Only those who may know are told them.",
          [Query(rate("countersign_verifier_decisions_total", "reason", 'result="inactive"'), "{{reason}}")], "reqps",
          stacked=True),
    Panel("Misuse", "Tokens used as no pod uses its own, by kind.",
          [Query(grew("countersign_controller_misuse_total", "kind"), "{{kind}}"),
           Query(grew("countersign_controller_use_writes_total"), "grants written for uses alone")], warn=1),
    latency("Time of a decision", "From the whole body read to the answer.", "countersign_verifier_seconds", "result",
            warn=0.1),
    Panel("Access log", "What became of decisions' lines; dropped: standard output is not read in time.",
          [Query(rate("countersign_verifier_access_log_lines_total", "outcome"), "{{outcome}}")]),
    Panel("Turned away", "503: what is known of the cluster is too old; 429: an asker has used up its share.",
          [Query(rate("countersign_verifier_turned_away_total", "code, reason"), "{{code}} {{reason}}")], "reqps"),
    Panel("Use of identities that are over", "Somebody still shows tokens of grants that were ended.",
          [Query(rate("countersign_verifier_decisions_total", "reason",
                      'reason=~"GrantRevoked|Revoked|PodTerminal|PodDeleted"'), "{{reason}}")], "reqps"),
    Panel("Held in memory", "Objects and tokens that a verifier holds, by kind.",
          [Query(top("countersign_verifier_objects", "kind"), "{{kind}}")]),
))  # fmt: skip

CONTROLLER = Row("Controller", (
    Panel("Queue", "Pods that wait for their turn or have it.",
          [Query(top("countersign_controller_queue_depth", "pod"), "{{pod}}")], warn=100, bad=1000),
    latency("Time for a pod", "From its turn to the last write.", "countersign_controller_reconcile_seconds"),
    latency("Surveys and what they take", "Every pod is judged anew after a change of policy.",
            "countersign_controller_survey_seconds"),
    latency("Sweeps", "Everything is listed and compared, each minute.", "countersign_controller_sweep_seconds"),
    Panel("Leader", "1 for the one that leads.",
          [Query(top("countersign_controller_leading", "pod"), "{{pod}}")]),
    Panel("Pods followed", "By the leader and by those that stand by.",
          [Query(top("countersign_controller_pods", "pod"), "{{pod}}")]),
    Panel("Webhooks", "Whether they are kept, and whether some entry refuses requests when no gate answers.",
          [Query(top("countersign_controller_webhooks_registered"), "registered"),
           Query(top("countersign_controller_webhooks_fail_closed"), "fail closed")]),
    Panel("Scan", "Running pods about which a gate is yet to be asked, and what asking costs registries.",
          [Query(top("countersign_controller_scan_waiting"), "waiting"),
           Query(rate("countersign_controller_scan_registry_requests_total"), "requests per second")]),
    Panel("Evidence of running pods", "What grows too old soon, what does not hold any more, what is only reported.",
          [Query(top("countersign_controller_evidence_expiring"), "expiring"),
           Query(top("countersign_controller_evidence_withdrawn"), "withdrawn"),
           Query(grew("countersign_controller_evidence_reported_total"), "reported")], warn=1),
    Panel("Evidence verified again", "Questions to gates by outcome, and those that are due.",
          [Query(rate("countersign_controller_reverifications_total", "outcome"), "{{outcome}} per second"),
           Query(top("countersign_controller_reverifications_due"), "due")]),
    Panel("Calls that a gate or verifier did not answer", "The controller asks for counts, outlooks, evidence, uses.",
          [Query(grew("countersign_controller_gate_call_errors_total", "path"), "gate {{path}}"),
           Query(grew("countersign_controller_verifier_call_errors_total", "path"), "verifier {{path}}")], warn=1),
))  # fmt: skip

WATCHES = Row("What the services know", (
    Panel("Age of a gate's policies", "Since the last sign of life of the oldest watch. It judges on by what it knew.",
          [Query(top("countersign_gate_snapshot_age_seconds", "pod"), "{{pod}}")], "s", warn=60, bad=300),
    Panel("Age of a verifier's sources", "Too old: it answers 503 (15 s heartbeat, 120 s watches, 300 s keys).",
          [Query(top("countersign_verifier_age_seconds", "source"), "{{source}}")], "s", warn=60, bad=120),
    Panel("Versions", "Pods by version: two for long is an upgrade that stands still.",
          [Query(f"count by (version) (countersign_build_info{{{OURS}}})", "{{version}}")]),
))  # fmt: skip

KEYS = Row("Certificates, keys and evidence roots", (
    Panel("Time left of certificates", "The controller renews them long before they end.",
          [Query(f"min by (certificate) (countersign_controller_certificate_expiry_seconds{{{OURS}}})",
                 "{{certificate}}")], "s", warn=604800, bad=259200),
    Panel("Secrets that could not be kept", "Failed attempts to read or write a Secret with keys.",
          [Query(grew("countersign_controller_key_errors_total", "object"), "{{object}}")], warn=1),
    Panel("Age of evidence roots", "Since ConfigMap or mirror last confirmed their content.",
          [Query(top("countersign_evidence_root_age_seconds", "root"), "{{root}}")], "s", warn=86400, bad=259200),
    Panel("Failed refreshes of evidence roots", "The last good content stays in use.",
          [Query(grew("countersign_evidence_root_refresh_failures_total", "root"), "{{root}}")], warn=1),
))  # fmt: skip

ORDERS = Row("Exceptions and pauses", (
    Panel("Trust exceptions", "Active, those of them that run out soon, and those that are over.",
          [Query(top("countersign_trust_exceptions", "state"), "{{state}}")]),
    Panel("Ends of exceptions", "Of the 64 that end first: time left.",
          [Query(f"max by (exception) (countersign_trust_exception_end_timestamp_seconds{{{OURS}}}) - time()",
                 "{{exception}}")], "s", warn=604800, bad=0),
    Panel("Admission paused", "While it is 1 no pod is refused, and none that is created gets an identity.",
          [Query(top("countersign_admission_paused"), "paused"),
           Query(f"clamp_min(max(countersign_admission_pause_end_timestamp_seconds{{{OURS}}}) - time(), 0) / 3600",
                 "hours left")], bad=1),
    Panel("Traces", "Spans taken by the collector, and those that were dropped, and why.",
          [Query(rate("countersign_trace_spans_total", "outcome"), "{{outcome}}")]),
))  # fmt: skip

ROWS = (NOW, ADMISSIONS, EVIDENCE, GRANTS, USES, CONTROLLER, WATCHES, KEYS, ORDERS)
