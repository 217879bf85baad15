from __future__ import annotations

import msgspec

from countersign.api.grant import WorkloadGrant
from countersign.grants.sharing import MAX_PARTS, Sharing
from tests.unit.grants.build import active


def read_anew(grant: WorkloadGrant) -> WorkloadGrant:
    return msgspec.json.decode(msgspec.json.encode(grant), type=WorkloadGrant)


def test_a_grant_stays_what_it_was_and_equal_parts_are_one() -> None:
    grant, _ = active()
    sharing = Sharing()
    first, second = (sharing.shared(read_anew(grant)) for _ in range(2))
    assert first == second == grant
    assert first.spec.images is second.spec.images
    assert first.spec.policies is second.spec.policies
    assert first.spec.tokens is second.spec.tokens


def test_what_is_kept_is_bounded() -> None:
    grant, _ = active()
    sharing = Sharing()
    for number in range(MAX_PARTS + 1):
        one = msgspec.structs.replace(grant, spec=msgspec.structs.replace(grant.spec, owner=f"{number}@example.com"))
        assert sharing.shared(one) == one
    assert len(sharing) <= MAX_PARTS
