"""From the write that revokes a receipt key to the last of the grants that rest on it being Suspended, and inactive."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.table import Table

from countersign.api.names import RECEIPT_KEYS_SECRET
from countersign.keys.receipt_keys import revoke_receipt_key
from countersign.keys.secrets import decode_receipt_keys, encode_receipt_keys, from_secret_data, to_secret_data
from tests.bench.setting import AUDIENCE, GOVERNED, Setting
from tests.stack.installation import introspect

PODS = 100
LIMIT_SECONDS = 60
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
    began = time.perf_counter()
    lab.admin.patch(path, {"data": to_secret_data(encode_receipt_keys(keys))}, expect=200)
    written = time.perf_counter()
    for token in tokens.values():  # one after the other: the last answer is the time at which all are inactive
        while introspect(client, token, setting.asker).body.get("active", True):
            if time.perf_counter() - began > LIMIT_SECONDS:
                raise AssertionError("tokens of a revoked key stay active")
    inactive = time.perf_counter()
    found = lab.admin.get(GRANTS, expect=200).body["items"]
    left = [grant for grant in found if grant["metadata"]["name"] in tokens and grant["status"]["state"] == "Active"]
    if left:
        raise AssertionError(f"{len(left)} grants are Active though their tokens are inactive")
    table = Table(title=f"A receipt key is revoked on which {PODS} grants rest")
    for column in ("", "ms"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("the write of the Secret itself", f"{(written - began) * 1000:.0f}")
    table.add_row("all grants are Suspended, and introspection says so of each", f"{(inactive - began) * 1000:.0f}")
    return table
