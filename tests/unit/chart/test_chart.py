"""The chart, as Helm's own library renders it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from countersign.api import names
from countersign.api.evidence_root import EvidenceRootSpec
from countersign.api.objects import KINDS
from countersign.cli.diagnosis import doctor
from countersign.cli.services import SERVICES, parse, settings_of
from countersign.signatures.roots.tuf_mirror import PUBLIC_GOOD_MIRROR
from countersign.trust.policies.policy import DEFAULT_ROOT
from tests import render as rendering
from tests.render import CHART, MANIFESTS, InvalidValuesError, Object, manifests, notes, render
from tests.values import page

pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

EVERYTHING: Object = {
    "imagePullSecrets": ["registry"],
    "image": {"digest": "sha256:" + "a" * 64},
    "gate": {
        "pullSecretNamespaces": ["payments"],
        "registries": {
            "caConfigMap": "registry-ca",
            "insecure": ["registry.local:5000"],
            "allowedAddressRanges": ["127.0.0.0/8", "::1/128"],
            "deniedAddressRanges": ["10.96.0.0/12"],
            "credentialsSecret": "registry-login",
            "maxRequests": 64,
            "maxRequestsPerHost": 8,
        },
        "evidence": {"cacheMiB": 64, "workers": 4, "warmUpRequestsPerSecond": 0},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "security"},
    },
    "controller": {"gateURL": "https://192.0.2.1:8443", "certificateNames": ["192.0.2.1"], "registerWebhooks": False},
    "verifier": {"issuers": ["https://former.example.com"]},
    "networkPolicy": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True},
    "tracing": {"otlpEndpoint": "http://collector:4318", "sampleRatio": 0.05, "environmentSecret": "otlp"},
    "priorityClass": {"create": False},
    "topologySpread": {"keys": ["kubernetes.io/hostname"], "whenUnsatisfiable": "DoNotSchedule"},
    "probes": {"liveness": {"initialDelaySeconds": 5, "periodSeconds": 30, "timeoutSeconds": 5, "failureThreshold": 9}},
}


EVENTS_AND_QUESTIONS = {"events", "tokenreviews", "subjectaccessreviews"}
"""What gate and verifier may create: nothing that another part acts on."""


@pytest.fixture(scope="module", params=[{}, EVERYTHING], ids=["defaults", "everything"])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return render(request.param)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [obj for obj in objects if obj["kind"] in kinds]


def rules(objects: list[Object], name: str) -> Iterator[tuple[str, Object]]:
    """Kind of the role, and rule, of every Role and ClusterRole of that name."""
    for role in of_kind(objects, "Role", "ClusterRole"):
        if role["metadata"]["name"] == name:
            yield from ((role["kind"], rule) for rule in role["rules"])


# Rendered files


@pytest.mark.parametrize("name", ["crds.yaml", "countersign.yaml", "revocation-asker.yaml"])
def test_manifests_hold_what_the_chart_renders(name: str) -> None:
    assert (MANIFESTS / name).read_text() == manifests()[name], "manifests/ is stale: run `make generate`"


def test_manifests_hold_nothing_else() -> None:
    assert {path.name for path in MANIFESTS.iterdir()} == set(manifests())


def test_without_helm_the_manifests_stand_in_for_the_default_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(objects: list[Object]) -> set[tuple[str, str]]:
        return {(obj["kind"], obj["metadata"]["name"]) for obj in objects}

    rendered = keys(render({"test": {"enabled": False}}))
    monkeypatch.setattr(rendering, "find_spec", lambda name: None)
    assert keys(render()) == rendered | {("Namespace", names.SYSTEM_NAMESPACE)}


# Values


def test_every_value_stands_in_the_schema_with_a_description() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def described(values: Object, schema: Object, path: str) -> None:
        for key, value in values.items():
            member = schema["properties"][key]
            if "$ref" in member:
                member = {**schema_of(member["$ref"]), **member}
            assert member.get("description"), f"{path}{key} has no description"
            if isinstance(value, dict) and "properties" in member and "$ref" not in member:
                assert member["additionalProperties"] is False, f"{path}{key} takes unknown names"
                described(value, member, f"{path}{key}.")

    def schema_of(reference: str) -> Object:
        return dict(schema["definitions"][reference.rpartition("/")[2]])

    described(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gate": {"replica": 3}}, "'replica' not allowed"),
        ({"gaet": {}}, "'gaet' not allowed"),
        ({"gate": {"replicas": 0}}, "/gate/replicas"),
        ({"gate": {"replicas": "2"}}, "/gate/replicas"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"gate": {"pullSecretNamespaces": ["*"]}}, "/gate/pullSecretNamespaces/0"),
        ({"gate": {"registries": {"insecure": ["http://registry"]}}}, "/gate/registries/insecure/0"),
        ({"controller": {"gateURL": "http://gate"}}, "/controller/gateURL"),
        ({"controller": {"impactShare": 25}}, "/controller/impactShare"),
        ({"gate": {"podLabels": {"app.kubernetes.io/name": "mine"}}}, "invalid propertyName 'app.kubernetes.io/name'"),
        ({"probes": {"startup": {"periodSeconds": 0}}}, "/probes/startup/periodSeconds"),
        ({"topologySpread": {"whenUnsatisfiable": "Never"}}, "/topologySpread/whenUnsatisfiable"),
        ({"priorityClass": {"value": 2000000000}}, "/priorityClass/value"),
        ({"guards": {"mutatingAdmissionPolicy": "yes"}}, "/guards/mutatingAdmissionPolicy"),
    ],
)
def test_a_mistyped_value_is_refused_by_name(values: Object, says: str) -> None:
    with pytest.raises(InvalidValuesError) as error:
        render(values)
    assert says in str(error.value)


def test_the_namespace_is_the_releases_everywhere() -> None:
    text = yaml.safe_dump([obj for obj in render({}, "elsewhere") if obj["kind"] != "CustomResourceDefinition"])
    assert names.SYSTEM_NAMESPACE not in text
    assert "system:serviceaccount:elsewhere:countersign-controller" in text


def test_every_object_carries_the_recommended_labels(objects: list[Object]) -> None:
    # kubernetes.io/docs/concepts/overview/working-with-objects/common-labels
    for obj in [*objects, *(o["spec"]["template"] for o in of_kind(objects, "Deployment"))]:
        labels = obj["metadata"]["labels"]
        for label in ("name", "instance", "component", "part-of", "version", "managed-by"):
            assert labels.get(f"app.kubernetes.io/{label}"), f"{obj.get('kind')} {obj['metadata']}: no {label}"


def test_helms_linter_has_nothing_against_the_chart() -> None:
    import helm_python

    for values in ({}, EVERYTHING):
        report = helm_python.lint(CHART, values, strict=True)
        said = [one for one in report["messages"] if one["error"] != "icon is recommended"]
        assert not report["errors"]
        assert not said


def test_the_crds_stay_when_the_release_goes_and_can_be_left_out(objects: list[Object]) -> None:
    crds = of_kind(objects, "CustomResourceDefinition")
    assert len(crds) == len(KINDS)
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in crds} == {"keep"}
    assert not of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition")
    # Helm installs what lies there, and never upgrades it.
    assert not (CHART / "crds").exists()


def test_the_page_of_values_is_what_the_chart_says() -> None:
    assert (CHART.parents[1] / "docs" / "values.md").read_text() == page(), "stale: run `make generate`"


# Services


@pytest.mark.parametrize("service", SERVICES)
def test_each_flag_is_one_that_the_service_knows(objects: list[Object], service: str) -> None:
    settings = settings_of(service)
    (deployment,) = [d for d in of_kind(objects, "Deployment") if d["metadata"]["name"] == f"countersign-{service}"]
    command, *args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == service
    assert isinstance(parse(settings, args, {}), settings)


def test_the_rate_of_the_scan_reaches_the_controller_as_it_is_written() -> None:
    scan = {"requestsPerSecond": 0.5, "refreshSeconds": 7200, "collectSeconds": 0}
    (deployment,) = (
        one
        for one in render({"controller": {"scan": scan}})
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "countersign-controller"
    )
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--scan-requests-per-second=0.5", "--scan-refresh-seconds=7200", "--collect-seconds=0"} <= set(args)


def test_pods_meet_the_restricted_pod_security_standard(objects: list[Object]) -> None:
    # kubernetes.io/docs/concepts/security/pod-security-standards, "Restricted".
    pods = [deployment["spec"]["template"] for deployment in of_kind(objects, "Deployment")]
    for pod in [*pods, *of_kind(objects, "Pod")]:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert all(
            volume.keys() & {"configMap", "emptyDir", "projected", "secret"} for volume in spec.get("volumes", [])
        )
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_each_service_survives_a_drain(objects: list[Object]) -> None:
    budgets = {b["metadata"]["name"]: b["spec"] for b in of_kind(objects, "PodDisruptionBudget")}
    for deployment in of_kind(objects, "Deployment"):
        spec = deployment["spec"]
        assert spec["replicas"] >= 2
        assert budgets[deployment["metadata"]["name"]]["maxUnavailable"] == 1
        assert budgets[deployment["metadata"]["name"]]["selector"] == spec["selector"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"] == spec["selector"]


def test_a_budget_never_blocks_a_drain(objects: list[Object]) -> None:
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert not of_kind(render({"podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget")


def test_pods_have_a_priority_of_their_own_unless_told_otherwise() -> None:
    def named(values: Object) -> set[str | None]:
        return {d["spec"]["template"]["spec"].get("priorityClassName") for d in of_kind(render(values), "Deployment")}

    assert named({}) == {made["metadata"]["name"] for made in of_kind(render(), "PriorityClass")}
    assert named({"gate": {"priorityClassName": "system-cluster-critical"}}) == {
        "countersign",
        "system-cluster-critical",
    }
    assert named({"priorityClass": {"create": False}}) == {None}
    assert not of_kind(render({"priorityClass": {"create": False}}), "PriorityClass")


def test_pods_are_spread_as_the_values_say() -> None:
    def spread(values: Object) -> set[tuple[str, str]]:
        return {
            (one["topologyKey"], one["whenUnsatisfiable"])
            for d in of_kind(render({"topologySpread": values}), "Deployment")
            for one in d["spec"]["template"]["spec"].get("topologySpreadConstraints", ())
        }

    zone, host = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    assert spread({}) == {(zone, "ScheduleAnyway"), (host, "ScheduleAnyway")}
    assert spread({"keys": [zone], "whenUnsatisfiable": "DoNotSchedule"}) == {(zone, "DoNotSchedule")}
    assert not spread({"keys": []})


def test_a_process_has_two_minutes_to_come_up_before_liveness_counts(objects: list[Object]) -> None:
    for deployment in of_kind(objects, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        startup, liveness = container["startupProbe"], container["livenessProbe"]
        assert startup["httpGet"] == liveness["httpGet"] == {"path": "/healthz", "port": "health"}
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_pods_own_labels_come_on_top() -> None:
    (gate,) = [
        d
        for d in of_kind(render({"gate": {"podLabels": {"team": "x"}}}), "Deployment")
        if "gate" in str(d["metadata"]["name"])
    ]
    labels = gate["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "x"
    assert gate["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_what_helm_test_runs_under_reads_no_secret_and_writes_nothing(objects: list[Object]) -> None:
    granted = [rule for _, rule in rules(objects, "countersign-test")]
    assert granted
    for rule in granted:
        assert set(rule["verbs"]) <= {"get", "list"}
        assert not {"secrets", "configmaps", "pods"} & set(rule["resources"])
    assert not [obj for obj in render({"test": {"enabled": False}}) if "test" in obj["metadata"]["name"]]


def test_helm_test_runs_a_command_that_the_program_knows(objects: list[Object]) -> None:
    (pod,) = of_kind(objects, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    command, *flags = pod["spec"]["containers"][0]["args"]
    assert command == "doctor"
    skipped = {flag.removeprefix("--skip=") for flag in flags if flag.startswith("--skip=")}
    assert skipped <= set(doctor.NAMES)
    assert set(flags) == {f"--skip={name}" for name in skipped} | {"--system-namespace=countersign-system"}


def test_the_chart_leaves_webhook_configurations_to_the_controller(objects: list[Object]) -> None:
    assert not of_kind(objects, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


# Permissions


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_reads_secrets_but_its_own(objects: list[Object], service: str) -> None:
    for kind, rule in rules(objects, f"countersign-{service}"):
        if "secrets" in rule.get("resources", ()) and rule["verbs"] != ["create"]:
            assert kind == "Role"
            assert all(name.startswith("countersign-") for name in rule["resourceNames"])


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_may_do_everything(objects: list[Object], service: str) -> None:
    for _, rule in rules(objects, f"countersign-{service}"):
        for member in ("apiGroups", "resources", "verbs", "nonResourceURLs"):
            assert "*" not in rule.get(member, ())


def test_pull_secrets_are_read_in_listed_namespaces_only() -> None:
    granted = [
        role["metadata"]["namespace"]
        for role in of_kind(render(EVERYTHING), "Role")
        if role["metadata"]["name"] == "countersign-gate-pull-secrets"
    ]
    assert granted == ["payments"]
    assert not [role for role in render() if role["metadata"]["name"] == "countersign-gate-pull-secrets"]


def test_pods_are_listed_for_the_warm_up_only() -> None:
    for rate, listed in ((10, True), (0.5, True), (0, False)):
        rendered = render({"gate": {"evidence": {"warmUpRequestsPerSecond": rate}}})
        verbs = [
            rule["verbs"]
            for kind, rule in rules(rendered, "countersign-gate")
            if kind == "ClusterRole" and "pods" in rule["resources"]
        ]
        assert (["list"] in verbs) is listed
        (gate,) = [obj for obj in of_kind(rendered, "Deployment") if obj["metadata"]["name"] == "countersign-gate"]
        args = gate["spec"]["template"]["spec"]["containers"][0]["args"]
        assert (f"--warm-up-requests-per-second={rate}" if listed else "--no-warm-up") in args


def test_the_gates_own_credentials_are_mounted_where_it_looks_for_them() -> None:
    rendered = render({"gate": {"registries": {"credentialsSecret": "registry-login"}}})
    (gate,) = [obj for obj in of_kind(rendered, "Deployment") if obj["metadata"]["name"] == "countersign-gate"]
    pod = gate["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one.get("secret", {}).get("secretName") == "registry-login"]
    (item,) = volume["secret"]["items"]
    (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"]]
    assert item["key"] == ".dockerconfigjson"
    assert f"--registry-credentials-file={mount['mountPath']}/{item['path']}" in pod["containers"][0]["args"]


def test_only_the_controller_may_write(objects: list[Object]) -> None:
    for service in ("gate", "verifier"):
        for _, rule in rules(objects, f"countersign-{service}"):
            written = set(rule["verbs"]) - {"get", "list", "watch"}
            if service == "gate" and rule["resources"] == ["revocations"]:
                written -= {"create"}  # of whoever goes into a pod, before he is let in
            assert not written or set(rule["resources"]) <= EVENTS_AND_QUESTIONS


def test_view_and_admin_take_in_ours_and_edit_does_not(objects: list[Object]) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    aggregated = {
        (key.removeprefix(prefix), role["metadata"]["name"])
        for role in of_kind(objects, "ClusterRole")
        for key in role["metadata"]["labels"]
        if key.startswith(prefix)
    }
    assert aggregated == {("view", "countersign-view"), ("admin", "countersign-admin")}
    assert all(rule["verbs"] == ["get", "list", "watch"] for _, rule in rules(objects, "countersign-view"))
    written = {resource for _, rule in rules(objects, "countersign-admin") for resource in rule["resources"]}
    assert written == {"trustpolicies", "revocations"}


def test_aggregation_can_be_turned_off() -> None:
    text = yaml.safe_dump(of_kind(render({"rbac": {"aggregate": False}}), "ClusterRole"))
    assert "aggregate-to" not in text


def test_nobody_may_break_the_glass_unless_an_admin_says_so(objects: list[Object]) -> None:
    (role,) = [one for one in of_kind(objects, "ClusterRole") if one["metadata"]["name"] == "countersign-breakglass"]
    (rule,) = role["rules"]
    assert (rule["resources"], rule["verbs"]) == (["admissionpauses"], ["create", "get", "list", "patch"])
    assert not [label for label in role["metadata"]["labels"] if "aggregate-to" in label]
    bindings = of_kind(objects, "ClusterRoleBinding") + of_kind(objects, "RoleBinding")
    assert "countersign-breakglass" not in {one["roleRef"]["name"] for one in bindings}
    others = [one for one in of_kind(objects, "ClusterRole") if one is not role]
    writers = [
        one["metadata"]["name"]
        for one in others
        for rule in one["rules"]
        if "admissionpauses" in rule.get("resources", ()) and {"create", "patch", "update", "*"} & set(rule["verbs"])
    ]
    assert writers == []


# Guards


def test_each_guard_denies_and_fails_closed(objects: list[Object]) -> None:
    bindings = {b["spec"]["policyName"]: b["spec"] for b in of_kind(objects, "ValidatingAdmissionPolicyBinding")}
    policies = of_kind(objects, "ValidatingAdmissionPolicy")
    expected = {"crds", "grants", "minting", "namespace-labels", "owners", "owners-namespaced"}
    expected |= {"exceptions"}
    expected |= {"node-proxy", "pauses", "receipts", "reserved-labels", "revocations"}
    assert {policy["metadata"]["name"] for policy in policies} == {f"countersign-{name}" for name in expected}
    for policy in policies:
        assert policy["spec"]["failurePolicy"] == "Fail"
        binding = bindings[policy["metadata"]["name"]]
        assert binding["validationActions"] == ["Deny"]
        assert ("paramKind" in policy["spec"]) == ("paramRef" in binding)


def test_the_guard_of_kubelets_can_be_turned_off() -> None:
    rendered = render({"guards": {"nodeProxy": False}})
    assert "node-proxy" not in yaml.safe_dump(of_kind(rendered, "ValidatingAdmissionPolicy"))


@pytest.mark.parametrize(("version", "kinds"), [("v1", 2), ("v1beta1", 2), ("off", 0), ("auto", 0)])
def test_the_asker_is_stamped_where_the_cluster_can(version: str, kinds: int) -> None:
    found = of_kind(
        render({"guards": {"mutatingAdmissionPolicy": version}}),
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    )
    assert len(found) == kinds
    assert all(obj["apiVersion"] == f"admissionregistration.k8s.io/{version}" for obj in found)


# Words


def test_the_notes_say_what_is_not_in_force_yet() -> None:
    assert "Not in force yet" in notes()
    assert "list the namespaces with private images" in notes()
    assert "list the namespaces with private images" not in notes(EVERYTHING)
    assert "register the gate yourself" in notes(EVERYTHING)
    assert "networkPolicy.enabled is false" in notes()
    assert "networkPolicy.enabled is false" not in notes(EVERYTHING)


def test_the_notes_say_what_an_uninstall_takes_and_what_it_leaves() -> None:
    told = notes({"test": {"enabled": False}}, "elsewhere")
    assert "helm uninstall countersign --namespace elsewhere" in told
    assert "It revokes nothing" in told
    assert "helm test" not in told
    assert "helm test countersign" in notes()


def test_the_images_user_is_the_charts() -> None:
    (user,) = {
        obj["spec"]["template"]["spec"]["securityContext"]["runAsUser"] for obj in of_kind(render(), "Deployment")
    }
    assert f"USER {user}:{user}\n" in (CHART.parents[1] / "Dockerfile").read_text()


def test_the_charts_version_is_the_packages() -> None:
    import countersign

    chart: dict[str, Any] = yaml.safe_load(Path(CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == countersign.__version__


def test_no_guard_with_parameters_stands_in_the_way_of_the_clusters_own_pods_and_tokens() -> None:
    """An API server that does not know our kinds yet refuses whatever such a guard matches."""
    guards = [obj for obj in render() if obj["kind"] == "ValidatingAdmissionPolicy" and "paramKind" in obj["spec"]]
    guarded = {"pods", "serviceaccounts/token"}
    checked = 0
    for guard in guards:
        constraints = guard["spec"]["matchConstraints"]
        if guarded & {resource for rule in constraints["resourceRules"] for resource in rule["resources"]}:
            [clause] = constraints["namespaceSelector"]["matchExpressions"]
            assert (clause["key"], clause["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
            assert {*names.EXEMPT_NAMESPACES, names.SYSTEM_NAMESPACE} <= set(clause["values"])
            checked += 1
    assert checked == 3


def test_nothing_is_fetched_from_the_public_good_mirror_unless_a_value_says_so() -> None:
    refreshed = of_kind(render({"evidenceRoots": {"publicGood": {"refresh": True}}}), "EvidenceRoot")
    assert [root["metadata"]["name"] for root in refreshed] == [DEFAULT_ROOT]
    tuf = msgspec.convert(refreshed[0]["spec"], EvidenceRootSpec).sigstore.tuf
    assert tuf is not None
    assert (tuf.mirror, tuf.builtin, tuf.root) == (PUBLIC_GOOD_MIRROR, "PublicGood", "")
    assert not of_kind(render(), "EvidenceRoot")


def test_the_controller_reads_config_maps_of_our_namespace_only_and_writes_no_evidence_root(
    objects: list[Object],
) -> None:
    own = list(rules(objects, "countersign-controller"))
    config_maps = [(kind, rule["verbs"]) for kind, rule in own if rule["resources"] == ["configmaps"]]
    assert ("Role", ["get"]) in config_maps
    assert {kind for kind, _ in config_maps} == {"Role"}
    verbs = {verb for _, rule in own if "evidenceroots" in rule["resources"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
