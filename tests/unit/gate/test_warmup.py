"""The warm-up after a gate's start: which questions it puts, how fast, and what it leaves alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import msgspec

from countersign.api.pod import Pod
from countersign.cluster.client import ListMeta, Page
from countersign.cluster.errors import ClusterError, ForbiddenError
from countersign.gate.evidence.request import EvidenceRequest
from countersign.gate.evidence.warmup import WarmUp
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from tests.unit.gate.workbench import Registries, Workbench
from tests.unit.gate.workbench import pod as json_pod
from tests.unit.trust import build

NAME = build.TAGGED.rpartition(":")[0]


def running(image: str, *, namespace: str = build.NAMESPACE, name: str = "api", **labels: str) -> Pod:
    made = json_pod(build.container(image=image), labels=labels or None)
    made["metadata"] |= {"name": name, "namespace": namespace}
    return msgspec.convert(made, Pod)


async def warmed(
    bench: Workbench, *pods: Pod, error: ClusterError | None = None, rate: float = 1e6, source: Registries | None = None
) -> Registries:
    source = source or bench.registries

    async def pages() -> AsyncIterator[Page[Pod]]:
        for one in pods:
            yield Page(ListMeta(), [one])
        if error is not None:
            raise error

    await WarmUp(pages, bench.state, source, lambda: len(source.requests), rate).run()
    return source


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


async def test_each_image_of_governed_pods_is_asked_about_once_those_of_the_most_pods_first() -> None:
    bench = Workbench(build.cluster_policy())
    asked = await warmed(
        bench,
        running(f"{NAME}@{digest(1)}", name="a"),
        running(f"{NAME}@{digest(2)}", name="b"),
        running(f"{NAME}@{digest(2)}", name="c"),
    )
    assert asked.asked == [f"{NAME}@{digest(2)}", f"{NAME}@{digest(1)}"]


async def test_it_puts_the_very_question_that_the_admission_puts() -> None:
    bench = Workbench(build.cluster_policy())
    image = f"{NAME}@{digest(1)}"
    await bench.mutate(json_pod(build.container(image=image)))
    (admission,) = bench.registries.requests
    bench.registries.requests.clear()
    (warm,) = (await warmed(bench, running(image))).requests
    assert warm == admission


async def test_pods_that_nothing_governs_are_left_alone() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "api"}))
    found = await warmed(
        bench,
        running(f"{NAME}@{digest(1)}", namespace="nowhere"),
        running(f"{NAME}@{digest(1)}", app="other"),
        running(f"elsewhere.example.com/app@{digest(1)}"),
    )
    assert found.asked == []


async def test_it_keeps_to_its_rate_by_all_requests_of_the_gate() -> None:
    bench = Workbench(build.cluster_policy())

    class Busy(Registries):
        async def gather(
            self, requests: object, deadline: float
        ) -> Mapping[EvidenceRequest, ImageFacts | Unverifiable]:
            found = await super().gather(requests, deadline)  # type: ignore[arg-type]
            self.requests += list(found) * 4  # an admission's, meanwhile
            return found

    loop = asyncio.get_running_loop()
    started = loop.time()
    await warmed(bench, *(running(f"{NAME}@{digest(number)}") for number in range(4)), rate=50.0, source=Busy())
    assert loop.time() - started >= 4 * 5 / 50.0


async def test_a_list_that_is_refused_or_breaks_off_ends_it_quietly() -> None:
    bench = Workbench(build.cluster_policy())
    for error in (ForbiddenError(403, "Forbidden", "no"), ClusterError("gone")):
        assert (await warmed(bench, running(f"{NAME}@{digest(1)}"), error=error)).asked == []


async def test_an_image_that_cannot_be_verified_does_not_end_it() -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[f"{NAME}@{digest(1)}"] = build.unverifiable()
    asked = await warmed(bench, running(f"{NAME}@{digest(1)}"), running(f"{NAME}@{digest(2)}"))
    assert len(asked.asked) == 2
