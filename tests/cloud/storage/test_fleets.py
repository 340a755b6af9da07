"""What is kept of a fleet is a cache: refreshed or gathered anew, before or after a restart, it is the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cloud.plant import Plant, describe_fake_package
from twincloud.filters import parse
from twincloud.storage import open_store
from twincloud.storage.contract import Running
from twincloud.storage.records_fleets import FleetSpec
from twincloud.storage.records_twins import ANYTHING
from twincloud.storage.selection import TWIN_FIELDS
from twincloud.twins.gather import NewestValues
from twincloud.twins.latest import NONE_NS
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Kind

TANKS = ("tank-1", "tank-2", "tank-3")
TEXT = 'twin ^= "tank"'


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path / "state")
    yield plant
    plant.close()


def gathered(store, kept=None, cutoff_ns=0):
    muster = store.fleet_muster(store.fleet("acme", "tanks"), parse(TEXT, TWIN_FIELDS), kept)
    for prop in muster.standing.properties:
        prop.standing.settle(cutoff_ns)
    return muster


def told(muster) -> str:
    """All a fleet says, bit for bit."""
    standing = muster.standing
    read = [(p.name, p.role, p.unit, p.standing.read(standing.models)) for p in standing.properties]
    return repr((standing.sites, standing.twins, standing.models, read))


SIGNALS = st.sampled_from(["-dev.flow", "-dev.level", "/level#estimate", "/level#sigma", "/level#innovation"])
SENT = st.tuples(
    st.integers(0, 1),
    st.dictionaries(st.tuples(st.sampled_from(TANKS), SIGNALS), st.floats(-1e6, 1e6), min_size=1, max_size=4),
    st.integers(-20, 2),
    st.sampled_from([0, 0, 0x100 | 2, 0x200 | 5]),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SENT, min_size=1, max_size=8))
def test_any_run_of_late_and_repeated_commits_gives_what_a_new_count_gives(tmp_path_factory, sent):
    plant = Plant(tmp_path_factory.mktemp("fleet") / "state")
    try:
        one = plant.gateway("acme", "mill", "gw-1", *TANKS)
        two = plant.gateway("acme", "quay", "gw-2", *TANKS)
        spec = FleetSpec("", TEXT)
        plant.store.put_fleet("acme", "tanks", spec, by="me", now_ns=1, demand=ANYTHING)
        kept = gathered(plant.store)
        for which, said, late_s, quality in sent:
            plant.clock.advance(SECOND_NS)
            values = {f"{twin}{signal}": value for (twin, signal), value in said.items()}
            t_ns = plant.clock.wall_ns() + late_s * SECOND_NS
            (one, two)[which].send(values, quality=quality, t_ns=t_ns)
            cutoff_ns = plant.clock.wall_ns() - 10 * SECOND_NS
            kept = gathered(plant.store, kept, cutoff_ns)
            assert told(kept) == told(gathered(plant.store, None, cutoff_ns))
    finally:
        plant.close()


def test_members_models_and_values_follow_and_a_restart_changes_nothing(plant):
    gateway = plant.gateway("acme", "mill", "gw-1", *TANKS)
    plant.store.put_fleet("acme", "tanks", FleetSpec("", TEXT), by="me", now_ns=1, demand=ANYTHING)
    kept = gathered(plant.store)
    gateway.send({"tank-1-dev.flow": 4.0, "tank-1/level#estimate": 1.0, "tank-1/level#sigma": 0.5})
    kept = gathered(plant.store, kept)
    assert kept.standing.changed == 2
    assert gathered(plant.store, kept).standing.changed == 0
    plant.clock.advance(SECOND_NS)
    gateway.connect((Running("tank-1", b"\1" * 32, "tanks@2", "vm"),))
    plant.gateway("acme", "quay", "gw-2", "tank-9")
    kept = gathered(plant.store, kept)
    assert kept.standing.models == ("tanks@2",)
    assert kept.standing.twins == (*TANKS, "tank-9")
    before = told(kept)
    plant.store.close()
    plant.store = open_store(plant.state, clock=plant.clock, verify=describe_fake_package)
    assert told(gathered(plant.store)) == before


def test_a_twin_that_its_gateway_no_longer_binds_leaves_the_fleet(plant):
    gateway = plant.gateway("acme", "mill", "gw-1", *TANKS)
    plant.store.put_fleet("acme", "tanks", FleetSpec("", TEXT), by="me", now_ns=1, demand=ANYTHING)
    kept = gathered(plant.store)
    smaller = type(gateway)(plant, gateway.key, TANKS[:1])
    smaller.connect()
    assert gathered(plant.store, kept).standing.twins == TANKS[:1]


def test_newest_values_come_as_columns_and_the_standings_follow_when_they_are_asked_for(plant):
    gateway = plant.gateway("acme", "mill", "gw-1", *TANKS)
    record = plant.store.put_fleet("acme", "tanks", FleetSpec("", TEXT), by="me", now_ns=1, demand=ANYTHING)
    chosen = parse(TEXT, TWIN_FIELDS)
    kept = gathered(plant.store)
    said = {"tank-1-dev.flow": 4.0, "tank-2-dev.flow": -1.5, "tank-1/level#estimate": 1.0, "tank-1/level#sigma": 0.5}
    t_ns = plant.clock.wall_ns()
    gateway.send(said, quality=0x102, t_ns=t_ns)
    kept = plant.store.newest_values(record, chosen, kept)
    newest = kept.newest
    rows = [n for n in range(len(newest)) if newest.t_ns[n] != NONE_NS]
    told_now = {newest.names[newest.name[n]]: (newest.value[n], newest.quality[n], newest.t_ns[n]) for n in rows}
    assert told_now == {name: (value, 0x102, t_ns) for name, value in said.items()}
    assert not any(prop.standing.readings.value[0] == 4.0 for prop in kept.standing.properties)
    assert told(gathered(plant.store, kept)) == told(gathered(plant.store))
    assert kept.standing.changed == 3
    assert gathered(plant.store, kept).standing.changed == 0


def test_whole_numbers_truths_and_texts_are_taken_apart_from_floats():
    cells = np.array([[5, 0, 7, Kind.INT], [6, 0, 1, Kind.BOOL], [7, 0, 0, Kind.STRING],
                      [8, 0, np.float64(-0.1).view(np.int64), 0x305 << 8 | 3 << 32 | Kind.FLOAT]])  # fmt: skip
    none = np.zeros(6, np.int32)
    newest = NewestValues.none(["one"], none, none)
    newest.put(np.array([0, 2, 3, 5]), cells)
    assert newest.value.tolist() == [7.0, 0.0, 1.0, 0.0, 0.0, -0.1]
    assert newest.t_ns.tolist() == [5, NONE_NS, 6, 7, NONE_NS, 8]
    assert newest.quality.tolist() == [0, 0, 0, 0, 0, 0x305]
