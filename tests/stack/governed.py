"""A governed namespace as an attacker finds it: signed image, policy with a token, a relying party, an edit user."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from countersign.api.names import RECEIPT_ANNOTATION
from tests.lab.cosign import Form, KeyPair
from tests.lab.http import Answer, HttpClient
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.lab.node import NodePlayer
from tests.stack import objects
from tests.stack.installation import Installation

_NUMBERS = itertools.count(1)
ACCOUNT = "worker"


@dataclass
class Governed:
    """One namespace under one Enforce policy that gives one token."""

    countersign: Installation
    namespace: str
    audience: str
    policy: objects.Object
    key: KeyPair
    image: PushedImage
    unsigned: PushedImage
    attacker: str
    """A person with the built-in `edit` role here."""
    node: NodePlayer
    asker: str
    _names: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def lab(self) -> Lab:
        return self.countersign.lab

    @property
    def edit(self) -> HttpClient:
        """The attacker's client."""
        return self.lab.api(self.attacker)

    @property
    def pods(self) -> str:
        """Path of the namespace's pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def pod(self, *containers: objects.Object, name: str = "", image: str = "", **more: Any) -> objects.Object:
        """A pod of the developer; by default one container with the signed image by tag."""
        metadata = more.pop("metadata", {})
        made = containers or (objects.container(image or self.image.by_tag),)
        spec = objects.pod_spec(*made, service_account=more.pop("service_account", ACCOUNT), **more)
        return objects.pod(name or f"pod-{next(self._names)}", self.namespace, spec, **metadata)

    def create(self, pod: objects.Object | None = None, **query: str) -> Answer:
        """Create as the edit user; the answer is the caller's to judge."""
        return self.edit.post(self.pods, pod or self.pod(), query=query or None)

    def admitted(self, pod: objects.Object | None = None) -> objects.Object:
        """Create, and insist that it is admitted."""
        answer = self.create(pod)
        assert answer.status == 201, answer.message
        return dict(answer.body)

    def slipped_in(self, pod: objects.Object | None = None) -> objects.Object:
        """A pod that was created while no webhook stood in the way, and so is as its author wrote it."""
        pod = pod or self.pod()
        self.countersign.stop("controller")
        self.countersign.remove_webhooks()
        try:
            return dict(self.lab.wait_for(lambda: self._around(pod), what="the API server forgets the webhooks"))
        finally:
            self.countersign.start_service("controller")
            self.countersign.await_webhooks()

    def _around(self, pod: objects.Object) -> objects.Object | None:
        answer = self.create(pod)
        if not answer.ok:
            return None
        if _as_written(answer.body) == _as_written(pod):
            return dict(answer.body)
        path = f"{self.pods}/{answer.body['metadata']['name']}"  # the gate had a hand in it: once more
        self.lab.admin.delete(path, body={"gracePeriodSeconds": 0}, expect=200)
        return None

    def running(self, pod: objects.Object | None = None) -> objects.Object:
        """A pod with an Active grant that runs on the node."""
        made = self.node.run(self.admitted(pod))
        self.countersign.grant_of(made, state="Active")
        return made

    def token(self, pod: Mapping[str, Any]) -> str:
        """The pod's token, as its kubelet gets it."""
        return self.node.token(pod, self.audience)

    def introspect(self, token: str) -> Any:
        """What the relying party is told."""
        return self.countersign.introspect(token, asker=self.asker)

    def active(self, token: str) -> bool:
        """Whether the relying party would serve it."""
        return bool(self.introspect(token).get("active"))

    def await_inactive(self, token: str) -> None:
        """Wait until the token is inactive."""
        self.lab.wait_for(lambda: not self.active(token), what="the token is inactive")


def _as_written(pod: Mapping[str, Any]) -> tuple[str, str | None]:
    """The two things that the gate never leaves as an author wrote them: an image by tag, and a receipt."""
    receipt = pod["metadata"].get("annotations", {}).get(RECEIPT_ANNOTATION)
    return pod["spec"]["containers"][0]["image"], receipt


def govern(
    countersign: Installation,
    *,
    tokens: Sequence[objects.Object] | None = None,
    mode: str = "Enforce",
    form: Form = Form.BUNDLE,
    audience_spec: Mapping[str, Any] | None = None,
    **policy: Any,
) -> Governed:
    """Create a fresh one. `policy` are further members of the ClusterTrustPolicy's spec."""
    lab = countersign.lab
    number = next(_NUMBERS)
    name = f"gov-{number}"
    audience = f"ledger-{number}.example.com"
    lab.create_namespace(name, {"governed-by": name})
    lab.admin.post(f"/api/v1/namespaces/{name}/serviceaccounts", objects.service_account(ACCOUNT, name), expect=201)
    lab.admin.post(
        f"/api/v1/namespaces/{name}/serviceaccounts", objects.service_account("relying-party", name), expect=201
    )
    attacker = f"eve-{number}"
    lab.grant_role(name, attacker)
    key = lab.cosign.generate_key(name)
    registry = lab.registry("referrers")
    repository = registry.repository(f"{name}/app")
    image = repository.push("v1", ImageSpec.distinct(f"{name}-signed", entrypoint=["/app"]))
    unsigned = repository.push("unsigned", ImageSpec.distinct(f"{name}-unsigned", entrypoint=["/app"]))
    lab.cosign.sign(registry, image, key, form=form)
    declared = objects.protected_audience(
        name, audience, introspectors=[(name, "relying-party")], **(audience_spec or {})
    )
    stated = objects.cluster_policy(
        name,
        namespaces={"governed-by": name},
        images=[objects.image_rule([f"{registry.host}/{name}/**"], [key.public_pem])],
        tokens=[objects.token(audience)] if tokens is None else tokens,
        mode=mode,
        **policy,
    )
    countersign.declare(declared, stated)
    return Governed(
        countersign, name, audience, stated, key, image, unsigned, attacker, lab.node("attacked-1"),
        countersign.asker(name, "relying-party"),
    )  # fmt: skip
