"""Where evidence lives: in which order lists are looked through, and what is never missed for a wrong label."""

import msgspec
import pytest

from countersign.gate.evidence.places import MAX_CANDIDATES, SIGN_PREDICATE_TYPE, worth_fetching
from countersign.gate.evidence.service import EvidenceService
from countersign.registry.manifest import Descriptor
from countersign.trust.evidence.facts import joined
from tests.fakes.registry import BUNDLE, EMPTY, FakeRegistry, entry, index, manifest
from tests.fakes.signing import make_key
from tests.unit.gate.evidence_scene import KEY, SIGNER, ask, facts, refusal

PROVENANCE = "https://slsa.dev/provenance/v1"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"


def descriptor(number: int, kind: str = BUNDLE, predicate: str = "") -> Descriptor:
    annotations = {"dev.sigstore.bundle.predicateType": predicate} if predicate else None
    return Descriptor(digest=f"sha256:{number:064x}", artifact_type=kind, annotations=annotations)


def test_the_likeliest_are_looked_at_first_and_nothing_is_left_out_for_its_type() -> None:
    listed = [
        descriptor(1, "application/spdx+json"),
        descriptor(2, OCI_EMPTY),
        descriptor(3),
        descriptor(4, OCI_EMPTY, SIGN_PREDICATE_TYPE),
        descriptor(3),
    ]
    assert [int(one.digest[-1]) for one in worth_fetching(listed, ())] == [3, 4, 2, 1]


def test_a_bundle_that_says_it_attests_what_nobody_asks_about_is_left_out() -> None:
    listed = [descriptor(1, predicate=PROVENANCE), descriptor(2, predicate=SIGN_PREDICATE_TYPE)]
    assert [int(one.digest[-1]) for one in worth_fetching(listed, ())] == [2]
    assert [int(one.digest[-1]) for one in worth_fetching(listed, (PROVENANCE,))] == [1, 2]


def test_a_long_list_is_looked_at_from_both_ends() -> None:
    listed = [descriptor(number) for number in range(3 * MAX_CANDIDATES)]
    found = [int(one.digest[7:], 16) for one in worth_fetching(listed, ())]
    half = MAX_CANDIDATES // 2
    assert found == [*range(half), *range(3 * MAX_CANDIDATES - half, 3 * MAX_CANDIDATES)]


def test_a_flood_of_another_type_takes_no_room_from_what_is_likelier() -> None:
    flood = [descriptor(number, "application/spdx+json") for number in range(1, 3 * MAX_CANDIDATES)]
    found = worth_fetching([*flood, descriptor(0), *flood], ())
    assert found[0].digest == f"sha256:{0:064x}"
    assert len(found) == MAX_CANDIDATES


@pytest.mark.parametrize("artifact_type", ["", OCI_EMPTY, "application/spdx+json"])
@pytest.mark.parametrize("layer_type", [BUNDLE, OCI_EMPTY, "application/octet-stream"])
async def test_a_bundle_is_known_by_its_content_whatever_its_types_say(
    registry: FakeRegistry, service: EvidenceService, artifact_type: str, layer_type: str
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_bundle("team/app", digest, SIGNER, annotate=False, artifact_type=artifact_type, layer_type=layer_type)
    assert [vouch.format for vouch in (await facts(service, ask(registry, "team/app:v1"))).vouches] == ["bundle"]


async def test_fifty_signatures_of_strangers_do_not_hide_the_right_one(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = registry.put_image("team/app", "v1")
    stranger = make_key()
    for number in range(50):
        registry.put_bundle("team/app", digest, stranger, annotate=number % 2 == 0)
    registry.put_bundle("team/app", digest, SIGNER, annotate=False)
    for _ in range(50):
        registry.put_bundle("team/app", digest, stranger)
    registry.put_classic_signature("team/app", digest, *[stranger] * 50, SIGNER)
    found = await facts(service, ask(registry, "team/app:v1"))
    assert sorted(vouch.format for vouch in found.vouches) == ["bundle", "classic"]


async def test_strangers_signatures_are_fetched_once_and_listed_again(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = registry.put_image("team/app", "v1")
    for _ in range(50):
        registry.put_bundle("team/app", digest, make_key())
    request = ask(registry, f"team/app@{digest}")
    assert (await facts(service, request)).vouches == ()
    cold = len(registry.paths)
    assert cold >= 100
    service._found._entries.clear()  # the short memory of an absence has ended
    registry.put_bundle("team/app", digest, SIGNER)
    assert (await facts(service, request)).vouches
    # The lists, the new referrer's manifest and its bundle.
    assert len(registry.paths) - cold <= 5


async def test_the_fallback_tag_counts_in_a_registry_that_has_the_api_too(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    """As after a copy, tag by tag, from a registry without the API."""
    one_registry.referrers_api = False
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    one_registry._referrers.clear()
    one_registry.referrers_api = True
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches


@pytest.mark.parametrize("under", ["sha256-{}", "sha256-{}.sig"])
async def test_nonsense_under_one_tag_does_not_spoil_what_is_found_elsewhere(
    ca: object, service: EvidenceService, one_registry: FakeRegistry, under: str
) -> None:
    one_registry.referrers_api = under.endswith(".sig")
    digest = one_registry.put_image("team/app", "v1")
    if one_registry.referrers_api:
        one_registry.put_bundle("team/app", digest, SIGNER)
    else:
        one_registry.put_classic_signature("team/app", digest, SIGNER)
    one_registry.put_manifest("team/app", b'{"nonsense": true}', under.format(digest.removeprefix("sha256:")))
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches


async def test_signatures_in_a_repository_of_their_own_are_found_there_and_only_where_the_policy_says(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_bundle("signatures/all", digest, SIGNER)
    registry.put_classic_signature("signatures/all", digest, SIGNER)
    elsewhere = f"{registry.host}/signatures/all"
    assert (await facts(service, ask(registry, "team/app:v1"))).vouches == ()
    found = await facts(service, ask(registry, "team/app:v1", repositories=(elsewhere,)))
    assert sorted(vouch.format for vouch in found.vouches) == ["bundle", "classic"]
    assert found.repositories == (elsewhere,)
    assert not any("/team/app/referrers/" in path for path in registry.paths[-5:])
    found = await facts(service, ask(registry, "team/app:v1", repositories=("", elsewhere)))
    assert len(found.vouches) == 2


async def test_a_repository_of_signatures_that_is_not_there_has_none(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    registry.put_image("team/app", "v1")
    request = ask(registry, "team/app:v1", repositories=(f"{registry.host}/nothing/here",))
    assert (await facts(service, request)).vouches == ()


# Platforms


async def test_a_signature_on_a_platforms_manifest_counts_for_that_manifest_and_only_where_asked(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    amd = registry.put_image("team/app", entrypoint=["/app"])
    arm = registry.put_image("team/app", entrypoint=["/app"], platform="linux/arm64")
    digest = registry.put_manifest("team/app", index([entry(amd, "linux/amd64"), entry(arm, "linux/arm64")]), "v1")
    registry.put_bundle("team/app", arm, SIGNER)
    registry.put_classic_signature("team/app", amd, SIGNER)
    assert (await facts(service, ask(registry, "team/app:v1"))).vouches == ()
    found = await facts(service, ask(registry, "team/app:v1", platforms=True))
    assert {(vouch.digest, vouch.format) for vouch in found.vouches} == {(arm, "bundle"), (amd, "classic")}
    assert found.platforms_checked
    assert {config.digest for config in found.configs} == {amd, arm}
    registry.put_bundle("team/app", digest, SIGNER)
    service._found._entries.clear()
    found = await facts(service, ask(registry, "team/app:v1", platforms=True))
    assert ("", "bundle") in {(vouch.digest, vouch.format) for vouch in found.vouches}


async def test_a_plain_manifest_is_its_own_platform(one_registry: FakeRegistry, service: EvidenceService) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    found = await facts(service, ask(one_registry, "team/app:v1", platforms=True))
    assert [(vouch.key_fingerprint, vouch.digest) for vouch in found.vouches] == [(KEY.fingerprint, "")]
    assert len([path for path in one_registry.paths if "/referrers/" in path]) == 1


async def test_an_index_whose_child_was_swapped_is_refused(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    good = one_registry.put_image("team/app", entrypoint=["/app"])
    evil = one_registry.put_image("team/app", entrypoint=["/evil"])
    one_registry.put_manifest("team/app", index([entry(good, "linux/amd64")]), "v1")
    one_registry._manifests["team/app", good] = one_registry._manifests["team/app", evil]
    request = ask(one_registry, "team/app:v1", platforms=True)
    assert (await refusal(service, request)).reason == "Malformed"


async def test_an_empty_layer_is_not_fetched(one_registry: FakeRegistry, service: EvidenceService) -> None:
    digest = one_registry.put_image("team/app", "v1")
    layer = {"mediaType": OCI_EMPTY, "digest": one_registry.put_blob(EMPTY), "size": 2}
    one_registry.attach("team/app", digest, manifest(one_registry.put_blob(EMPTY), layers=[layer]))
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches == ()
    assert not any("/blobs/" in path for path in one_registry.paths)


async def test_what_is_found_beside_an_image_has_no_member_that_an_older_release_would_not_read(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_bundle("team/app", digest, SIGNER)
    found = await facts(service, ask(registry, "team/app:v1", repositories=("",)))
    again = joined(found, await facts(service, ask(registry, "team/app:v1")))
    for one in (found, again):
        assert msgspec.to_builtins(one).keys() == {"image", "digest", "vouches", "checked_keys", "configs"}
