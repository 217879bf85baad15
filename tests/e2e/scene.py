"""A governed namespace as its people see it: a policy, a signed image, an edit user; and a relying party beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from countersign.api.names import CA_CONFIGMAP, VERIFIER_AUDIENCE
from tests.e2e.cluster import Cluster
from tests.e2e.registries import ImageStore
from tests.e2e.release import Release
from tests.lab import builder
from tests.lab.cosign import Cosign, Form, KeyPair
from tests.lab.images import ImageSpec, PushedImage
from tests.stack import objects
from tests.stack.objects import Object

PROGRAM = "/workload"
ACCOUNT = "worker"
LEDGER = "ledger"
TOKEN_FILE = "/var/run/secrets/countersign.dev/ledger/token"
_NUMBERS = itertools.count(1)
VERIFIER_HOST = "countersign-verifier.countersign-system.svc"


class Answer(NamedTuple):
    """What the relying party told a caller."""

    status: int
    """200: the verifier said active; 403: it did not; 0: no answer, or no token to show."""
    body: Any

    @property
    def active(self) -> bool:
        return self.status == 200


class Ledger:
    """The relying party: a pod that asks the verifier about each caller's token, and a client beside it for tests."""

    def __init__(self, cluster: Cluster, release: Release, store: ImageStore) -> None:
        self.cluster = cluster
        self.namespace = LEDGER
        image = store.repository("e2e/ledger").push("v1", workload("ledger"))
        cluster.create_namespace(self.namespace)
        for account in ("api", "client"):
            cluster.create(objects.service_account(account, self.namespace))
        cluster.apply(_service(self.namespace))
        self._image = image
        self.meet(release)
        self.url = f"http://{self._address_of(self.namespace, LEDGER)}/"
        spec = objects.pod_spec(
            objects.container(image.by_digest, args=["work"]), service_account="client", **QUICK_END
        )
        spec["containers"][0]["env"] = [{"name": "LEDGER_URL", "value": self.url}]
        spec["containers"][0]["args"] = ["work", "-every", "24h"]
        self.client = cluster.phase(cluster.create(objects.pod("client", self.namespace, spec)), "Running")

    def meet(self, release: Release) -> None:
        """Start with the verifier's address and CA of now: both are others after an uninstall and an install."""
        authority = self.cluster.get(f"/api/v1/namespaces/{release.namespace}/configmaps/{CA_CONFIGMAP}")
        meta = {"name": CA_CONFIGMAP, "namespace": self.namespace}
        self.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": authority["data"]})
        verifier = self._address_of(release.namespace, "countersign-verifier")
        pod = _ledger_pod(self.namespace, self._image, verifier)
        if old := self.cluster.pod(self.namespace, LEDGER):
            self.cluster.delete(old)
            self.cluster.gone(old)
        self.cluster.create(pod)
        self.cluster.running(self.namespace, f"app={LEDGER}")

    def ask(self, token: str) -> Answer:
        """What the relying party says to whoever shows this token."""
        return answer(self.cluster.exec(self.client, PROGRAM, "ask", token))

    def _address_of(self, namespace: str, service: str) -> str:
        return str(self.cluster.get(f"/api/v1/namespaces/{namespace}/services/{service}")["spec"]["clusterIP"])


@dataclass
class Scene:
    """One namespace under one Enforce policy that gives the audience's token to containers called `app`."""

    cluster: Cluster
    release: Release
    ledger: Ledger
    store: ImageStore
    cosign: Cosign
    namespace: str
    audience: str
    policy: Object
    key: KeyPair
    image: PushedImage
    unsigned: PushedImage
    developer: str

    # What a developer writes

    def container(self, *args: str, image: str = "", **more: Any) -> Object:
        """The workload's container; `args` are the program's."""
        made = objects.container(image or self.image.by_tag, **more)
        made["env"] = [{"name": "LEDGER_URL", "value": self.ledger.url}, *made.get("env", [])]
        made["args"] = list(args or ("work",))
        return made

    def spec(self, *args: str, image: str = "", **more: Any) -> Object:
        """A pod's spec with that container (or `containers`), which ends at once when it is told to."""
        containers = more.pop("containers", None) or [self.container(*args, image=image)]
        return objects.pod_spec(*containers, service_account=ACCOUNT, **{**QUICK_END, **more})

    def pod(self, name: str, *args: str, image: str = "", **more: Any) -> Object:
        """A bare pod, labelled app=NAME."""
        return objects.pod(name, self.namespace, self.spec(*args, image=image, **more), {"app": name})

    def create(self, obj: Object) -> Object:
        """Create as the developer; AssertionError with the denial if it is refused."""
        path = objects.collection_path(obj)
        return dict(self.cluster.as_user(self.developer).post(path, obj, expect=201).body)

    def denial(self, obj: Object) -> str:
        """Create as the developer, and insist that it is refused; returns the message."""
        reply = self.cluster.as_user(self.developer).post(objects.collection_path(obj), obj)
        assert reply.status in (400, 403), f"{obj['kind']} was not refused: {reply.status}"
        return reply.message

    def refusal(self, obj: Object) -> str:
        """Why a dry run of its creation is refused; empty if it is not."""
        path = objects.collection_path(obj)
        reply = self.cluster.as_user(self.developer).post(path, obj, query={"dryRun": "All"})
        return "" if reply.ok else reply.message

    def start(self, obj: Object) -> Object:
        """Create a pod and wait until it runs with an Active grant; returns it as it runs."""
        made = self.cluster.phase(self.create(obj), "Running")
        self.grant(made, "Active")
        return made

    def pod_of(self, name: str, *, phase: str = "Running") -> Object:
        """The one pod that a controller makes with the label app=NAME, once it is in that phase."""

        def probe() -> Object | None:
            found = self.cluster.pods(self.namespace, f"app={name}")
            return found[0] if found else None

        return self.cluster.phase(self.cluster.wait(probe, what=f"a pod of {name}"), phase)

    # What became of it

    def grant(self, pod: Mapping[str, Any], state: str = "", reason: str = "", *, seconds: float = 30.0) -> Object:
        """The pod's grant, once it is in that state for that reason."""
        path = f"/apis/countersign.dev/v1alpha1/namespaces/{self.namespace}/workloadgrants"
        selector = f"countersign.dev/pod-uid={pod['metadata']['uid']}"

        def probe() -> Object | None:
            found = self.cluster.items(path, labelSelector=selector)
            last[:] = [one.get("status", {}) for one in found]
            return next((one for one in found if _is(one, state, reason)), None)

        last: list[Any] = []
        what = f"the grant of {pod['metadata']['name']} is {state or 'there'} {reason}".strip()
        try:
            return dict(self.cluster.wait(probe, what=what, seconds=seconds))
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {json.dumps(last)}") from None

    def token(self, pod: Mapping[str, Any]) -> str:
        """The token as the container finds it in its file."""
        return self.cluster.exec(dict(pod), PROGRAM, "cat", TOKEN_FILE)

    def ask(self, pod: Mapping[str, Any]) -> Answer:
        """What the relying party tells the workload when it calls with its own token."""
        return answer(self.cluster.exec(dict(pod), PROGRAM, "ask"))

    def inactive(self, token: str, *, seconds: float = 10.0) -> None:
        """Wait until the relying party refuses the token."""
        self.cluster.wait(lambda: self.ledger.ask(token).status == 403, what="the token is inactive", seconds=seconds)

    def revoke(self, pod: Mapping[str, Any], reason: str = "leaked") -> None:
        """Order the end of the pod's grant."""
        target = {"pod": {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}}
        self.cluster.create(objects.revocation(self.namespace, target, reason))


NewScene = Callable[..., Scene]
"""`make_scene` on the cluster of the run."""

QUICK_END: Object = {"terminationGracePeriodSeconds": 5}


def make_scene(
    cluster: Cluster,
    release: Release,
    ledger: Ledger,
    store: ImageStore,
    cosign: Cosign,
    *,
    tokens: Sequence[Object] | None = None,
    containers: Sequence[str] = ("app",),
    labels: Mapping[str, str] | None = None,
    audience_spec: Mapping[str, Any] | None = None,
    **policy: Any,
) -> Scene:
    """A fresh one. `containers` receive the token; `policy` are further members of the ClusterTrustPolicy's spec.

    Tests look into pods by exec, which would end what they look at: it is let in, unless `responses` say otherwise.
    None: nothing is said of them, for a release that knows none.
    """
    name = f"scene-{next(_NUMBERS)}"
    responses = policy.pop("responses", {})
    if responses is not None:
        policy["responses"] = {"exec": "Allow", **responses}
    audience = f"{name}.ledger.example.com"
    cluster.create_namespace(name, {"scene": name, **(labels or {})})
    cluster.create(objects.service_account(ACCOUNT, name))
    developer = f"dev-{name}"
    cluster.create(_role_binding(name, developer))
    key = cosign.generate_key(name)
    repository = store.repository(f"e2e/{name}")
    image = repository.push("v1", workload(name))
    unsigned = repository.push("unsigned", workload(f"{name}-unsigned"))
    cosign.sign(store, image, key, form=Form.BUNDLE)
    given = [objects.token(audience, containers=list(containers))] if tokens is None else list(tokens)
    stated = objects.cluster_policy(
        name,
        namespaces={"scene": name},
        images=[objects.image_rule([f"{repository.reference}/**", repository.reference], [key.public_pem])],
        tokens=given,
        **policy,
    )
    declared = objects.protected_audience(
        name, audience, introspectors=[(ledger.namespace, "api")], **(audience_spec or {})
    )
    declare(cluster, declared, stated)
    return Scene(
        cluster, release, ledger, store, cosign, name, audience, stated, key, image, unsigned, developer
    )  # fmt: skip


def declare(cluster: Cluster, *rules: Object) -> None:
    """Apply policies and audiences, and wait until the controller and the API server go by them."""
    cluster.apply(*rules)
    for rule in rules:
        path = objects.object_path(rule)
        cluster.wait(partial(_is_judged, cluster, path), what=f"{path} is judged")
    settle(cluster)


def settle(cluster: Cluster) -> None:
    """Wait until the webhook configurations have stood still for 1.5 s, which covers the API server's own watch."""
    seen: list[str] = []
    still = 0
    while still < 10:
        now = [_version(cluster, kind) for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")]
        still, seen = (still + 1, seen) if now == seen else (0, now)
        cluster.pause(0.15)


def workload(mark: str, **fields: Any) -> ImageSpec:
    """An image with the workload's program, a digest of its own, and no shell."""
    program = builder.ensure(["workload"])["workload"].read_bytes()
    return ImageSpec.distinct(mark, entrypoint=[PROGRAM], files={PROGRAM[1:]: program}, **fields)


def answer(printed: str) -> Answer:
    """What `workload ask` printed."""
    status, _, body = printed.strip().partition(" ")
    if not status.isdigit():
        return Answer(0, printed.strip())
    try:
        return Answer(int(status), json.loads(body))
    except ValueError:
        return Answer(int(status), body)


def _is(grant: Object, state: str, reason: str) -> bool:
    status = grant.get("status", {})
    return (not state or status.get("state") == state) and (not reason or status.get("reason") == reason)


def _is_judged(cluster: Cluster, path: str) -> bool:
    rule = cluster.get(path)
    conditions = (rule or {}).get("status", {}).get("conditions", [])
    generation = rule["metadata"]["generation"] if rule else 0
    return any(one["type"] == "Accepted" and one.get("observedGeneration") == generation for one in conditions)


def _version(cluster: Cluster, kind: str) -> str:
    found = cluster.get(f"/apis/admissionregistration.k8s.io/v1/{kind}/countersign")
    return str(found["metadata"]["resourceVersion"]) if found else ""


def _role_binding(namespace: str, user: str) -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "developer", "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def _service(namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": LEDGER, "namespace": namespace},
        "spec": {"selector": {"app": LEDGER}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }


def _ledger_pod(namespace: str, image: PushedImage, verifier: str) -> Object:
    container = objects.container(image.by_digest, args=["ledger"])
    container["env"] = [{"name": "VERIFIER_URL", "value": f"https://{VERIFIER_HOST}/introspect"}]
    container["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    container["volumeMounts"] = [
        {"name": "verifier", "mountPath": "/var/run/secrets/verifier"},
        {"name": "ca", "mountPath": "/etc/countersign"},
    ]
    source = {"audience": VERIFIER_AUDIENCE, "expirationSeconds": 600, "path": "token"}
    spec = objects.pod_spec(
        container,
        service_account="api",
        # Not every cluster of these tests has DNS; the certificate wants the name.
        hostAliases=[{"ip": verifier, "hostnames": [VERIFIER_HOST]}],
        volumes=[
            {"name": "verifier", "projected": {"sources": [{"serviceAccountToken": source}]}},
            {"name": "ca", "configMap": {"name": CA_CONFIGMAP}},
        ],
        **QUICK_END,
    )
    return objects.pod(LEDGER, namespace, spec, {"app": LEDGER})
