"""`twincloud db`: the database from its owner's side: facts, upgrade, backup, restore, verify."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import click

from twincloud.cli_options import output_option, places, say, settings_of, show
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import Exit

_folder = click.Path(path_type=Path, file_okay=False)


@click.group()
def db() -> None:
    """The database."""


@db.command()
@places
@output_option
def status(config: Path | None, state: Path | None, output: str) -> None:
    """Size and content of the store; of a running service by its metrics."""
    from twincloud.doctor import store_facts  # noqa: PLC0415 start-up time

    facts = store_facts(settings_of(config, state), SystemClock())
    if output == "json":
        click.echo(json.dumps(facts, default=str))
    else:
        show([{"fact": key, "value": value} for key, value in facts.items()], output)


@db.command()
@places
def upgrade(config: Path | None, state: Path | None) -> None:
    """Brings the tables to this program's version, with a copy of them before; the service must not run."""
    from twincloud.storage import open_store  # noqa: PLC0415 start-up time
    from twincloud.storage.directory import version_of  # noqa: PLC0415 start-up time

    settings = settings_of(config, state)
    if settings.database_url:
        _upgrade_shared(settings.database_url)
        return
    place = settings.state
    before = version_of(place)
    store = open_store(place, clock=SystemClock())
    try:
        now = store.status().schema
    finally:
        store.close()
    say(f"the tables have version {now} already" if before == now else f"upgraded from version {before} to {now}")


def _upgrade_shared(url: str) -> None:
    from twincloud.storage.migrate import newest  # noqa: PLC0415 start-up time
    from twincloud.storage.shared import upgrade as bring  # noqa: PLC0415 start-up time

    bring(url)
    say(f"the tables have version {newest()}, their rights and policies are in place")


@db.command("backup")
@places
@click.argument("target", type=_folder)
def backup_(config: Path | None, state: Path | None, target: Path) -> None:
    """Copies database, artifacts and identity into the new folder TARGET, while the service runs or not.

    The copy holds the authority's keys: guard it like a key. Archived files stay where they are.
    """
    from twincloud import backup, backup_shared  # noqa: PLC0415 start-up time

    settings, clock = settings_of(config, state), SystemClock()
    if settings.database_url:
        manifest = backup_shared.backup(settings.database_url, settings.state, target, clock)
    else:
        manifest = backup.backup(settings.state, target, clock)
    say(f"{len(manifest.files)} files of schema {manifest.schema} in {target}")


@db.command("restore")
@places
@click.argument("source", type=_folder)
@click.option("--replace", is_flag=True, help="set a coordinator that is there aside")
def restore_(config: Path | None, state: Path | None, source: Path, *, replace: bool) -> None:
    """Puts the backup SOURCE in place, when every file of it is whole; the service must not run.

    Gateways see that the coordinator knows less than it acknowledged, and send their tails again.
    """
    from twincloud import backup, backup_shared  # noqa: PLC0415 start-up time

    settings = settings_of(config, state)
    if settings.database_url:
        aside = backup_shared.restore(settings.database_url, source, settings.state, replace=replace)
    else:
        found = backup.restore(source, settings.state, replace=replace)
        aside = (str(found),) if found else ()
    taken_s = backup.read_manifest(source).taken_ns // SECOND_NS
    say(f"all is as it was at {datetime.fromtimestamp(taken_s, UTC):%Y-%m-%dT%H:%M:%SZ}")
    if aside:
        say(f"what was there is in {' and '.join(aside)}")
    say("next: twincloud serve")


@db.command()
@places
@click.argument("source", type=_folder, required=False)
@output_option
def verify(config: Path | None, state: Path | None, source: Path | None, output: str) -> None:
    """Reads all history and every artifact, of the service or of the backup SOURCE; ends with 3 when one is damaged.

    Of the service it also looks whether every archived file is in its place (`archive verify` reads them).
    """
    from twincloud import backup, backup_shared  # noqa: PLC0415 start-up time
    from twincloud.upkeep.inspection import faults_of_archive  # noqa: PLC0415 start-up time

    settings = settings_of(config, state)
    if source is not None:
        found = backup.faults(source)
    elif settings.database_url:
        found = chain(backup_shared.faults_of_shared(settings.database_url), faults_of_archive(settings))
    else:
        found = chain(backup.faults_of_state(settings.state), faults_of_archive(settings))
    rows = [{"fault": line} for line in found]
    if rows:
        show(rows, output)
        raise click.exceptions.Exit(Exit.UNHEALTHY)
    say("everything can be read and has its digest")
    if output == "json":
        click.echo("[]")
