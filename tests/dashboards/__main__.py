"""python -m tests.dashboards charts/countersign/dashboards: write the files and print their paths."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.dashboards.files import files


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards", description="Write the Grafana dashboards.")
    parser.add_argument("folder", type=Path, help="where they go, such as charts/countersign/dashboards")
    folder = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)
        print(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
