"""Settings that mean nothing end the process at its start."""

import pytest

from countersign.controller.settings import ControllerSettings


@pytest.mark.parametrize(
    "wrong", [{"scan_requests_per_second": -1.0}, {"collect_seconds": -0.5}, {"scan_refresh_seconds": 0.0}]
)
def test_a_rate_or_time_below_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ControllerSettings(**wrong)  # type: ignore[arg-type]


def test_nothing_turns_scan_and_counts_off() -> None:
    assert ControllerSettings(scan_requests_per_second=0, collect_seconds=0).collect_seconds == 0
