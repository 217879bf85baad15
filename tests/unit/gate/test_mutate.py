"""`/mutate`: pins, tokens, receipt; idempotent, minimal, and nothing for whom no policy governs."""

import pytest

from countersign.api.names import MIRROR_ANNOTATION, RECEIPT_ANNOTATION
from countersign.cluster.cache import Key
from countersign.keys.receipt_keys import ReceiptKeys
from tests.unit.gate.workbench import Workbench, changed, operations, patched, pod, receipt_of, receipt_payload
from tests.unit.trust import build

TOKENS = (build.token(env_var="LEDGER_TOKEN_FILE"),)


def with_annotations(**annotations: str) -> dict[str, object]:
    made = pod()
    made["metadata"]["annotations"] = annotations
    return made


async def test_a_signed_image_by_tag_is_pinned_and_its_container_given_the_token() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    final = patched(pod(), await bench.mutate(pod()))
    [container] = final["spec"]["containers"]
    assert container["image"] == build.PINNED
    assert container["env"] == [{"name": "LEDGER_TOKEN_FILE", "value": "/var/run/secrets/countersign.dev/ledger/token"}]
    assert container["volumeMounts"] == [
        {
            "name": "countersign-token-ledger",
            "mountPath": "/var/run/secrets/countersign.dev/ledger",
            "readOnly": True,
        }
    ]
    [volume] = final["spec"]["volumes"]
    [source] = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == build.AUDIENCE
    assert set(receipt_payload(receipt_of(final))["images"]) == {build.PINNED}


async def test_the_second_call_changes_nothing() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS, api_token="Shorten"))
    once = patched(pod(), await bench.mutate(pod()))
    again = await bench.mutate(once)
    assert again.allowed
    assert again.patch is None
    assert bench.count("receipts", outcome="kept") == 1


async def test_a_receipt_keeps_of_many_signatures_those_that_policies_go_by_and_the_second_call_changes_nothing() -> (
    None
):
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    strangers = [build.certified(f"{number}@evil.example") for number in range(50)]
    bench.registries.found[build.TAGGED] = build.facts(vouches=[*strangers, build.vouch()])
    bench.registries.found[build.PINNED] = bench.registries.found[build.TAGGED]
    once = patched(pod(), await bench.mutate(pod()))
    [facts] = receipt_payload(receipt_of(once))["images"].values()
    assert [vouch["key_fingerprint"] for vouch in facts["vouches"]] == ["", build.fingerprint()]
    assert facts["left_out"] == 49
    assert (await bench.mutate(once)).patch is None
    assert (await bench.validate(once)).allowed


async def test_the_receipt_of_an_ordinary_image_has_no_member_that_an_older_release_would_not_read() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    final = patched(pod(), await bench.mutate(pod()))
    [facts] = receipt_payload(receipt_of(final))["images"].values()
    assert set(facts) == {"image", "digest", "vouches", "checked_keys", "configs"}
    assert {name for vouch in facts["vouches"] for name in vouch} == {"key_fingerprint", "format", "reference"}


async def test_a_container_that_another_webhook_adds_between_two_calls_is_covered() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    once = patched(pod(), await bench.mutate(pod()))
    sidecar = build.container("proxy", f"{build.REPOSITORY}-proxy:2")
    more = changed(once, containers=[*once["spec"]["containers"], sidecar])
    twice = patched(more, await bench.mutate(more))
    assert twice["spec"]["containers"][1]["image"].endswith(build.DIGEST)
    assert receipt_of(twice) != receipt_of(once)
    assert len(receipt_payload(receipt_of(twice))["images"]) == 2


async def test_a_dry_run_gets_a_marker_and_no_receipt() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    final = patched(pod(), await bench.mutate(pod(), dryRun=True))
    assert receipt_of(final) == "dry-run"
    assert final["spec"]["containers"][0]["image"] == build.PINNED


async def test_the_marker_of_a_dry_run_is_replaced_by_a_receipt() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    final = patched(pod(), await bench.mutate(pod(), dryRun=True))
    assert receipt_of(patched(final, await bench.mutate(final))).count(".") == 2


async def test_an_unsigned_image_is_refused_under_enforce_and_told_what_to_do() -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[build.TAGGED] = build.unsigned()
    answer = await bench.mutate(pod())
    assert not answer.allowed
    assert answer.message.startswith("ImageUnsigned: container api")
    assert "cosign sign" in answer.message
    assert (answer.code, answer.reason) == (403, "ImageUnsigned")
    assert answer.audit["verdict"] == "deny"


@pytest.mark.parametrize("mode", ["Warn", "Audit"])
async def test_a_pod_that_fails_without_enforcement_is_admitted_without_token_but_with_receipt(mode: str) -> None:
    bench = Workbench(build.cluster_policy(mode=mode, tokens=TOKENS))
    bench.registries.found[build.TAGGED] = build.unsigned()
    final = patched(pod(), await bench.mutate(pod()))
    assert "volumes" not in final["spec"]
    assert receipt_of(final)


async def test_evidence_that_is_late_is_a_retry_and_no_denial() -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[build.TAGGED] = build.unverifiable()
    answer = await bench.mutate(pod())
    assert (answer.allowed, answer.code, answer.status_reason) == (False, 503, "ServiceUnavailable")
    assert "could not verify in time, will be retried" in answer.message
    assert answer.audit["verdict"] == "retry"


async def test_a_pod_that_nothing_governs_is_left_alone() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "other"}))
    answer = await bench.mutate(pod())
    assert (answer.allowed, answer.patch, answer.reason) == (True, None, "NotGoverned")
    assert bench.registries.asked == []


async def test_a_pod_that_nothing_governs_loses_a_receipt_that_its_author_wrote() -> None:
    bench = Workbench()
    made = with_annotations(**{RECEIPT_ANNOTATION: "forged", "other": "stays"})
    final = patched(made, await bench.mutate(made))
    assert final["metadata"]["annotations"] == {"other": "stays"}


@pytest.mark.parametrize("text", ["forged", "dry-run", "a.b.c", ""])
async def test_a_foreign_receipt_on_a_governed_pod_is_replaced(text: str) -> None:
    bench = Workbench(build.cluster_policy())
    made = with_annotations(**{RECEIPT_ANNOTATION: text})
    final = patched(made, await bench.mutate(made))
    assert receipt_payload(receipt_of(final))["namespace"] == build.NAMESPACE


async def test_a_receipt_of_ours_for_another_request_is_replaced() -> None:
    bench = Workbench(build.cluster_policy())
    first = patched(pod(), await bench.mutate(pod()))
    other = patched(first, await bench.mutate(first, user="eve"))
    assert receipt_payload(receipt_of(other))["requester"]["username"] == "eve"
    bench.wall = bench.wall.replace(hour=13)
    later = patched(first, await bench.mutate(first))
    assert receipt_of(later) != receipt_of(first)


async def test_a_creation_time_written_by_the_author_does_not_keep_an_old_receipt_alive() -> None:
    bench = Workbench(build.cluster_policy())
    first = patched(pod(), await bench.mutate(pod()))
    first["metadata"]["creationTimestamp"] = bench.wall.strftime("%Y-%m-%dT%H:%M:%SZ")
    bench.wall = bench.wall.replace(hour=13)
    assert receipt_of(patched(first, await bench.mutate(first))) != receipt_of(first)


async def test_a_mirror_pod_passes_untouched() -> None:
    bench = Workbench(build.cluster_policy())
    made = with_annotations(**{MIRROR_ANNOTATION: "x", RECEIPT_ANNOTATION: "y"})
    node = {"user": "system:node:n1", "groups": ["system:nodes", "system:authenticated"]}
    for answer in (await bench.mutate(made, **node), await bench.validate(made, **node)):
        assert (answer.allowed, answer.patch, answer.reason) == (True, None, "MirrorPod")


@pytest.mark.parametrize(("user", "group"), [("eve", "system:nodes"), ("system:node:n1", "system:authenticated")])
async def test_a_pod_that_only_says_it_is_a_mirror_is_refused(user: str, group: str) -> None:
    bench = Workbench(build.cluster_policy())
    made = with_annotations(**{MIRROR_ANNOTATION: "x"})
    for answer in (
        await bench.mutate(made, user=user, groups=[group]),
        await bench.validate(made, user=user, groups=[group]),
    ):
        assert (answer.allowed, answer.reason) == (False, "MirrorForged")


async def test_an_update_pins_the_image_that_it_brings_and_no_other() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    old = pod(build.container(), build.container("second", f"{build.REPOSITORY}:old"))
    new = changed(old, containers=[build.container(image=f"{build.REPOSITORY}:2.0"), old["spec"]["containers"][1]])
    answer = await bench.mutate(new, old=old)
    assert operations(answer) == [
        {
            "op": "replace",
            "path": "/spec/containers/0/image",
            "value": f"{build.REPOSITORY}:2.0@{build.DIGEST}",
        }
    ]


async def test_an_update_that_brings_no_image_asks_nobody() -> None:
    bench = Workbench(build.cluster_policy())
    answer = await bench.mutate(changed(pod(), labels={"app": "x"}), old=pod())
    assert (answer.allowed, answer.patch) == (True, None)
    assert bench.registries.asked == []


async def test_a_pod_that_is_being_deleted_passes() -> None:
    bench = Workbench(build.cluster_policy())
    going = changed(pod(build.container(image="evil")), deletionTimestamp="2026-03-01T12:00:00Z")
    assert (await bench.mutate(going, old=pod())).reason == "BeingDeleted"
    assert (await bench.validate(going, old=pod())).reason == "BeingDeleted"


async def test_an_ephemeral_containers_image_is_pinned() -> None:
    bench = Workbench(build.cluster_policy())
    new = changed(pod(), ephemeralContainers=[build.container("debug", f"{build.REPOSITORY}-debug:1")])
    answer = await bench.mutate(new, old=pod(), sub="ephemeralcontainers")
    assert [operation["path"] for operation in operations(answer)] == ["/spec/ephemeralContainers/0/image"]


async def test_the_pods_own_pull_secrets_are_asked_with() -> None:
    bench = Workbench(build.cluster_policy())
    await bench.mutate(pod(imagePullSecrets=[{"name": "regcred"}]))
    [request] = bench.registries.requests
    assert (request.namespace, request.service_account, request.pull_secrets) == (
        build.NAMESPACE,
        "worker",
        ("regcred",),
    )


async def test_the_namespace_is_the_requests_and_not_the_objects() -> None:
    bench = Workbench(build.trust_policy())
    made = pod()
    made["metadata"]["namespace"] = "elsewhere"
    assert receipt_of(patched(made, await bench.mutate(made)))


async def test_a_namespace_that_cannot_be_read_is_a_retry() -> None:
    bench = Workbench(build.cluster_policy())
    answer = await bench.mutate(pod(), namespace="unknown")
    assert (answer.allowed, answer.code, answer.reason) == (False, 503, "NamespaceUnknown")
    bench.cluster.broken = True
    assert (await bench.mutate(pod(), namespace="unknown")).code == 503


async def test_nothing_is_admitted_past_a_policy_that_cannot_be_read() -> None:
    bench = Workbench()
    bench.cluster_policies.reject(Key("", "newer"), "unknown mode")
    answer = await bench.mutate(pod())
    assert (answer.allowed, answer.reason) == (False, "PolicyUnreadable")


async def test_a_pod_that_cannot_be_read_is_refused() -> None:
    bench = Workbench(build.cluster_policy())
    answer = await bench.mutate({"metadata": {"labels": 7}})
    assert (answer.allowed, answer.code) == (False, 400)


async def test_without_a_usable_receipt_key_a_pod_is_refused_under_enforce_and_admitted_bare_otherwise() -> None:
    for mode in ("Enforce", "Warn", "Audit"):
        bench = Workbench(build.cluster_policy(mode=mode, tokens=TOKENS))
        bench.signer.keys = ReceiptKeys(())
        answer = await bench.mutate(pod())
        if mode == "Enforce":
            assert (answer.allowed, answer.code, answer.reason) == (False, 503, "ReceiptUnsigned")
            assert "the controller makes a new one" in answer.message
        else:
            final = patched(pod(), answer)
            assert "volumes" not in final["spec"], "a token that nobody could mint would keep the pod from starting"
            assert receipt_of(final) == ""
            assert final["spec"]["containers"][0]["image"] == build.PINNED
