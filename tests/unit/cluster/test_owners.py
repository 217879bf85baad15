"""The controller chain is what the API server holds, never what a reference claims."""

from typing import Any

from countersign.api.meta import ObjectMeta, OwnerReference
from countersign.api.pod import Pod
from countersign.cluster.owners import CACHE_SECONDS, MAX_LINKS, ControllerLinks, Owned

Where = tuple[str, str, str, str]


class Cluster:
    """Objects by group, plural, namespace and name."""

    def __init__(self) -> None:
        self.objects: dict[Where, Owned] = {}
        self.reads: list[Where] = []

    def add(self, group: str, plural: str, name: str, uid: str, owner: OwnerReference | None = None) -> None:
        meta = ObjectMeta(name=name, uid=uid, owner_references=(owner,) if owner else ())
        self.objects[group, plural, "shop", name] = Owned(metadata=meta)

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        assert within > 0
        self.reads.append((group, plural, namespace, name))
        return self.objects.get((group, plural, namespace, name))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def reference(kind: str, name: str, uid: str, group: str = "apps", controller: bool = True) -> OwnerReference:
    return OwnerReference(api_version=f"{group}/v1", kind=kind, name=name, uid=uid, controller=controller)


def pod(*owners: OwnerReference) -> Pod:
    return Pod(metadata=ObjectMeta(name="p", owner_references=owners))


def cluster() -> Cluster:
    made = Cluster()
    made.add("apps", "deployments", "api", "d-1")
    made.add("apps", "replicasets", "api-5", "r-1", reference("Deployment", "api", "d-1"))
    return made


async def resolve(links: ControllerLinks, *owners: OwnerReference) -> Any:
    return await links.resolve(pod(*owners), "shop", 2.0)


async def test_the_deployment_and_not_its_replicaset_is_the_controller() -> None:
    found = await resolve(ControllerLinks(cluster()), reference("ReplicaSet", "api-5", "r-1"))
    assert found.known
    assert (found.link.kind, found.link.name, found.link.uid, found.link.api_group) == (
        "Deployment",
        "api",
        "d-1",
        "apps",
    )


async def test_a_pod_of_its_own_has_no_controller_and_that_is_known() -> None:
    links = ControllerLinks(cluster())
    assert await resolve(links) == (None, True)
    assert await resolve(links, reference("ReplicaSet", "api-5", "r-1", controller=False)) == (None, True)


async def test_a_link_that_does_not_resolve_by_uid_leaves_the_controller_unknown() -> None:
    links = ControllerLinks(cluster())
    for forged in (
        reference("ReplicaSet", "api-5", "another-uid"),
        reference("ReplicaSet", "api-5", ""),
        reference("ReplicaSet", "gone", "r-9"),
        reference("Rollout", "api", "r-1", group="argoproj.io"),
        reference("Deployment", "api", "d-1", group="example.com"),
    ):
        assert await resolve(links, forged) == (None, False), forged


async def test_a_true_uid_under_a_false_name_is_not_helped_by_the_cache() -> None:
    links = ControllerLinks(cluster())
    assert (await resolve(links, reference("Deployment", "api", "d-1"))).known
    assert await resolve(links, reference("Deployment", "payments", "d-1")) == (None, False)
    assert await resolve(links, reference("StatefulSet", "api", "d-1")) == (None, False)


async def test_a_circle_of_owners_ends() -> None:
    made = Cluster()
    made.add("batch", "jobs", "a", "a-1", reference("Job", "b", "b-1", group="batch"))
    made.add("batch", "jobs", "b", "b-1", reference("Job", "a", "a-1", group="batch"))
    assert await resolve(ControllerLinks(made), reference("Job", "a", "a-1", group="batch")) == (None, False)
    assert len(made.reads) <= MAX_LINKS


async def test_a_link_is_read_once_in_a_while() -> None:
    made, clock = cluster(), Clock()
    links = ControllerLinks(made, clock)
    for _ in range(5):
        await resolve(links, reference("ReplicaSet", "api-5", "r-1"))
    assert len(made.reads) == 2
    clock.now += CACHE_SECONDS + 1
    await resolve(links, reference("ReplicaSet", "api-5", "r-1"))
    assert len(made.reads) == 4
