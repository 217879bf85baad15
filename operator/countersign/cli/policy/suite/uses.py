"""Uses of tokens as cases: the rules of an audience over facts that are written down, weighed as the verifier does."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final, NoReturn

from countersign.access.rules import told
from countersign.access.use import one_reading, use_of
from countersign.api.audience import ProtectedAudience
from countersign.api.clock import format_time
from countersign.cli.files.manifests import Document, declared_in
from countersign.cli.policy.suite.model import UseCase, UseFacts
from countersign.cli.policy.suite.reading import BadCase, CaseFile, in_force_for, parse_time
from countersign.cli.policy.suite.run import Difference, Outcome, Result
from countersign.trust.allow.rules import Compiled, admitting, compiled, outcomes
from countersign.trust.allow.variables import (
    BOOL,
    INT,
    MAX_EVIDENCE,
    RECORDS,
    STRING,
    TIMESTAMP,
    VARIABLES,
    Type,
    paths,
)
from countersign.trust.policies.compiled import accepted_audiences
from countersign.trust.policies.policy import PolicySnapshot

_PYTHON: Final[Mapping[Type, tuple[type, str]]] = {
    STRING: (str, "a text"),
    INT: (int, "a whole number"),
    BOOL: (bool, "true or false"),
    TIMESTAMP: (str, "a time such as 2026-01-02T03:04:05Z"),
}


def run_use(file: CaseFile, case: UseCase) -> Result:
    """Run one case."""
    started = perf_counter()
    try:
        audience = _audience(file, case)
        known = facts_of(file, case)
        rules = compiled(audience.spec.allow)
        differences = _compare(case, audience, rules, known)
    except BadCase as error:
        return Result(file, case.name, "error", perf_counter() - started, message=str(error))
    outcome: Outcome = "failed" if differences else "passed"
    return Result(file, case.name, outcome, perf_counter() - started, tuple(differences))


def facts_of(file: CaseFile, case: UseCase) -> dict[str, Any]:
    """The values that the case says, by their paths. Raises BadCase."""
    general, own = file.content.facts or UseFacts(), case.facts
    found: dict[str, Any] = {"token.audience": case.audience}
    for variable in VARIABLES:
        for said in (general, own):
            _read(getattr(said, variable), variable, variable, found)
    when = case.now or file.content.now
    found.setdefault("request.time", parse_time(when, "now") if when else datetime.now(UTC))
    return _as_told(found)


def recorded_facts(read: Callable[[str], Any]) -> dict[str, Any]:
    """The facts of a use as a case has them. `read` gives the value at a path, None where it is not known."""
    made: dict[str, Any] = {}
    for path, _ in paths():
        value = read(path)
        if value is None:
            continue
        *above, last = path.split(".")
        record = made
        for name in above:
            record = record.setdefault(name, {})
        record[last] = _written(value)
    return made


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, tuple):
        return [_written(one) for one in value]
    if isinstance(value, dict):
        return {name: _written(inner) for name, inner in value.items() if inner not in (None, "")}
    return value


def _audience(file: CaseFile, case: UseCase) -> ProtectedAudience:
    objects = [Document(str(file.path), dict(one)) for one in (*file.content.objects, *case.objects)]
    declared = declared_in([*in_force_for(file, case.policies), *objects], "default")
    audiences = tuple(one for one in declared if isinstance(one, ProtectedAudience))
    found = accepted_audiences(PolicySnapshot(audiences=audiences)).get(case.audience)
    if found is None:
        raise BadCase(f"audience: none of the files has a ProtectedAudience for {case.audience!r}")
    return found


def _compare(case: UseCase, audience: ProtectedAudience, rules: Compiled, known: Mapping[str, Any]) -> list[Difference]:
    expected = case.expect
    if rules.problem:
        found, message, by = "refused", f"it is not accepted: {rules.problem}", ""
    elif not audience.spec.allow:
        found, message, by = "allowed", "it has no rules: the grant decides", ""
    else:
        admitted_by = admitting(rules, known.get)
        found, by = ("allowed", admitted_by.name) if admitted_by else ("refused", "")
        message = "" if admitted_by else told(audience.metadata.name, outcomes(rules, known.get))
    differences = []
    if found != expected.decision:
        why = [f"by rule {by}"] if by else [message]
        differences.append(Difference("decision", [expected.decision], [found, *why]))
    if expected.rule and by != expected.rule:
        differences.append(Difference("rule", [expected.rule], [by or "none"]))
    if expected.message and expected.message not in message:
        differences.append(Difference("message", [f"... {expected.message} ..."], [message]))
    return differences


def _read(said: Mapping[str, Any], record: str, path: str, found: dict[str, Any]) -> None:
    for name, value in said.items():
        described = RECORDS[record].get(name)
        where = f"{path}.{name}"
        if described is None:
            raise BadCase(f"facts.{where}: there is no such member: there are {', '.join(RECORDS[record])}")
        if described.type.kind == "record":
            _read(_record(value, where), described.type.name, where, found)
        else:
            found[where] = _value(value, described.type, where)


def _value(value: Any, kind: Type, where: str) -> Any:
    if kind.kind == "list" and kind.of is not None:
        if not isinstance(value, list):
            _refuse(where, "a list", value)
        return tuple(_value(one, kind.of, f"{where}[{number}]") for number, one in enumerate(value))
    if kind.kind == "record":
        inner: dict[str, Any] = dict.fromkeys(
            (name for name, described in RECORDS[kind.name].items() if described.type == STRING), ""
        )
        for name, one in _record(value, where).items():
            described = RECORDS[kind.name].get(name)
            if described is None:
                raise BadCase(f"facts.{where}.{name}: there are {', '.join(RECORDS[kind.name])}")
            inner[name] = _value(one, described.type, f"{where}.{name}")
        return inner
    wanted, called = _PYTHON[kind]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        _refuse(where, called, value)
    return parse_time(str(value), f"facts.{where}") if kind == TIMESTAMP else value


def _record(value: Any, where: str) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _refuse(where, "an object", value)


def _refuse(where: str, wanted: str, value: Any) -> NoReturn:
    raise BadCase(f"facts.{where}: expected {wanted}, found {str(value)[:40]!r}")


def _as_told(found: dict[str, Any]) -> dict[str, Any]:
    """As the verifier reads what it is told: what it does not understand is not known."""
    use = use_of(
        source_address=found.get("request.sourceAddress", ""),
        method=found.get("request.method", ""),
        path=found.get("request.path", ""),
        scope=" ".join(found.get("request.scopes", ())),
    )
    found |= {
        "request.sourceAddress": use.source_address or None,
        "request.method": use.method or None,
        "request.path": one_reading(use.path) or None,
        "request.scopes": use.scopes or None,
    }
    if len(found.get("grant.evidence", ())) > MAX_EVIDENCE:
        found["grant.evidence"] = None
    return found
