"""From the write that revokes a receipt key to the last of the grants that rest on it being Suspended, and inactive."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.table import Table

from countersign.api.names import RECEIPT_KEYS_SECRET
from countersign.keys.receipt_keys import revoke_receipt_key
from countersign.keys.secrets import decode_receipt_keys, encode_receipt_keys, from_secret_data, to_secret_data
from tests.bench.setting import AUDIENCE, GOVERNED, Setting
from tests.bench.statistics_of import quantiles
from tests.stack.installation import introspect

PODS = 100
GRANTS = f"/apis/countersign.dev/v1alpha1/namespaces/{GOVERNED}/workloadgrants"


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """All pods rest on the keys that there are; the clock starts when the request that revokes them is sent."""
    lab, countersign = setting.lab, setting.countersign
    node = lab.node("bench-1")
    tokens: dict[str, str] = {}
    for number in range(PODS):
        if number % 20 == 0:
            say(f"leaked key: {number} of {PODS}")
        made = lab.admin.post(f"/api/v1/namespaces/{GOVERNED}/pods", setting.pod(f"leak-{number}"), expect=201).body
        pod = node.run(made)
        name = countersign.grant_of(pod, state="Active")["metadata"]["name"]
        tokens[name] = node.token(pod, AUDIENCE)
    path = f"/api/v1/namespaces/{countersign.namespace}/secrets/{RECEIPT_KEYS_SECRET}"
    keys = decode_receipt_keys(from_secret_data(lab.admin.get(path, expect=200).body["data"]))
    for key in keys.keys:
        keys = revoke_receipt_key(keys, key.id, datetime.now(UTC))
    client = countersign.verifier_client()
    suspended: dict[str, float] = {}
    inactive: dict[str, float] = {}
    began = time.perf_counter()
    lab.admin.patch(path, {"data": to_secret_data(encode_receipt_keys(keys))}, expect=200)
    while len(suspended) < PODS or len(inactive) < PODS:
        for name, token in tokens.items():
            if name not in inactive and not introspect(client, token, setting.asker).body["active"]:
                inactive[name] = (time.perf_counter() - began) * 1000
        for grant in lab.admin.get(GRANTS, expect=200).body["items"]:
            name = grant["metadata"]["name"]
            if name in tokens and name not in suspended and grant["status"]["state"] == "Suspended":
                suspended[name] = (time.perf_counter() - began) * 1000
        if time.perf_counter() - began > 60:
            raise AssertionError(f"after 60 s {len(suspended)} suspended, {len(inactive)} inactive, of {PODS}")
    table = Table(title=f"A receipt key is revoked on which {PODS} grants rest (looked at all the while, in turn)")
    for column in ("", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if not column else "right")
    for what, values in (("introspection says inactive", inactive), ("grant is Suspended", suspended)):
        table.add_row(what, *(f"{value:.1f}" for value in quantiles(list(values.values()))))
    return table
