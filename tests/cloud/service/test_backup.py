"""A coordinator is carried away and put back whole, or not at all; what came after the backup comes again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading

import pytest

from tests.contract.plant import KEY, NOW, TWIN, Edge, invite
from tests.contract.running import held, run_plant
from twincloud.__main__ import run
from twincloud.backup import backup, faults, faults_of_state, restore
from twincloud.identity.ca import Authority
from twincloud.storage import create, open_store
from twincloud.storage.directory import DATABASE
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConflictError, InputError, MissingError


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture
def state(tmp_path, clock):
    """A state directory with an authority and a gateway that has sent a block."""
    path = tmp_path / "state"
    create(path)
    Authority.create(path, clock)
    return path


@pytest.fixture
def store(state, clock):
    """The open store of that state."""
    opened = open_store(state, clock=clock)
    invite(opened)
    yield opened
    opened.close()


def test_backup_beside_a_running_service_is_whole_and_restores_what_it_held(store, state, tmp_path, clock):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    manifest = backup(state, tmp_path / "copy", clock)
    assert {DATABASE, "identity/root.key"} <= manifest.files.keys()
    assert list(faults(tmp_path / "copy")) == []
    before = store.state_hash(TWIN)
    edge.send(store, [edge.tick(NOW + SECOND_NS, 2.0)])
    assert store.state_hash(TWIN) != before
    store.close()
    aside = restore(tmp_path / "copy", state, replace=True)
    assert (aside / DATABASE).exists()
    assert list(faults(tmp_path / "copy")) == []
    again = open_store(state, clock=clock)
    try:
        assert again.state_hash(TWIN) == before
    finally:
        again.close()


def test_commands_alarms_and_directives_come_back_with_their_chain_and_a_changed_command_is_named(
    store, state, tmp_path, clock
):
    run_plant(store)
    backup(state, tmp_path / "copy", clock)
    before = held(store)
    store.close()
    restore(tmp_path / "copy", state, replace=True)
    assert list(faults_of_state(state)) == []
    with contextlib.closing(open_store(state, clock=clock)) as again:
        assert held(again) == before
    with contextlib.closing(sqlite3.connect(state / DATABASE)) as database, database:
        database.execute("UPDATE commands SET unit = 'rpm' WHERE number = (SELECT min(number) FROM commands)")
        database.execute("UPDATE alarms SET state = 'NORM'")
        database.execute("UPDATE command_steps SET said_by = 'bob' WHERE step = 'SENT'")
    found = "\n".join(faults_of_state(state))
    assert found.count("the chain breaks here") == 2
    assert "it is not as it was issued" in found
    assert "alarm high of gateway gw-1 of tenant acme: its row says state NORM, its record UNACK" in found


def test_a_restored_coordinator_gets_from_the_gateway_what_it_has_forgotten(store, state, tmp_path, clock):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    backup(state, tmp_path / "copy", clock)
    later = edge.tick(NOW + SECOND_NS, 2.0)
    edge.send(store, [later])
    newest, samples = store.state_hash(TWIN), store.gateway(KEY).samples
    store.close()
    restore(tmp_path / "copy", state, replace=True)
    again = open_store(state, clock=clock)
    try:
        assert again.gateway(KEY).samples < samples
        edge.connect(again)
        edge.send(again, [later])
        assert (again.state_hash(TWIN), again.gateway(KEY).samples) == (newest, samples)
    finally:
        again.close()


def test_backup_while_commits_go_on_is_one_moment_of_them(store, state, tmp_path, clock):
    edge = Edge()
    edge.connect(store)
    stop = threading.Event()

    def commit() -> None:
        at_ns = NOW
        while not stop.is_set():
            edge.send(store, [edge.tick(at_ns)])
            at_ns += SECOND_NS

    committing = threading.Thread(target=commit)
    committing.start()
    try:
        for number in range(3):
            backup(state, tmp_path / f"copy{number}", clock)
    finally:
        stop.set()
        committing.join()
    for number in range(3):
        assert list(faults(tmp_path / f"copy{number}")) == []


@pytest.mark.parametrize(("name", "said"), [(DATABASE, "changed"), ("identity/root.key", "changed")])
def test_a_damaged_backup_is_named_and_not_restored(store, state, tmp_path, clock, name, said):
    backup(state, tmp_path / "copy", clock)
    path = tmp_path / "copy" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    store.close()
    held = (state / DATABASE).read_bytes()
    with pytest.raises(InputError, match=rf"{name} was {said}") as error:
        restore(tmp_path / "copy", state, replace=True)
    assert error.value.reason == "SOURCE_INVALID"
    assert (state / DATABASE).read_bytes() == held


def test_missing_and_foreign_files_of_a_backup_are_named(store, state, tmp_path, clock):
    backup(state, tmp_path / "copy", clock)
    (tmp_path / "copy" / "identity" / "root.pem").unlink()
    (tmp_path / "copy" / "stray").write_text("x")
    assert sorted(faults(tmp_path / "copy")) == ["identity/root.pem is missing", "stray is not of this backup"]


def test_restore_over_a_running_or_existing_coordinator_is_refused(store, state, tmp_path, clock):
    backup(state, tmp_path / "copy", clock)
    with pytest.raises(ConflictError) as error:
        restore(tmp_path / "copy", state, replace=False)
    assert error.value.reason == "ALREADY_EXISTS"
    with pytest.raises(ConflictError) as error:
        restore(tmp_path / "copy", state, replace=True)
    assert error.value.reason == "STATE_LOCKED"
    assert store.gateway(KEY).key == KEY


def test_a_backup_is_restored_to_a_new_machine(store, state, tmp_path, clock):
    backup(state, tmp_path / "copy", clock)
    assert restore(tmp_path / "copy", tmp_path / "new", replace=False) is None
    fresh = open_store(tmp_path / "new", clock=clock)
    try:
        assert fresh.gateway(KEY).key == KEY
    finally:
        fresh.close()
    Authority.load(tmp_path / "new", clock)


def test_backup_onto_something_or_of_nothing_is_refused(store, state, tmp_path, clock):
    (tmp_path / "there").mkdir()
    with pytest.raises(ConflictError) as error:
        backup(state, tmp_path / "there", clock)
    assert error.value.reason == "ALREADY_EXISTS"
    with pytest.raises(ConflictError) as error:
        backup(tmp_path / "nothing", tmp_path / "copy", clock)
    assert error.value.reason == "NOT_INITIALISED"
    with pytest.raises(MissingError):
        list(faults(tmp_path / "there"))


def test_verify_names_blocks_that_cannot_be_read_and_marks_that_lag(store, state):
    edge = Edge()
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    assert list(faults_of_state(state)) == []
    store.close()
    with sqlite3.connect(state / DATABASE) as database:
        database.execute("UPDATE blocks SET payload = x'00' WHERE id = (SELECT min(id) FROM blocks)")
        database.execute("UPDATE marks SET next_seq = 0")
    found = list(faults_of_state(state))
    assert any("cannot be read" in line for line in found)
    assert any("the mark of its stream says 0" in line for line in found)


def test_the_command_backs_up_verifies_restores_and_upgrades(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("twinmodel.logs.configure_logs", lambda _: None)
    place = ["--state", str(tmp_path / "state")]
    copy = str(tmp_path / "copy")
    assert run(["init", *place]) == 0
    assert run(["db", "backup", copy, *place]) == 0
    assert run(["db", "verify", copy, *place]) == 0
    assert run(["db", "verify", *place, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == []
    assert run(["db", "restore", copy, *place]) == 1
    assert "--replace" in capsys.readouterr().err
    assert run(["db", "restore", copy, "--replace", *place]) == 0
    assert "set aside" not in capsys.readouterr().out
    assert run(["db", "upgrade", *place]) == 0
    assert "already" in capsys.readouterr().err
    (tmp_path / "copy" / DATABASE).unlink()
    assert run(["db", "verify", copy, *place]) == 3
