"""The dashboards by their file names."""

from __future__ import annotations

from tests.dashboards.grafana import dashboard
from tests.dashboards.rows import ROWS

_ABOUT = "Admissions, evidence, grants and uses of one installation of Countersign. Written by `make generate`."


def files() -> dict[str, str]:
    """File name -> text."""
    return {"countersign.json": dashboard("countersign", "Countersign", _ABOUT, ROWS)}
