"""Profiles: defaults for what a policy does not say."""

import re
from pathlib import Path

import msgspec
import pytest

from countersign.api.policy import ClusterTrustPolicySpec
from countersign.api.responses import EffectiveSettings, Profile, Responses
from countersign.trust.policies.profiles import NO_SETTINGS, PROFILES, SERVICE, effective, settings_of, stricter

PAGE = Path(__file__).parents[3] / "docs" / "profiles.md"


def spec(**members: object) -> ClusterTrustPolicySpec:
    return msgspec.structs.replace(ClusterTrustPolicySpec(owner="team", mode="Audit"), **members)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_policy_does_not_say_is_its_profiles_word(profile: Profile) -> None:
    assert settings_of(spec(profile=profile)) == PROFILES[profile]


def test_a_policy_without_a_profile_is_a_service() -> None:
    assert settings_of(spec()) == SERVICE


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_policy_says_wins_over_its_profile(profile: Profile) -> None:
    said = spec(
        profile=profile,
        api_token="Keep",
        on_termination="GracePeriod",
        drain_seconds=0,
        max_lifetime_seconds=7200,
        responses=Responses(
            drift="Report",
            exec="Allow",
            ephemeral_container="Report",
            evidence_withdrawn="Report",
            misuse="Report",
            node_lost_after_seconds=900,
        ),
    )
    assert settings_of(said) == NO_SETTINGS._replace(drain_seconds=0, max_lifetime_seconds=7200, node_lost_seconds=900)


def test_a_lost_node_that_is_kept_is_kept_for_ever() -> None:
    kept = Responses(node_lost="Keep", node_lost_after_seconds=30)
    assert settings_of(spec(profile="Agent", responses=kept)).node_lost_seconds is None


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_is_laxer_than_in_profile_service(profile: Profile) -> None:
    assert stricter([SERVICE, PROFILES[profile]]) == PROFILES[profile]


def test_in_profile_agent_everything_odd_ends_the_identity() -> None:
    agent = PROFILES["Agent"]
    assert {agent.drift, agent.exec, agent.ephemeral_container, agent.misuse} == {"Revoke"}
    assert agent.max_lifetime_seconds == min(one.max_lifetime_seconds or 10**9 for one in PROFILES.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_the_page_says_what_the_code_says(profile: Profile) -> None:
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line[:1] == "|"
    ]
    column = rows[0].index(profile)
    table = {row[0]: row[column] for row in rows[2:]}
    assert table == told(effective(spec(profile=profile)))


def told(settings: EffectiveSettings) -> dict[str, str]:
    members = {"maxLifetimeSeconds": "none", **msgspec.to_builtins(settings)}
    responses = members.pop("responses")
    del members["profile"]
    members |= {f"responses.{name}": value for name, value in responses.items()}
    assert all(re.fullmatch(r"[\w.]+", name) for name in members)
    return {name: str(value) for name, value in members.items()}
