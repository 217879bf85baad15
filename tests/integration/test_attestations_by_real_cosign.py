"""Attestations made by the real cosign, in both forms: examined in worker processes, with the conditions that the
documentation gives as examples."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from countersign.runtime.workers import Workers
from countersign.signatures.examine import Candidate, Examined, Question, pack, unpack
from countersign.signatures.keys import parse_public_key
from countersign.signatures.roots.trust_root import parse_trust_root
from countersign.trust.evidence.conditions import condition_name
from tests.attestation_examples import BROKEN, COSIGN_TYPES, PREDICATES, example
from tests.lab.cosign import Form, KeyPair
from tests.lab.images import PushedImage, Repository
from tests.lab.lab import Lab
from tests.lab.registries import RegistryKind

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("attester")


@pytest.fixture(scope="module")
def other_key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("no-attester")


@pytest.fixture
def repository(lab: Lab, request: pytest.FixtureRequest) -> Repository:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")
    return lab.registry(RegistryKind.REFERRERS).repository(f"attested/{name}")


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers(1)
    yield workers
    await workers.close()


def attest(lab: Lab, repository: Repository, key: KeyPair, form: Form, kind: str, predicate: Any) -> PushedImage:
    image = repository.push("v1")
    lab.cosign.attest(
        lab.registry(RegistryKind.REFERRERS), image, key, predicate=predicate, predicate_type=kind, form=form
    )
    return image


def candidates(repository: Repository, image: PushedImage) -> list[Candidate]:
    """What cosign has put beside the image, whichever its form."""
    tag = f"sha256-{image.digest.removeprefix('sha256:')}.att"
    classic = [tag] if tag in repository.tags() else []
    bundles = [one["digest"] for one in repository.referrers(image.digest)]
    return [
        Candidate(
            form="dsse" if name in classic else "bundle",
            data=repository.get_blob(layer["digest"]),
            annotations=layer.get("annotations", {}),
        )
        for name in (*classic, *bundles)
        for layer in json.loads(repository.get_manifest(name))["layers"]
    ]


async def examined(
    workers: Workers, candidate: Candidate, image: PushedImage, key: KeyPair, kind: str, *conditions: str
) -> Examined:
    question = Question(
        digest=image.digest, name=image.repository, keys=(key.public_pem,), predicates={kind: conditions}
    )
    return await answered(workers, candidate, question)


async def answered(workers: Workers, candidate: Candidate, question: Question) -> Examined:
    deadline = asyncio.get_running_loop().time() + 60
    function = "countersign.signatures.examine:examine_packed"
    return unpack(await workers.run(function, *pack(candidate, question), deadline=deadline))


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("kind", sorted(PREDICATES))
async def test_the_documented_conditions_hold_for_what_they_ask_and_for_nothing_else(
    lab: Lab, repository: Repository, workers: Workers, key: KeyPair, other_key: KeyPair, kind: str, form: Form
) -> None:
    rule = example(kind)
    conditions = [one.expression for one in rule.validations]
    image = attest(lab, repository, key, form, COSIGN_TYPES.get(kind, kind), PREDICATES[kind])
    (candidate,) = candidates(repository, image)
    found = await examined(workers, candidate, image, key, kind, *conditions)
    assert found.problem == ""
    (one,) = found.attestations
    assert one.vouch.key_fingerprint == parse_public_key(key.public_pem).fingerprint
    assert one.vouch.format == str(form)
    assert [(claim.condition, claim.holds, claim.found) for claim in one.claims] == [
        (condition_name(kind, condition), True, "") for condition in conditions
    ]
    # Of another type it is none, by another key and about another image nothing at all.
    assert not (await examined(workers, candidate, image, key, "https://example.com/other")).attestations
    assert (await examined(workers, candidate, image, other_key, kind)).problem.startswith("NoKeyMatches")
    other = dataclasses.replace(image, digest="sha256:" + "00" * 32)
    assert (await examined(workers, candidate, other, key, kind)).problem.startswith("OtherDigest")


@pytest.mark.parametrize("form", list(Form))
async def test_a_certified_identity_attests_under_its_root_and_under_no_other(
    lab: Lab, repository: Repository, workers: Workers, form: Form
) -> None:
    kind = "https://slsa.dev/provenance/v1"
    conditions = tuple(one.expression for one in example(kind).validations)
    image = repository.push("v1")
    who = lab.sigstore.issuers.github("acme/ledger", ref="refs/tags/v1.2.3")
    lab.cosign.attest_keyless(
        *(lab.registry(RegistryKind.REFERRERS), image, who, lab.sigstore),
        predicate=PREDICATES[kind],
        predicate_type=COSIGN_TYPES[kind],
        form=form,
    )
    (candidate,) = candidates(repository, image)
    roots = [one.trusted_root.read_bytes() for one in (lab.sigstore, lab.another_sigstore("no-attester"))]
    asked = [
        Question(digest=image.digest, roots=some, predicates={kind: conditions})
        for some in ((roots[0],), tuple(roots), (roots[1],), (b"{}",), ())
    ]
    mine, both, *none = [await answered(workers, candidate, one) for one in asked]
    (one,) = mine.attestations
    assert one.vouch.identity is not None
    assert (one.vouch.identity.issuer, one.vouch.identity.subject) == (who.issuer, who.subject)
    assert one.vouch.proof is not None
    assert one.vouch.proof.root == parse_trust_root(roots[0]).hash
    assert one.vouch.proof.signed_at is not None
    assert [claim.holds for claim in one.claims] == [True] * len(conditions)
    assert both.attestations == mine.attestations
    assert [found.attestations for found in none] == [(), (), ()]
    assert all(found.problem for found in none)


@pytest.mark.parametrize("form", list(Form))
async def test_what_is_found_is_told_of_a_real_attestation(
    lab: Lab, repository: Repository, workers: Workers, key: KeyPair, form: Form
) -> None:
    kind = "https://cosign.sigstore.dev/attestation/vuln/v1"
    rule = example(kind)
    image = attest(lab, repository, key, form, "vuln", BROKEN[kind])
    (candidate,) = candidates(repository, image)
    (one,) = (
        await examined(workers, candidate, image, key, kind, *(one.expression for one in rule.validations))
    ).attestations
    assert [claim.holds for claim in one.claims] == [True, False]
    assert one.claims[1].found.startswith("predicate.scanner.result.Results[0].Vulnerabilities = a list of 2")


@pytest.mark.parametrize("form", list(Form))
async def test_cosigns_custom_type_wraps_the_file_as_the_documentation_says(
    lab: Lab, repository: Repository, workers: Workers, key: KeyPair, form: Form
) -> None:
    kind = "https://cosign.sigstore.dev/attestation/v1"
    image = attest(lab, repository, key, form, "custom", {"a": {"b": 1}})
    (candidate,) = candidates(repository, image)
    conditions = (
        "predicate.Data.contains('\"b\"') && has(predicate.Timestamp)",
        "statement._type == 'https://in-toto.io/Statement/v0.1'",
        "has(predicate.a)",
    )
    (one,) = (await examined(workers, candidate, image, key, kind, *conditions)).attestations
    assert [claim.holds for claim in one.claims] == [True, True, False]


@pytest.mark.parametrize("form", list(Form))
async def test_an_spdx_document_in_the_older_manner_is_one_string_as_the_documentation_says(
    lab: Lab, repository: Repository, workers: Workers, key: KeyPair, form: Form
) -> None:
    kind = "https://spdx.dev/Document"
    image = attest(lab, repository, key, form, "spdx", PREDICATES[kind])
    (candidate,) = candidates(repository, image)
    conditions = ("predicate.contains('SPDX-2.3')", "predicate.spdxVersion == 'SPDX-2.3'")
    (one,) = (await examined(workers, candidate, image, key, kind, *conditions)).attestations
    assert [claim.holds for claim in one.claims] == [True, False]
