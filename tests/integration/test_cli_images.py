"""`image verify`, `policy init` and `policy test` against real registries and real cosign signatures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from countersign.api.crds import crd
from countersign.api.policy import ClusterTrustPolicy
from tests.lab.cosign import Form, KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.lab.registries import PASSWORD, USERNAME, Registry
from tests.stack.commandline import countersign
from tests.stack.objects import (
    cluster_policy,
    container,
    image_rule,
    object_path,
    pod,
    pod_spec,
    protected_audience,
    token,
)


@pytest.fixture(scope="module")
def key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("cli-release")


@pytest.fixture(scope="module")
def other_key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("cli-other")


@pytest.fixture(scope="module", params=[Form.BUNDLE, Form.CLASSIC])
def signed(request: pytest.FixtureRequest, lab: Lab, referrers_registry: Registry, key: KeyPair) -> PushedImage:
    image = referrers_registry.repository(f"cli/{request.param}").push("v1", ImageSpec.distinct(request.param))
    lab.cosign.sign(referrers_registry, image, key, form=request.param)
    return image


def reach(lab: Lab) -> list[str]:
    """Options by which the lab's registries are reached, with nobody's credentials."""
    return [f"--registry-ca={lab.ca_file}", "--allow-address-range=127.0.0.0/8"]


def verify(lab: Lab, image: str, *keys: KeyPair, options: list[str] | None = None, docker: str = "/nowhere") -> Result:
    files = [f"--key={one.public}" for one in keys]
    return countersign("image", "verify", image, *files, *(options or reach(lab)), "-o", "json", DOCKER_CONFIG=docker)


def test_a_signed_image_is_verified_with_who_vouched(
    lab: Lab, signed: PushedImage, key: KeyPair, other_key: KeyPair
) -> None:
    result = verify(lab, signed.by_tag, key, other_key)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["verified"], shown["digest"], shown["image"]) == (True, signed.digest, signed.by_digest)
    assert [one["signed"] for one in shown["keys"]] == ["yes", "no"]
    assert shown["keys"][0]["format"] == ("bundle" if "bundle" in signed.repository else "classic")
    assert shown["keys"][0]["fingerprint"].startswith("sha256:")


def test_the_same_as_text(lab: Lab, signed: PushedImage, key: KeyPair) -> None:
    result = countersign("image", "verify", signed.by_tag, f"--key={key.public}", *reach(lab), DOCKER_CONFIG="/nowhere")
    assert result.exit_code == 0
    assert signed.by_digest in result.stderr
    assert "cli-release.pub" in result.stdout


def test_an_image_by_another_key_is_not_signed(lab: Lab, signed: PushedImage, other_key: KeyPair) -> None:
    result = verify(lab, signed.by_digest, other_key)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verified"] is False
    assert "not signed by this key" in result.stderr


def test_an_image_that_is_not_there_is_not_found_out(lab: Lab, referrers_registry: Registry, key: KeyPair) -> None:
    result = verify(lab, f"{referrers_registry.host}/cli/nothing:v1", key)
    assert result.exit_code == 3
    assert json.loads(result.stdout)["reason"] == "NotFound"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--allow-address-range=127.0.0.0/8"], "RegistryUnavailable: the certificate"),
        ([], "AddressDenied: 127.0.0.1 has the loopback address"),
    ],
)
def test_a_registry_that_cannot_be_reached_is_told(
    lab: Lab, signed: PushedImage, key: KeyPair, options: list[str], reason: str
) -> None:
    result = countersign("image", "verify", signed.by_tag, f"--key={key.public}", *options, DOCKER_CONFIG="/nowhere")
    assert result.exit_code == 3
    assert reason in result.stderr


def test_a_registry_on_plain_http_is_reached_where_it_is_listed(lab: Lab, key: KeyPair) -> None:
    registry = lab.registry("insecure")
    image = registry.repository("cli/plain").push("v1")
    options = [f"--insecure-registry={registry.host}", "--allow-address-range=127.0.0.0/8"]
    assert verify(lab, image.by_tag, key, options=options).exit_code == 1


def test_credentials_are_those_of_docker(lab: Lab, key: KeyPair, tmp_path: Path) -> None:
    registry = lab.registry("private")
    image = registry.repository("cli/private").push("v1")
    lab.cosign.sign(registry, image, key)
    anonymous = verify(lab, image.by_tag, key)
    assert (anonymous.exit_code, json.loads(anonymous.stdout)["reason"]) == (3, "Unauthorized")
    auth = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    assert verify(lab, image.by_tag, key, docker=str(tmp_path)).exit_code == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["UPPER/case", "--key={key}"], "is not an image reference"),
        (["r.example.com/x", "--key={private}"], "this is a PRIVATE key"),
        (["r.example.com/x", "--key=/nowhere"], "No such file"),
        (["r.example.com/x", "--key={key}", "--registry-ca=/nowhere"], "--registry-ca"),
        (["r.example.com/x", "--key={key}", "--allow-address-range=10.0.0.1/8"], "--allow-address-range"),
        (["r.example.com/x"], "--key"),
    ],
)
def test_what_cannot_be_used_is_told(lab: Lab, key: KeyPair, args: list[str], told: str) -> None:
    result = countersign("image", "verify", *(arg.format(key=key.public, private=key.private) for arg in args))
    assert result.exit_code == 2
    assert told in result.stderr


def init(lab: Lab, image: str, *args: str) -> Result:
    return countersign("policy", "init", image, *reach(lab), *args, DOCKER_CONFIG="/nowhere")


def stored(lab: Lab, text: str) -> Any:
    """The policy as the API server keeps it."""
    kind = crd(ClusterTrustPolicy)
    assert lab.admin.apply(object_path(kind), kind).ok
    lab.wait_for(
        lambda: lab.admin.get("/apis/countersign.dev/v1alpha1/clustertrustpolicies").ok, what="the kind is served"
    )
    return json.loads(lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-o=json", "-f-", input_=text))


def test_a_first_policy_with_the_key_that_signed_is_accepted_by_the_api_server(
    lab: Lab, signed: PushedImage, key: KeyPair, other_key: KeyPair
) -> None:
    result = init(lab, signed.by_tag, f"--key={key.public}", f"--key={other_key.public}", "--namespace-label=team=shop")
    assert result.exit_code == 0, result.output
    policy = stored(lab, result.stdout)
    (rule,) = policy["spec"]["images"]
    assert rule["globs"] == [signed.repository]
    assert [one["name"] for one in rule["authorities"]] == ["cli-release"]
    assert "cli-other.pub has not signed" in result.stderr
    assert 'entrypoint ["/app"]' in result.stdout


def test_a_first_policy_without_a_key_lists_the_digest(lab: Lab, signed: PushedImage) -> None:
    result = init(lab, signed.by_tag, "--name=first")
    policy = stored(lab, result.stdout)
    assert policy["metadata"]["name"] == "first"
    assert policy["spec"]["images"][0]["digests"] == [signed.digest]


def test_no_policy_is_written_for_a_key_that_has_not_signed(lab: Lab, signed: PushedImage, other_key: KeyPair) -> None:
    result = init(lab, signed.by_tag, f"--key={other_key.public}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none of these keys has signed" in result.stderr


def test_an_image_that_is_not_there_gives_no_policy(lab: Lab, referrers_registry: Registry) -> None:
    assert init(lab, f"{referrers_registry.host}/cli/nothing:v1").exit_code == 3


def test_a_policy_is_tried_with_the_registrys_word(
    lab: Lab, signed: PushedImage, key: KeyPair, other_key: KeyPair, tmp_path: Path
) -> None:
    audience = protected_audience("ledger", "ledger.example.com")

    def try_with(pem: str, spec: dict[str, Any]) -> Result:
        policy = cluster_policy(
            "p", namespaces={}, images=[image_rule([signed.repository], [pem])], tokens=[token("ledger.example.com")]
        )
        files = tmp_path / "policies.yaml", tmp_path / "pod.yaml"
        files[0].write_text(yaml.safe_dump_all([policy, audience]))
        files[1].write_text(yaml.safe_dump(pod("api", "shop", spec)))
        options = [*reach(lab), "-o", "json"]
        return countersign("policy", "test", str(files[0]), f"--pod={files[1]}", *options, DOCKER_CONFIG="/nowhere")

    admitted = try_with(key.public_pem, pod_spec(container(signed.by_tag)))
    assert admitted.exit_code == 0, admitted.output
    shown = json.loads(admitted.stdout)
    assert shown["images"][0]["image"] == f"{signed.by_tag}@{signed.digest}"
    assert shown["images"][0]["vouched"][0].startswith("release (sha256:")
    assert [one["audience"] for one in shown["tokens"]] == ["ledger.example.com"]

    denied = try_with(other_key.public_pem, pod_spec(container(signed.by_tag)))
    assert denied.exit_code == 1
    assert json.loads(denied.stdout)["message"].startswith("ImageUnsigned: ")

    foreign = try_with(key.public_pem, pod_spec(container(signed.by_tag, command=["sh", "-c", "id"])))
    assert foreign.exit_code == 1
    assert json.loads(foreign.stdout)["message"].startswith("CommandNotAllowed: ")
