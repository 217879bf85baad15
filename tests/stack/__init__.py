"""Countersign on the lab: installed as the chart has it, its services running under the chart's own service accounts.

with Installation.start(lab) as countersign:
    countersign.protect("ledger.example.com", introspectors=[("ledger", "api")])
    countersign.policy("payments", namespaces={"team": "payments"}, globs=[...], keys=[pem], tokens=[...])
    countersign.introspect(token, asker=countersign.asker("ledger", "api"))
    countersign.stop("gate"); countersign.start_service("gate"); countersign.kill("controller")
"""
