"""Brings the tables of a database to the version of this program, in one transaction."""

from __future__ import annotations

import functools
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from twinmodel.errors import StorageError

_SCRIPTS = Path(__file__).parent / "migrations"


def newest() -> str:
    """The version this program works with."""
    return _versions()[0]


def version(connection: Connection) -> str:
    """The version of the database, "" when it has no tables yet."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def check_known(found: str) -> None:
    """Raises StorageError STATE_INVALID when the database was made by a newer program."""
    if found and found not in _versions():
        raise StorageError(
            "STATE_INVALID",
            f"the database has the version {found}, this program knows {newest()}",
            hint="install the newer hybridtwin again, or restore the backup made before its upgrade",
            found=found,
        )


def upgrade(connection: Connection) -> None:
    """Applies what is missing; the caller's transaction makes it all or nothing."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@functools.cache
def _versions() -> tuple[str, ...]:
    """All versions, the newest first; they stay while a program runs, and to ask alembic means to load every script."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
