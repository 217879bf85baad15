"""Another mutating webhook, as a service mesh brings one: it adds a container to pods that ask for it."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.lab.lab import Lab

_PATH = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


class SidecarInjector:
    """Use as a context manager. Its configuration's name decides whether it is called before or after Countersign."""

    def __init__(self, lab: Lab, name: str, namespace: str, image: str, *, admitted_image: str) -> None:
        """`image`: of the container that it adds. `admitted_image`: one that gets past every webhook before it."""
        self.calls = 0
        self._lab = lab
        self._name = name
        self._namespace = namespace
        self._image = image
        self._admitted_image = admitted_image
        pair = lab.ca.server("sidecar-injector")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        answer = self._lab.admin.post(_PATH, self._configuration())
        assert answer.status == 201, answer.message
        try:
            # The API server takes up a new configuration through a watch of its own.
            self._lab.wait_for(self._is_called, what="the API server calls the other webhook")
        except BaseException:
            self._close()
            raise
        self.calls = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._lab.admin.delete(f"{_PATH}/{self._name}")
        self._server.shutdown()
        self._server.server_close()

    def answer(self, review: dict[str, Any]) -> dict[str, Any]:
        """The patch that adds the container, unless it is there."""
        self.calls += 1
        request = review["request"]
        response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
        if all(container["name"] != "injected" for container in request["object"]["spec"]["containers"]):
            added = {"name": "injected", "image": self._image}
            patch = [{"op": "add", "path": "/spec/containers/-", "value": added}]
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}

    def _is_called(self) -> bool:
        metadata = {"generateName": "probe-", "namespace": self._namespace, "labels": {"sidecar": "yes"}}
        spec = {"serviceAccountName": "worker", "containers": [{"name": "probe", "image": self._admitted_image}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self._lab.admin.post(f"/api/v1/namespaces/{self._namespace}/pods", pod, query={"dryRun": "All"})
        return self.calls > 0

    def _configuration(self) -> dict[str, Any]:
        port = self._server.server_address[1]
        webhook = {
            "name": "sidecar.example.com",
            "clientConfig": {
                "url": f"https://127.0.0.1:{port}/",
                "caBundle": base64.b64encode(self._lab.ca_file.read_bytes()).decode(),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            "objectSelector": {"matchLabels": {"sidecar": "yes"}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._namespace}},
            "reinvocationPolicy": "IfNeeded",
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self._name},
            "webhooks": [webhook],
        }


def _handler(injector: SidecarInjector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = json.dumps(injector.answer(json.loads(body))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
            """Say nothing."""

    return Handler
