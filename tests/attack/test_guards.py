"""The guards in the API server hold with gate, controller and verifier all absent, against `edit` and `system:masters`.

Nothing of ours runs in this file: the chart's objects are applied, its services never started. The other half is tested
here, too: that the guards stand in nobody's way who does their ordinary work.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from countersign.api.clock import format_time
from countersign.api.meta import LabelSelector
from countersign.api.names import API_VERSION, RECEIPT_ANNOTATION, SYSTEM_NAMESPACE, VERIFIER_AUDIENCE
from tests.lab.http import Answer, HttpClient
from tests.lab.lab import Lab
from tests.render import render
from tests.stack import objects as make
from tests.stack.installation import Installation
from tests.stack.objects import Object, collection_path, object_path

IMAGE = "registry.example.com/payments/api:v1"
RULE = make.image_rule(["registry.example.com/payments/**"], digests=["sha256:" + "a" * 64])
_COUNT = itertools.count(1)


@pytest.fixture(scope="module")
def lab(programs: None) -> Iterator[Lab]:
    """A control plane of their own: the guards bind whoever uses it."""
    with Lab.start() as own:
        yield own


@pytest.fixture(scope="module")
def installation(lab: Lab) -> Installation:
    """The chart's objects; no service of ours runs."""
    installed = Installation(lab)
    installed.install()
    assert not installed.services
    # The last guard that the chart applies; the API server sees them one after the other.
    order = make.revocation(SYSTEM_NAMESPACE, {"node": {"name": "n"}})
    order["spec"]["requestedBy"] = "somebody"
    in_force(lab, lambda: lab.admin.post(collection_path(order), order, query={"dryRun": "All"}), "must be who asks")
    return installed


@pytest.fixture(autouse=True)
def _installed(installation: Installation) -> None:
    """Every test here is under the guards."""


@pytest.fixture
def declare(lab: Lab) -> Iterator[Callable[[Object], Object]]:
    """Create an object as the admin and remove it after the test."""
    made: list[Object] = []

    def create(obj: Object) -> Object:
        stored = lab.admin.post(collection_path(obj), obj, expect=201).body
        made.append(obj)
        return dict(stored)

    yield create
    for obj in reversed(made):
        lab.admin.delete(object_path(obj))


@pytest.fixture
def dev(lab: Lab, namespace: str) -> HttpClient:
    """Somebody with the built-in `edit` role in the test's namespace."""
    lab.grant_role(namespace, "dev", "edit")
    return lab.api("dev")


def in_force(lab: Lab, probe: Callable[[], Answer], says: str) -> Answer:
    """The answer once the API server's watch has seen a new policy: it must be a refusal that says this."""
    answer: Answer = lab.wait_for(lambda: _refused(probe(), says), what=f"a refusal that says {says!r}")
    return answer


def _refused(answer: Answer, says: str) -> Answer | None:
    return answer if answer.status in (403, 422) and says in answer.message else None


def label_namespace(lab: Lab, name: str, labels: Mapping[str, str | None]) -> None:
    lab.admin.patch(f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}}, expect=200)


# Grants


def grant(namespace: str, name: str = "forged") -> Object:
    spec = {
        "pod": {"name": "api-0", "uid": "1", "createdAt": "2026-01-02T03:04:05Z"},
        "serviceAccount": {"name": "api", "uid": "2"},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "WorkloadGrant", "metadata": metadata, "spec": spec}


class TestGrants:
    @pytest.fixture
    def controller(self, lab: Lab) -> HttpClient:
        return lab.api_with_token(lab.service_account_token(SYSTEM_NAMESPACE, "countersign-controller"))

    @pytest.fixture
    def stored(self, controller: HttpClient, namespace: str) -> Object:
        obj = grant(namespace, "real")
        controller.post(collection_path(obj), obj, expect=201)
        return obj

    def test_nobody_creates_one(self, lab: Lab, dev: HttpClient, namespace: str) -> None:
        assert dev.post(collection_path(grant(namespace)), grant(namespace)).status == 403
        answer = lab.admin.post(collection_path(grant(namespace)), grant(namespace))
        assert answer.status == 403
        assert "written by the Countersign controller only" in answer.message

    def test_nobody_changes_its_status(self, lab: Lab, stored: Object) -> None:
        answer = lab.admin.patch(f"{object_path(stored)}/status", {"status": {"state": "Active"}})
        assert answer.status == 403
        assert "written by the Countersign controller only" in answer.message

    def test_nobody_changes_its_labels_or_owners(self, lab: Lab, stored: Object) -> None:
        answer = lab.admin.patch(object_path(stored), {"metadata": {"labels": {"countersign.dev/pod-uid": "2"}}})
        assert answer.status == 403

    def test_nobody_deletes_one_or_all(self, lab: Lab, stored: Object) -> None:
        assert lab.admin.delete(object_path(stored)).status == 403
        assert lab.admin.delete(collection_path(stored)).status == 403
        assert lab.admin.get(object_path(stored)).ok

    @pytest.mark.parametrize("other", ["countersign-gate", "countersign-verifier", "default"])
    def test_no_other_account_of_ours_writes_one(self, lab: Lab, namespace: str, other: str) -> None:
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "all", "namespace": namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "countersign-controller",
            },
            "subjects": [{"kind": "ServiceAccount", "namespace": SYSTEM_NAMESPACE, "name": other}],
        }
        lab.admin.post(collection_path(role), role, expect=201)
        api = lab.api_with_token(lab.service_account_token(SYSTEM_NAMESPACE, other))
        answer = api.post(collection_path(grant(namespace)), grant(namespace))
        assert "written by the Countersign controller only" in answer.message

    def test_the_controllers_name_in_another_namespace_is_another_account(self, lab: Lab, namespace: str) -> None:
        account = make.service_account("countersign-controller", namespace)
        lab.admin.post(collection_path(account), account, expect=201)
        lab.grant_role(namespace, f"system:serviceaccount:{namespace}:countersign-controller", "countersign-controller")
        api = lab.api_with_token(lab.service_account_token(namespace, "countersign-controller"))
        answer = api.post(collection_path(grant(namespace)), grant(namespace))
        assert "written by the Countersign controller only" in answer.message

    def test_the_controller_writes_and_deletes(self, controller: HttpClient, stored: Object) -> None:
        assert controller.patch(f"{object_path(stored)}/status", {"status": {"state": "Active"}}).ok
        assert controller.delete(object_path(stored)).ok

    def test_a_namespace_with_grants_can_be_deleted(self, lab: Lab, controller: HttpClient) -> None:
        name = lab.create_namespace(f"doomed-{next(_COUNT)}")
        controller.post(collection_path(grant(name)), grant(name), expect=201)
        lab.admin.delete(f"/api/v1/namespaces/{name}")
        lab.wait_for(lambda: lab.admin.get(f"/api/v1/namespaces/{name}").status == 404, what=f"{name} is gone")


# Minting


AUDIENCE = "ledger.example.com"
AUDITED = "audited.example.com"
TEN_YEARS = 10 * 365 * 86400


def token_request(*audiences: str, seconds: int = 600, pod: Object | None = None, uid: bool = True) -> Object:
    spec: Object = {"audiences": list(audiences), "expirationSeconds": seconds}
    if pod:
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"]}
        spec["boundObjectRef"] = bound | ({"uid": pod["metadata"]["uid"]} if uid else {})
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def token_path(namespace: str, account: str = "default") -> str:
    return f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"


def token_pod(namespace: str, *audiences: str) -> Object:
    """A pod that projects tokens for these audiences, as the gate would have made it, or its author."""
    sources = [{"serviceAccountToken": {"audience": name, "path": f"t{n}"}} for n, name in enumerate(audiences)]
    volume = {"name": "tokens", "projected": {"sources": sources}}
    return make.pod("api-0", namespace, make.pod_spec(make.container(IMAGE), volumes=[volume]))


class TestMinting:
    @pytest.fixture(autouse=True)
    def protected(self, lab: Lab, declare: Callable[[Object], Object], namespace: str) -> None:
        declare(make.protected_audience("ledger", AUDIENCE))
        declare(make.protected_audience("audited", AUDITED, mode="Audit"))
        in_force(
            lab, lambda: lab.admin.post(token_path(namespace), token_request(AUDIENCE)), "protected by Countersign"
        )

    @pytest.fixture
    def pod(self, lab: Lab, namespace: str) -> Object:
        obj = token_pod(namespace, AUDIENCE, "other.example.com")
        return lab.node().run(lab.admin.post(collection_path(obj), obj, expect=201).body)

    @pytest.mark.parametrize("who", ["edit", "masters"])
    @pytest.mark.parametrize(
        "how",
        [
            {},
            {"seconds": TEN_YEARS},
            {"bound": True},
            {"bound": True, "seconds": TEN_YEARS},
            {"bound": True, "uid": False},
            {"also": ["https://kubernetes.default.svc.cluster.local"]},
            {"also": ["vault"], "bound": True, "seconds": TEN_YEARS},
            {"also": [AUDIENCE]},
            {"also": [f"filler-{n}" for n in range(2000)]},
        ],
        ids=str,
    )
    def test_no_person_is_given_one(
        self, lab: Lab, dev: HttpClient, namespace: str, pod: Object, *, who: str, how: dict[str, Any]
    ) -> None:
        asker = dev if who == "edit" else lab.admin
        request = token_request(
            *how.get("also", ()),
            AUDIENCE,
            seconds=how.get("seconds", 600),
            pod=pod if how.get("bound") else None,
            uid=how.get("uid", True),
        )
        answer = asker.post(token_path(namespace), request)
        assert answer.status == 403
        assert "only the kubelet of a granted pod receives its tokens" in answer.message
        assert "ledger-team@example.com" in answer.message

    def test_a_user_called_like_a_node_is_no_node(self, lab: Lab, namespace: str, pod: Object) -> None:
        lab.grant_role(namespace, "system:node:n1-lookalike", "edit")
        answer = lab.api("system:node:n1-lookalike", []).post(token_path(namespace), token_request(AUDIENCE, pod=pod))
        assert answer.status == 403
        assert "only the kubelet" in answer.message

    def test_a_member_of_system_nodes_under_another_name_is_no_node(
        self, lab: Lab, namespace: str, pod: Object
    ) -> None:
        lab.grant_role(namespace, "agent", "edit")
        answer = lab.api("agent", ["system:nodes"]).post(token_path(namespace), token_request(AUDIENCE, pod=pod))
        assert answer.status == 403
        assert "only the kubelet" in answer.message

    def test_a_node_is_given_a_token_for_its_pod(self, lab: Lab, pod: Object) -> None:
        assert lab.node().request_token(pod, AUDIENCE, expiration_seconds=600).status == 201

    def test_not_with_a_second_audience(self, lab: Lab, pod: Object) -> None:
        answer = lab.node().request_token(pod, None, audiences=[AUDIENCE, "other.example.com"])
        assert answer.status == 403

    def test_not_without_the_pods_uid(self, lab: Lab, pod: Object) -> None:
        assert lab.node().request_token(pod, AUDIENCE, uid=None).status == 403

    def test_not_for_longer_than_the_audience_allows(self, lab: Lab, pod: Object) -> None:
        answer = lab.node().request_token(pod, AUDIENCE, expiration_seconds=3601)
        assert answer.status == 403
        assert "may live for 3600 seconds at most, asked for were 3601" in answer.message

    @pytest.fixture
    def rest(self, lab: Lab, declare: Callable[[Object], Object], namespace: str) -> str:
        """An audience under the guard's other rules alone: for a node, NodeRestriction forestalls most of them."""
        policies = {obj["kind"]: obj for obj in render() if obj["metadata"]["name"] == "countersign-minting"}
        policy, binding = (policies[f"ValidatingAdmissionPolicy{suffix}"] for suffix in ("", "Binding"))
        asker, *others = policy["spec"]["validations"]
        assert "system:node:" in asker["expression"]
        (condition,) = policy["spec"]["matchConditions"]
        condition["expression"] = condition["expression"].replace("params.spec.mode == 'Enforce'", "true")
        policy["spec"]["validations"] = others
        policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = "rest-of-minting"
        binding["spec"]["paramRef"] = {"name": "rest", "parameterNotFoundAction": "Allow"}
        audience = "rest.example.com"
        declare(make.protected_audience("rest", audience, mode="Audit"))
        declare(policy)
        declare(binding)
        in_force(lab, lambda: lab.admin.post(token_path(namespace), token_request(audience)), "is protected")
        return audience

    def test_whoever_asks_a_token_is_alone_bound_and_short(
        self, lab: Lab, namespace: str, pod: Object, rest: str
    ) -> None:
        secret: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}}
        secret |= lab.admin.post(collection_path(secret), secret, expect=201).body
        bound_to_secret = token_request(rest, pod=secret)
        bound_to_secret["spec"]["boundObjectRef"]["kind"] = "Secret"
        for request, says in (
            (token_request(rest, "other.example.com", pod=pod), "must name no other audience"),
            (token_request(rest), "must be bound to a pod by UID"),
            (token_request(rest, pod=pod, uid=False), "must be bound to a pod by UID"),
            (bound_to_secret, "must be bound to a pod by UID"),
            (token_request(rest, pod=pod, seconds=3601), "asked for were 3601"),
        ):
            answer = lab.admin.post(token_path(namespace), request)
            assert answer.status == 403
            assert says in answer.message
        assert lab.admin.post(token_path(namespace), token_request(rest, pod=pod, seconds=3600)).status == 201

    @pytest.mark.parametrize("audience", [AUDITED, "unprotected.example.com", VERIFIER_AUDIENCE])
    def test_other_audiences_are_as_free_as_before(
        self, lab: Lab, dev: HttpClient, namespace: str, audience: str
    ) -> None:
        assert dev.post(token_path(namespace), token_request(audience)).status == 201
        assert dev.post(token_path(namespace), token_request(audience, "second.example.com")).status == 201

    def test_an_audience_no_longer_declared_is_free_again(self, lab: Lab, dev: HttpClient, namespace: str) -> None:
        lab.admin.delete(f"/apis/{API_VERSION}/protectedaudiences/ledger", expect=200)
        lab.wait_for(
            lambda: dev.post(token_path(namespace), token_request(AUDIENCE)).status == 201, what="the audience is free"
        )


# Owners


def owner(obj: Object, *, controller: bool | None = True) -> Object:
    reference: Object = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
    }
    return reference if controller is None else {**reference, "controller": controller}


def claim(api_version: str, kind: str) -> Object:
    """An object that need not be there to be claimed."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "claimed", "uid": "uid-of-it"}}


def owned(obj: Object, *owners: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": list(owners)}}


CRON: Object = {
    "schedule": "0 0 1 1 *",
    "jobTemplate": {"spec": make.job("x", "x", make.pod_spec(make.container(IMAGE)))["spec"]},
}


class TestOwners:
    SAYS = "governs this namespace, and identities there rest on owners"

    @pytest.fixture(params=["selector", "bound account", "TrustPolicy"])
    def governed(
        self, request: pytest.FixtureRequest, lab: Lab, declare: Callable[[Object], Object], namespace: str
    ) -> str:
        """The test's namespace, governed in each of the ways there are."""
        label = {"probe": namespace}
        match request.param:
            case "selector":
                label_namespace(lab, namespace, label)
                declare(make.cluster_policy(namespace, namespaces=label, images=[RULE], mode="Audit"))
            case "bound account":
                binding = {"serviceAccounts": [{"namespace": namespace, "name": "api"}]}
                declare(make.cluster_policy(namespace, namespaces=label, images=[RULE], mode="Audit", binding=binding))
            case _:
                declare(make.trust_policy("probe", namespace, images=[RULE], mode="Audit"))
        forged = owned(self.job(namespace), {**owner(self.cronjob(lab, namespace)), "name": "probe"})
        in_force(lab, lambda: lab.admin.post(collection_path(forged), forged, query={"dryRun": "All"}), self.SAYS)
        return namespace

    def cronjob(self, lab: Lab, namespace: str) -> Object:
        obj = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": f"nightly-{next(_COUNT)}", "namespace": namespace},
            "spec": CRON,
        }
        return dict(lab.admin.post(collection_path(obj), obj, expect=201).body)

    def job(self, namespace: str) -> Object:
        return make.job(f"job-{next(_COUNT)}", namespace, make.pod_spec(make.container(IMAGE)))

    def deployment(self, lab: Lab, namespace: str) -> Object:
        obj = make.deployment("api", namespace, make.pod_spec(make.container(IMAGE)))
        return dict(lab.admin.post(collection_path(obj), obj, expect=201).body)

    def replica_set(self, namespace: str) -> Object:
        obj = make.deployment(f"set-{next(_COUNT)}", namespace, make.pod_spec(make.container(IMAGE)))
        obj["kind"] = "ReplicaSet"
        return obj

    def pod(self, namespace: str) -> Object:
        return make.pod(f"pod-{next(_COUNT)}", namespace, make.pod_spec(make.container(IMAGE)))

    @pytest.mark.parametrize("who", ["edit", "masters"])
    def test_nobody_forges_one(self, lab: Lab, dev: HttpClient, governed: str, who: str) -> None:
        asker = dev if who == "edit" else lab.admin
        deployment = self.deployment(lab, governed)
        replica_set = self.its_set(lab, deployment)
        for obj, claimed in (
            (self.job(governed), self.cronjob(lab, governed)),
            (self.pod(governed), replica_set),
            (self.replica_set(governed), deployment),
            (self.pod(governed), claim("apps/v1", "DaemonSet")),
            (self.pod(governed), claim("apps/v1", "StatefulSet")),
            (self.pod(governed), claim("batch/v1", "Job")),
            (self.pod(governed), claim("v1", "ReplicationController")),
        ):
            forged = owned(obj, owner(claimed))
            answer = asker.post(collection_path(forged), forged)
            assert answer.status == 403, (obj["kind"], claimed["kind"])
            assert self.SAYS in answer.message
            assert claimed["kind"] in answer.message

    def test_nobody_adds_one_later(self, lab: Lab, dev: HttpClient, governed: str) -> None:
        cronjob, deployment = self.cronjob(lab, governed), self.deployment(lab, governed)
        for obj, claimed, paths in (
            (self.job(governed), cronjob, ["", "/status"]),
            (self.replica_set(governed), deployment, ["", "/status"]),
            (self.pod(governed), cronjob, [""]),
        ):
            dev.post(collection_path(obj), obj, expect=201)
            for path in paths:
                answer = lab.admin.patch(
                    f"{object_path(obj)}{path}", {"metadata": {"ownerReferences": [owner(claimed)]}}
                )
                assert answer.status == 403, (obj["kind"], path)
                assert self.SAYS in answer.message

    def test_nobody_turns_a_plain_owner_into_a_controller_or_changes_its_name(
        self, lab: Lab, dev: HttpClient, governed: str
    ) -> None:
        cronjob = self.cronjob(lab, governed)
        obj = owned(self.job(governed), owner(cronjob, controller=False))
        dev.post(collection_path(obj), obj, expect=201)

        def taken_over() -> str:
            # The Job controller writes the object as well: whoever loses against it reads it anew.
            stored = dev.get(object_path(obj), expect=200).body
            stored["metadata"]["ownerReferences"][0]["controller"] = True
            answer = dev.put(object_path(obj), stored)
            return "" if answer.status == 409 else answer.message or "it was stored"

        assert self.SAYS in lab.wait_for(taken_over, what="the API server has judged the change")

    def test_kubectls_job_from_a_cronjob_says_what_to_do(self, lab: Lab, governed: str) -> None:
        cronjob = self.cronjob(lab, governed)
        answer = lab.try_kubectl("create", "job", "-n", governed, "m", f"--from=cronjob/{cronjob['metadata']['name']}")
        assert "only the cronjob-controller may write" in answer.stderr
        assert "remove ownerReferences" in answer.stderr

    def test_ownership_that_claims_nothing_of_ours_is_free(self, lab: Lab, dev: HttpClient, governed: str) -> None:
        cronjob = self.cronjob(lab, governed)
        rollout, volcano = claim("argoproj.io/v1alpha1", "Rollout"), claim("batch.volcano.sh/v1alpha1", "Job")
        for reference in (owner(cronjob, controller=None), owner(rollout), owner(volcano)):
            obj = owned(self.pod(governed), reference)
            assert dev.post(collection_path(obj), obj).status == 201

    def test_outside_governed_namespaces_everything_is_as_before(
        self, lab: Lab, dev: HttpClient, governed: str
    ) -> None:
        elsewhere = lab.create_namespace(f"ungoverned-{next(_COUNT)}")
        obj = owned(self.job(elsewhere), owner(self.cronjob(lab, elsewhere)))
        assert lab.admin.post(collection_path(obj), obj).status == 201

    def test_the_built_in_controllers_do_their_work(self, lab: Lab, governed: str) -> None:
        self.deployment(lab, governed)
        (pod,) = lab.pods(governed, "app=api", count=1)
        assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
        job = self.job(governed)
        lab.admin.post(collection_path(job), job, expect=201)
        (pod,) = lab.pods(governed, f"app={job['metadata']['name']}", count=1)
        lab.node().finish(lab.node().run(pod))
        lab.wait_for(
            lambda: lab.admin.get(object_path(job)).body["status"].get("succeeded") == 1, what="the Job is complete"
        )
        # Its controller has taken its finalizer off the pod, so that the pod can go.
        assert lab.admin.delete(object_path(job), {"propagationPolicy": "Background"}).ok
        lab.wait_for(lambda: not lab.pods(governed, f"app={job['metadata']['name']}"), what="the Job's pod is gone")

    def test_orphans_are_released(self, lab: Lab, governed: str) -> None:
        deployment = self.deployment(lab, governed)
        replica_set = self.its_set(lab, deployment)
        assert lab.admin.delete(object_path(deployment), {"propagationPolicy": "Orphan"}).ok
        lab.wait_for(
            lambda: "ownerReferences" not in lab.admin.get(object_path(replica_set)).body["metadata"],
            what="the garbage collector took the owner off",
        )

    def its_set(self, lab: Lab, deployment: Object) -> Object:
        """The ReplicaSet that the Deployment's controller made."""
        path = f"/apis/apps/v1/namespaces/{deployment['metadata']['namespace']}/replicasets"

        def probe() -> Object | None:
            items = lab.admin.get(path, query={"labelSelector": "app=api"}, expect=200).body["items"]
            return {"apiVersion": "apps/v1", "kind": "ReplicaSet", **items[0]} if items else None

        return dict(lab.wait_for(probe, what="the Deployment's ReplicaSet"))


# Namespace labels


SELECTORS: list[tuple[Object, dict[str, str], dict[str, str]]] = [
    ({"matchLabels": {"team": "pay"}}, {"team": "pay"}, {}),
    ({"matchLabels": {"team": "pay"}}, {"team": "pay"}, {"team": "other"}),
    ({"matchLabels": {"team": "pay"}}, {"team": "pay"}, {"team": "pay", "more": "x"}),
    ({"matchLabels": {"team": "pay"}}, {"team": "other"}, {}),
    ({"matchLabels": {"team": "pay"}}, {}, {"team": "pay"}),
    ({"matchLabels": {"a": "1", "b": "2"}}, {"a": "1", "b": "2"}, {"a": "1"}),
    ({"matchExpressions": [{"key": "e", "operator": "In", "values": ["p", "s"]}]}, {"e": "p"}, {"e": "s"}),
    ({"matchExpressions": [{"key": "e", "operator": "In", "values": ["p", "s"]}]}, {"e": "p"}, {"e": "t"}),
    ({"matchExpressions": [{"key": "e", "operator": "In", "values": ["p"]}]}, {"e": "p"}, {}),
    ({"matchExpressions": [{"key": "e", "operator": "NotIn", "values": ["t"]}]}, {}, {"e": "t"}),
    ({"matchExpressions": [{"key": "e", "operator": "NotIn", "values": ["t"]}]}, {"e": "p"}, {}),
    ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {"x": ""}, {}),
    ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {"x": "1"}, {"x": "2"}),
    ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, {}, {"x": ""}),
    ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, {"x": "1"}, {"x": "2"}),
    (
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]},
        {"a": "1"},
        {"a": "1", "x": ""},
    ),
]


class TestNamespaceLabels:
    SAYS = "out of ClusterTrustPolicy"

    @pytest.fixture
    def operator(self, lab: Lab) -> HttpClient:
        """May update every namespace, and no more."""
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "namespace-operator"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
                    "verbs": ["*"],
                }
            ],
        }
        lab.admin.apply(object_path(role), role)
        self.bind(lab, "namespace-operator", "operator")
        return lab.api("operator")

    def bind(self, lab: Lab, role: str, user: str) -> None:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{user}-{role}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        lab.admin.apply(object_path(binding), binding)

    def policy(self, name: str, selector: Object) -> Object:
        policy = make.cluster_policy(name, namespaces={}, images=[RULE], mode="Audit")
        policy["spec"]["match"]["namespaceSelector"] = selector
        return policy

    @pytest.fixture
    def governed(self, lab: Lab, operator: HttpClient, declare: Callable[[Object], Object], namespace: str) -> str:
        label_namespace(lab, namespace, {"probe": namespace})
        declare(self.policy(namespace, {"matchLabels": {"probe": namespace}}))
        in_force(
            lab,
            lambda: operator.patch(
                f"/api/v1/namespaces/{namespace}",
                {"metadata": {"labels": {"probe": None}}},
                query={"dryRun": "All"},
            ),
            self.SAYS,
        )
        return namespace

    @pytest.mark.parametrize("path", ["", "/status", "/finalize"])
    @pytest.mark.parametrize("label", [None, "other"])
    def test_no_update_takes_a_namespace_out(
        self, operator: HttpClient, governed: str, path: str, label: str | None
    ) -> None:
        base = f"/api/v1/namespaces/{governed}"
        stored = operator.get(base, expect=200).body
        if label is None:
            del stored["metadata"]["labels"]["probe"]
        else:
            stored["metadata"]["labels"]["probe"] = label
        answer = operator.put(base + path, stored)
        assert answer.status == 403
        assert f"out of ClusterTrustPolicy {governed}" in answer.message
        assert "countersign-namespace-relabeler" in answer.message

    def test_other_labels_are_free(self, operator: HttpClient, governed: str) -> None:
        answer = operator.patch(f"/api/v1/namespaces/{governed}", {"metadata": {"labels": {"cost-centre": "7"}}})
        assert answer.ok

    def test_who_may_relabel_may(self, lab: Lab, operator: HttpClient, governed: str) -> None:
        self.bind(lab, "namespace-operator", "relabeler")
        self.bind(lab, "countersign-namespace-relabeler", "relabeler")
        answer = lab.api("relabeler").patch(
            f"/api/v1/namespaces/{governed}", {"metadata": {"labels": {"probe": None, "countersign.dev/x": "y"}}}
        )
        assert answer.ok, answer

    def test_a_governed_namespace_can_be_deleted(self, lab: Lab, operator: HttpClient, governed: str) -> None:
        assert operator.delete(f"/api/v1/namespaces/{governed}").ok
        lab.wait_for(lambda: lab.admin.get(f"/api/v1/namespaces/{governed}").status == 404, what=f"{governed} is gone")

    @pytest.mark.parametrize(("selector", "before", "after"), SELECTORS, ids=str)
    def test_what_takes_a_namespace_out_is_what_the_gate_means_by_it(
        self,
        lab: Lab,
        operator: HttpClient,
        declare: Callable[[Object], Object],
        *,
        selector: Object,
        before: dict[str, str],
        after: dict[str, str],
    ) -> None:
        model = msgspec.convert(selector, LabelSelector)
        leaves = model.matches(before) and not model.matches(after)
        name = lab.create_namespace(f"labels-{next(_COUNT)}", {**before, "only": "this"})
        scoped = {**selector, "matchLabels": {**selector.get("matchLabels", {}), "kubernetes.io/metadata.name": name}}
        declare(self.policy(name, scoped))
        # A second policy, that any change of the label `only` would leave, tells when the API server sees both.
        only = {"matchLabels": {"kubernetes.io/metadata.name": name, "only": "this"}}
        declare(self.policy(f"{name}-only", only))
        path = f"/api/v1/namespaces/{name}"

        def relabel(labels: dict[str, str]) -> Answer:
            stored = operator.get(path, expect=200).body
            stored["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}
            return operator.put(path, stored, query={"dryRun": "All"})

        in_force(lab, lambda: relabel(before), f"{name}-only")
        answer = relabel({**after, "only": "this"})
        assert answer.status == (403 if leaves else 200), answer

    def test_labels_of_ours_need_the_permission(self, lab: Lab, operator: HttpClient, namespace: str) -> None:
        def create(labels: dict[str, str]) -> Answer:
            meta = {"name": f"reserved-{next(_COUNT)}", "labels": labels}
            return operator.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

        assert "reserved for those who may relabel" in create({"countersign.dev/exempt": "true"}).message
        assert create({"not.countersign.dev": "true"}).ok
        path = f"/api/v1/namespaces/{namespace}"
        for labels in ({"countersign.dev/exempt": "true"}, {"countersign.dev/": "x"}):
            assert not operator.patch(path, {"metadata": {"labels": labels}}).ok
        label_namespace(lab, namespace, {"countersign.dev/tier": "gold"})
        for changed in (None, "silver"):
            answer = operator.patch(path, {"metadata": {"labels": {"countersign.dev/tier": changed}}})
            assert "reserved for those who may relabel" in answer.message
        assert operator.patch(path, {"metadata": {"labels": {"free": "x"}}}).ok


# Receipts


class TestReceipts:
    SAYS = "is written once, at the pod's creation"

    def create(self, lab: Lab, namespace: str, receipt: str | None) -> Object:
        annotations = {RECEIPT_ANNOTATION: receipt} if receipt else {}
        obj = make.pod("api-0", namespace, make.pod_spec(make.container(IMAGE)), annotations=annotations)
        return {"apiVersion": "v1", "kind": "Pod", **lab.admin.post(collection_path(obj), obj, expect=201).body}

    @pytest.fixture(params=[None, "receipt"], ids=["without", "with"])
    def pod(self, request: pytest.FixtureRequest, lab: Lab, namespace: str) -> Object:
        """A pod that was created without, or with, a receipt."""
        return self.create(lab, namespace, request.param)

    @pytest.mark.parametrize("path", ["", "/status", "/ephemeralcontainers", "/resize"])
    @pytest.mark.parametrize(
        ("before", "after"), [(None, "forged"), ("real", "forged"), ("real", None)], ids=["add", "change", "remove"]
    )
    def test_no_later_write_touches_it(
        self, lab: Lab, dev: HttpClient, namespace: str, *, path: str, before: str | None, after: str | None
    ) -> None:
        pod = object_path(self.create(lab, namespace, before))
        for asker in (dev, lab.admin):
            answer = asker.patch(pod + path, {"metadata": {"annotations": {RECEIPT_ANNOTATION: after}}})
            annotations = lab.admin.get(pod, expect=200).body["metadata"].get("annotations", {})
            assert annotations.get(RECEIPT_ANNOTATION) == before
            # By the other two paths the API server drops what is no container, before any guard sees it.
            if asker is lab.admin and path in ("", "/status"):
                assert answer.status == 403
                assert self.SAYS in answer.message

    @pytest.mark.parametrize("legacy", [False, True])
    def test_no_binding_carries_one(self, lab: Lab, pod: Object, namespace: str, legacy: bool) -> None:
        lab.node()
        name = pod["metadata"]["name"]
        meta: Object = {"name": name, "namespace": namespace, "annotations": {RECEIPT_ANNOTATION: "other"}}
        target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
        binding: Object = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        base = f"/api/v1/namespaces/{namespace}"
        path = f"{base}/bindings" if legacy else f"{base}/pods/{name}/binding"
        answer = lab.admin.post(path, binding)
        assert answer.status == 403
        assert self.SAYS in answer.message
        meta["annotations"] = {"scheduler": "note"}
        assert lab.admin.post(path, binding).status == 201

    def test_everything_else_about_the_pod_goes_on(self, lab: Lab, pod: Object) -> None:
        running = lab.node().run(pod)
        path = object_path(pod)
        assert lab.admin.patch(path, {"metadata": {"annotations": {"note": "x"}, "finalizers": ["example.com/x"]}}).ok
        finished = lab.node().finish(running)
        assert lab.admin.delete(path).ok
        assert lab.admin.patch(path, {"metadata": {"finalizers": None}}).ok
        lab.node().remove(finished)
        assert lab.admin.get(path).status == 404


# Pauses


class TestPauses:
    @pytest.fixture
    def responder(self, lab: Lab) -> HttpClient:
        """Somebody with the chart's role for break-glass, and nothing else."""
        lab.grant_cluster_role("responder", "countersign-breakglass")
        return lab.api("responder")

    def pause(self, api: HttpClient, length: timedelta = timedelta(hours=1), **spec: Any) -> Answer:
        obj = make.admission_pause(format_time(datetime.now(UTC) + length), **spec)
        return api.post(collection_path(obj), obj)

    def test_the_asker_is_stamped(self, responder: HttpClient) -> None:
        answer = self.pause(responder)
        assert answer.status == 201, answer
        assert answer.body["spec"]["requestedBy"] == "responder"

    @pytest.mark.parametrize("claimed", ["lab-admin", "system:serviceaccount:a:b"])
    def test_nobody_asks_in_anothers_name(self, responder: HttpClient, claimed: str) -> None:
        answer = self.pause(responder, requestedBy=claimed)
        assert answer.status == 403
        assert "spec.requestedBy must be who asks: leave it out, or set it to responder" in answer.message

    def test_none_lasts_longer_than_a_day_not_even_an_admins(self, lab: Lab, responder: HttpClient) -> None:
        assert self.pause(responder, timedelta(hours=23, minutes=59)).status == 201
        for asker in (responder, lab.admin):
            answer = self.pause(asker, timedelta(hours=24, seconds=30))
            assert answer.status == 422
            assert "a pause lasts 24 hours at the most" in answer.message

    def test_a_forged_creation_time_makes_none_longer(self, lab: Lab, responder: HttpClient) -> None:
        far = datetime.now(UTC) + timedelta(days=30)
        obj = make.admission_pause(format_time(far))
        obj["metadata"]["creationTimestamp"] = format_time(far)
        assert responder.post(collection_path(obj), obj).status == 422

    def test_an_end_moves_earlier_and_never_later(self, responder: HttpClient) -> None:
        made = self.pause(responder).body
        now = datetime.now(UTC)
        later = {"spec": {"expiresAt": format_time(now + timedelta(hours=2))}}
        answer = responder.patch(object_path(made), later)
        assert answer.status == 422
        assert "expiresAt may only be moved earlier" in answer.message
        assert responder.patch(object_path(made), {"spec": {"expiresAt": format_time(now)}}).ok
        assert responder.patch(object_path(made), {"spec": {"expiresAt": made["spec"]["expiresAt"]}}).status == 422

    @pytest.mark.parametrize("role", ["edit", "admin"])
    def test_the_roles_of_a_namespace_pause_nothing(self, lab: Lab, namespace: str, role: str) -> None:
        lab.grant_role(namespace, f"{role}or", role)
        assert self.pause(lab.api(f"{role}or")).status == 403

    def test_who_may_break_the_glass_may_not_say_that_the_door_is_open(self, responder: HttpClient) -> None:
        made = self.pause(responder).body
        assert responder.patch(f"{object_path(made)}/status", {"status": {"observedGeneration": 9}}).status == 403


# Revocations


class TestRevocations:
    @pytest.fixture
    def owner(self, lab: Lab, namespace: str) -> HttpClient:
        """Somebody with the built-in `admin` role in the test's namespace."""
        lab.grant_role(namespace, "owner", "admin")
        return lab.api("owner")

    def order(self, api: HttpClient, namespace: str, target: Object, **spec: Any) -> Answer:
        obj = make.revocation(namespace, target)
        obj["spec"] |= spec
        return api.post(collection_path(obj), obj)

    def test_the_asker_is_stamped(self, owner: HttpClient, namespace: str) -> None:
        answer = self.order(owner, namespace, {"pod": {"name": "api-0"}})
        assert answer.status == 201
        assert answer.body["spec"]["requestedBy"] == "owner"

    @pytest.mark.parametrize("claimed", ["lab-admin", "system:serviceaccount:a:b"])
    def test_nobody_asks_in_anothers_name(self, owner: HttpClient, namespace: str, claimed: str) -> None:
        answer = self.order(owner, namespace, {"pod": {"name": "api-0"}}, requestedBy=claimed)
        assert answer.status == 403
        assert "spec.requestedBy must be who asks: leave it out, or set it to owner" in answer.message

    def test_one_may_write_ones_own_name(self, owner: HttpClient, namespace: str) -> None:
        assert self.order(owner, namespace, {"pod": {"name": "api-0"}}, requestedBy="owner").status == 201

    @pytest.mark.parametrize(
        "target",
        [
            {"pod": {"name": "api-0", "namespace": "other"}},
            {"grant": {"name": "g", "namespace": "other"}},
            {"serviceAccount": {"name": "api", "namespace": SYSTEM_NAMESPACE}},
            {"namespace": {"name": "other"}},
        ],
        ids=str,
    )
    def test_none_reaches_another_namespace(self, lab: Lab, owner: HttpClient, namespace: str, target: Object) -> None:
        for asker in (owner, lab.admin):
            answer = self.order(asker, namespace, target)
            assert answer.status == 403
            assert "ends grants of that namespace only" in answer.message

    def test_each_target_is_free_in_ones_own_namespace(self, owner: HttpClient, namespace: str) -> None:
        for target in (
            {"pod": {"name": "api-0", "namespace": namespace}},
            {"namespace": {"name": namespace}},
            {"node": {"name": "n1"}},
            {"digest": "sha256:" + "a" * 64},
            {"keyFingerprint": "sha256:" + "a" * 64},
            {"signer": {"issuer": "https://issuer.example.com", "subject": "somebody@example.com"}},
        ):
            assert self.order(owner, namespace, target).status == 201

    def test_in_our_own_namespace_an_object_needs_its_namespace(self, lab: Lab) -> None:
        for target in ({"pod": {"name": "a"}}, {"grant": {"name": "a"}}, {"serviceAccount": {"name": "a"}}):
            answer = self.order(lab.admin, SYSTEM_NAMESPACE, target)
            assert answer.status == 422
            assert "Say in which namespace the target is" in answer.message
        assert self.order(lab.admin, SYSTEM_NAMESPACE, {"pod": {"name": "a", "namespace": "other"}}).status == 201
        assert self.order(lab.admin, SYSTEM_NAMESPACE, {"node": {"name": "n9"}}).status == 201

    def test_edit_creates_none(self, dev: HttpClient, namespace: str) -> None:
        assert self.order(dev, namespace, {"pod": {"name": "api-0"}}).status == 403


# Roles for people, and the CRDs


def test_edit_reads_but_writes_no_policy(lab: Lab, dev: HttpClient, namespace: str) -> None:
    policy = make.trust_policy("mine", namespace, images=[RULE])
    assert dev.post(collection_path(policy), policy).status == 403
    assert dev.get(collection_path(policy)).status == 200
    assert dev.get(collection_path(grant(namespace))).status == 200


def test_admin_writes_its_policies_and_no_cluster_policy(lab: Lab, namespace: str) -> None:
    lab.grant_role(namespace, "owner", "admin")
    owner = lab.api("owner")
    policy = make.trust_policy("mine", namespace, images=[RULE], mode="Audit")
    assert owner.post(collection_path(policy), policy).status == 201
    assert owner.delete(object_path(policy)).ok
    wide = make.cluster_policy("mine", namespaces={}, images=[RULE])
    assert owner.post(collection_path(wide), wide).status == 403


@pytest.mark.parametrize("plural", ["protectedaudiences", "clustertrustpolicies", "trustpolicies"])
def test_a_kind_that_guards_read_stays_while_they_do(lab: Lab, plural: str) -> None:
    answer = lab.admin.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.countersign.dev")
    assert answer.status == 403
    assert "Uninstall Countersign first" in answer.message
