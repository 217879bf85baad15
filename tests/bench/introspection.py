"""Introspection, and the hook for proxies, against the API server's TokenReview of the same tokens."""

import statistics
import time
from collections.abc import Callable

from rich.table import Table

from tests.bench.load_generator import Load, pin, request, run, unpin
from tests.bench.setting import AUDIENCE, GOVERNED, Setting

TOKENS = 20
ROUNDS = 3
IN_FLIGHT = (1, 32)
ADMITS = (
    "request.method == 'GET' && request.path.startsWith('/v1/') && "
    "grant.evidence.exists(e, e.policyKind == 'ClusterTrustPolicy' && e.policyName == 'bench')"
)
REFUSES = "request.method == 'GET' && request.path.startsWith('/v2/') && token.ageSeconds < 300"


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """The verifier on one core; the API server, for whom TokenReview is one duty of many, on one and on all."""
    lab, countersign = setting.lab, setting.countersign
    node = lab.node("bench-1")
    tokens = []
    for number in range(TOKENS):
        made = lab.admin.post(f"/api/v1/namespaces/{GOVERNED}/pods", setting.pod(f"token-{number}"), expect=201).body
        pod = node.run(made)
        countersign.grant_of(pod, state="Active")
        tokens.append(node.token(pod, AUDIENCE))
    verifier = countersign.services["verifier"]
    form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {setting.asker}"}
    admin = lab.ca.client("lab-admin", ["system:masters"])
    reviews = [
        request(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            {
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": token, "audiences": [AUDIENCE]},
            },
        )
        for token in tokens
    ]  # fmt: skip
    questions = [request("/introspect", f"token={token}", headers=form) for token in tokens]
    results: dict[tuple[str, int], list[Load]] = {}
    apiserver = lab.control_plane.apiserver

    def reviewed(in_flight: int) -> Load:
        return run(
            lab.url, reviews, ca=lab.ca_file, folder=lab.folder, in_flight=in_flight,
            certificate=(admin.cert, admin.key), expect='"authenticated":true',
        )  # fmt: skip

    def reviewed_on_one_core(in_flight: int) -> Load:
        # Only for so long: everybody else lives by the API server, too.
        pin(apiserver.pid)
        try:
            return reviewed(in_flight)
        finally:
            unpin(apiserver.pid)
            time.sleep(2)

    def introspected(in_flight: int) -> Load:
        return run(
            f"https://127.0.0.1:{verifier.port}", questions, ca=countersign.ca_file("verifier"),
            folder=lab.folder, in_flight=in_flight, expect='"active":true',
        )  # fmt: skip

    used = "&method=GET&path=%2Fv1%2Faccounts"
    told = [request("/introspect", f"token={token}{used}", headers=form) for token in tokens]

    proxy = {
        "Countersign-Asker": f"Bearer {setting.asker}",
        "X-Original-Method": "GET",
        "X-Original-URI": "/v1/accounts",
    }
    hooked = [
        request("/authorize", "", method="GET", headers={**proxy, "Authorization": f"Bearer {token}"})
        for token in tokens
    ]

    def authorized(in_flight: int) -> Load:
        return run(
            f"https://127.0.0.1:{verifier.port}", hooked, ca=countersign.ca_file("verifier"),
            folder=lab.folder, in_flight=in_flight,
        )  # fmt: skip

    def introspected_with_use(in_flight: int) -> Load:
        return run(
            f"https://127.0.0.1:{verifier.port}", told, ca=countersign.ca_file("verifier"),
            folder=lab.folder, in_flight=in_flight, expect='"active":true',
        )  # fmt: skip

    def ruled(rules: list[str], asked: Callable[[int], Load]) -> Callable[[int], Load]:
        def measured(in_flight: int) -> Load:
            setting.rule_audience(rules)
            try:
                return asked(in_flight)
            finally:
                setting.rule_audience([])

        return measured

    rows = {
        "TokenReview, one core": reviewed_on_one_core,
        "TokenReview, all cores": reviewed,
        "/introspect, one core": introspected,
        "/introspect with 1 allow rule, one core": ruled([ADMITS], introspected_with_use),
        "/introspect with 16 allow rules, the last admits, one core": ruled(
            [*[REFUSES] * 15, ADMITS], introspected_with_use
        ),
        "/authorize, one core": authorized,
        "/authorize with 16 allow rules, the last admits, one core": ruled([*[REFUSES] * 15, ADMITS], authorized),
    }
    pin(verifier.pid)
    for number in range(ROUNDS):
        for in_flight in IN_FLIGHT:
            for name, measured in rows.items():
                say(f"round {number + 1}: {name}, {in_flight} in flight")
                results.setdefault((name, in_flight), []).append(measured(in_flight))
    unpin(verifier.pid)
    table = Table(title=f"Introspection and TokenReview of the same {TOKENS} tokens")
    for column in ("", "in flight", "req/s", "x TokenReview, one core", "p50 ms", "p99 ms", "failed"):
        table.add_column(column, justify="left" if not column else "right")
    for in_flight in IN_FLIGHT:
        base = statistics.median(load.rate for load in results["TokenReview, one core", in_flight])
        for name in rows:
            loads = results[name, in_flight]
            rate = statistics.median(load.rate for load in loads)
            failures = [load.first_failure for load in loads if load.failed]
            table.add_row(
                name, str(in_flight), f"{rate:,.0f}", f"{rate / base:.1f}",
                f"{statistics.median(load.p50_ms for load in loads):.2f}",
                f"{statistics.median(load.p99_ms for load in loads):.2f}",
                f"{sum(load.failed for load in loads)}" + (f" ({failures[0]})" if failures else ""),
            )  # fmt: skip
    return table
