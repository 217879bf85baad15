from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import Result

from countersign.api.evidence_root import EvidenceRootSpec, source_of
from countersign.api.policy import ClusterTrustPolicy
from countersign.cli.files.manifests import documents, snapshot
from countersign.cli.files.schema_check import problems
from countersign.cli.image.demands import PREDICATE_TYPES
from countersign.cli.image.inputs import KeyFile
from countersign.cli.image.naming import dns_label
from countersign.cli.policy.first_policy import first_policy
from countersign.cli.policy.first_signers import Attested, Found, attestation_lines, signers_of
from countersign.signatures.conditions.cel import compiled
from countersign.signatures.keys import parse_public_key
from countersign.signatures.roots.trust_root import public_good_root
from countersign.trust.evidence import conditions
from countersign.trust.evidence.facts import ImageFacts, PlatformConfig, Vouch
from tests.stack.commandline import countersign
from tests.stack.objects import (
    cluster_policy,
    container,
    deployment,
    evidence_root,
    image_rule,
    pod,
    pod_spec,
    protected_audience,
    token,
    trust_policy,
)

DIGEST = "sha256:" + "ab" * 32
IMAGE = "registry.example.com/shop/api"
PINNED = f"{IMAGE}@{DIGEST}"


def public_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def write(folder: Path, name: str, *objects: dict[str, Any]) -> str:
    path = folder / name
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def listed(**more: Any) -> dict[str, Any]:
    """A policy that needs no registry: the digest is listed, and the command is not looked at."""
    rule = image_rule([IMAGE], digests=[DIGEST])
    return cluster_policy("baseline", namespaces={"team": "shop"}, images=[rule], runtime={"command": "Any"}, **more)


def try_on(folder: Path, policies: list[dict[str, Any]], obj: dict[str, Any], *args: str) -> Result:
    file, pod_file = write(folder, "policies.yaml", *policies), write(folder, "pod.yaml", obj)
    return countersign(
        "policy",
        "test",
        file,
        f"--pod={pod_file}",
        "--namespace=shop",
        "--namespace-labels=team=shop",
        "--offline",
        *args,
    )


def told(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_pod_that_satisfies_its_policy_is_admitted_with_its_token(tmp_path: Path) -> None:
    policies = [listed(tokens=[token("ledger.example.com")]), protected_audience("ledger", "ledger.example.com")]
    result = try_on(tmp_path, policies, pod("api", "shop", pod_spec(container(PINNED))), "-o", "json")
    assert result.exit_code == 0, result.output
    shown = told(result)
    assert shown["verdict"] == "admitted"
    assert shown["tokens"][0]["audience"] == "ledger.example.com"
    assert shown["tokens"][0]["file"] == "/var/run/secrets/countersign.dev/ledger/token"
    assert shown["tokens"][0]["containers"] == ["app"]
    assert shown["images"] == [{"container": "app", "image": PINNED, "digest": DIGEST, "vouched": ["listed digest"]}]


def test_the_same_as_text(tmp_path: Path) -> None:
    policies = [listed(tokens=[token("ledger.example.com")]), protected_audience("ledger", "ledger.example.com")]
    result = try_on(tmp_path, policies, deployment("api", "shop", pod_spec(container(PINNED))))
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "pod shop/api (of Deployment api)" in lines
    assert "verdict admitted" in lines
    assert "policies ClusterTrustPolicy baseline (Enforce)" in lines
    assert any(line.startswith("ledger ledger.example.com app /var/run/secrets/") for line in lines)


def test_a_denial_reads_as_the_gate_words_it(tmp_path: Path) -> None:
    result = try_on(tmp_path, [listed()], pod("api", "shop", pod_spec(container("docker.io/library/nginx"))))
    assert result.exit_code == 1
    assert "verdict       denied" in result.stdout
    assert (
        "ImageNotCovered: container app (docker.io/library/nginx): ClusterTrustPolicy baseline expects" in result.stdout
    )


def test_a_warning_is_a_warning_and_audit_is_told(tmp_path: Path) -> None:
    nginx = pod("api", "shop", pod_spec(container("docker.io/library/nginx")))
    warned = try_on(tmp_path, [listed(mode="Warn")], nginx)
    assert (warned.exit_code, "Warning: ImageNotCovered" in warned.stdout) == (0, True)
    audited = try_on(tmp_path, [listed(mode="Audit")], nginx)
    assert (audited.exit_code, "Audit: ImageNotCovered" in audited.stdout) == (0, True)


def test_what_the_registry_would_say_is_unknown_offline(tmp_path: Path) -> None:
    rule = image_rule([IMAGE], keys=[public_key()])
    policy = cluster_policy("baseline", namespaces={"team": "shop"}, images=[rule])
    result = try_on(tmp_path, [policy], pod("api", "shop", pod_spec(container(f"{IMAGE}:v1"))))
    assert result.exit_code == 3
    assert f"could not be found out: {IMAGE}:v1: the registry was not asked (--offline)" in result.stdout


@pytest.mark.parametrize("mode", ["Audit", "Warn"])
def test_tokens_that_rest_on_the_unknown_are_unknown_in_every_mode(tmp_path: Path, mode: str) -> None:
    rule = image_rule([IMAGE], keys=[public_key()])
    policy = cluster_policy("b", namespaces={"team": "shop"}, images=[rule], tokens=[token("l.example.com")], mode=mode)
    audience = protected_audience("ledger", "l.example.com")
    result = try_on(tmp_path, [policy, audience], pod("api", "shop", pod_spec(container(f"{IMAGE}:v1"))))
    assert result.exit_code == 3


def test_a_denial_for_good_stands_whatever_the_registry_says(tmp_path: Path) -> None:
    rule = image_rule([IMAGE], keys=[public_key()])
    policy = cluster_policy("baseline", namespaces={"team": "shop"}, images=[rule])
    spec = pod_spec(container(f"{IMAGE}:v1"), container("docker.io/library/nginx", name="other"))
    result = try_on(tmp_path, [policy], pod("api", "shop", spec))
    assert result.exit_code == 1


def test_a_pod_that_nothing_governs_is_admitted_untouched(tmp_path: Path) -> None:
    policy = cluster_policy("other", namespaces={"team": "bank"}, images=[image_rule([IMAGE], digests=[DIGEST])])
    result = try_on(tmp_path, [policy], pod("api", "shop", pod_spec(container("nginx"))), "-o", "json")
    assert (result.exit_code, told(result)["verdict"]) == (0, "not governed")


def test_a_namespaced_policy_without_namespace_is_one_of_the_pods_namespace(tmp_path: Path) -> None:
    policy = trust_policy("own", "shop", images=[image_rule([IMAGE], digests=[DIGEST])])
    del policy["metadata"]["namespace"]
    result = try_on(tmp_path, [policy], pod("api", "shop", pod_spec(container("nginx"))), "-o", "json")
    assert told(result)["policies"] == [{"policy": "TrustPolicy shop/own", "mode": "Enforce"}]


def test_an_audience_that_nobody_declares_is_told(tmp_path: Path) -> None:
    policies = [listed(tokens=[token("ledger.example.com")])]
    result = try_on(tmp_path, policies, pod("api", "shop", pod_spec(container(PINNED))), "-o", "json")
    assert told(result)["tokens"] == []
    assert "ResolvedRefs=False AudienceUnavailable" in result.stderr
    more = write(tmp_path, "audience.yaml", protected_audience("ledger", "ledger.example.com"))
    result = try_on(
        tmp_path, policies, pod("api", "shop", pod_spec(container(PINNED))), "-o", "json", f"--audience={more}"
    )
    assert len(told(result)["tokens"]) == 1


def test_the_requester_of_a_workload_is_its_controller_unless_one_is_named(tmp_path: Path) -> None:
    bound = [{"kind": "ServiceAccount", "namespace": "kube-system", "name": "replicaset-controller"}]
    policy = listed(
        binding={"requesters": bound, "controllers": [{"apiGroup": "apps", "kind": "Deployment", "name": ""}]}
    )
    obj = deployment("api", "shop", pod_spec(container(PINNED)))
    assert try_on(tmp_path, [policy], obj).exit_code == 0
    denied = try_on(tmp_path, [policy], obj, "--requester=dev")
    assert (denied.exit_code, "RequesterNotBound" in denied.stdout) == (1, True)
    assert "ControllerNotBound" in try_on(tmp_path, [policy], pod("api", "shop", pod_spec(container(PINNED)))).stdout


def test_all_faults_of_all_files_are_told_with_file_object_and_path(tmp_path: Path) -> None:
    first, second = listed(mode="enforce"), listed(unmatchedImages="Sometimes")
    result = try_on(tmp_path, [first, second], pod("api", "shop", pod_spec(container(PINNED))))
    assert result.exit_code == 2
    assert "policies.yaml: ClusterTrustPolicy baseline: spec.mode: must be one of" in result.stderr
    assert "spec.unmatchedImages: must be one of" in result.stderr


@pytest.mark.parametrize(
    ("policies", "obj", "told"),
    [
        ([pod("x", "shop", pod_spec())], pod("x", "shop", pod_spec()), "expected apiVersion countersign.dev/v1alpha1"),
        ([protected_audience("a", "a.example.com")], pod("x", "shop", pod_spec()), "no ClusterTrustPolicy"),
        ([listed()], {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}, "makes no pods"),
        ([listed()], pod("x", "shop", {"containers": {}}), "$.spec.containers"),
    ],
)
def test_files_that_hold_something_else_are_refused(
    tmp_path: Path, policies: list[dict[str, Any]], obj: dict[str, Any], told: str
) -> None:
    result = try_on(tmp_path, policies, obj)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("text", "told"), [("{", "not YAML"), ("- 1\n", "holds list"), ("a: 1\n---\nb: 1\n", "holds 2 objects")]
)
def test_a_pod_file_that_cannot_be_read_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    result = countersign("policy", "test", write(tmp_path, "p.yaml", listed()), f"--pod={path}")
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    result = countersign("policy", "test", str(tmp_path / "none.yaml"), f"--pod={tmp_path / 'none'}")
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_the_pod_may_come_from_standard_input(tmp_path: Path) -> None:
    file = write(tmp_path, "p.yaml", listed())
    given = yaml.safe_dump(pod("api", "shop", pod_spec(container("nginx"))))
    args = ("policy", "test", file, "--pod=-", "--namespace-labels=team=shop", "--offline")
    assert countersign(*args, input_=given).exit_code == 1


@pytest.mark.parametrize("label", ["team", "=x", "a=b c"])
def test_a_label_that_is_none_is_refused(tmp_path: Path, label: str) -> None:
    result = try_on(tmp_path, [listed()], pod("api", "shop", pod_spec()), f"--namespace-labels={label}")
    assert result.exit_code == 2
    assert "key=value" in result.stderr


def test_nothing_that_a_terminal_would_obey_is_printed(tmp_path: Path) -> None:
    obj = pod("api", "shop", pod_spec(container("nginx\x1b[2Jgone")))
    file, pod_file = write(tmp_path, "p.yaml", listed()), tmp_path / "pod.json"
    pod_file.write_text(json.dumps(obj))
    result = countersign("policy", "test", file, f"--pod={pod_file}", "--namespace-labels=team=shop", "--offline")
    assert result.exit_code == 1
    assert "\x1b" not in result.output


def facts(*configs: tuple[tuple[str, ...], tuple[str, ...]]) -> ImageFacts:
    return ImageFacts(
        image=IMAGE,
        digest=DIGEST,
        vouches=(),
        checked_keys=(),
        configs=tuple(
            PlatformConfig(platform="linux/amd64", digest=DIGEST, entrypoint=entry, cmd=cmd, config_digest=DIGEST)
            for entry, cmd in configs
        ),
    )


def key_file(name: str) -> KeyFile:
    pem = public_key()
    return KeyFile(Path(name), pem, parse_public_key(pem))


def test_a_first_policy_lists_the_digest_where_no_key_is_given() -> None:
    text = first_policy(facts((("/app",), ())), Found((), (), ()), name=None, labels={}, owner="me@example.com")
    policy = yaml.safe_load(text)
    assert problems(ClusterTrustPolicy, policy) == ()
    assert policy["metadata"]["name"] == "api"
    assert policy["spec"]["mode"] == "Audit"
    assert policy["spec"]["images"] == [{"name": "api", "globs": [IMAGE], "digests": [DIGEST]}]
    assert 'entrypoint ["/app"], cmd [] (args are free)' in text


def test_a_first_policy_names_the_keys_that_vouch() -> None:
    one, other = key_file("keys/cosign.pub"), key_file("old/cosign.pub")
    found = facts(((), ("/app",)))
    vouches = tuple(Vouch(each.key.fingerprint, "bundle", "") for each in (one, other))
    signers = signers_of(msgspec.structs.replace(found, vouches=vouches), (), [one, other], "")
    text = first_policy(found, signers, name="base", labels={"team": "x.y"}, owner='a "b"')
    policy = yaml.safe_load(text)
    assert problems(ClusterTrustPolicy, policy) == ()
    authorities = policy["spec"]["images"][0]["authorities"]
    assert [(one["name"], one["key"]["pem"]) for one in authorities] == [
        ("cosign", [one.pem]),
        ("cosign-2", [other.pem]),
    ]
    assert policy["spec"]["match"]["namespaceSelector"]["matchLabels"] == {"team": "x.y"}
    assert policy["spec"]["owner"] == 'a "b"'
    assert "args may not be changed" in text
    assert one.key.fingerprint in text


@pytest.mark.parametrize(
    ("text", "label"), [("My_App.v2", "my-app-v2"), ("-x-", "x"), ("__", "images"), ("a" * 80, "a" * 63)]
)
def test_a_name_is_made_a_label(text: str, label: str) -> None:
    assert dns_label(text) == label


def test_files_may_hold_evidence_roots_as_people_write_them_or_as_the_cluster_has_them(tmp_path: Path) -> None:
    content = public_good_root().decode()
    inline = evidence_root("inline", trustedRoot=content)
    config_map = evidence_root("fetched", configMapRef={"name": "sigstore"})
    source = source_of(msgspec.convert(config_map["spec"], EvidenceRootSpec))
    exported = {**config_map, "status": {"trustedRoot": content, "source": source}}
    bare = evidence_root("bare", configMapRef={"name": "sigstore"})
    file = write(tmp_path, "all.yaml", listed(), inline, exported, bare)
    roots = snapshot([Path(file)], "shop", "countersign-system").roots
    assert roots["inline"] == roots["fetched"]
    assert roots["inline"].anchors
    assert "not fetched yet" in roots["bare"].problem


def test_an_evidence_root_that_the_cluster_would_refuse_is_refused(tmp_path: Path) -> None:
    wrong = evidence_root("wrong", trustedRoot="nothing")
    result = try_on(tmp_path, [listed(), wrong], pod("api", "shop", pod_spec(container(PINNED))))
    assert result.exit_code == 2
    assert "spec.sigstore.trustedRoot" in result.output


def test_times_in_files_are_texts_with_or_without_quotation_marks(tmp_path: Path) -> None:
    path = tmp_path / "exception.yaml"
    path.write_text("kind: TrustException\nspec: {expiresAt: 2026-05-01T00:00:00Z, day: 2026-05-01}\n")
    (document,) = documents(path)
    assert document.content["spec"] == {"expiresAt": "2026-05-01T00:00:00Z", "day": "2026-05-01"}


@pytest.mark.parametrize("predicate_type", [*PREDICATE_TYPES.values(), "https://example.com/review/v1"])
def test_a_condition_that_is_proposed_may_stand_in_a_policy(predicate_type: str) -> None:
    attested = Attested(predicate_type, ("ci",), {"result": True})
    lines = [line.replace("# ", "", 1) for line in attestation_lines(attested, "one") if "604800" not in line]
    (rule,) = yaml.safe_load("\n".join(lines))
    (validation,) = rule["validations"]
    assert conditions.problem(validation["expression"]) == ""
    compiled(validation["expression"])
