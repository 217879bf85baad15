"""The scene that every benchmark plays in: a governed namespace, a signed image, a policy with one token."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.installation import Installation

AUDIENCE = "ledger.example.com"
GOVERNED = "bench"
FREE = "bench-free"
"""A namespace that no policy selects: the baseline of what goes through the API server."""
ACCOUNT = "worker"


@dataclass
class Setting:
    """What the benchmarks share."""

    lab: Lab
    countersign: Installation
    image: PushedImage
    asker: str

    def pod(self, name: str, namespace: str = GOVERNED, *, generate: bool = False) -> objects.Object:
        """A pod as a developer writes it: one container, image by tag."""
        made = objects.pod(
            name, namespace, objects.pod_spec(objects.container(self.image.by_tag), service_account=ACCOUNT)
        )
        if generate:
            made["metadata"]["generateName"] = made["metadata"].pop("name") + "-"
        return made

    def rule_audience(self, rules: Sequence[str]) -> None:
        """Give the audience these rules, and wait until the services go by them."""
        self.countersign.declare(ledger(rules))


def ledger(rules: Sequence[str]) -> objects.Object:
    """The audience, with these rules."""
    allow = [{"name": f"r{number}", "expression": one} for number, one in enumerate(rules)]
    return objects.protected_audience("ledger", AUDIENCE, introspectors=[("ledger", "api")], allow=allow)


def prepare(lab: Lab, countersign: Installation) -> Setting:
    """Create namespaces, accounts, a signed image, the audience and the policy."""
    for namespace, labels in ((GOVERNED, {"bench": "governed"}), (FREE, {}), ("ledger", {})):
        lab.create_namespace(namespace, labels)
    for namespace, name in ((GOVERNED, ACCOUNT), (FREE, ACCOUNT), ("ledger", "api")):
        lab.admin.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts", objects.service_account(name, namespace), expect=201
        )
    key = lab.cosign.generate_key("bench")
    registry = lab.registry("referrers")
    image = registry.repository("bench/worker").push("v1", ImageSpec(entrypoint=["/app"]))
    lab.cosign.sign(registry, image, key)
    countersign.declare(
        ledger([]),
        objects.cluster_policy(
            "bench",
            namespaces={"bench": "governed"},
            images=[objects.image_rule([image.repository], [key.public_pem])],
            tokens=[objects.token(AUDIENCE)],
        ),
    )
    return Setting(lab, countersign, image, countersign.asker("ledger", "api"))
