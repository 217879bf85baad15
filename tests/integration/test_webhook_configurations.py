"""What the controller writes into the webhook configurations comes back from a real API server as it was written."""

from __future__ import annotations

import pytest

from countersign.api.policy import ModeOverride, TokenSpec
from countersign.api.responses import Responses
from countersign.controller.resources import MUTATING, VALIDATING
from countersign.controller.webhooks.webhooks import GateEndpoint, differs, webhook_configurations
from countersign.trust.policies.policy import PolicySnapshot
from tests.lab.lab import Lab
from tests.unit.controller.test_webhooks import only, protected
from tests.unit.trust.build import cluster_policy, snapshot, trust_policy

SERVICE = GateEndpoint("countersign-system", "countersign-gate")
URL = GateEndpoint("countersign-system", "countersign-gate", url="https://127.0.0.1:8443")
GIVES = (TokenSpec(name="ledger", audience="ledger.example.com"),)
EVERY_ENTRY = snapshot(
    cluster_policy(
        "payments",
        tokens=GIVES,
        namespaces={"team": "x"},
        mode_overrides=(ModeOverride(namespace="trial", mode="Audit"),),
    ),
    trust_policy(namespace="own", tokens=GIVES, responses=Responses(exec="Deny")),
    audiences=(protected("a.example.com"), protected("b.example.com", outage="Refuse")),
)


@pytest.mark.parametrize("given", [EVERY_ENTRY, only(cluster_policy(tokens=GIVES)), only()], ids=["all", "one", "none"])
@pytest.mark.parametrize("gate", [SERVICE, URL], ids=["service", "url"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_configuration_that_stands_is_not_written_again(
    lab: Lab, given: PolicySnapshot, gate: GateEndpoint, paused: bool
) -> None:
    bundle = lab.ca_file.read_bytes()
    bodies = webhook_configurations(given, {}, gate, bundle, fail_closed=True, paused=paused)
    for resource, body in zip((MUTATING, VALIDATING), bodies, strict=True):
        path = f"/apis/{resource.group}/{resource.version}/{resource.plural}"
        stored = lab.admin.post(path, body, query={"dryRun": "All"}, expect=201).body
        assert not differs(stored, body), "what is compared differently is written every two seconds"
