"""The shared database by PostgreSQL's own programs: one snapshot of it into a folder, and back, all or nothing.

    dump   snapshot exported ─▶ rows of each table counted in it ─▶ pg_dump --snapshot
    load   no coordinator runs? ─▶ what is there renamed ─▶ pg_restore in one transaction ─▶ rows counted ─▶ rights anew

Policies of row-level security hold the owner of the tables too, so pg_dump reads as the tenant `*`. A password goes to
the programs by their environment, never by their arguments.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Connection

from twincloud.storage import migrate, shared
from twincloud.storage.postgres import PostgresDatabase, driver
from twincloud.storage.postgres_errors import error_of
from twincloud.storage.presence import claim
from twinmodel.errors import ConflictError, InputError, StorageError, TwinError

HOMES: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs of each version."""
COMPRESSION: Final = 1
"""Of zlib: payloads are compressed already, and written as hexadecimal digits."""
_READS_ALL: Final = "-c hybridtwin.tenant=*"
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_LINES_MAX: Final = 3
_FOREVER: Final = "SET LOCAL idle_in_transaction_session_timeout = 0"
_TABLES: Final = (
    "SELECT c.relname FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace"
    " AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
)
_SAID: Final = (
    ("No space left on device", "STORE_FULL", "free disk space where the backup is written"),
    ("permission denied", "STATE_INVALID", "use the URL of the user that owns the tables, as `twincloud init` did"),
    ("row-level security", "STATE_INVALID", "use the URL of the user that owns the tables, as `twincloud init` did"),
    ("must be owner", "STATE_INVALID", "use the URL of the user that owns the tables, as `twincloud init` did"),
    ("connection to server", "STORE_UNAVAILABLE", "see that the database server runs, then try again"),
    ("terminating connection", "STORE_UNAVAILABLE", "see that the database server runs, then try again"),
)


@dataclass(frozen=True, slots=True)
class Dumped:
    """What a dump holds.

    Attributes:
        version: of the tables.
        engine: name and version of the server.
        namespace: the schema of the database they lie in.
        rows: how many each table has.
    """

    version: str
    engine: str
    namespace: str
    rows: dict[str, int]


def dump(url: str, target: Path) -> Dumped:
    """Writes one moment of the database to a new folder, while coordinators go on.

    Args:
        url: of the user that owns the tables.
        target: folder that does not exist.

    Raises:
        ConflictError: NOT_INITIALISED without tables, TOOL_MISSING without a pg_dump of the server's version or newer.
        StorageError: STORE_UNAVAILABLE, STATE_INVALID (no rights), STORE_FULL.
    """
    with contextlib.closing(PostgresDatabase(url, role="", readers_max=4)) as database, database.read() as connection:
        connection.exec_driver_sql(_FOREVER)
        version = migrate.version(connection)
        if not version:
            raise ConflictError("NOT_INITIALISED", f"{database.place} has no tables", hint="run `twincloud init`")
        program = find_program("pg_dump", driver(connection).info.server_version // 10_000)
        namespace = str(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
        snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
        rows = _rows(connection)
        arguments = (
            "--format=directory", f"--compress={COMPRESSION}", f"--snapshot={snapshot}", f'--schema="{namespace}"',
            "--enable-row-security", "--lock-wait-timeout=20s", "--no-password", f"--file={target}",
        )  # fmt: skip
        _run(program, arguments, url, database.place)
    return Dumped(version, database.engine, namespace, rows)


def load(url: str, source: Path, dumped: Dumped, *, replace: bool, taken_s: int) -> str:
    """Puts a dump into a database that has no tables, and brings it to the version of this program.

    Args:
        url: of the user that shall own the tables.
        source: folder of `dump`.
        dumped: what it must hold.
        replace: whether tables that are there may be set aside.
        taken_s: second the dump was taken in, for the name of what is set aside.

    Returns:
        The schema that holds what was there before, "" when there was nothing.

    Raises:
        ConflictError: ALREADY_EXISTS without `replace`, STATE_LOCKED while coordinators use it, TOOL_MISSING.
        InputError: SOURCE_INVALID for another schema, or when not every row came back.
        StorageError: STORE_UNAVAILABLE, STATE_INVALID, STORE_FULL; the database is as it was then.
    """
    with (
        contextlib.closing(PostgresDatabase(url, role="", readers_max=4)) as database,
        claim(database.session, database.place) as session,
    ):
        with database.read() as connection:
            shared.check_sorting(connection)
            program = find_program("pg_restore", driver(connection).info.server_version // 10_000)
            here = str(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
            holds = bool(connection.exec_driver_sql(_TABLES).first())
        if here != dumped.namespace:
            raise InputError(
                "SOURCE_INVALID",
                f"the backup is of the schema {dumped.namespace!r}, {database.place} would take it in {here!r}",
                hint="set the search path of the user to the schema of the backup",
            )
        if holds and not replace:
            raise ConflictError(
                "ALREADY_EXISTS", f"{database.place} has tables", hint="add --replace; they are renamed, not dropped"
            )
        try:
            aside = _set_aside(session, here, f"before_restore_of_{taken_s}") if holds else ""
        except psycopg.Error as error:
            raise error_of(error, database.place) from error
        try:
            arguments = (
                "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password",
                f"--schema={here}", str(source),
            )  # fmt: skip
            _run(program, arguments, url, database.place)
            with database.read() as connection:
                missing = {name: count for name, count in _rows(connection).items() if dumped.rows.get(name) != count}
            if missing:
                raise InputError("SOURCE_INVALID", f"not all rows came back: {missing} instead of {dumped.rows}")
            shared.upgrade(url, alone=True)
        except TwinError:
            _put_back(session, here, aside)
            raise
    return aside


def check_readable(source: Path) -> str:
    """What pg_restore says of a dump's content, "" when all of it can be read or there is no such program here."""
    try:
        program = find_program("pg_restore", 0)
    except ConflictError:
        return ""
    done = _call([program, "--file=/dev/null", str(source)], {})
    return "" if done.returncode == 0 else _told(done.stderr)


def find_program(name: str, server: int) -> str:
    """The newest program of that name; raises ConflictError TOOL_MISSING where it is none of the server's version."""
    found = {path for path in HOMES.glob(f"*/bin/{name}") if os.access(path, os.X_OK)}
    on_path = shutil.which(name)
    newest, chosen = -1, ""
    for path in [*sorted(map(str, found)), *([on_path] if on_path else [])]:
        match = _VERSION.search(_call([path, "--version"], {}).stdout)
        if match and int(match[1]) > newest:
            newest, chosen = int(match[1]), path
    hint = f"install PostgreSQL's client programs of version {server or 15} or newer (Debian: postgresql-client)"
    if not chosen:
        raise ConflictError("TOOL_MISSING", f"there is no {name} here", hint=hint)
    if newest < server:
        raise ConflictError(
            "TOOL_MISSING", f"{chosen} is of version {newest}, the server of {server}: it cannot read it", hint=hint
        )
    return chosen


def _rows(connection: Connection) -> dict[str, int]:
    names = connection.exec_driver_sql(_TABLES).scalars().all()
    quoted = {str(name): sql.Identifier(str(name)).as_string() for name in names}
    return {
        name: int(connection.exec_driver_sql(f"SELECT count(*) FROM {text}").scalar_one())  # noqa: S608 quoted
        for name, text in quoted.items()
    }


def _set_aside(session: psycopg.Connection[Any], here: str, wanted: str) -> str:
    """Renames the schema, makes an empty one in its place, and returns the new name of the old one."""
    with session.transaction():
        taken = {str(name) for (name,) in session.execute("SELECT nspname FROM pg_namespace").fetchall()}
        aside = next(name for n in range(1_000) if (name := f"{wanted}_{n}") not in taken)
        session.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(here), sql.Identifier(aside)))
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(here)))
    return aside


def _put_back(session: psycopg.Connection[Any], here: str, aside: str) -> None:
    """Removes what was restored in part, and brings back what was there."""
    with contextlib.suppress(psycopg.Error), session.transaction():
        session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(here)))
        if aside:
            session.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(aside), sql.Identifier(here)))
        else:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(here)))


def _run(program: str, arguments: tuple[str, ...], url: str, place: str) -> None:
    """Runs a program on the database; raises what its last words mean."""
    words = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    secrets = {"PGPASSWORD": words.pop("password")} if "password" in words else {}
    words["options"] = f"{words.get('options', '')} {_READS_ALL}".strip()
    words["application_name"] = "twincloud backup"
    done = _call([program, f"--dbname={make_conninfo(**words)}", *arguments], secrets)
    if done.returncode == 0:
        return
    text = _told(done.stderr)
    for said, reason, hint in _SAID:
        if said in done.stderr:
            raise StorageError(reason, f"{place}: {text}", hint=hint, path=place)
    raise StorageError("STATE_INVALID", f"{place}: {text}", hint="see what the program said", path=place)


def _call(command: list[str], secrets: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **secrets, "LC_ALL": "C"}
    return subprocess.run(  # noqa: S603 a program of PostgreSQL's, without a shell
        command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


def _told(stderr: str) -> str:
    """The first lines of a program's complaint."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("Command was:")]
    return " ".join(lines[:_LINES_MAX]) or "it failed without a word"
