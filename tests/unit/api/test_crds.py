"""The generator: one source for models and CRDs, and no schema that says too little."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
import yaml

from countersign.api import crds
from countersign.api.objects import KINDS
from countersign.api.schema import Model, Reserved, Rule, doc

CHART_CRDS = Path(__file__).parents[3] / "charts" / "countersign" / "files" / "crds"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_the_chart_holds_what_the_models_say(kind: Any) -> None:
    stored = (CHART_CRDS / f"{kind.PLURAL}.yaml").read_text()
    assert stored == crds.render(kind), "the CRDs are stale: run `make generate`"


def test_the_chart_holds_no_other_crds() -> None:
    assert {path.stem for path in CHART_CRDS.iterdir()} == {kind.PLURAL for kind in KINDS}


def test_writes_one_file_per_kind_and_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crds.main([str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / f"{kind.PLURAL}.yaml") for kind in KINDS]
    assert all(yaml.safe_load(path.read_text()) for path in (tmp_path / "new").iterdir())


def _schemas(schema: dict[str, Any]) -> list[dict[str, Any]]:
    below = [*schema.get("properties", {}).values()]
    below += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    return [schema, *(inner for member in below for inner in _schemas(member))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_every_list_map_and_string_below_spec_and_status_is_bounded(kind: Any) -> None:
    root = crds.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for schema in [*_schemas(root["spec"]), *_schemas(root["status"])]:
        match schema["type"]:
            case "array":
                assert "maxItems" in schema
                assert "x-kubernetes-list-type" in schema
            case "string":
                assert schema.keys() & {"maxLength", "enum", "format"}
            case "object" if "additionalProperties" in schema:
                assert "maxProperties" in schema


def test_a_reserved_member_has_a_type_and_a_rule_that_names_the_way_out() -> None:
    class Probe(Model, frozen=True, kw_only=True):
        """A probe."""

        RESERVED: ClassVar[dict[str, Reserved]] = {"later": Reserved("array", "`later` is not supported: remove it")}

    schema = crds._struct(Probe, "Probe")
    assert schema["properties"]["later"]["type"] == "array"
    assert schema["x-kubernetes-validations"] == [
        {"rule": "!has(self.later)", "message": "`later` is not supported: remove it", "fieldPath": ".later"}
    ]


class _Inner(Model, frozen=True, kw_only=True):
    """An inner one."""

    kept: Annotated[str, doc("Kept.", max_length=8)] = "as is"
    empty: Annotated[str, doc("Empty.", max_length=8)] = ""


class _Outer(Model, frozen=True, kw_only=True):
    """An outer one.

    More about it.
    """

    inner: Annotated[_Inner, doc("The inner one.")] = _Inner()
    count: Annotated[int, doc("A number.", ge=1, le=9, rules=(Rule("self != 5", "not five"),))] = 3
    limit: Annotated[int, doc("A limit.", ge=1)] | None = None
    names: Annotated[tuple[str, ...], doc("Names.", max_length=2, item_max_length=4, unique=True)] = ()
    needed: Annotated[bool, doc("Needed.")]


def test_says_descriptions_defaults_bounds_and_what_is_required() -> None:
    schema = crds._struct(_Outer, "Outer")
    members = schema["properties"]
    assert schema["description"] == "An outer one."
    assert schema["required"] == ["needed"]
    # Written out whole, since the API server judges a default before it would fill it in.
    assert members["inner"]["default"] == {"kept": "as is"}
    assert "default" not in members["inner"]["properties"]["empty"]
    assert members["count"] == {
        "type": "integer",
        "format": "int64",
        "minimum": 1,
        "maximum": 9,
        "x-kubernetes-validations": [{"rule": "self != 5", "message": "not five"}],
        "description": "A number.",
        "default": 3,
    }
    assert members["limit"] == {"type": "integer", "format": "int64", "minimum": 1, "description": "A limit."}
    assert members["names"]["items"] == {"type": "string", "maxLength": 4}
    assert members["names"]["x-kubernetes-list-type"] == "set"


BAD = [
    (Annotated[str, doc("Text.")], "string without a bound"),
    (Annotated[tuple[int, ...], doc("Numbers.")], "list without a bound"),
    (Annotated[tuple[str, ...], doc("Texts.", max_length=3)], "string without a bound"),
    (Annotated[tuple[tuple[int, ...], ...], doc("Lists.", max_length=3)], "list without a bound"),
    (Annotated[dict[str, int], doc("Map.")], "map without a bound"),
    (Annotated[int | bool, doc("Either.")], "union of 2 types"),
    (Annotated[float, doc("Real.")], "no schema for FloatType"),
    (int, "has no description"),
]


@pytest.mark.parametrize(("annotation", "says"), BAD, ids=[says for _, says in BAD])
def test_refuses_a_model_that_says_too_little(annotation: Any, says: str) -> None:
    probe = msgspec.defstruct("Probe", [("member", annotation)], namespace={"__doc__": "A probe."})
    with pytest.raises(crds.ModelError, match=rf"Probe\.member.*{says}"):
        crds._struct(probe, "Probe")


def test_refuses_a_member_that_is_both_there_and_reserved() -> None:
    class Probe(Model, frozen=True, kw_only=True):
        """A probe."""

        RESERVED: ClassVar[dict[str, Reserved]] = {"now": Reserved("string", "not yet")}
        now: Annotated[bool, doc("Now.")] = False

    with pytest.raises(crds.ModelError, match="both a field and reserved"):
        crds._struct(Probe, "Probe")
