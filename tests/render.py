"""The chart, rendered without helm's program and without a cluster; and `manifests/`, the same as plain files.

    render()                      every object as `helm install` with the default values would make it, CRDs first
    render({"gate": {...}}, "ns") with other values, in another namespace
    python -m tests.render manifests

`helm_python` (PyPI: helm-python-sdk) carries Helm's own library. It knows no cluster here, so that `auto` in the values
means: the cluster serves nothing beyond Kubernetes 1.30. Where it has no wheel (Linux on ARM), `render` reads
`manifests/` instead, which are the default values.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import yaml

from countersign.api.names import SYSTEM_NAMESPACE

Object = dict[str, Any]

ROOT: Final = Path(__file__).parent.parent
CHART: Final = ROOT / "charts" / "countersign"
CRD_FILES: Final = CHART / "files" / "crds"
MANIFESTS: Final = ROOT / "manifests"
RELEASE: Final = "countersign"
NOTES: Final = "NOTES.txt"
CRDS, MAIN, ASKER = "crds.yaml", "countersign.yaml", "revocation-asker.yaml"
CURRENT: Final[Mapping[str, Any]] = {"guards": {"mutatingAdmissionPolicy": "v1"}}
"""What `auto` finds on Kubernetes 1.36, the lab's."""
PLAIN: Final[Mapping[str, Any]] = {"crds": {"install": False}, "test": {"enabled": False}}
"""What `manifests/` leave out: the CRDs have a file of their own, and only Helm runs the test."""

_NOT_FROM_HELM = re.compile(r"^ +app\.kubernetes\.io/managed-by: Helm\n", re.MULTILINE)


class InvalidValuesError(Exception):
    """Values that the chart's schema refuses. The message is Helm's: it names the value and what it must be."""


def render(values: Mapping[str, Any] | None = None, namespace: str = SYSTEM_NAMESPACE) -> list[Object]:
    """All objects of the chart for a cluster of the lab's version, CRDs first. Raises InvalidValuesError."""
    if find_spec("helm_python") is None and not values and namespace == SYSTEM_NAMESPACE:
        documents = [(MANIFESTS / name).read_text() for name in (CRDS, MAIN, ASKER)]
    else:
        documents = list(templates({**CURRENT, **(values or {})}, namespace).values())
    objects = [obj for document in documents for obj in yaml.safe_load_all(document) if obj]
    return sorted(objects, key=lambda obj: obj["kind"] != "CustomResourceDefinition")


def notes(values: Mapping[str, Any] | None = None, namespace: str = SYSTEM_NAMESPACE) -> str:
    """What `helm install` prints. Raises InvalidValuesError."""
    return _rendered(values, namespace)[f"{RELEASE}/templates/{NOTES}"]


def templates(values: Mapping[str, Any] | None = None, namespace: str = SYSTEM_NAMESPACE) -> dict[str, str]:
    """The text of each template that renders to something, by file name, sorted. Raises InvalidValuesError."""
    return {
        name.removeprefix(f"{RELEASE}/templates/"): text
        for name, text in sorted(_rendered(values, namespace).items())
        if not name.endswith(NOTES) and any(yaml.safe_load_all(text))
    }


def manifests() -> dict[str, str]:
    """The files of `manifests/`, by name."""
    plain = {name: _plain(text) for name, text in templates(PLAIN).items()}
    with_asker = templates({**PLAIN, **CURRENT})
    asker = next(_plain(text) for name, text in with_asker.items() if name not in plain)
    return {
        CRDS: _file("Custom resources of Countersign. Apply this first, delete it last.", _crds()),
        MAIN: _file("Countersign, for Kubernetes 1.30 and newer.", [_namespace(), *plain.values()]),
        ASKER: _file("An addition for Kubernetes 1.36 and newer.", [asker]),
    }


def write(folder: Path) -> list[Path]:
    """Write `manifests/`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in manifests().items():
        (folder / name).write_text(text)
        paths.append(folder / name)
    return paths


def _rendered(values: Mapping[str, Any] | None, namespace: str) -> dict[str, str]:
    import helm_python  # not everywhere, see above

    with helm_python.Chart.load(CHART) as chart:
        try:
            chart.validate_schema(dict(values or {}))
        except helm_python.HelmValuesError as error:
            raise InvalidValuesError(str(error)) from error
        return chart.render(dict(values or {}), name=RELEASE, namespace=namespace)


def _crds() -> list[str]:
    return [path.read_text() for path in sorted(CRD_FILES.glob("*.yaml"))]


def _namespace() -> str:
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    metadata = {"name": SYSTEM_NAMESPACE, "labels": level}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, sort_keys=False)


def _plain(text: str) -> str:
    return _NOT_FROM_HELM.sub("", text)


def _file(about: str, documents: list[str]) -> str:
    header = f"# {about}\n# Rendered by `make generate` from charts/countersign with its default values. Do not edit.\n"
    return header + "".join(f"---\n{document.strip()}\n" for document in documents)


def main(argv: list[str] | None = None) -> int:
    """Command line: write the manifests and print their paths."""
    parser = argparse.ArgumentParser(prog="python -m tests.render", description="Render the chart into plain files.")
    parser.add_argument("folder", type=Path, help="where the files go, such as manifests")
    for path in write(parser.parse_args(argv).folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
