"""Leader election: never two at once, whatever is late, lost or dead; and quickly somebody."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign.cluster.client import ApiClient
from countersign.cluster.lease import Candidacy, LeaseElector, LeaseSpec
from tests.fakes.api_server import FakeApiServer, Fault

WALL = "2026-11-22T00:00:00.000000Z"


class Store:
    """One Lease with optimistic locking."""

    def __init__(self) -> None:
        self.version = 0
        self.spec: LeaseSpec | None = None

    def write(self, spec: LeaseSpec, version: int) -> int | None:
        if version != self.version:
            return None
        self.version, self.spec = self.version + 1, spec
        return self.version


class Replica:
    """A candidate whose requests may be carried out late and whose answers may be late or lost."""

    def __init__(self, identity: str, store: Store) -> None:
        self.candidacy = Candidacy(identity)
        self.store = store
        self.version = 0
        self.sent: tuple[LeaseSpec, int, float] | None = None
        self.answer: tuple[LeaseSpec, int | None, float] | None = None

    def step(self, action: str, now: float) -> None:
        match action:
            case "read" if self.sent is None:
                self.version = self.store.version
                if self.store.spec:
                    self.candidacy.observed(self.store.spec, str(self.version), now)
            case "send" if self.sent is None and self.answer is None:
                # The same wall time in every bid: a clock that stands still must not matter.
                if spec := self.candidacy.bid(now, WALL):
                    self.sent = (spec, self.version, now)
            case "resign" if self.sent is None and self.candidacy.leads(now):
                self.sent = (self.candidacy.resigned(WALL), self.version, float("-inf"))
            case "carry out" if self.sent:
                spec, version, asked_at = self.sent
                self.answer, self.sent = (spec, self.store.write(spec, version), asked_at), None
            case "answer" if self.answer:
                spec, written, asked_at = self.answer
                self.answer = None
                if written is not None:
                    self.version = written
                    self.candidacy.won(spec, str(written), asked_at, now)
            case "lose answer":
                self.answer = None
            case "lose request":
                self.sent = None


ATTEMPT = st.tuples(
    st.sampled_from([0.4, 0.8, 1.6, 4.0]),  # pause before it
    st.sampled_from([0.0, 0.1, 1.2, 2.4]),  # until the server carries the request out
    st.sampled_from([0.0, 0.1, 1.2, 2.4]),  # until the answer arrives
    st.sampled_from(["answer", "answer", "answer", "lose answer", "lose request", "resign"]),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.lists(ATTEMPT, max_size=14), min_size=2, max_size=3))
def test_two_candidates_never_lead_at_once(plans: list[list[tuple[float, float, float, str]]]) -> None:
    store = Store()
    replicas = [Replica(str(number), store) for number in range(len(plans))]
    events: list[tuple[float, int, str]] = []
    for who, plan in enumerate(plans):
        at = who * 0.05
        for pause, carried, answered, outcome in plan:
            at += pause
            asked = "resign" if outcome == "resign" else "send"
            events += [(at, who, "read"), (at, who, asked)]
            at += carried
            events.append((at, who, "lose request" if outcome == "lose request" else "carry out"))
            at += answered
            events.append((at, who, "lose answer" if outcome == "lose answer" else "answer"))
    for now, who, action in sorted(events, key=lambda event: event[:2]):
        assert sum(replica.candidacy.leads(now) for replica in replicas) <= 1
        replicas[who].step(action, now)
        assert sum(replica.candidacy.leads(now) for replica in replicas) <= 1


def test_the_search_above_reaches_leaders_and_takeovers() -> None:
    store = Store()
    a, b = Replica("a", store), Replica("b", store)
    for action in ("read", "send", "carry out", "answer"):
        a.step(action, 0.0)
    assert a.candidacy.leads(2.9)
    assert not a.candidacy.leads(3.0)
    b.step("read", 0.5)
    b.step("send", 4.4)
    assert b.sent is None
    for action in ("send", "carry out", "answer"):
        b.step(action, 4.5)
    assert b.candidacy.leads(4.5)
    assert store.spec
    assert (store.spec.holder_identity, store.spec.lease_transitions) == ("b", 1)


def test_a_renewal_that_shows_the_same_wall_time_still_counts_as_a_sign_of_life() -> None:
    candidate = Candidacy("a")
    theirs = LeaseSpec("b", 4, WALL, WALL, 0)
    candidate.observed(theirs, "1", 0.0)
    candidate.observed(theirs, "2", 3.0)
    assert candidate.bid(4.0, WALL) is None
    assert candidate.bid(7.0, WALL) is not None


def test_leadership_counts_from_before_the_request_was_sent() -> None:
    candidate = Candidacy("a")
    spec = candidate.bid(0.0, WALL)
    assert spec
    candidate.won(spec, "1", 0.0, 2.5)
    assert candidate.leads(2.9)
    assert not candidate.leads(3.1)


@pytest.mark.parametrize(("identity", "deadline"), [("", 3.0), ("a", 4.0), ("a", 0.0)])
def test_settings_that_are_not_safe_are_refused(identity: str, deadline: float) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        Candidacy(identity, renew_deadline=deadline)


# The elector, against a server. One second of lease, to be quick.


@asynccontextmanager
async def electing(
    server: FakeApiServer,
    identity: str,
    on_lost: Callable[[], None] = lambda: None,
    on_rewound: Callable[[], None] = lambda: None,
    *,
    duration: int = 1,
) -> AsyncIterator[LeaseElector]:
    async with (
        ApiClient(server.config()) as client,
        LeaseElector(
            client, "ns", "lease", identity, on_lost=on_lost, on_rewound=on_rewound, duration=duration,
            renew_deadline=0.6 * duration, renew_every=0.1, check_every=0.05,
        ) as elector,
    ):  # fmt: skip
        yield elector


def holder(server: FakeApiServer) -> str:
    found = server.objects[("leases", "ns", "lease")]["spec"]["holderIdentity"]
    assert isinstance(found, str)
    return found


async def test_the_first_leads_at_once_and_renews(server: FakeApiServer) -> None:
    async with electing(server, "a") as elector:
        assert elector.leads
        assert holder(server) == "a"
        before = server.objects[("leases", "ns", "lease")]["metadata"]["resourceVersion"]
        await asyncio.sleep(0.7)
        assert elector.leads
        assert int(server.objects[("leases", "ns", "lease")]["metadata"]["resourceVersion"]) >= int(before) + 3


async def test_a_holder_that_leaves_is_followed_at_once(server: FakeApiServer) -> None:
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(electing(server, "a", duration=4))
        follower = asyncio.create_task(second.enter_async_context(electing(server, "b", duration=4)))
        await asyncio.sleep(0.2)
        assert not follower.done()
        left = time.monotonic()
        await first.aclose()
        assert (await follower).leads
        assert time.monotonic() - left < 4, "before the lease would have run out"
    assert server.objects[("leases", "ns", "lease")]["spec"]["leaseTransitions"] == 1


async def test_a_holder_that_died_is_followed_when_its_lease_has_run_out(server: FakeApiServer) -> None:
    server.put(
        "leases", "lease", namespace="ns",
        spec={"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": WALL, "leaseTransitions": 7},
    )  # fmt: skip
    started = time.monotonic()
    async with electing(server, "b"):
        assert time.monotonic() - started >= 1.0
        assert server.objects[("leases", "ns", "lease")]["spec"]["leaseTransitions"] == 8


async def test_a_holder_that_cannot_renew_stops_before_anybody_may_follow(server: FakeApiServer) -> None:
    lost: list[float] = []
    async with electing(server, "a", lambda: lost.append(time.monotonic()), duration=4) as elector:
        await asyncio.sleep(0.05)
        server.faults.append(Fault(lambda _: True, delay=30, times=100))
        cut = time.monotonic()
        while not lost:
            await asyncio.sleep(0.01)
        assert not elector.leads
        assert lost[0] - cut < 4
        server.faults.clear()
    assert len(lost) == 1


async def test_a_holder_survives_errors_that_pass_before_its_deadline(server: FakeApiServer) -> None:
    lost: list[bool] = []
    async with electing(server, "a", lambda: lost.append(True), duration=4) as elector:
        for fault in (Fault(lambda _: True, 500), Fault(lambda _: True, 409), Fault(lambda _: True, disconnect=True)):
            server.faults.append(fault)
            await asyncio.sleep(0.5)
            assert fault.times == 0
        assert elector.leads
    assert lost == []


async def test_a_holder_whose_lease_was_taken_is_out_though_it_is_free_again(server: FakeApiServer) -> None:
    lost: list[bool] = []
    async with electing(server, "a", lambda: lost.append(True)) as elector:
        server.put("leases", "lease", namespace="ns", spec={"holderIdentity": "", "leaseTransitions": 5})
        async with asyncio.timeout(30):
            while not lost:
                await asyncio.sleep(0.01)
        assert not elector.leads
        assert holder(server) == ""


async def test_a_lease_that_is_older_than_what_was_seen_tells_of_a_restored_etcd(server: FakeApiServer) -> None:
    told: list[str] = []
    async with electing(server, "a"):
        lease = server.objects[("leases", "ns", "lease")]
        async with ApiClient(server.config()) as client:
            watcher = LeaseElector(
                client, "ns", "lease", "b", on_lost=lambda: None, on_rewound=lambda: told.append("b"),
                duration=1, renew_deadline=0.6, renew_every=0.1,
            )  # fmt: skip
            assert not await watcher._try()
            assert not await watcher._try()
            assert told == []
            older = {**lease["metadata"], "resourceVersion": "1"}
            server.objects[("leases", "ns", "lease")] = {**lease, "metadata": older}
            await watcher._try()
            await watcher._try()
            assert told == ["b"]


async def test_a_holder_that_lost_the_lease_to_a_restore_still_tells_of_it(server: FakeApiServer) -> None:
    told: list[str] = []
    async with electing(server, "a", lambda: told.append("lost"), lambda: told.append("rewound")):
        await asyncio.sleep(0.3)
        server.faults.append(Fault(lambda _: True, 503, times=1000))
        async with asyncio.timeout(30):
            while not told:
                await asyncio.sleep(0.01)
        lease = server.objects[("leases", "ns", "lease")]
        older = {**lease["metadata"], "resourceVersion": "1"}
        server.objects[("leases", "ns", "lease")] = {**lease, "metadata": older}
        assert told == ["lost"]
        server.faults.clear()
    assert told == ["lost", "rewound"]


async def test_of_many_candidates_one_leads(server: FakeApiServer) -> None:
    async with AsyncExitStack() as stack:
        tasks = [asyncio.create_task(stack.enter_async_context(electing(server, f"c{n}"))) for n in range(4)]
        await asyncio.sleep(1.6)
        won = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(won) == 1
