"""What a container that receives a token may be made to run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.api.policy import Runtime
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.verdicts.verdict import Verdict
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    ENTRYPOINT,
    audience,
    audiences_of,
    cluster_policy,
    codes,
    config,
    container,
    denied,
    facts,
    judged,
    pod,
    snapshot,
    token,
    trust_policy,
    unverifiable,
)

ENTRY = list(ENTRYPOINT)
SHELL = ["sh", "-c", "cat /var/run/secrets/countersign.dev/ledger/token"]


def run(runtime: Runtime | None = None, entrypoint: Any = ENTRYPOINT, cmd: Any = (), **members: Any) -> Verdict:
    policy = cluster_policy(tokens=(token(),), runtime=runtime or Runtime())
    volumes = [{"name": "data", "emptyDir": {}}]
    return judged(
        snapshot(policy), pod(container(**members), volumes=volumes), facts(configs=[config(entrypoint, cmd)])
    )


def test_the_images_own_entrypoint_may_run() -> None:
    assert denied(run()) == []


def test_a_command_that_equals_the_entrypoint_may_run() -> None:
    assert denied(run(command=ENTRY, args=["--port", "80"])) == []


def test_another_command_may_not() -> None:
    assert denied(run(command=SHELL)) == ["CommandNotAllowed"]


def test_a_prefix_of_the_entrypoint_may_not() -> None:
    assert denied(run(entrypoint=("/app", "serve"), command=["/app"])) == ["CommandNotAllowed"]


def test_args_are_free_where_the_image_has_an_entrypoint() -> None:
    assert denied(run(args=["--anything"])) == []


def test_args_choose_the_program_where_the_image_has_none() -> None:
    assert denied(run(entrypoint=(), cmd=("/app",), args=["sh"])) == ["CommandNotAllowed"]
    assert denied(run(entrypoint=(), cmd=("/app",))) == []
    assert denied(run(entrypoint=(), cmd=("/app",), args=["/app"])) == []
    assert denied(run(entrypoint=(), cmd=("/app",), command=["/app"])) == []


def test_a_command_line_with_variables_is_not_what_it_looks_like() -> None:
    assert denied(run(entrypoint=("$(SHELL)",), command=["$(SHELL)"])) == ["CommandNotAllowed"]


def test_listed_allows_the_entrypoint_and_the_listed_commands() -> None:
    listed = Runtime(command="Listed", allowed_commands=(("python", "main.py"),))
    assert denied(run(listed)) == []
    assert denied(run(listed, command=["python", "main.py"], args=["--port", "80"])) == []
    assert denied(run(listed, command=["python"])) == ["CommandNotAllowed"]
    assert denied(run(listed, command=["python", "main.py", "-c"])) == ["CommandNotAllowed"]


def test_a_list_does_not_widen_from_image() -> None:
    runtime = Runtime(command="FromImage", allowed_commands=(("python", "main.py"),))
    assert denied(run(runtime, command=["python", "main.py"])) == ["CommandNotAllowed"]


def test_any_asks_nothing_of_the_command() -> None:
    probe = {"exec": {"command": ["sh"]}}
    assert denied(run(Runtime(command="Any"), command=SHELL, livenessProbe=probe)) == []


@pytest.mark.parametrize(
    "members",
    [
        {"livenessProbe": {"exec": {"command": SHELL}}},
        {"readinessProbe": {"exec": {"command": SHELL}}},
        {"startupProbe": {"exec": {"command": SHELL}}},
        {"lifecycle": {"postStart": {"exec": {"command": SHELL}}}},
        {"lifecycle": {"preStop": {"exec": {"command": SHELL}}}},
        {"livenessProbe": {"exec": {}}},
    ],
)
def test_exec_handlers_run_only_listed_commands(members: dict[str, Any]) -> None:
    assert denied(run(**members)) == ["CommandNotAllowed"]


def test_exec_handlers_may_run_a_listed_command_or_the_entrypoint() -> None:
    runtime = Runtime(allowed_commands=(("/healthz",),))
    assert denied(run(runtime, livenessProbe={"exec": {"command": ["/healthz"]}})) == []
    assert denied(run(livenessProbe={"exec": {"command": ENTRY}})) == []


def test_handlers_that_run_nothing_inside_are_free() -> None:
    assert denied(run(livenessProbe={"httpGet": {"port": 80}}, lifecycle={"preStop": {"sleep": {"seconds": 5}}})) == []


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV"])
def test_variables_that_run_foreign_code_are_denied_by_default(name: str) -> None:
    assert denied(run(env=[{"name": name, "value": "x"}])) == ["EnvNotAllowed"]
    assert denied(run(env=[{"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])) == [
        "EnvNotAllowed"
    ]


def test_other_variables_are_free() -> None:
    assert denied(run(env=[{"name": "PORT", "value": "80"}, {"name": "OLD_LD", "value": "x"}])) == []


def test_denied_variables_are_denied_under_any_too() -> None:
    runtime = Runtime(command="Any", denied_env=("SECRET_*", "EXACT"))
    for name, verdict in {"SECRET_X": ["EnvNotAllowed"], "EXACT": ["EnvNotAllowed"], "EXACTLY": []}.items():
        assert denied(run(runtime, env=[{"name": name, "value": "x"}])) == verdict


@pytest.mark.parametrize(
    ("prefix", "allowed"),
    [("", False), ("L", False), ("LD_X", False), ("PYTHON", False), ("CFG_", True), ("LDAP", True)],
)
def test_env_from_needs_a_prefix_under_which_no_denied_name_can_arise(prefix: str, allowed: bool) -> None:
    source = {"prefix": prefix, "configMapRef": {"name": "settings"}}
    assert denied(run(envFrom=[source])) == ([] if allowed else ["EnvNotAllowed"])


def test_env_from_is_free_where_no_variable_is_denied() -> None:
    assert denied(run(Runtime(denied_env=()), envFrom=[{"secretRef": {"name": "s"}}])) == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/usr",
        "/usr/local",
        "/usr/local/bin",
        "/usr/local/app",
        "/usr/local/app/server",
        "//usr/local/app/",
        "/lib",
    ],
)
def test_a_mount_over_the_program_is_another_program(path: str) -> None:
    assert denied(run(volumeMounts=[{"name": "data", "mountPath": path}])) == ["CommandNotAllowed"]


@pytest.mark.parametrize("path", ["/data", "/usr/local/app/server.d", "/etc/app", "/tmp", "/usr/share/app"])
def test_other_mounts_are_free(path: str) -> None:
    assert denied(run(volumeMounts=[{"name": "data", "mountPath": path}], args=["/etc/app/config.yaml"])) == []


def test_a_working_directory_inside_a_mount_turns_relative_names_into_foreign_files() -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    assert denied(run(entrypoint=("node", "x.js"), volumeMounts=mounts, workingDir="/data/x")) == ["CommandNotAllowed"]
    assert denied(run(entrypoint=("node", "x.js"), volumeMounts=mounts, workingDir="/srv")) == []


def test_containers_that_receive_no_token_run_what_they_like() -> None:
    policy = cluster_policy(tokens=(token(containers=("api",)),))
    given = pod(container(), container("job", command=["sh"], env=[{"name": "LD_PRELOAD", "value": "x"}]))
    assert denied(judged(snapshot(policy), given)) == []
    assert denied(judged(snapshot(cluster_policy()), pod(container(command=["sh"])))) == []


def test_init_containers_that_receive_a_token_are_bound_as_well() -> None:
    policy = cluster_policy(tokens=(token(containers=("init",)),))
    given = pod(container(), initContainers=[container("init", command=["sh"])])
    assert denied(judged(snapshot(policy), given)) == ["CommandNotAllowed"]


def test_an_entrypoint_that_is_not_known_is_no_reason_to_admit() -> None:
    policy = cluster_policy(tokens=(token(),))
    assert denied(judged(snapshot(policy), found=facts(configs=()))) == ["ImageUnverifiable"]
    verdict = judged(snapshot(policy), found=unverifiable())
    assert set(denied(verdict)) == {"ImageUnverifiable"}
    assert verdict.retry


@pytest.mark.parametrize(
    "entrypoint",
    [
        ("/sbin/tini", "--"),
        ("/usr/bin/dumb-init", "--single-child", "--"),
        ("sh", "-c"),
        ("/bin/bash", "-ec"),
        ("/usr/bin/python3.12",),
        ("python", "-u"),
        ("python", "-m"),
        ("tini", "--", "node", "--require", "./tracing.js"),
        ("/usr/bin/java", "-jar"),
        ("env", "TZ=UTC", "gosu", "app"),
        ("docker-entrypoint.sh",),
        ("/bin/busybox", "sh"),
        ("deno", "run", "--allow-net"),
    ],
)
def test_args_are_the_images_own_where_its_entrypoint_runs_what_they_name(entrypoint: tuple[str, ...]) -> None:
    assert denied(run(entrypoint=entrypoint, cmd=("/app",), args=["cat"])) == ["CommandNotAllowed"]
    assert denied(run(entrypoint=entrypoint, cmd=("/app",), command=entrypoint, args=["x"])) == ["CommandNotAllowed"]
    assert denied(run(entrypoint=entrypoint, cmd=("/app",))) == []
    assert denied(run(entrypoint=entrypoint, cmd=("/app",), args=["/app"])) == []


@pytest.mark.parametrize(
    "entrypoint",
    [
        ("tini", "--", "/app"),
        ("sh", "-c", 'exec /app "$0"'),
        ("python", "-m", "shop"),
        ("node", "--require", "./tracing.js", "server.js"),
        ("java", "-Xmx1g", "-cp", "/lib.jar", "-jar", "/shop.jar"),
        ("/app",),
    ],
)
def test_args_are_data_where_the_entrypoint_names_the_program(entrypoint: tuple[str, ...]) -> None:
    assert denied(run(entrypoint=entrypoint, args=["cat"])) == []


def built(entrypoint: tuple[str, ...], path: str, *, folder: str = "/app", cmd: tuple[str, ...] = ()) -> list[str]:
    """What a mount at `path` is denied for in an image of that working directory."""
    image = msgspec.structs.replace(config(entrypoint, cmd), working_dir=folder, path=("/opt/venv/bin", "/usr/bin"))
    of = pod(container(volumeMounts=[{"name": "data", "mountPath": path}]), volumes=[{"name": "data", "emptyDir": {}}])
    return denied(judged(snapshot(cluster_policy(tokens=(token(),))), of, facts(configs=[image])))


def test_a_mount_over_what_a_relative_name_means_is_another_program() -> None:
    for path in ("/app", "/app/main.py", "/opt/venv", "/opt/venv/bin/python"):
        assert built(("python", "main.py"), path) == ["CommandNotAllowed"]
    assert built(("./server",), "/app/server") == ["CommandNotAllowed"]
    assert built(("python", "-m", "shop"), "/app/shop") == ["CommandNotAllowed"]
    assert built(("tini", "--"), "/app", cmd=("python", "main.py")) == ["CommandNotAllowed"]


def test_a_mount_beside_them_is_free() -> None:
    assert built(("python", "main.py"), "/app/config") == []
    assert built(("entry.sh",), "/data", folder="/data") == []  # found in the PATH, not in the working directory


@pytest.mark.parametrize("name", ["PATH", "BASH_FUNC_ls%%", "OPENSSL_CONF", "GLIBC_TUNABLES", "NODE_PATH"])
def test_no_variable_says_where_programs_lie(name: str) -> None:
    assert denied(run(entrypoint=("server",), env=[{"name": name, "value": "/data"}])) == ["EnvNotAllowed"]


def test_what_a_required_policy_lets_run_binds_a_namespaces_token_as_well() -> None:
    lax = Runtime(command="Any", denied_env=())
    own = trust_policy(tokens=(token(),), runtime=lax, mode="Audit")
    baseline = cluster_policy("baseline")
    owned = audience(allowed=ALL_NAMESPACES, required=["baseline"])
    given = snapshot(own, baseline, audiences=[owned])
    assert audiences_of(judged(given)) == [owned.spec.audience]
    for members in ({"command": ["sh"]}, {"env": [{"name": "LD_PRELOAD", "value": "x"}]}):
        verdict = judged(given, pod(container(**members)))
        assert (audiences_of(verdict), len(codes(verdict)), denied(verdict)) == ([], 1, [])
        enforced = snapshot(trust_policy(tokens=(token(),), runtime=lax), baseline, audiences=[owned])
        assert len(denied(judged(enforced, pod(container(**members))))) == 1
    unasked = snapshot(own, baseline, audiences=[audience(allowed=ALL_NAMESPACES)])
    assert denied(judged(unasked, pod(container(command=["sh"])))) == []


def test_the_entrypoint_is_asked_for_where_any_policy_may_ask_about_it() -> None:
    own = trust_policy(tokens=(token(),), runtime=Runtime(command="Any"))
    [need] = evidence_needs([own, cluster_policy("baseline")], pod(), {})
    assert need.want_config
