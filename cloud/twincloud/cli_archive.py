"""`twincloud archive`: what was moved to the archive, whether it is still there, and a move at once."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import click

from twincloud.cli_options import output_option, places, say, settings_of, show
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.errors import Exit, InputError

_DAY_S = 86_400


@click.group()
def archive() -> None:
    """Days of history in Parquet files; `archive:` and `archive_days:` of the settings say where and when."""


@archive.command()
@places
@output_option
def status(config: Path | None, state: Path | None, output: str) -> None:
    """Files of each tenant and state; works beside a running service."""
    from twincloud.upkeep.inspection import files_of  # noqa: PLC0415 start-up time

    settings = settings_of(config, state)
    sums: dict[tuple[str, str], list[int]] = {}
    for file in files_of(settings):
        found = sums.setdefault((file.day.tenant, file.state.name.lower()), [0, 0, 0, file.day.day_ns, 0])
        found[0] += 1
        found[1] += file.samples
        found[2] += file.size
        found[3] = min(found[3], file.day.day_ns)
        found[4] = max(found[4], file.day.day_ns)
    rows = [
        {
            "tenant": tenant, "state": named, "files": count, "samples": samples, "bytes": size,
            "bytes_per_sample": round(size / samples, 3) if samples else None,
            "first_day": _date(first), "last_day": _date(last),
        }
        for (tenant, named), (count, samples, size, first, last) in sorted(sums.items())
    ]  # fmt: skip
    show(rows, output)


@archive.command()
@places
@output_option
@click.option("--quick", is_flag=True, help="compare lengths alone, read nothing")
def verify(config: Path | None, state: Path | None, output: str, *, quick: bool) -> None:
    """Reads every file back and compares its checksum; ends with 3 when one is missing or damaged."""
    from twincloud.archive.objects import open_objects  # noqa: PLC0415 start-up time
    from twincloud.upkeep.inspection import DAMAGED, MISSING, files_of, inspect  # noqa: PLC0415 start-up time

    settings = settings_of(config, state)
    objects = open_objects(settings.archive, settings.state / "archive")
    rows = [
        {"file": key, "verdict": verdict, "detail": detail}
        for key, verdict, detail in inspect(files_of(settings), objects, quick=quick)
    ]
    show(rows, output)
    bad = sum(row["verdict"] in {MISSING, DAMAGED} for row in rows)
    if bad:
        say(f"{bad} of {len(rows)} files are missing or damaged: bring them back from their copy, under the same name")
        raise click.exceptions.Exit(Exit.UNHEALTHY)


@archive.command()
@places
@click.option("--days", type=click.FloatRange(0), help="age of what is moved [archive_days]")
def run(config: Path | None, state: Path | None, days: float | None) -> None:
    """Moves what is old enough now; the service must not run, it does this by itself."""
    from twincloud.archive.objects import open_objects  # noqa: PLC0415 start-up time
    from twincloud.storage import open_store  # noqa: PLC0415 start-up time
    from twincloud.upkeep.archive import ArchiveTask  # noqa: PLC0415 start-up time

    settings, clock = settings_of(config, state), SystemClock()
    age_days = settings.archive_days if days is None else days
    if not age_days:
        raise InputError("REQUEST_INVALID", "archive_days is 0: nothing is ever moved", hint="give --days")
    store = open_store(settings.state, clock=clock, database=settings.database_url)
    try:
        objects = open_objects(settings.archive, settings.state / "archive")
        store.use_archive(objects)
        worker, age_ns = f"{socket.gethostname()}-{os.getpid()}", round(age_days * _DAY_S) * SECOND_NS
        task = ArchiveTask(store, objects, settings.state / "staging", age_ns, worker, clock)
        while task.run(clock.wall_ns()):
            pass
    finally:
        store.close()
    say(f"{task.moved} days moved to {objects.name}")


def _date(day_ns: int) -> str:
    return f"{datetime.fromtimestamp(day_ns // SECOND_NS, UTC):%Y-%m-%d}"
