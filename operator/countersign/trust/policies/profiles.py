"""Profiles: what holds for a pod where its policy does not say it. The one place of these defaults.

What a policy says itself wins over its profile; where several policies govern a pod, the stricter of each setting wins.
`docs/profiles.md` tells what each is for, and a test holds its table against this one.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Final, NamedTuple

from countersign.api.policy import ClusterTrustPolicySpec, TrustPolicySpec
from countersign.api.responses import (
    ApiToken,
    EffectiveResponses,
    EffectiveSettings,
    EphemeralResponse,
    ExecResponse,
    InstanceResponse,
    MisuseResponse,
    OnTermination,
    Profile,
)

# From lax to strict.
_API_TOKEN: Final[tuple[ApiToken, ...]] = ("Keep", "Shorten", "Remove")
_ON_TERMINATION: Final[tuple[OnTermination, ...]] = ("GracePeriod", "Immediate")
_INSTANCE: Final[tuple[InstanceResponse, ...]] = ("Report", "Suspend", "Revoke")
_MISUSE: Final[tuple[MisuseResponse, ...]] = ("Report", "Revoke")
_EXEC: Final[tuple[ExecResponse, ...]] = ("Allow", "Revoke", "Deny")
_EPHEMERAL: Final[tuple[EphemeralResponse, ...]] = ("Report", "Suspend", "Revoke", "Deny")


class Settings(NamedTuple):
    """How an instance is treated after its admission. Times are in seconds."""

    api_token: ApiToken
    on_termination: OnTermination
    drain_seconds: int
    max_lifetime_seconds: int | None
    """None: no bound."""
    node_lost_seconds: int | None
    """How long its node may be lost before the identity is suspended; None: for ever."""
    drift: InstanceResponse
    exec: ExecResponse
    ephemeral_container: EphemeralResponse
    evidence_withdrawn: InstanceResponse
    misuse: MisuseResponse


NO_SETTINGS: Final = Settings(
    api_token="Keep",  # noqa: S106 - a setting
    on_termination="GracePeriod",
    drain_seconds=60,
    max_lifetime_seconds=None,
    node_lost_seconds=None,
    drift="Report",
    exec="Allow",
    ephemeral_container="Report",
    evidence_withdrawn="Report",
    misuse="Report",
)
"""For a pod that nothing governs."""

SERVICE: Final = Settings(
    api_token="Keep",  # noqa: S106 - a setting
    on_termination="GracePeriod",
    drain_seconds=60,
    max_lifetime_seconds=None,
    node_lost_seconds=300,
    drift="Revoke",
    exec="Revoke",
    ephemeral_container="Revoke",
    evidence_withdrawn="Suspend",
    misuse="Report",
)

PROFILES: Final[dict[Profile, Settings]] = {
    "Service": SERVICE,
    # Its identity is over with its task, and a task that was told to end has nothing left to do with it.
    "Batch": SERVICE._replace(on_termination="Immediate"),
    "Serverless": SERVICE._replace(
        api_token="Shorten",  # noqa: S106 - a setting
        on_termination="Immediate",
        max_lifetime_seconds=1800,
        node_lost_seconds=60,
    ),
    # It acts by itself on what strangers write: it holds one short-lived identity, and nothing odd is waved through.
    "Agent": SERVICE._replace(
        api_token="Remove",  # noqa: S106 - a setting
        on_termination="Immediate",
        max_lifetime_seconds=900,
        node_lost_seconds=60,
        misuse="Revoke",
    ),
}


def settings_of(spec: ClusterTrustPolicySpec | TrustPolicySpec) -> Settings:
    """What one policy means for its pods: its own words, and its profile's for the rest."""
    default, said = PROFILES[spec.profile], spec.responses
    lost = default.node_lost_seconds if said.node_lost_after_seconds is None else said.node_lost_after_seconds
    return Settings(
        api_token=spec.api_token or default.api_token,
        on_termination=spec.on_termination or default.on_termination,
        drain_seconds=default.drain_seconds if spec.drain_seconds is None else spec.drain_seconds,
        max_lifetime_seconds=(
            default.max_lifetime_seconds if spec.max_lifetime_seconds is None else spec.max_lifetime_seconds
        ),
        node_lost_seconds=None if said.node_lost == "Keep" else lost,
        drift=said.drift or default.drift,
        exec=said.exec or default.exec,
        ephemeral_container=said.ephemeral_container or default.ephemeral_container,
        evidence_withdrawn=said.evidence_withdrawn or default.evidence_withdrawn,
        misuse=said.misuse or default.misuse,
    )


def stricter(settings: Iterable[Settings]) -> Settings:
    """The stricter of each; of times the shorter. `NO_SETTINGS` if there are none."""
    return reduce(_stricter, settings, NO_SETTINGS)


def effective(spec: ClusterTrustPolicySpec | TrustPolicySpec) -> EffectiveSettings:
    """The same as `settings_of`, for the policy's status."""
    found = settings_of(spec)
    return EffectiveSettings(
        profile=spec.profile,
        api_token=found.api_token,
        on_termination=found.on_termination,
        drain_seconds=found.drain_seconds,
        max_lifetime_seconds=found.max_lifetime_seconds,
        responses=EffectiveResponses(
            drift=found.drift,
            exec=found.exec,
            ephemeral_container=found.ephemeral_container,
            evidence_withdrawn=found.evidence_withdrawn,
            misuse=found.misuse,
            node_lost="Keep" if found.node_lost_seconds is None else "Suspend",
            node_lost_after_seconds=found.node_lost_seconds,
        ),
    )


def _stricter(one: Settings, other: Settings) -> Settings:
    if one is NO_SETTINGS or one is other:
        return other  # nearly always, and it keeps one object for all pods of a policy
    return Settings(
        api_token=max(one.api_token, other.api_token, key=_API_TOKEN.index),
        on_termination=max(one.on_termination, other.on_termination, key=_ON_TERMINATION.index),
        drain_seconds=min(one.drain_seconds, other.drain_seconds),
        max_lifetime_seconds=_shorter(one.max_lifetime_seconds, other.max_lifetime_seconds),
        node_lost_seconds=_shorter(one.node_lost_seconds, other.node_lost_seconds),
        drift=max(one.drift, other.drift, key=_INSTANCE.index),
        exec=max(one.exec, other.exec, key=_EXEC.index),
        ephemeral_container=max(one.ephemeral_container, other.ephemeral_container, key=_EPHEMERAL.index),
        evidence_withdrawn=max(one.evidence_withdrawn, other.evidence_withdrawn, key=_INSTANCE.index),
        misuse=max(one.misuse, other.misuse, key=_MISUSE.index),
    )


def _shorter(one: int | None, other: int | None) -> int | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)
