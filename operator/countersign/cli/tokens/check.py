"""`countersign token check`: is a token active, and if not, why: what a relying party is never told."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from countersign.access.claims import TokenClaims
from countersign.access.decision import Asker
from countersign.access.use import Use, use_of
from countersign.api.clock import format_time
from countersign.api.names import SYSTEM_NAMESPACE
from countersign.cli.cluster.kube import ApiError, ContextOption, Kube, KubeconfigOption, connected
from countersign.cli.policy.suite.use_recording import NotRecordedError
from countersign.cli.policy.suite.use_recording import record as record_use
from countersign.cli.policy.suite.uses import recorded_facts
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_fields, print_json, print_rows
from countersign.cli.tokens.judgement import TokenJudgement, judge_token, unverified_claims
from countersign.cli.tokens.verifier_client import asker_token, explain, published_ca
from countersign.verifier.tokens import MAX_TOKEN_CHARACTERS

app = typer.Typer(help="Look at tokens as the verifier does.", no_args_is_help=True)

STDIN: Final = "-"


@app.callback()
def _group() -> None:
    # Typer makes a group of a single command only where there is a callback.
    pass


@app.command()
def check(
    token: Annotated[
        str, typer.Argument(help="The token; - reads it from stdin, which keeps it out of the shell's history.")
    ] = STDIN,
    *,
    file: Annotated[Path | None, typer.Option(help="File that holds the token, as in a pod.")] = None,
    verifier: Annotated[
        str | None, typer.Option(help="https URL of a verifier to ask; else the decision is made here, by its rules.")
    ] = None,
    verifier_ca: Annotated[
        Path | None, typer.Option(help="PEM file of its CA; else the ConfigMap countersign-ca.")
    ] = None,
    verifier_name: Annotated[
        str | None, typer.Option(help="Name in its certificate, where the URL has another (kubectl port-forward).")
    ] = None,
    asker: Annotated[
        str | None, typer.Option(help="namespace/name of a service account to ask as: one that may get grants.")
    ] = None,
    asker_token_file: Annotated[
        Path | None, typer.Option(help="A token of the asker's own, with audience verifier.countersign.dev.")
    ] = None,
    source_address: Annotated[
        str, typer.Option(help="Of the use: the client's IP address, for the audience's rules.")
    ] = "",
    method: Annotated[str, typer.Option(help="Of the use: the method of the client's request.")] = "",
    path: Annotated[str, typer.Option(help="Of the use: the path of the client's request.")] = "",
    scope: Annotated[str, typer.Option(help="Of the use: what it is about to be allowed, separated by spaces.")] = "",
    relying_party: Annotated[
        str | None,
        typer.Option(
            help="namespace/name of the introspector that asks; else the audience's first. Without --verifier."
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Add this use to a file of cases for `policy test`, as it came out. Without --verifier."),
    ] = None,
    record_as: Annotated[str, typer.Option(help="With --record: name of the case; else the token's id.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody: show what the token says of itself.")] = False,
    output: OutputOption = Format.TABLE,
    system_namespace: Annotated[str, typer.Option(help="Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Say whether a token is active, and why not. The token itself is never printed.

    Exit code 0: active. 1: inactive. 3: it cannot be told.
    """
    text = _read(token, file)
    use = use_of(source_address=source_address, method=method, path=path, scope=scope)
    if (record or relying_party) and (offline or verifier is not None):
        fail("--record and --relying-party are for a decision that is made here: without --verifier and --offline")
    cluster = partial(connected, kubeconfig, context)
    if offline:
        judged = _undecided("Offline", "nobody was asked (--offline)", text)
    elif verifier is not None:
        by = _asker(cluster, asker, asker_token_file)
        ca = _file(verifier_ca, "--verifier-ca") if verifier_ca else published_ca(cluster(), system_namespace)
        told = {"source_address": source_address, "method": method, "path": path, "scope": scope}
        judged = _ask(verifier, text, by, ca=ca, server_name=verifier_name, use=told)
    else:
        judged = _judge_here(cluster(), text, system_namespace, use, _account(relying_party))
    _print(judged, output)
    if record is not None:
        _record(judged, record, record_as)
    raise typer.Exit({True: Exit.YES, False: Exit.NO, None: Exit.UNKNOWN}[judged.active])


def _read(token: str, file: Path | None) -> str:
    if file is not None and token != STDIN:
        fail("give the token, or --file, not both")
    if file is not None:
        text = _file(file, "--file")
    elif token == STDIN:
        text = sys.stdin.read(MAX_TOKEN_CHARACTERS + 2)
    else:
        text = token
    text = text.strip()
    if not text:
        fail("no token: pass it on stdin, or with --file")
    return text


def _file(path: Path, option: str) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        fail(f"{option} {path}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{option} {path}: not ASCII text")


def _asker(cluster: Callable[[], Kube], account: str | None, file: Path | None) -> str:
    if file is not None:
        return _file(file, "--asker-token-file")
    if account is None:
        fail(
            "a verifier answers service accounts only: pass --asker namespace/name or --asker-token-file, "
            "or leave --verifier out to have the decision made here"
        )
    return asker_token(cluster(), account)


def _account(text: str | None) -> Asker | None:
    if text is None:
        return None
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        fail(f"--relying-party {text!r}: write namespace/name of a service account")
    return Asker(namespace, name)


def _record(judged: TokenJudgement, path: Path, name: str) -> None:
    if judged.facts is None or judged.claims is None or judged.reason not in ("Active", "NotAllowed"):
        fail(f"--record: the rules were not asked, since the token is inactive anyway ({judged.reason})", Exit.NO)
    expect: dict[str, str] = {"decision": "allowed" if judged.reason == "Active" else "refused"}
    if judged.rule:
        expect["rule"] = judged.rule
    case = {
        "name": name or judged.claims.jti,
        "audience": judged.claims.audiences[0],
        "facts": recorded_facts(judged.facts.read),
        "expect": expect,
    }
    try:
        record_use(path, case)
    except (NotRecordedError, OSError) as error:
        fail(f"--record {path}: {error}")
    note(f"recorded: {path}")


def _ask(url: str, token: str, asker: str, *, ca: str, server_name: str | None, use: dict[str, str]) -> TokenJudgement:
    told = explain(url, token, asker, ca_pem=ca, server_name=server_name, use=use)
    if told is None:
        return _undecided(
            "NotTold",
            "the verifier tells this asker nothing: its own token must count, with audience verifier.countersign.dev, "
            "and it must be allowed to get workloadgrants in the namespace of the token checked",
            token,
        )
    return TokenJudgement(told.active, told.reason, told.message, unverified_claims(token))


def _judge_here(kube: Kube, token: str, system_namespace: str, use: Use, relying_party: Asker | None) -> TokenJudgement:
    now = datetime.now(UTC)
    try:
        return asyncio.run(judge_token(kube, token, system_namespace, now, use=use, relying_party=relying_party))
    except ApiError as error:
        return _undecided("NotRead", f"what the decision rests on cannot be read: {error.message}", token)


def _undecided(reason: str, message: str, token: str) -> TokenJudgement:
    claims = unverified_claims(token)
    if claims is None:
        return TokenJudgement(False, "TokenMalformed", "not a service-account token of Kubernetes")
    unknown = "what follows is the token's own word; its signature, pod, grant and revocations are not known"
    return TokenJudgement(None, reason, f"{message}; {unknown}", claims)


def _print(judged: TokenJudgement, output: Format) -> None:
    answer = {True: "active", False: "inactive", None: "unknown"}[judged.active]
    fields = {"token": answer, "reason": judged.reason, "message": judged.message}
    shown = {**fields, **(_shown(judged.claims) if judged.claims else {})}
    if output is Format.JSON:
        print_json({**shown, "active": judged.active})
    elif output is Format.CSV:
        print_rows(tuple(shown), [shown], output)
    else:
        print_fields({name: str(value) for name, value in shown.items()})


def _shown(claims: TokenClaims) -> dict[str, Any]:
    return {
        "audience": " ".join(claims.audiences),
        "account": f"{claims.namespace}/{claims.service_account.name}",
        "pod": f"{claims.namespace}/{claims.pod.name}" if claims.pod else "none",
        "podUID": claims.pod.uid if claims.pod else "",
        "node": claims.node.name if claims.node else "",
        "issued": format_time(datetime.fromtimestamp(claims.issued_at, UTC)),
        "expires": format_time(datetime.fromtimestamp(claims.expires_at, UTC)),
        "issuer": claims.issuer,
        "id": claims.jti,
    }
