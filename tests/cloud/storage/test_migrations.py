"""Databases of older programs come up to date with all they hold."""

from __future__ import annotations

import sqlite3

import msgpack
import pytest
from alembic import command
from sqlalchemy import create_engine

from tests.contract.plant import NOW, catalogue
from twincloud.storage import create, migrate, open_store
from twincloud.storage.contract import TwinKey
from twincloud.storage.directory import DATABASE
from twincloud.storage.packing import pack_binding, pack_catalogue
from twinmodel.clock import SECOND_NS, ManualClock


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
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    known = catalogue()
    # As the first version packed them: blocks, names, readings of each, then columns of time, number, value, quality
    # and place of the block.
    values = {"plc0.flow": 7.5, "pump-0/flow#estimate": 7.0, "pump-0/flow#sigma": 0.5}
    columns = [[NOW] * 3, [0, 1, 2], list(values.values()), [0] * 3, [0] * 3]
    readings = msgpack.packb([[[1, b"b" * 16, 2, 0, NOW, NOW + 1]], list(values), [1] * 3, *columns])
    with sqlite3.connect(path) as plain:
        run = plain.execute
        run("INSERT INTO tenants (tenant, created_ns) VALUES ('acme', 1)")
        run("INSERT INTO sites (tenant, site, created_ns) VALUES ('acme', 'mill', 1)")
        run("INSERT INTO schemas (id, digest, content) VALUES (1, ?, ?)", (known.digest, pack_catalogue(known)))
        run("INSERT INTO gateways (id, tenant, site, gateway, schema_id) VALUES (1, 'acme', 'mill', 'gw-1', 1)")
        boot = "INSERT INTO boots (id, gateway_id, boot, previous, counter, started_ns, clock) VALUES (1,1,?,?,1,1,1)"
        run(boot, (b"b" * 16, b""))
        run(
            "INSERT INTO blocks (id, commit_no, gateway_id, boot_id, stream, first_seq, last_seq, schema_id, wide,"
            " payload) VALUES (41, 40, 1, 1, 2, 0, 2, 1, 0, x'00')"
        )
        run("INSERT INTO counters (name, value) VALUES ('row', 41)")
        for number, binding in enumerate(known.twins, 1):
            run(
                "INSERT INTO twins (id, tenant, site, twin, gateway_id, schema_id, definition, binding)"
                " VALUES (?, 'acme', 'mill', ?, 1, 1, '', ?)",
                (number, binding.twin, pack_binding(binding)),
            )
            blob = readings if binding.twin == "pump-0" else b""
            state_of = "INSERT INTO twin_states (twin_id, revision, updated_ns, state) VALUES (?, 9, ?, ?)"
            run(state_of, (number, NOW + 1, blob))
    return state


def test_readings_of_twins_survive_the_change_to_readings_of_gateways(first_state):
    store = open_store(first_state, clock=ManualClock(NOW + SECOND_NS))
    try:
        twin = store.twin(TwinKey("acme", "mill", "pump-0"))
        flow = next(p for p in twin.properties if p.name == "flow")
        assert (flow.reported.value, flow.estimated.value, flow.estimated.sigma) == (7.5, 7.0, 0.5)
        assert (twin.revision, twin.updated_ns) == (9, NOW + 1)
        assert list(first_state.glob(f"{DATABASE}.before-*"))
    finally:
        store.close()


def test_version_of_a_migrated_database_is_the_newest(first_state):
    store = open_store(first_state, clock=ManualClock(NOW))
    try:
        assert store.status().schema == migrate.newest()
    finally:
        store.close()
    with sqlite3.connect(first_state / DATABASE) as plain:
        assert plain.execute("SELECT through FROM gateway_states").fetchone() == (41,)
