"""The tables of commands and alarms go and come again with the program, and take nothing else with them."""

from __future__ import annotations

import contextlib

from alembic import command
from sqlalchemy import create_engine, inspect

from tests.cloud.plant import alarm
from tests.contract.plant import KEY, NOW, TWIN, stored
from tests.contract.running import held, order, run_plant
from twincloud.storage import migrate
from twincloud.storage.directory import DATABASE
from twincloud.storage.postgres import PostgresDatabase
from twincloud.storage.records_alarms import AlarmChoice
from twincloud.storage.shared import upgrade

BEFORE = "0015"
NEW = {"alarms", "commands", "command_steps"}


@contextlib.contextmanager
def tables(place):
    """A connection of the owner of the tables, in a transaction."""
    if place.url:
        with contextlib.closing(PostgresDatabase(place.url, role="")) as database, database.write() as connection:
            yield connection
        return
    engine = create_engine(f"sqlite:///{place.folder / DATABASE}")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def to(place, version: str) -> None:
    with tables(place) as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, version)


def test_a_program_before_commands_finds_its_tables_and_the_newer_one_all_but_commands_and_alarms(place, store):
    edge = run_plant(store)
    samples, states = stored(store), store.state_hash(TWIN)
    store.close()
    to(place, BEFORE)
    with tables(place) as connection:
        assert migrate.version(connection) == BEFORE
        assert NEW.isdisjoint(inspect(connection).get_table_names())
        assert "content" not in {column["name"] for column in inspect(connection).get_columns("directives")}
    if place.url:
        upgrade(place.url)
    again = place.open()
    assert (stored(again), again.state_hash(TWIN)) == (samples, states)
    assert held(again) == ((), (), ())
    edge.connect(again)
    edge.send(again, [edge.tell(alarm("late", source="plc0.flow"))])
    assert run_again(again, edge).id == again.commands_of("acme").items[0].id
    assert [one.record.alarm for one in again.alarms("acme", AlarmChoice()).items] == ["late"]


def run_again(store, edge):
    """A command of the new session."""
    store.issue_command(TWIN, order(), by="ann", now_ns=NOW)
    (sent,) = store.due_commands(KEY, edge.session, NOW)
    return sent
