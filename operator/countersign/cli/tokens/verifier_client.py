"""Asking a verifier's `/explain`, as a service account."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from countersign.api.names import CA_CONFIGMAP, VERIFIER_AUDIENCE
from countersign.cli.cluster.kube import ApiError, Kube, ended_by
from countersign.cli.diagnosis.check import Anything
from countersign.cli.terminal.exits import Exit, fail

TIMEOUT_SECONDS: Final = 10.0
"""The verifier waits at most 2 s for the grant of a pod just born."""
ASKER_SECONDS: Final = 600
"""Lifetime of the token by which we ask: the shortest that Kubernetes mints."""


class Explained(NamedTuple):
    """What a verifier said of a token."""

    active: bool
    reason: str
    message: str


def explain(
    url: str, token: str, asker: str, *, ca_pem: str, server_name: str | None, use: Mapping[str, str]
) -> Explained | None:
    """The verifier's answer; None if it does not tell this asker. Ends the command if there is no answer.

    `use`: the form fields by which a relying party tells of the use (`access.use`).
    """
    import urllib3

    if not url.startswith("https://"):
        fail(f"--verifier {url}: tokens are sent over https only")
    host: dict[str, Any] = {"server_hostname": server_name, "assert_hostname": server_name} if server_name else {}
    with urllib3.PoolManager(ca_cert_data=ca_pem or None, retries=False, timeout=TIMEOUT_SECONDS, **host) as pool:
        try:
            answer = pool.request(
                "POST",
                f"{url.rstrip('/')}/explain",
                fields={"token": token, **{name: text for name, text in use.items() if text}},
                encode_multipart=False,
                headers={"Authorization": f"Bearer {asker}"},
            )
        except urllib3.exceptions.HTTPError as error:
            fail(f"the verifier at {url} cannot be asked: {error}", Exit.UNKNOWN)
    if answer.status in (429, 503):
        wait = answer.headers.get("Retry-After", "1")
        fail(f"the verifier does not answer now ({answer.status}): try again in {wait} s", Exit.UNKNOWN)
    try:
        told: dict[str, Any] = json.loads(answer.data)
        active = told["active"] is True
    except (ValueError, KeyError, TypeError):
        fail(f"what answers at {url} is no verifier (status {answer.status})", Exit.UNKNOWN)
    if "reason" not in told:
        return None
    return Explained(active, str(told["reason"]), str(told.get("message", "")))


def asker_token(kube: Kube, account: str) -> str:
    """A token by which the service account `namespace/name` asks a verifier. Ends the command if it cannot be had."""
    namespace, slash, name = account.partition("/")
    if not (namespace and slash and name):
        fail(f"--asker {account!r}: write namespace/name of a service account")
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [VERIFIER_AUDIENCE], "expirationSeconds": ASKER_SECONDS},
    }
    try:
        created = kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
    except ApiError as error:
        ended_by(error, f"asking for a token of service account {account}")
    return str(created["status"]["token"])


def published_ca(kube: Kube, system_namespace: str) -> str:
    """The CA that the controller publishes, as PEM. Ends the command if there is none."""
    path = f"/api/v1/namespaces/{system_namespace}/configmaps/{CA_CONFIGMAP}"
    try:
        found = kube.find(path, Anything)
    except ApiError as error:
        ended_by(error, "reading the verifier's CA (or pass --verifier-ca)")
    pem = found.data.get("ca.crt", "") if found else ""
    if not pem:
        fail(f"no CA in ConfigMap {system_namespace}/{CA_CONFIGMAP}: is the controller running? Or pass --verifier-ca")
    return pem
