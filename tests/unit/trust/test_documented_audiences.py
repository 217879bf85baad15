"""docs/audiences.md: its tables are those of the code, its rules may stand in an audience, its limits are kept."""

import re
from pathlib import Path

import yaml

from countersign.access.use import MAX_PATH, MAX_SCOPES
from countersign.api.audience import ProtectedAudienceSpec
from countersign.trust.allow.functions import MAX_PATTERN_SIZE, METHODS
from countersign.trust.allow.program import MAX_EXPRESSION_LENGTH, MAX_NESTED_COMPREHENSIONS, problem
from countersign.trust.allow.rules import MAX_STEPS_TOGETHER
from countersign.trust.allow.steps import COMPREHENSIONS, MAX_STEPS
from countersign.trust.allow.variables import MAX_EVIDENCE, RECORDS, paths
from countersign.trust.expressions.words import MAX_BRACKET_DEPTH

TEXT = (Path(__file__).parents[3] / "docs/audiences.md").read_text()


def test_the_table_of_values_is_that_of_the_code() -> None:
    documented = re.findall(r"^\| `([a-zA-Z.]+)` \| ([a-z ]+) \| (.*) \|$", TEXT, re.M)
    assert documented == [
        (path, str(one.type), one.text + (f"; absent if {one.absent}" if one.absent else "")) for path, one in paths()
    ]


def test_the_table_of_elements_is_that_of_the_code() -> None:
    documented = re.findall(r"^\| (\w+) \| `(\w+)` \| ([a-z ]+) \| (.*) \|$", TEXT, re.M)
    assert documented == [
        (name, member, str(one.type), one.text)
        for name in ("policy", "evidence", "exception")
        for member, one in RECORDS[name].items()
    ]


def test_the_rules_of_the_page_may_stand_in_an_audience() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    rules = yaml.safe_load(example)["spec"]["allow"]
    assert len(rules) == 3
    assert [problem(rule["expression"]) for rule in rules] == [""] * 3


def test_every_function_is_named() -> None:
    for name in (*COMPREHENSIONS, *(name for _, name in METHODS)):
        assert name in TEXT


def test_the_limits_are_those_of_the_code() -> None:
    rules = next(field for field in ProtectedAudienceSpec.__struct_fields__ if field == "allow")
    assert rules == "allow"
    assert f"| 16, of {MAX_EXPRESSION_LENGTH:,} characters each |" in TEXT
    assert f"| {MAX_NESTED_COMPREHENSIONS} lists within one another, {MAX_BRACKET_DEPTH} brackets |" in TEXT
    assert f"| {MAX_PATTERN_SIZE} instructions of RE2" in TEXT
    assert f"| steps of one rule | {MAX_STEPS:,}:" in TEXT
    assert f"| steps of all rules at one use | {MAX_STEPS_TOGETHER:,} |" in TEXT
    assert f"more than {MAX_EVIDENCE} entries" in TEXT
    assert (f"more than {MAX_PATH} characters" in TEXT, f"or more than {MAX_SCOPES} |" in TEXT) == (True, True)
