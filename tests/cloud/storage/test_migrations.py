"""Databases of older programs come up to date with all they hold."""

from __future__ import annotations

import contextlib
import threading

import msgpack
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from tests.contract.plant import NOW, catalogue, invite
from tests.contract.running import run_plant
from twincloud.storage import create, migrate, open_store, shared
from twincloud.storage.contract import TwinKey
from twincloud.storage.directory import DATABASE, create_shared
from twincloud.storage.packing import pack_binding, pack_catalogue
from twincloud.storage.postgres import PostgresDatabase
from twincloud.storage.schema import metadata
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import StorageError

FIRST = "0001"
OF_PARTITIONS = {
    "uq_blocks_boot_id_stream_first_seq",
    *(f"fk_blocks_{key}" for key in ("schema_id_schemas", "boot_id_boots", "gateway_id_gateways")),
}
"""The table of blocks lacks them on PostgreSQL: the first is kept in each partition, the others in SQLite alone."""


def to_version(connection: Connection, version: str) -> None:
    config = migrate._config()
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def fill_first(connection: Connection) -> None:
    """Rows of the first version: one gateway, its twins and their readings."""
    known = catalogue()
    # As the first version packed them: blocks, names, readings of each, then columns of time, number, value, quality
    # and place of the block.
    values = {"plc0.flow": 7.5, "pump-0/flow#estimate": 7.0, "pump-0/flow#sigma": 0.5}
    columns = [[NOW] * 3, [0, 1, 2], list(values.values()), [0] * 3, [0] * 3]
    readings = msgpack.packb([[[1, b"b" * 16, 2, 0, NOW, NOW + 1]], list(values), [1] * 3, *columns])

    def insert(table: str, **row: object) -> None:
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)

    place = {"tenant": "acme", "site": "mill"}
    insert("tenants", tenant="acme", created_ns=1)
    insert("sites", **place, created_ns=1)
    insert("schemas", id=1, digest=known.digest, content=pack_catalogue(known))
    insert("gateways", id=1, **place, gateway="gw-1", schema_id=1)
    insert("gateway_schemas", gateway_id=1, schema_id=1)
    insert("boots", id=1, gateway_id=1, boot=b"b" * 16, previous=b"", counter=1, started_ns=1, clock=1)
    insert(
        "blocks", id=41, commit_no=40, gateway_id=1, boot_id=1, stream=2, first_seq=0, last_seq=2, schema_id=1,
        wide=False, payload=b"\0",
    )  # fmt: skip
    insert("counters", name="row", value=41)
    for number, binding in enumerate(known.twins, 1):
        bound = {"definition": "", "binding": pack_binding(binding)}
        insert("twins", id=number, **place, twin=binding.twin, gateway_id=1, schema_id=1, **bound)
        blob = readings if binding.twin == "pump-0" else b""
        insert("twin_states", twin_id=number, revision=9, updated_ns=NOW + 1, state=blob)


@pytest.fixture
def first_state(tmp_path):
    """A state directory whose database has the first version, with one gateway, one twin and its readings."""
    state = tmp_path / "state"
    create(state)
    path = state / DATABASE
    for leftover in state.glob(f"{DATABASE}*"):
        leftover.unlink()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        to_version(connection, FIRST)
        fill_first(connection)
    engine.dispose()
    return state


@pytest.fixture
def first_url(postgres_url):
    """A database of PostgreSQL that has the first version, with the same rows."""
    with owner(postgres_url) as database, database.write() as connection:
        to_version(connection, FIRST)
        fill_first(connection)
    return postgres_url


def owner(url: str) -> contextlib.AbstractContextManager[PostgresDatabase]:
    return contextlib.closing(PostgresDatabase(url, role=""))


def assert_readings_survived(store) -> None:
    twin = store.twin(TwinKey("acme", "mill", "pump-0"))
    flow = next(p for p in twin.properties if p.name == "flow")
    assert (flow.reported.value, flow.estimated.value, flow.estimated.sigma) == (7.5, 7.0, 0.5)
    assert (twin.revision, twin.updated_ns) == (9, NOW + 1)
    assert store.status().schema == migrate.newest()
    with store._database.read() as connection:
        assert connection.execute(text("SELECT id, payload, tenant FROM blocks")).all() == [(41, b"\0", "acme")]
        assert connection.execute(text("SELECT through FROM gateway_states")).all() == [(41,)]


def test_readings_of_twins_survive_the_change_to_readings_of_gateways(first_state):
    store = open_store(first_state, clock=ManualClock(NOW + SECOND_NS))
    try:
        assert_readings_survived(store)
        assert list(first_state.glob(f"{DATABASE}.before-*"))
    finally:
        store.close()


@pytest.mark.service("postgresql")
def test_a_shared_database_of_the_first_version_has_all_it_held_and_the_tables_of_the_program(first_url, tmp_path):
    assert not shared.upgrade(first_url)
    create_shared(tmp_path / "state")
    with contextlib.closing(
        open_store(tmp_path / "state", clock=ManualClock(NOW + SECOND_NS), database=first_url)
    ) as store:
        assert_readings_survived(store)
    with owner(first_url) as database, database.read() as connection:
        assert differences(connection) == []


def differences(connection: Connection) -> list[object]:
    """Where tables and program differ, but for what blocks in partitions have otherwise, see `partitions`."""

    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not str(name).removeprefix("blocks_").isdigit()

    options = {"compare_type": True, "include_name": is_ours}
    found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return [one for one in found if getattr(one[1], "name", "") not in OF_PARTITIONS]


@pytest.mark.service("postgresql")
def test_an_upgrade_that_is_cut_in_the_middle_leaves_the_version_before_and_goes_through_later(first_url, monkeypatch):
    def contents() -> tuple[object, ...]:
        with owner(first_url) as database, database.read() as connection:
            tables = connection.execute(text("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') ORDER BY 1"))
            states = connection.execute(text("SELECT twin_id, state FROM twin_states ORDER BY 1"))
            return migrate.version(connection), tables.all(), states.all()

    before = contents()
    with monkeypatch.context() as patch:
        # All migrations are done, nothing is committed: the server loses the connection, as when it is killed.
        patch.setattr(
            shared.partitions, "arrange", lambda c: c.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        )
        with pytest.raises(StorageError, match="STORE_UNAVAILABLE"):
            shared.upgrade(first_url)
    assert contents() == before
    assert before[0] == FIRST
    shared.upgrade(first_url)
    with owner(first_url) as database, database.read() as connection:
        assert migrate.version(connection) == migrate.newest()


@pytest.mark.service("postgresql")
def test_two_upgrades_at_once_take_turns_and_the_second_finds_all_done(postgres_url, monkeypatch):
    answers: list[bool] = []
    second = threading.Thread(target=lambda: answers.append(shared.upgrade(postgres_url)), daemon=True)
    waits = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    secure, seen = shared.rights.secure, []

    def when_the_second_waits(connection: Connection, *args: object) -> None:
        """The last step of the first one; nothing of it is committed before the second one stands in the queue."""
        if not seen:
            second.start()
            seen.append(migrate.version(connection))
            while not connection.execute(waits).scalar_one():
                assert second.is_alive()
        secure(connection, *args)

    monkeypatch.setattr(shared.rights, "secure", when_the_second_waits)
    assert shared.upgrade(postgres_url)
    second.join()
    assert answers == [False]
    assert seen == [migrate.newest()]
    with owner(postgres_url) as database, database.read() as connection:
        assert migrate.version(connection) == migrate.newest()


def test_alarms_that_stand_already_are_counted(tmp_path):
    state = tmp_path / "state"
    create(state)
    with contextlib.closing(open_store(state, clock=ManualClock(NOW))) as store:
        invite(store)
        run_plant(store).send(store, [])
        before = store.twin_marks("acme", {"", "pump-0"})
        with store._database.write() as connection:
            config = migrate._config()
            config.attributes["connection"] = connection
            command.downgrade(config, "0020")
            migrate.upgrade(connection)
        assert store.twin_marks("acme", {"", "pump-0"}) == before
        assert {marks.highest for marks in before.values()} == {"high"}
