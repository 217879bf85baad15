"""How uses reach a grant's status: seldom, once, beside whatever else is written; and what misuse does to the grant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.access.misuse import IN_FLIGHT_SECONDS
from countersign.api.audience import SourceAddresses
from countersign.api.grant import GrantController, WorkloadGrant
from countersign.api.pod import ContainerStatus, Pod, PodIP
from countersign.api.responses import Responses
from countersign.api.verifier_calls import AddressUse, TokenUses, UsesReport
from countersign.controller.store import StaleError
from countersign.trust.policies.policy import Policy
from tests.unit.controller.cluster import GOOD, Cluster
from tests.unit.grants.build import BORN, at, changed, stamp
from tests.unit.trust.build import AUDIENCE, audience, cluster_policy, token

OWN = "10.0.0.7"
OTHER = "10.0.0.9"
REVOKING = cluster_policy(tokens=(token(),), responses=Responses(misuse="Revoke"))


def clock(seconds: float) -> float:
    return at(seconds).timestamp()


def used(
    *active: float,
    refused: tuple[float, ...] = (),
    uid: str = "pod-uid",
    of: str = AUDIENCE,
    **addresses: tuple[float, float],
) -> TokenUses:
    """Uses at so many seconds after the pod's birth; addresses by `own`, `other`, from and until."""
    places = {"own": OWN, "other": OTHER}
    return TokenUses(
        pod_uid=uid,
        audience=of,
        active=len(active),
        first_active=clock(min(active)) if active else 0.0,
        last_active=clock(max(active)) if active else 0.0,
        refused={"PodTerminal": len(refused)} if refused else {},
        last_refused=clock(max(refused)) if refused else 0.0,
        last_reason="PodTerminal" if refused else "",
        addresses=tuple(
            AddressUse(address=places[name], first=clock(first), last=clock(last), asker="ledger/api")
            for name, (first, last) in addresses.items()
        ),
        askers=("ledger/api",),
    )


async def told(cluster: Cluster, seconds: float, *uses: TokenUses, verifier: str = "0001") -> int:
    """At that time a verifier tells; the woken pods are reconciled. How many writes that made."""
    cluster.now = at(seconds)
    writes = cluster.store.writes
    cluster.reported = [UsesReport(verifier=verifier, cursor=1, uses=uses)]
    await cluster.uses.collect()
    woken, cluster.woken[:] = list(cluster.woken), []
    for uid in woken:
        await cluster.settle(uid)
    return cluster.store.writes - writes


def grant(cluster: Cluster, uid: str = "pod-uid") -> WorkloadGrant:
    (found,) = [one for one in cluster.store.grants.values() if one.spec.pod.uid == uid]
    return found


def misuse(cluster: Cluster) -> list[str]:
    return [one.kind for one in grant(cluster).status.misuse]


def reports(cluster: Cluster) -> list[str]:
    return [note for _, reason, note in cluster.events if reason == "MisuseReported"]


def trust(cluster: Cluster, worth: SourceAddresses) -> None:
    declared = audience()
    meta = msgspec.structs.replace(declared.metadata, resource_version=str(cluster.version()), generation=2)
    spec = msgspec.structs.replace(declared.spec, source_addresses=worth)
    cluster.see(msgspec.structs.replace(declared, metadata=meta, spec=spec))


def with_address(pod: Pod, *addresses: str, restarts: int = 0, **spec: Any) -> Pod:
    containers = tuple(ContainerStatus(name=one.name, restart_count=restarts) for one in pod.spec.containers)
    status = msgspec.structs.replace(
        pod.status, pod_ips=tuple(PodIP(ip=one) for one in addresses), container_statuses=containers
    )
    return msgspec.structs.replace(pod, status=status, spec=msgspec.structs.replace(pod.spec, **spec))


async def ready(policy: Policy = GOOD, worth: SourceAddresses = "Ignored", **pod: Any) -> Cluster:
    cluster = Cluster(policy)
    trust(cluster, worth)
    made = cluster.admit()
    await cluster.survey()
    cluster.store_pod(with_address(made, OWN, **pod))
    await cluster.settle()
    assert cluster.state() == ("Active", "Admitted")
    return cluster


# Recording


async def test_a_first_use_is_recorded_at_once_and_the_next_not_before_its_time() -> None:
    cluster = await ready()
    assert await told(cluster, 10, used(10)) == 1
    uses = grant(cluster).status.uses
    assert uses is not None
    assert (uses.first_used_at, uses.last_used_at, uses.audiences) == (stamp(10), stamp(10), (AUDIENCE,))
    assert [await told(cluster, seconds, used(10, seconds)) for seconds in range(40, 600, 30)] == [0] * 19
    # Each grant waits a little longer than the time that is set, so that not all are written at once.
    assert await told(cluster, 761, used(10, 761)) == 1
    assert await told(cluster, 770, used(10, 770)) == 0
    after = grant(cluster).status.uses
    assert after is not None
    assert (after.first_used_at, after.last_used_at) == (stamp(10), stamp(761))


async def test_the_first_refusal_is_recorded_at_once_and_a_flood_of_them_is_one_write() -> None:
    cluster = await ready()
    await told(cluster, 10, used(10))
    assert await told(cluster, 20, used(10, refused=(20,))) == 1
    assert [await told(cluster, 20 + n / 10, used(10, refused=(20,) * n)) for n in range(2, 200)] == [0] * 198
    uses = grant(cluster).status.uses
    assert uses is not None
    assert (uses.refused, uses.last_refused_at, uses.last_refused_reason) == (1, stamp(20), "PodTerminal")
    assert await told(cluster, 900, used(10, refused=(*(20,) * 999, 900))) == 1
    uses = grant(cluster).status.uses
    assert uses is not None
    assert uses.refused == 1000


async def test_whatever_is_written_brings_the_uses_along() -> None:
    cluster = await ready()
    await told(cluster, 10, used(10))
    assert await told(cluster, 300, used(10, 300)) == 0
    cluster.store_pod(changed(cluster.pods["pod-uid"], phase="Succeeded"))
    writes = cluster.store.writes
    await cluster.settle()
    assert cluster.store.writes - writes == 1
    assert cluster.state() == ("Revoked", "Completed")
    uses = grant(cluster).status.uses
    assert uses is not None
    assert uses.last_used_at == stamp(300)


async def test_a_final_grant_goes_on_to_say_how_often_it_was_refused() -> None:
    cluster = await ready()
    cluster.store_pod(changed(cluster.pods["pod-uid"], phase="Failed"))
    await cluster.settle()
    before = grant(cluster).status
    assert await told(cluster, 30, used(refused=(30,))) == 1
    after = grant(cluster).status
    assert after.uses is not None
    assert after.uses.refused == 1
    assert msgspec.structs.replace(after, uses=None) == before


async def test_numbers_of_several_verifiers_add_up_over_a_restart() -> None:
    cluster = await ready()
    await told(cluster, 10, used(refused=(10,)), verifier="0001")
    await told(cluster, 900, used(refused=(10, 900)), verifier="0002")
    await cluster.restart()
    # The first verifier is gone; the second tells its numbers again.
    assert await told(cluster, 901, used(refused=(10, 900)), verifier="0002") == 0
    await told(cluster, 1800, used(refused=(10, 900, 1800)), verifier="0002")
    uses = grant(cluster).status.uses
    assert uses is not None
    assert uses.refused == 4


async def test_uses_of_a_pod_without_a_grant_are_not_kept() -> None:
    cluster = await ready()
    assert await told(cluster, 10, *(used(10, uid=f"unknown-{number}") for number in range(100))) == 0
    assert cluster.woken == []
    assert await told(cluster, 11, used(11)) == 1


async def test_a_grant_that_changed_meanwhile_is_read_anew_and_then_written() -> None:
    cluster = await ready()
    name = grant(cluster).metadata.name
    held = cluster.store.grants[name]
    meta = msgspec.structs.replace(held.metadata, resource_version=str(cluster.version()))
    cluster.store.grants[name] = msgspec.structs.replace(held, metadata=meta)
    with pytest.raises(StaleError):
        await told(cluster, 10, used(10))
    await cluster.settle()
    assert grant(cluster).status.uses is not None


async def test_a_pod_made_anew_with_the_same_name_and_address_inherits_nothing() -> None:
    cluster = await ready(worth="Direct")
    await told(cluster, 10, used(10, own=(10, 10), other=(10, 10)))
    assert misuse(cluster) == ["OtherAddress"]
    cluster.vanish()
    await cluster.settle()
    again = cluster.admit("another-uid")
    cluster.store_pod(with_address(changed(again, name="pod-uid"), OWN))
    await cluster.settle("another-uid")
    assert cluster.state("another-uid") == ("Active", "Admitted")
    status = grant(cluster, "another-uid").status
    assert (status.uses, status.misuse) == (None, ())


# Misuse


async def test_misuse_is_reported_once_whoever_leads() -> None:
    cluster = await ready(worth="Direct")
    assert await told(cluster, 10, used(10, own=(10, 10))) == 1
    assert misuse(cluster) == []
    assert await told(cluster, 20, used(10, 20, own=(10, 20), other=(20, 20))) == 1
    assert misuse(cluster) == ["OtherAddress"]
    (note,) = reports(cluster)
    assert OTHER in note
    assert OWN in note
    assert "ledger/api" in note
    assert cluster.state() == ("Active", "Admitted")
    await cluster.restart()
    assert await told(cluster, 30, used(10, 30, own=(10, 30), other=(20, 30))) == 0
    assert len(reports(cluster)) == 1


async def test_with_revoke_report_and_end_are_one_write() -> None:
    cluster = await ready(REVOKING, "Direct")
    assert await told(cluster, 20, used(20, other=(20, 20))) == 1
    assert cluster.state() == ("Revoked", "Misused")
    assert OTHER in grant(cluster).status.message
    assert misuse(cluster) == ["OtherAddress"]
    await cluster.restart()
    assert await told(cluster, 30, used(20, 30, other=(20, 30))) == 0
    assert [reason for _, reason, _ in cluster.events].count("Misused") == 1


async def test_a_controller_killed_before_the_write_ends_it_after_its_restart() -> None:
    cluster = await ready(REVOKING, "Direct")
    cluster.store.fail_on_write = 1
    with pytest.raises(ConnectionError):
        await told(cluster, 20, used(20, other=(20, 20)))
    assert cluster.state() == ("Active", "Admitted")
    await cluster.restart()
    await told(cluster, 30, used(20, 30, other=(20, 30)))
    assert cluster.state() == ("Revoked", "Misused")
    assert len(reports(cluster)) == 1


async def test_what_was_reported_ends_the_identity_once_the_policy_says_so_though_no_verifier_remembers() -> None:
    cluster = await ready(GOOD, "Direct")
    await told(cluster, 20, used(20, other=(20, 20)))
    await cluster.restart()
    cluster.apply(REVOKING)
    trust(cluster, "Direct")
    await cluster.survey()
    assert cluster.state() == ("Revoked", "Misused")
    assert len(reports(cluster)) == 1


async def test_what_rests_on_addresses_that_are_no_longer_trusted_ends_nothing() -> None:
    cluster = await ready(GOOD, "Direct")
    await told(cluster, 20, used(20, other=(20, 20)))
    trust(cluster, "Ignored")
    cluster.apply(REVOKING)
    trust(cluster, "Ignored")
    await cluster.survey()
    assert cluster.state() == ("Active", "Admitted")
    assert misuse(cluster) == ["OtherAddress"], "that it was found stays on record"


@pytest.mark.parametrize("worth", ["Ignored", "Steady"])
async def test_another_address_says_nothing_where_the_pods_own_is_not_seen(worth: SourceAddresses) -> None:
    cluster = await ready(REVOKING, worth)
    await told(cluster, 20, used(20, other=(20, 20)))
    assert (cluster.state(), misuse(cluster)) == (("Active", "Admitted"), [])


async def test_two_addresses_in_turn_are_told_where_there_should_be_one() -> None:
    cluster = await ready(worth="Steady")
    await told(cluster, 20, used(20, own=(10, 20)))
    await told(cluster, 60, used(60, own=(10, 20), other=(50, 60)))
    assert misuse(cluster) == [], "the pod may have moved"
    await told(cluster, 90, used(90, own=(10, 90), other=(50, 60)))
    assert misuse(cluster) == ["TwoAddresses"]


async def test_a_pod_on_its_nodes_network_has_no_address_of_its_own() -> None:
    cluster = await ready(REVOKING, "Direct", host_network=True)
    await told(cluster, 20, used(20, other=(20, 20)))
    assert misuse(cluster) == []


async def test_an_address_that_the_pod_had_before_stays_its_own() -> None:
    cluster = await ready(REVOKING, "Direct")
    cluster.store_pod(with_address(cluster.pods["pod-uid"], OTHER, restarts=1))
    await cluster.settle()
    await told(cluster, 20, used(20, own=(5, 20), other=(10, 20)))
    assert misuse(cluster) == []


async def test_what_an_earlier_sandbox_was_seen_as_is_not_held_against_a_pod_that_restarted() -> None:
    cluster = await ready(REVOKING, "Direct")
    cluster.store_pod(with_address(cluster.pods["pod-uid"], OTHER, restarts=1))
    cluster.now = at(100)
    await cluster.restart()
    await told(cluster, 110, used(110, own=(5, 50), other=(60, 110)))
    assert misuse(cluster) == []
    await told(cluster, 120, used(120, own=(5, 115), other=(60, 120)))
    assert misuse(cluster) == ["OtherAddress"]


async def test_a_use_after_the_end_is_told_on_the_grant_when_the_pod_is_gone() -> None:
    cluster = await ready()
    cluster.now = at(50)
    cluster.vanish()
    await cluster.settle()
    assert await told(cluster, 55, used(refused=(55,))) == 1
    assert misuse(cluster) == [], "requests were on their way"
    late = 50 + IN_FLIGHT_SECONDS + 1
    assert await told(cluster, late, used(refused=(55, late))) == 1
    assert misuse(cluster) == ["UsedAfterEnd"]
    ((regarding, _, note),) = [event for event in cluster.events if event[1] == "MisuseReported"]
    assert regarding == grant(cluster).metadata.uid
    assert stamp(late) in note
    assert cluster.state() == ("Revoked", "Deleted")


async def test_a_pod_that_drains_longer_than_its_identity_is_not_over_yet() -> None:
    cluster = await ready()
    going = changed(
        cluster.pods["pod-uid"], generation=2, deletion_timestamp=stamp(3600), deletion_grace_period_seconds=3600
    )
    cluster.store_pod(going)
    cluster.now = at(61)
    await cluster.settle()
    assert cluster.state() == ("Revoked", "Deleted")
    await told(cluster, 1000, used(refused=(1000,)))
    assert misuse(cluster) == []
    cluster.now = at(1100)
    cluster.vanish()
    await cluster.settle()
    await told(cluster, 1150, used(refused=(1150,)))
    assert misuse(cluster) == []
    await told(cluster, 1900, used(refused=(1900,)))
    assert misuse(cluster) == ["UsedAfterEnd"]


# Replicas

VAULT = "vault.example.com"
BOTH = cluster_policy(
    tokens=(token(), token("vault", VAULT)), responses=Responses(misuse="Revoke"),
)  # fmt: skip


async def replicated(count: int) -> Cluster:
    """So many replicas of one controller, that hold two audiences and use one."""
    cluster = Cluster(BOTH)
    vault = audience(VAULT, name="vault")
    meta = msgspec.structs.replace(vault.metadata, resource_version=str(cluster.version()))
    cluster.see(msgspec.structs.replace(vault, metadata=meta))
    cluster.given = msgspec.structs.replace(cluster.given, audiences=(*cluster.given.audiences, vault))
    uids = [f"pod-{number}" for number in range(count)]
    for uid in uids:
        cluster.admit(uid)
    await cluster.survey()
    made = GrantController(api_group="apps", kind="Deployment", name="api", uid="deployment-uid")
    for name, held in cluster.store.grants.items():
        spec = msgspec.structs.replace(held.spec, controller=made)
        meta = msgspec.structs.replace(held.metadata, resource_version=str(cluster.version()))
        cluster.store.grants[name] = msgspec.structs.replace(held, spec=spec, metadata=meta)
        cluster.see(cluster.store.grants[name])
    for uid in uids:
        assert len(grant(cluster, uid).spec.tokens) == 2
        await told(cluster, 10, used(10, uid=uid))
        assert cluster.state(uid) == ("Active", "Admitted")
    return cluster


async def compare(cluster: Cluster, seconds: float) -> None:
    cluster.now = at(seconds)
    await cluster.uses.compare()
    woken, cluster.woken[:] = list(cluster.woken), []
    for uid in woken:
        await cluster.settle(uid)


async def test_a_replica_that_uses_what_no_other_does_is_found() -> None:
    cluster = await replicated(3)
    await told(cluster, 4000, used(4000, uid="pod-0", of=VAULT))
    await compare(cluster, 4100)
    assert cluster.state("pod-0") == ("Active", "Admitted"), "others may begin to"
    await compare(cluster, 4700)
    assert cluster.state("pod-0") == ("Revoked", "Misused")
    assert VAULT in grant(cluster, "pod-0").status.message
    assert cluster.state("pod-1") == cluster.state("pod-2") == ("Active", "Admitted")


async def test_two_that_do_the_same_are_a_new_release_or_a_new_leader() -> None:
    cluster = await replicated(4)
    await told(cluster, 4000, used(4000, uid="pod-0", of=VAULT), used(4001, uid="pod-1", of=VAULT))
    await compare(cluster, 9000)
    assert {cluster.state(f"pod-{number}") for number in range(4)} == {("Active", "Admitted")}


async def test_what_a_replica_of_before_was_seen_to_use_is_known_after_restarts() -> None:
    cluster = await replicated(4)
    await told(cluster, 20, used(20, uid="pod-3", of=VAULT))
    cluster.vanish("pod-3")
    await cluster.settle("pod-3")
    await cluster.restart()
    await told(cluster, 4000, used(4000, uid="pod-0", of=VAULT))
    await compare(cluster, 9000)
    assert cluster.state("pod-0") == ("Active", "Admitted")


async def test_too_few_replicas_say_nothing() -> None:
    cluster = await replicated(2)
    await told(cluster, 4000, used(4000, uid="pod-0", of=VAULT))
    await compare(cluster, 9000)
    assert cluster.state("pod-0") == ("Active", "Admitted")


def test_the_birth_of_pods_is_the_zero_of_these_times() -> None:
    assert clock(0) == BORN.timestamp()
