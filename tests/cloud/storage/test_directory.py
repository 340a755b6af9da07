"""State directories: made once, opened by one process, upgraded with a backup, refused when damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from tests.contract.plant import KEY, NOW, Edge, invite, stored
from twincloud.storage import create, migrate, open_store
from twincloud.storage.directory import DATABASE, open_database
from twincloud.storage.outbox import prune_events
from twincloud.storage.part import News, record
from twincloud.storage.schema import metadata
from twincloud.storage.sqlite import SqliteDatabase
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConflictError, StorageError


@pytest.fixture
def state(tmp_path):
    create(tmp_path / "state")
    return tmp_path / "state"


def reopen(state):
    return open_store(state, clock=ManualClock(NOW))


def test_directory_that_was_never_made_is_told(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(ConflictError, match="NOT_INITIALISED"):
            reopen(folder)


def test_making_it_twice_is_refused_and_a_cut_off_try_leaves_no_trace(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / (DATABASE + ".new")).write_bytes(b"half a database")
    create(folder)
    with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
        create(folder)
    assert (folder / DATABASE).stat().st_mode & 0o077 == 0
    assert not (folder / (DATABASE + ".new")).exists()
    reopen(folder).close()


def test_second_process_is_refused_and_the_lock_dies_with_its_process(state):
    store = reopen(state)
    with pytest.raises(ConflictError, match="STATE_LOCKED"):
        reopen(state)
    code = (
        "import sys; from pathlib import Path; from twincloud.storage import open_store;"
        "from twinmodel.clock import SystemClock; from twinmodel.errors import TwinError\n"
        "try: open_store(Path(sys.argv[1]), clock=SystemClock())\n"
        "except TwinError as error: print(error.reason)\n"
        "else: print('opened')"
    )
    command = [sys.executable, "-c", code, str(state)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "STATE_LOCKED"
    store.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "opened"
    reopen(state).close()


def test_writer_syncs_fully_and_readers_cannot_write(state):
    database = open_database(state)
    facts = database.facts()
    assert (facts["journal_mode"], facts["synchronous"], facts["foreign_keys"]) == ("wal", 2, 1)
    with pytest.raises(StorageError, match="STORE_READ_ONLY"), database.read() as connection:
        connection.exec_driver_sql("DELETE FROM tenants")
    database.close()


def test_write_that_raises_is_rolled_back_with_its_tables(state):
    database = open_database(state)

    def write() -> None:
        with database.write() as connection:
            for statement in ("CREATE TABLE half (x)", "INSERT INTO tenants VALUES ('t', 0)", "DELETE FROM nowhere"):
                connection.exec_driver_sql(statement)

    with pytest.raises(StorageError, match="no such table"):
        write()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tenants").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name='half'").scalar() == 0
    database.close()


def test_migrations_make_exactly_the_tables_of_the_program(state):
    database = open_database(state)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert migrate.version(connection) == migrate.newest()
    database.close()


def test_older_database_is_copied_before_it_is_upgraded(state, monkeypatch):
    path = state / DATABASE
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE keepsake (x)")
    connection.close()
    reopen(state).close()
    copy = state / f"{DATABASE}.before-{migrate.newest()}"
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("keepsake",)]
    connection.close()
    assert reopen(state).status().schema == migrate.newest()


def test_database_of_a_newer_program_is_left_alone(state):
    with sqlite3.connect(state / DATABASE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match=r"STATE_INVALID.*9999"):
        reopen(state)


@pytest.mark.parametrize("damage", ["other file", "empty page one", "torn"])
def test_damaged_file_is_told_with_what_to_do(state, damage):
    path = state / DATABASE
    content = path.read_bytes()
    if damage == "other file":
        path.write_bytes(b"this is no database at all" * 500)
    elif damage == "empty page one":
        path.write_bytes(bytes(4096) + content[4096:])
    else:
        path.write_bytes(content[:100] + os.urandom(3996) + content[4096:])
    with pytest.raises(StorageError, match="STORE_CORRUPT") as caught:
        reopen(state)
    assert "backup" in caught.value.hint
    assert path.exists()


def test_full_disk_acknowledges_nothing_and_heals_when_there_is_room(state):
    store = reopen(state)
    invite(store)
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    writer = store._database._writer
    pages = writer.exec_driver_sql("PRAGMA page_count").scalar()
    writer.exec_driver_sql(f"PRAGMA max_page_count={pages + 8}")
    writer.rollback()
    items = [edge.tick(NOW + n * SECOND_NS, float(n)) for n in range(1, 400)]
    with pytest.raises(StorageError, match="STORE_FULL"):
        edge.send(store, items)
    assert store.gateway(KEY).samples == 24
    assert len(stored(store)) == 24
    with store._database._lock:
        writer.exec_driver_sql("PRAGMA max_page_count=1000000")
        writer.rollback()
    assert edge.send(store, items).samples == 399 * 24
    assert len(stored(store)) == 400 * 24
    assert store.check() == ()
    store.close()


def test_failed_sync_reopens_the_connection(state, monkeypatch):
    store = reopen(state)
    store.create_tenant("acme", NOW)
    before = store._database._writer
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def fail(connection) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(before.dialect, "do_commit", fail)
        with pytest.raises(StorageError, match="STORE_SYNC_FAILED"):
            store.create_tenant("other", NOW)
    store.create_tenant("third", NOW)
    assert store._database._writer is not before
    store.close()


def test_failed_write_within_a_commit_reopens_the_connection_and_the_items_can_be_sent_again(state, monkeypatch):
    store = reopen(state)
    invite(store)
    edge = Edge()
    edge.connect(store)
    before, items = store._database._writer, [edge.tick(NOW)]
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE

    def fail(*_args) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store._database, "write_many", fail)
        with pytest.raises(StorageError, match="STORE_SYNC_FAILED"):
            edge.send(store, items)
    assert store._database._writer is None
    assert stored(store) == []
    assert edge.send(store, items).samples == 24
    assert store._database._writer is not before
    assert store.gateway(KEY).samples == 24
    store.close()


def test_backup_is_complete_while_the_store_is_in_use(state, tmp_path):
    store = reopen(state)
    invite(store)
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    store._database.backup(tmp_path / "copy.db")
    copy = SqliteDatabase(tmp_path / "copy.db")
    with copy.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM blocks").scalar() == 1
    copy.close()
    store.close()


def test_outbox_is_pruned_in_steps_by_rows_and_age_and_ids_go_on(state):
    store = reopen(state)
    news = [News("acme", "", "gateway", f"g{n}", NOW + n, {}) for n in range(2_500)]
    with store._database.write() as connection:
        record(connection, news)
        assert prune_events(connection, NOW, rows_max=1_200) == 1_000
        assert prune_events(connection, NOW, rows_max=1_200) == 300
        assert prune_events(connection, NOW, rows_max=1_200) == 0
        assert prune_events(connection, NOW + 2_499 + 10, rows_max=9_999, age_ns=10) == 1_000
    last = store.last_event()
    assert last == 2_500
    with store._database.write() as connection:
        prune_events(connection, NOW * 2)
    assert store.last_event() == last
    with store._database.write() as connection:
        record(connection, news[:1])
    assert store.last_event() == last + 1
    store.close()


def test_status_tells_engine_version_and_counts(state):
    store = reopen(state)
    invite(store)
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW), edge.poison()])
    status = store.status()
    assert (status.blocks, status.samples, status.dead_letters) == (1, 24, 1)
    assert status.engine == f"sqlite {sqlite3.sqlite_version}"
    assert status.bytes > 100_000
    assert status.facts["synchronous"] == 2
    store.close()
