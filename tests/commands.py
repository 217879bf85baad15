"""`docs/commands.md`, written from the command line itself: `python -m tests.commands docs/commands.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from countersign.cli import services
from countersign.cli.main import application

INTRODUCTION = """\
# Commands

`countersign` is one program for people and for the services; `kubectl countersign` is the same, as a plug-in.
This page is written by `make generate` from the program.

## Exit codes

| code | meaning |
|---|---|
| 0 | done, or the answer is yes: verified, admitted, active, healthy |
| 1 | the answer is no: not signed, denied, inactive, a check failed |
| 2 | the command could not be understood or carried out: a wrong option, a file that cannot be read, no permission |
| 3 | it could not be found out now: a registry, cluster or verifier out of reach, or not asked. Try again |

Answers go to standard output, remarks and errors to standard error. `--output json` is for scripts: members are added,
never renamed.

## Permissions

Commands that read a cluster do so as the kubeconfig's user and change nothing, but for `revoke` (it creates one
Revocation), `receipt-key revoke` and `restore` (they change the Secret of the receipt keys, which only cluster admins
may), `pause` and `resume` (an AdmissionPause; as a last resort the webhook configurations), `exception create`
and `end` (a TrustException), `adopt --yes` (it evicts pods) and `token check --asker` (it asks for a token of that
service account). The ClusterRole `countersign-view`, part of the built-in `view`, reads policies, audiences, grants,
exceptions and pauses; `countersign-admin`, part of `admin`, reads and creates Revocations in its namespaces. Orders
that reach the whole cluster need the right to create Revocations in Countersign's own namespace. `explain` reads the
namespace and what makes its pods besides; `policy findings` and `policy plan` the same of all namespaces that the
policies reach; `doctor` also CRDs, webhook configurations, admission policies and the Lease. What `doctor` may not
read it says. `countersign-breakglass`, bound to nobody, allows `pause` and `resume`; [bad-days.md](bad-days.md) has
these and `adopt` in full. `countersign-exceptions`, bound to nobody either, allows `exception`:
[exceptions.md](exceptions.md).

## Registries

`image` and `policy` ask registries with the credentials of docker's configuration and its credential helpers, by the
same client and the same limits as the gate: loopback, link-local and metadata addresses need `--allow-address-range`,
plain HTTP `--insecure-registry`. These options may stand in variables, as for a pipeline.

Signatures that certificates made are held against the public-good Sigstore's root, which the program brings, or the
`trusted_root.json` that `--evidence-root` names. No service of Sigstore is asked. [cookbook](cookbook/README.md) has
both, step by step.

## From an image to a policy

```
countersign image verify registry.example.com/shop/api:v1 --key cosign.pub
countersign policy init registry.example.com/shop/api:v1 --namespace-label team=shop > policy.yaml
countersign policy test policy.yaml --pod deployment.yaml -n shop --namespace-labels team=shop
kubectl apply -f policy.yaml
countersign explain deploy api -n shop
```

Before a policy enforces: `policy plan` says what a change would do to the pods that run, `policy findings` whom a
policy would refuse. docs/rollout.md has the way from Audit to Enforce.

`policy init` writes down who it finds to have signed, and what is attested by whom. `policy test` checks the files
against the schema of the CRDs, all but its CEL rules: `kubectl apply --dry-run=server` checks those, too. It also runs
whole suites of cases: [policy-tests.md](policy-tests.md).

## Why is this token not accepted?

```
kubectl exec -n shop api-7d9c -- cat /var/run/secrets/countersign.dev/ledger/token | countersign token check
```

Where the policy says `exec: Revoke`, as it does by default, this exec is itself the end of the identity, and the answer
says so ([exec.md](exec.md)). `countersign explain pod` tells of the grant without going in.

Without `--verifier` the decision is made on this machine, by the verifier's own function, from what the API server
shows you: the issuer's keys, pod, grant, audience and Revocations. Those that you may not read leave it unknown; the
verifier's epoch (docs/bad-days.md) is not seen here. To ask
a verifier itself, name a service account that may get grants where the token is from:

```
kubectl port-forward -n countersign-system svc/countersign-verifier 8443:443 &
countersign token check --file token --asker shop/reader \\
  --verifier https://localhost:8443 --verifier-name countersign-verifier.countersign-system.svc
```
"""


def render() -> str:
    """The page."""
    root = typer.main.get_command(application())
    parts = [INTRODUCTION]
    for path, command in _commands(root, ()):
        parts.append("\n".join(_section(path, command)))
    parts += ["\n".join(_service(name)) for name in services.SERVICES]
    return "\n".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from _commands(one, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
    yield f"## countersign {' '.join(path)}\n"
    yield from (" ".join(paragraph.split()) + "\n" for paragraph in command.help.split("\n\n"))
    yield f"`{' '.join(('countersign', *path, *map(_metavar, arguments)))}`\n"
    yield "| option | meaning |\n|---|---|"
    for one in (*arguments, *options):
        variable = f" Variable: `{one.envvar}`." if getattr(one, "envvar", None) else ""
        yield f"| {_names(one)} | {_cell(one.help)}{variable} |"
    yield ""


def _service(name: str) -> Iterator[str]:
    yield f"## countersign {name}\n"
    yield f"{services.SERVICES[name].summary} Where an option is missing, its variable counts.\n"
    yield "| option | variable | default | meaning |\n|---|---|---|---|"
    for one in services.options(services.settings_of(name)):
        flags = ", ".join(f"`{flag}`" for flag in one.flags)
        default = f"`{one.default}`" if one.default else ""
        repeatable = " Repeatable, or comma-separated." if one.repeatable else ""
        yield f"| {flags} | `{one.variable}` | {default} | {_cell(one.doc)}{repeatable} |"
    yield ""


def _metavar(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{_metavar(param)}`"
    return ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render())
