"""Pods, policies and evidence for property tests: small alphabets, so that things meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from countersign.api.audience import ProtectedAudience
from countersign.api.pod import Pod
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.images.extraction import extract
from countersign.trust.images.reference import ImageReference
from countersign.trust.policies.policy import Policy
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    DIGEST,
    audience,
    cluster_policy,
    config,
    facts,
    pod,
    rule,
    token,
    trust_policy,
    unverifiable,
    vouch,
)

AUDIENCES = ("a.example.com", "b.example.com", "c.example.com")
_REPOSITORIES = ("r.io/pay/api", "r.io/pay/web", "r.io/mesh", "docker.io/library/busybox")
_GLOBS = ("r.io/pay/**", "r.io/**", "r.io/pay/api", "docker.io/library/*")
_MODES = st.sampled_from(["Audit", "Warn", "Enforce"])

images = st.builds(
    lambda repository, suffix: repository + suffix,
    st.sampled_from(_REPOSITORIES),
    st.sampled_from([":1", ":2", f"@{DIGEST}"]),
)
_FOLDER = "/var/run/secrets/countersign.dev"
_mounts = st.lists(
    st.sampled_from(
        [
            {"name": "data", "mountPath": "/data"},
            {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
            {"name": "data", "mountPath": f"{_FOLDER}/t0/x"},
            {"name": "countersign-token-t0", "mountPath": "/tmp/t"},
        ]
    ),
    max_size=2,
    unique_by=lambda mount: mount["mountPath"],
)
_env = st.lists(
    st.sampled_from(
        [{"name": "FILE_0", "value": "/x"}, {"name": "LD_PRELOAD", "value": "/x"}, {"name": "A", "value": "b"}]
    ),
    max_size=2,
    unique_by=lambda variable: variable["name"],
)


@st.composite
def containers(draw: st.DrawFn, name: str) -> dict[str, Any]:
    members: dict[str, Any] = {"name": name, "image": draw(images)}
    for key, values in {
        "command": st.sampled_from([["/usr/local/app/server"], ["sh"]]),
        "volumeMounts": _mounts,
        "env": _env,
        "securityContext": st.just({"privileged": True}),
    }.items():
        if draw(st.integers(0, 3)) == 0:
            members[key] = draw(values)
    return members


def _api_volume(seconds: int) -> dict[str, Any]:
    source = {"serviceAccountToken": {"expirationSeconds": seconds, "path": "token"}}
    return {"name": "kube-api-access-x", "projected": {"sources": [source], "defaultMode": 420}}


_volumes = st.lists(
    st.sampled_from(
        [
            {"name": "data", "emptyDir": {}},
            _api_volume(3607),
            {"name": "model", "image": {"reference": "r.io/mesh:1"}},
            {"name": "host", "hostPath": {"path": "/"}},
            {
                "name": "mine",
                "projected": {"sources": [{"serviceAccountToken": {"audience": AUDIENCES[0], "path": "token"}}]},
            },
        ]
    ),
    max_size=3,
    unique_by=lambda volume: volume["name"],
)


@st.composite
def pod_members(draw: st.DrawFn) -> dict[str, Any]:
    """A pod object as JSON members."""
    count = draw(st.integers(1, 3))
    spec: dict[str, Any] = {"containers": [draw(containers(f"c{number}")) for number in range(count)]}
    if draw(st.booleans()):
        spec["volumes"] = draw(_volumes)
    if draw(st.integers(0, 3)) == 0:
        spec["initContainers"] = [draw(containers("init"))]
    if draw(st.integers(0, 5)) == 0:
        spec["hostPID"] = True
    metadata: dict[str, Any] = {
        "name": "api-1",
        "namespace": "payments",
        "labels": {"app": draw(st.sampled_from("ab"))},
    }
    if draw(st.booleans()):
        metadata["annotations"] = draw(st.sampled_from([{}, {"a": "b"}, {"countersign.dev/receipt": "forged"}]))
    return {"metadata": metadata, "spec": spec}


pods = pod_members().map(lambda members: pod(*members["spec"].pop("containers"), **_rest(members)))


def _rest(members: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": members["metadata"], **members["spec"]}


@st.composite
def policies(draw: st.DrawFn, name: str, *, modes: Any = _MODES, cluster: bool | None = None) -> Policy:
    rules = tuple(
        rule(f"r{number}", (draw(st.sampled_from(_GLOBS)),), keys=(draw(st.integers(1, 2)),))
        for number in range(draw(st.integers(0, 2)))
    )
    tokens = tuple(
        token(
            f"t{number}",
            AUDIENCES[number],
            env_var=draw(st.sampled_from(["", f"FILE_{number}"])),
            containers=draw(st.sampled_from([(), ("c0",), ("init",), ("c1", "c2")])),
        )
        for number in draw(st.sets(st.integers(0, 2), max_size=2))
    )
    members: dict[str, Any] = {
        "mode": draw(modes),
        "images": rules,
        "tokens": tokens if rules else (),
        "unmatched_images": draw(st.sampled_from(["Deny", "Allow"])),
        "api_token": draw(st.sampled_from(["Keep", "Shorten", "Remove"])),
        "pods": draw(st.sampled_from([{}, {"app": "a"}])),
        "created": f"2026-01-0{draw(st.integers(1, 9))}T00:00:00Z",
    }
    is_cluster = draw(st.booleans()) if cluster is None else cluster
    return cluster_policy(name, **members) if is_cluster else trust_policy(name, **members)


@st.composite
def policy_sets(draw: st.DrawFn) -> list[Policy]:
    return [draw(policies(f"p{number}")) for number in range(draw(st.integers(0, 3)))]


@st.composite
def audience_sets(draw: st.DrawFn) -> list[ProtectedAudience]:
    return [
        audience(
            text,
            name=text,
            mode=draw(st.sampled_from(["Audit", "Enforce"])),
            allowed=ALL_NAMESPACES if draw(st.booleans()) else None,
            required=draw(st.sampled_from([(), ("p0",)])),
        )
        for text in AUDIENCES
    ]


@st.composite
def evidence(draw: st.DrawFn, of: Pod) -> dict[str, ImageFacts | Unverifiable]:
    """Facts about each image: mostly signed by both keys, sometimes by one, by none, or not to be had."""
    found: dict[str, ImageFacts | Unverifiable] = {}
    for image in {use.image for use in extract(of)}:
        name = ImageReference.parse(image).name
        kind = draw(st.integers(0, 7))
        if kind == 0:
            found[image] = unverifiable(image, transient=draw(st.booleans()))
        elif kind != 1:
            signed_by = (1, 2) if kind > 3 else (kind - 1,)
            found[image] = facts(name, vouches=[vouch(number) for number in signed_by], configs=[config()])
    return found
