"""A shared database is carried away beside its coordinators and put back whole; what was there is never dropped."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading

import psycopg
import pytest

from tests.contract.plant import KEY, NOW, TWIN, invite
from tests.contract.running import held, run_plant
from tests.services import Cluster
from twincloud import doctor
from twincloud.__main__ import run
from twincloud.backup import faults
from twincloud.backup_shared import backup, faults_of_shared, restore
from twincloud.config import Settings
from twincloud.identity.ca import Authority
from twincloud.storage import dump, open_store
from twincloud.storage.directory import create_shared
from twincloud.storage.shared import upgrade
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConflictError, InputError, StorageError

pytestmark = pytest.mark.service("postgresql")


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture(scope="module")
def made(postgres_cluster: Cluster):
    """A database with tables, of the user that docs/scaling.md makes: it owns all, and policies hold it."""
    name = postgres_cluster.database()
    with psycopg.connect(postgres_cluster.url(), autocommit=True) as server:
        server.execute("CREATE ROLE plant_owner LOGIN CREATEROLE")
        server.execute("DO $$ BEGIN CREATE ROLE hybridtwin_app; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        server.execute("GRANT hybridtwin_app TO plant_owner")
        server.execute(f'ALTER DATABASE "{name}" OWNER TO plant_owner')
    upgrade(postgres_cluster.url(name, "plant_owner"))
    return name


@pytest.fixture
def owner(postgres_cluster: Cluster, made):
    """The URL of a copy of it, as its owner uses it."""
    name = postgres_cluster.database(made)
    with psycopg.connect(postgres_cluster.url(), autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" OWNER TO plant_owner')
    yield postgres_cluster.url(name, "plant_owner")
    postgres_cluster.drop(name)


@pytest.fixture
def empty(postgres_cluster: Cluster, made):
    """The URL of a database without tables, as its owner uses it."""
    name = postgres_cluster.database()
    with psycopg.connect(postgres_cluster.url(), autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" OWNER TO plant_owner')
    yield postgres_cluster.url(name, "plant_owner")
    postgres_cluster.drop(name)


@pytest.fixture
def state(tmp_path, owner, clock):
    """A state directory with an authority, over a database with tables."""
    create_shared(tmp_path / "state")
    Authority.create(tmp_path / "state", clock)
    return tmp_path / "state"


@pytest.fixture
def store(state, owner, clock):
    opened = open_store(state, clock=clock, database=owner)
    invite(opened)
    yield opened
    opened.close()


@pytest.fixture
def sent(store):
    """A gateway with one tick, one package, commands and alarms."""
    edge = run_plant(store)
    store._blobs.put(b"package")
    return edge


def schemas(url) -> set[str]:
    with psycopg.connect(url) as server:
        rows = server.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information)'").fetchall()
    return {name for (name,) in rows}


def test_backup_beside_a_running_coordinator_restores_what_it_held_and_sets_the_rest_aside(
    store, sent, state, owner, tmp_path, clock
):
    manifest = backup(owner, state, tmp_path / "copy", clock)
    assert (manifest.rows["blocks"], manifest.rows["commands"], manifest.rows["alarms"]) == (2, 3, 1)
    assert {"database/toc.dat", "identity/root.key"} <= manifest.files.keys()
    assert list(faults(tmp_path / "copy")) == []
    before = store.state_hash(TWIN), held(store)
    sent.send(store, [sent.tick(NOW + SECOND_NS, 2.0)])
    store.close()
    with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
        restore(owner, tmp_path / "copy", state, replace=False)
    (aside,) = restore(owner, tmp_path / "copy", state, replace=True)
    assert {"public", aside} == schemas(owner)
    with psycopg.connect(owner, options="-c hybridtwin.tenant=*") as server:
        assert server.execute(f"SELECT count(*) FROM {aside}.blocks").fetchone() == (3,)
    again = open_store(state, clock=clock, database=owner)
    try:
        assert (again.state_hash(TWIN), held(again)) == before
        assert list(faults_of_shared(owner)) == []
        sent.connect(again)
        sent.send(again, [sent.tick(NOW + 2 * SECOND_NS)])
    finally:
        again.close()


def test_a_backup_goes_to_a_new_machine_and_an_empty_database(store, sent, state, owner, empty, tmp_path, clock):
    backup(owner, state, tmp_path / "copy", clock)
    assert restore(empty, tmp_path / "copy", tmp_path / "new", replace=False) == ()
    fresh = open_store(tmp_path / "new", clock=clock, database=empty)
    try:
        assert fresh.state_hash(TWIN) == store.state_hash(TWIN)
        assert fresh.gateway(KEY).samples == 25
    finally:
        fresh.close()
    Authority.load(tmp_path / "new", clock)


def test_a_running_coordinator_keeps_its_tables(store, state, owner, tmp_path, clock):
    backup(owner, state, tmp_path / "copy", clock)
    there = threading.Event()
    with store.announce(there.set), psycopg.connect(owner, autocommit=True) as server:
        assert there.wait(30)
        taken = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
        while not server.execute(taken).fetchone():
            pass
        store._state_lock.release()
        with pytest.raises(ConflictError) as told:
            restore(owner, tmp_path / "copy", state, replace=True)
        assert told.value.reason == "STATE_LOCKED"
    assert store.gateway(KEY).key == KEY


def test_a_restore_that_breaks_off_brings_back_what_was_there(store, sent, state, owner, tmp_path, clock, monkeypatch):
    backup(owner, state, tmp_path / "copy", clock)
    before = store.state_hash(TWIN)
    store.close()
    for lost in ("blocks", "of every table"):
        dumped = dump.Dumped("", "", "public", {"blocks": 7} if lost == "blocks" else {})
        with pytest.raises(InputError, match="SOURCE_INVALID"):
            dump.load(owner, tmp_path / "copy" / "database", dumped, replace=True, taken_s=1)
    (tmp_path / "copy" / "database" / "toc.dat").write_bytes(b"torn")
    with pytest.raises(StorageError, match="STATE_INVALID"):
        dump.load(owner, tmp_path / "copy" / "database", dumped, replace=True, taken_s=1)
    assert schemas(owner) == {"public"}
    again = open_store(state, clock=clock, database=owner)
    try:
        assert again.state_hash(TWIN) == before
    finally:
        again.close()


def script(path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_missing_and_older_programs_are_told_with_what_to_install(state, owner, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(dump, "HOMES", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConflictError, match="there is no pg_dump") as told:
        backup(owner, state, tmp_path / "copy", clock)
    assert (told.value.reason, "15 or newer" in told.value.hint) == ("TOOL_MISSING", True)
    script(tmp_path / "pg_dump", "echo 'pg_dump (PostgreSQL) 13.9'")
    with pytest.raises(ConflictError, match="of version 13"):
        backup(owner, state, tmp_path / "copy", clock)
    assert not (tmp_path / "copy").exists()


def test_the_password_is_in_the_environment_of_the_program_alone(state, owner, tmp_path, clock, monkeypatch):
    found = tmp_path / "found"
    real = shutil.which("pg_dump", path=":".join(map(str, dump.HOMES.glob("*/bin"))))
    asked = f'[ "$1" = --version ] || {{ echo "$@" >> {found}; echo "$PGPASSWORD" >> {found}; }}'
    (tmp_path / "15" / "bin").mkdir(parents=True)
    script(tmp_path / "15" / "bin" / "pg_dump", f'{asked}\nexec {real} "$@"')
    monkeypatch.setattr(dump, "HOMES", tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    backup(owner.replace("plant_owner@", "plant_owner:hush-42@"), state, tmp_path / "copy", clock)
    arguments, password = found.read_text().splitlines()
    assert "hush" not in arguments
    assert password == "hush-42"
    assert not any(b"hush-42" in path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file())


def test_a_user_without_rights_is_told_whose_url_it_takes(state, owner, postgres_cluster, tmp_path, clock):
    with psycopg.connect(postgres_cluster.url(), autocommit=True) as server:
        server.execute("CREATE ROLE reader_alone LOGIN")
    try:
        with pytest.raises(StorageError, match="permission denied") as told:
            backup(owner.replace("plant_owner@", "reader_alone@"), state, tmp_path / "copy", clock)
        assert told.value.reason == "STATE_INVALID"
    finally:
        with psycopg.connect(postgres_cluster.url(), autocommit=True) as server:
            server.execute("DROP ROLE reader_alone")


def test_the_commands_of_the_database_work_on_a_shared_one(empty, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("twinmodel.logs.configure_logs", lambda _: None)
    monkeypatch.setenv("TWINCLOUD_DATABASE", empty)
    place, copy = ["--state", str(tmp_path / "state")], str(tmp_path / "copy")
    assert run(["init", *place]) == 0
    assert run(["db", "status", *place]) == 0
    assert run(["db", "backup", copy, *place]) == 0
    assert run(["db", "verify", copy, *place]) == 0
    assert run(["db", "verify", *place]) == 0
    assert run(["archive", "status", *place]) == 0
    assert run(["db", "restore", copy, *place]) == 1
    assert "--replace" in capsys.readouterr().err
    assert run(["db", "restore", copy, "--replace", *place]) == 0
    assert "what was there is in before_restore_of_" in capsys.readouterr().err
    assert run(["db", "upgrade", *place]) == 0
    with contextlib.closing(open_store(tmp_path / "state", clock=ManualClock(NOW), database=empty)) as store:
        assert store.tenants() == ("default",)
    (tmp_path / "copy" / "database" / "toc.dat").write_bytes(b"torn")
    assert run(["db", "verify", copy, *place]) == 3
    assert "toc.dat was changed" in capsys.readouterr().out


def test_doctor_names_what_a_server_does_not_flush(state, owner, clock):
    settings = Settings(state=state, database=owner)
    with pytest.raises(StorageError, match="fsync off") as told:
        doctor._check_durability(settings, clock)  # of the cluster for tests
    assert "fsync = on" in told.value.hint
