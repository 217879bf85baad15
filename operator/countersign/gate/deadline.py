"""Until when an answer is still of use: the API server says in the query how long it will wait."""

import re
from functools import lru_cache
from typing import Final

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
"""Of a webhook that sets no `timeoutSeconds` (admissionregistration.k8s.io/v1)."""
MAX_TIMEOUT_SECONDS: Final = 30.0
"""The longest that admissionregistration.k8s.io/v1 allows."""
MARGIN_SECONDS: Final = 1.5
"""For the way back. The API server rounds what is left up to a whole second, so one of these may be borrowed."""
MIN_BUDGET_SECONDS: Final = 0.25

# `timeout=10s`: Go's time.Duration.String of whole seconds (apiserver, pkg/admission/plugin/webhook, r.Timeout).
_DURATION = re.compile(r"(?:^|&)timeout=(?:(\d{1,2})m)?(\d{1,3})s(?:&|$)", re.ASCII)


@lru_cache(64)
def budget(query: str) -> float:
    """Seconds that a handler may take under the URL's query (`timeout=10s`); the default's if it cannot be read."""
    found = _DURATION.search(query)
    seconds = DEFAULT_TIMEOUT_SECONDS
    if found:
        seconds = int(found[1] or 0) * 60.0 + int(found[2])
    return max(MIN_BUDGET_SECONDS, min(seconds, MAX_TIMEOUT_SECONDS) - MARGIN_SECONDS)
