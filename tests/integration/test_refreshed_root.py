"""A root that changes suspends what rests on material that left it, and nothing else; it comes back with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.api.clock import format_time
from tests.fakes.tuf_repository import MisbehavingMirror
from tests.lab.images import ImageSpec
from tests.stack import objects
from tests.stack.commandline import countersign as command
from tests.stack.installation import Installation

ROOTS = "/apis/countersign.dev/v1alpha1/evidenceroots"
NAME = "refreshed"


def without(content: str, part: str) -> str:
    return json.dumps({**json.loads(content), part: []})


def with_all_of(content: str, other: str) -> str:
    """The first with all that the other trusts added."""
    first, second = json.loads(content), json.loads(other)
    parts = ("tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities")
    return json.dumps({**first, **{part: [*first[part], *second[part]] for part in parts}})


class Setting:
    """A pod whose image was signed keyless, and the mirror that says under which root."""

    def __init__(self, countersign: Installation, mirror: MisbehavingMirror) -> None:
        self.countersign, self.mirror, self.lab = countersign, mirror, countersign.lab
        self._asked = 300
        lab, registry = self.lab, self.lab.registry("referrers")
        self.root(refresh_only=False)
        lab.create_namespace(NAME, {"governed-by": NAME})
        who = lab.sigstore.issuers.github("acme/refreshed")
        repository = registry.repository(f"{NAME}/app")
        self.image = repository.push("v1", ImageSpec.distinct(NAME, entrypoint=["/app"]))
        lab.cosign.sign_keyless(registry, self.image, who, lab.sigstore)
        keyless = {
            "identities": [{"issuer": who.issuer, "subject": who.subject}],
            "evidenceRootRef": {"name": NAME},
            "require": ["TransparencyLog", "Timestamp"],
        }
        rule = {
            **objects.image_rule([f"{registry.host}/{NAME}/**"]),
            "authorities": [{"name": "ci", "keyless": keyless}],
        }
        audience = objects.protected_audience(NAME, f"{NAME}.example.com", introspectors=[(NAME, "asker")])
        self.policy = objects.cluster_policy(
            NAME, namespaces={"governed-by": NAME}, images=[rule], tokens=[objects.token(f"{NAME}.example.com")]
        )
        countersign.declare(audience, self.policy)
        made = objects.pod("keyless", NAME, objects.pod_spec(objects.container(self.image.by_tag)))
        self.pod = dict(lab.admin.post(f"/api/v1/namespaces/{NAME}/pods", made, expect=201).body)

    def root(self, content: str = "", *, refresh_only: bool = True) -> None:
        """Publish a content if there is one, and have the mirror asked at once: another generation does that."""
        if content:
            self.mirror.release(content)
        self._asked += 1
        tuf: dict[str, Any] = {"mirror": self.mirror.url, "root": self.mirror.initial, "refreshSeconds": self._asked}
        tuf["caBundle"] = self.lab.ca_file.read_text()
        self.countersign.declare(objects.evidence_root(NAME, tuf=tuf))
        if content:
            self.lab.wait_for(
                lambda: self.lab.admin.get(f"{ROOTS}/{NAME}").body["status"].get("trustedRoot") == content,
                what="the content is in use",
            )

    def grant(self, state: str) -> objects.Object:
        return self.countersign.grant_of(self.pod, state=state)


@pytest.fixture(scope="module")
def setting(countersign: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    lab = countersign.lab
    content = lab.sigstore.trusted_root.read_text()
    with MisbehavingMirror(tmp_path_factory.mktemp("mirror"), lab.ca, content) as mirror:
        made = Setting(countersign, mirror)
        yield made
        lab.admin.delete(f"/apis/countersign.dev/v1alpha1/clustertrustpolicies/{NAME}")
        lab.admin.delete(f"{ROOTS}/{NAME}")


def test_a_refreshed_root_suspends_what_rests_on_what_left_and_only_that(setting: Setting) -> None:
    lab = setting.lab
    content = lab.sigstore.trusted_root.read_text()
    first = setting.grant("Active")
    stranger = lab.another_sigstore("stranger").trusted_root.read_text()
    setting.root(with_all_of(without(content, "tlogs"), stranger))
    suspended = setting.grant("Suspended")
    assert suspended["metadata"]["uid"] == first["metadata"]["uid"]
    setting.root(content)
    setting.grant("Active")


def test_a_root_that_ends_what_it_believed_suspends_what_was_signed_later(setting: Setting) -> None:
    """How a certificate authority is taken back that fell into wrong hands: what it issued before still counts."""
    content = json.loads(setting.lab.sigstore.trusted_root.read_text())
    ended = format_time(datetime.now(UTC) - timedelta(days=1))
    for one in content["certificateAuthorities"]:
        one["validFor"]["end"] = ended
    setting.grant("Active")
    setting.root(json.dumps(content))
    setting.grant("Suspended")
    setting.root(setting.lab.sigstore.trusted_root.read_text())
    setting.grant("Active")


def test_what_stays_in_a_root_goes_on_without_a_break(setting: Setting) -> None:
    lab = setting.lab
    content = lab.sigstore.trusted_root.read_text()
    before = setting.grant("Active")["status"]["changedAt"]
    setting.root(with_all_of(content, lab.another_sigstore("stranger").trusted_root.read_text()))
    # Judged since: a pod that is created now is judged by the new content.
    other = objects.pod("another", NAME, objects.pod_spec(objects.container(setting.image.by_tag)))
    made = dict(lab.admin.post(f"/api/v1/namespaces/{NAME}/pods", other, expect=201).body)
    setting.countersign.grant_of(made, state="Active")
    assert setting.grant("Active")["status"]["changedAt"] == before


def test_a_mirror_that_is_away_suspends_nothing(setting: Setting) -> None:
    setting.mirror.down = True
    setting.root()
    setting.lab.wait_for(
        lambda: any(
            (one["type"], one["status"]) == ("Refreshed", "False")
            for one in setting.lab.admin.get(f"{ROOTS}/{NAME}").body["status"]["conditions"]
        ),
        what="the refresh failed",
    )
    setting.grant("Active")
    setting.mirror.down = False


@pytest.mark.parametrize(("left_out", "exit_code"), [("", 0), ("tlogs", 1), ("timestampAuthorities", 1)])
def test_what_an_edited_root_would_cost_is_told_from_files(
    setting: Setting, tmp_path: Path, left_out: str, exit_code: int
) -> None:
    content = setting.lab.sigstore.trusted_root.read_text()
    edited = objects.evidence_root(NAME, trustedRoot=without(content, left_out) if left_out else content)
    rules, pod = tmp_path / "rules.yaml", tmp_path / "pod.yaml"
    rules.write_text(yaml.safe_dump_all([{**setting.policy, "spec": {**setting.policy["spec"], "tokens": []}}, edited]))
    pod.write_text(yaml.safe_dump(objects.pod("api", NAME, objects.pod_spec(objects.container(setting.image.by_tag)))))
    result = command(
        "policy", "test", str(rules), f"--pod={pod}", f"--namespace={NAME}", f"--namespace-labels=governed-by={NAME}",
        f"--registry-ca={setting.lab.ca_file}", "--allow-address-range=127.0.0.0/8",
    )  # fmt: skip
    assert result.exit_code == exit_code, result.output
