"""Commands of the service's owner: make it, run it, give out tokens, look after it.

twincloud init --name twins.plant.example     authority, database, admin token (printed this once)
twincloud serve                               REST and console 8420, gRPC 8421, enrolment 8422
twincloud token create|list|revoke
twincloud ca show|revoke
twincloud db status|upgrade|backup|restore|verify
twincloud doctor      twincloud explain REASON
"""

from __future__ import annotations

import difflib
import json
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from twincloud.cli_archive import archive
from twincloud.cli_database import db
from twincloud.cli_options import output_option, places, say, settings_of, show
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import REASONS, ConflictError, Exit, InputError, MissingError
from twinmodel.process import loading

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ALL = "*"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hybridtwin")
def root() -> None:
    """The coordinator of hybridtwin: one process, one state directory."""


@root.command()
@places
@click.option("--tenant", default="default", show_default=True, help="first tenant")
@click.option("--name", "names", multiple=True, help="public name or address of this host; repeatable")
@click.option("--database", help="postgresql:// URI of a database that several coordinators share, its owner's")
@click.option("--authority", type=click.Path(path_type=Path, file_okay=False), help="`identity` of the first one there")
def init(
    config: Path | None,
    state: Path | None,
    tenant: str,
    names: tuple[str, ...],
    database: str | None,
    authority: Path | None,
) -> None:
    """Makes authority and database and prints the admin token once.

    With --database the tables are made there, and a role `hybridtwin_app` in which coordinators run: it owns nothing
    and row-level security holds it. Further coordinators: the same, with --authority.
    """
    with loading():
        from twincloud.identity.making import make  # noqa: PLC0415 start-up time

    settings = settings_of(config, state, names=names, database=database)
    _check_name("--tenant", tenant)
    made = make(settings.state, SystemClock(), tenant=tenant, names=settings.names, database=settings.database_url,
                authority=authority)  # fmt: skip
    say(f"coordinator made in {settings.state}; its authority's SHA-256 is {made.fingerprint}")
    if made.token:
        say("the admin token follows on stdout; it is not shown again")
        click.echo(made.token)
    say("next: twincloud serve" + (" --database ..., or `database:` in its YAML file" if settings.database_url else ""))


@root.command()
@places
@click.option("--host", help="address of REST and console [127.0.0.1]")
@click.option("--gateway-host", help="address of gRPC and enrolment [127.0.0.1]")
@click.option("--port", type=int, help="REST and console [8420]")
@click.option("--sync-port", type=int, help="gRPC [8421]")
@click.option("--enrol-port", type=int, help="enrolment [8422]")
@click.option("--name", "names", multiple=True, help="public name or address; repeatable")
@click.option("--database", help="postgresql:// URI of the database this coordinator shares with others")
@click.option("--role", type=click.Choice(["all", "api", "ingest"]), help="what this process serves [all]")
@click.option("--log", type=click.Choice(["debug", "info", "warning", "error"]), help="lowest level logged [info]")
@click.option("--ready-file", type=click.Path(path_type=Path), help="written with the real addresses once it serves")
def serve(config: Path | None, state: Path | None, ready_file: Path | None, **flags: object) -> None:
    """Serves until SIGTERM; a port of 0 takes a free one."""
    settings = settings_of(config, state, **flags)
    with loading():
        from twincloud import service  # noqa: PLC0415 start-up time
        from twinmodel.logs import configure_logs  # noqa: PLC0415 start-up time

    configure_logs(settings.log)
    service.run(settings, SystemClock(), ready_file=ready_file)


@root.group()
def token() -> None:
    """API tokens; works beside a running service."""


@token.command("create")
@places
@click.argument("name")
@click.option("--role", required=True, help="viewer, operator, engineer or admin")
@click.option("--tenant", default="default", show_default=True, help="`*` for all")
@click.option("--ttl", default="90d", show_default=True, help="lifetime such as 12h or 90d; 0 for no end")
def token_create(config: Path | None, state: Path | None, name: str, role: str, tenant: str, ttl: str) -> None:
    """Makes a token and prints it, this once."""
    from twincloud.identity.tokens import issue  # noqa: PLC0415 start-up time

    _check_name("NAME", name)
    if tenant != _ALL:
        _check_name("--tenant", tenant)
    with _ledger(config, state) as ledger:
        click.echo(issue(ledger, SystemClock(), name=name, tenant=tenant, role=role, ttl_s=_seconds(ttl)))


@token.command("list")
@places
@output_option
def token_list(config: Path | None, state: Path | None, output: str) -> None:
    """All tokens, without their secrets."""
    now_ns = SystemClock().wall_ns()
    with _ledger(config, state) as ledger:
        tokens = ledger.content().tokens.values()
    rows = [
        {
            "name": t.name,
            "tenant": t.tenant,
            "role": t.role,
            "state": "revoked" if t.revoked_ns else "expired" if 0 < t.expires_ns <= now_ns else "valid",
            "created": _time(t.created_ns),
            "expires": _time(t.expires_ns) if t.expires_ns else None,
        }
        for t in sorted(tokens, key=lambda t: (t.name, t.created_ns))
    ]
    show(rows, output)


@token.command("revoke")
@places
@click.argument("name")
def token_revoke(config: Path | None, state: Path | None, name: str) -> None:
    """Ends a token at once, also in a running service."""
    with _ledger(config, state) as ledger:
        ledger.revoke_token(name, SystemClock().wall_ns())
    say(f"token {name} is revoked")


@root.group()
def ca() -> None:
    """The certificate authority and what it issued."""


@ca.command("show")
@places
@output_option
def cashow(config: Path | None, state: Path | None, output: str) -> None:
    """Certificates of the authority, of the server and of gateways."""
    from twincloud.doctor import certificates  # noqa: PLC0415 start-up time

    show(certificates(settings_of(config, state), SystemClock()), output)


@ca.command("revoke")
@places
@click.argument("serial")
def ca_revoke(config: Path | None, state: Path | None, serial: str) -> None:
    """Revokes a gateway's certificate; a running service cuts its session."""
    with _ledger(config, state) as ledger:
        entry = ledger.revoke_certificate(serial, SystemClock().wall_ns())
    say(f"certificate {entry.serial} of {entry.uri} is revoked")


@root.command()
@places
@output_option
def doctor(config: Path | None, state: Path | None, output: str) -> None:
    """Checks files, permissions, certificates, store and ports; ends with 3 when something is wrong."""
    from twincloud.doctor import examine  # noqa: PLC0415 start-up time

    rows = examine(settings_of(config, state), SystemClock())
    show(rows, output)
    if not all(row["ok"] for row in rows):
        raise click.exceptions.Exit(Exit.UNHEALTHY)


@root.command()
@click.argument("reason")
@output_option
def explain(reason: str, output: str) -> None:
    """Tells what a reason means for exit codes, HTTP and gRPC, and what to do."""
    key = reason.strip().upper().replace("-", "_")
    known = REASONS.get(key)
    if known is None:
        near = difflib.get_close_matches(key, REASONS, n=1)
        hint = f"did you mean {near[0]}?" if near else "copy the reason from the error"
        raise MissingError("NOT_FOUND", f"no reason is named {reason!r}", hint=hint)
    facts = {"reason": key, "hint": known.hint, "exit": int(known.exit), "http": known.http, "grpc": known.grpc}
    if output == "json":
        click.echo(json.dumps(facts))
    else:
        click.echo(f"{key}\n  fix    {known.hint}\n  exit   {known.exit:d} ({known.exit.name.lower()})")
        click.echo(f"  http   {known.http}\n  grpc   {known.grpc}")


def _ledger(config: Path | None, state: Path | None) -> AbstractContextManager[Any]:
    from twincloud.identity.shared_ledger import ledger_of  # noqa: PLC0415 start-up time

    settings = settings_of(config, state)
    if not (settings.state / "identity").is_dir():
        raise ConflictError("NOT_INITIALISED", f"{settings.state} holds no coordinator", hint="run `twincloud init`")
    return ledger_of(settings.state, settings.database_url)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip())
    if found is None:
        raise InputError("REQUEST_INVALID", f"--ttl {text!r} is no duration", hint="write e.g. 12h, 90d, or 0")
    return int(found[1]) * _UNITS_S[found[2] or "s"]


def _check_name(field: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise InputError("REQUEST_INVALID", f"{field} {name!r} is no name", hint="use letters, digits, - and _")


def _time(t_ns: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 start-up time

    return f"{datetime.fromtimestamp(t_ns // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%SZ}"


root.add_command(db)
root.add_command(archive)
