"""Fleets on every implementation: kept, found by filter, gathered."""

from __future__ import annotations

import pytest

from tests.contract.plant import NOW, Edge
from twincloud.filters import parse
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_fleets import FleetSpec
from twincloud.storage.records_twins import ANYTHING, Demand
from twincloud.storage.selection import TWIN_COLUMNS, TWIN_FIELDS
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, MissingError

PUMPS = FleetSpec("all", 'twin ^= "pump" and gateway != null and not tags has "spare" and state in ("active", "draft")')
ONE = FleetSpec(members=(TwinKey("acme", "mill", "pump-1"),))


@pytest.fixture
def edge(store):
    made = Edge()
    made.connect(store)
    return made


def put(store, name, spec, demand=ANYTHING):
    return store.put_fleet("acme", name, spec, by="me", now_ns=NOW, demand=demand)


def test_a_fleet_is_kept_as_it_was_put_and_changed_under_its_condition(store, edge):
    made = put(store, "pumps", PUMPS, Demand(absent=True))
    assert store.fleet("acme", "pumps") == made == put(store, "pumps", PUMPS)
    with pytest.raises(ConflictError, match="PRECONDITION_FAILED"):
        put(store, "pumps", ONE, Demand(revisions=frozenset({made.revision + 1})))
    changed = put(store, "pumps", ONE, Demand(revisions=frozenset({made.revision})))
    assert changed.revision > made.revision
    assert changed.spec == ONE
    assert [f.name for f in store.fleets("acme").items] == ["pumps"]
    store.delete_fleet("acme", "pumps", now_ns=NOW, demand=ANYTHING)
    with pytest.raises(MissingError, match="UNKNOWN_FLEET"):
        store.fleet("acme", "pumps")


def test_members_are_found_and_their_values_gathered(place, store, edge):
    chosen = parse(PUMPS.filter, TWIN_FIELDS)
    assert chosen.exact(TWIN_COLUMNS)
    record = put(store, "pumps", PUMPS)
    first = store.fleet_names(record, chosen, limit=1)
    rest = store.fleet_names(record, chosen, limit=10, token=first.next_token)
    assert [key.twin for key in (*first.items, *rest.items)] == ["pump-0", "pump-1"]
    assert [key.twin for key in store.fleet_names(put(store, "one", ONE), None).items] == ["pump-1"]
    muster = store.fleet_muster(record, chosen, None)
    place.clock.advance(3 * SECOND_NS)
    edge.send(store, [edge.tick(NOW, 8.0)], NOW + 2 * SECOND_NS)
    muster = store.fleet_muster(record, chosen, muster)
    assert muster.standing.changed > 0
    flow = next(p for p in muster.standing.properties if (p.name, p.role) == ("flow", "estimated"))
    flow.standing.settle(0)
    found = flow.standing.read(muster.standing.models)
    assert (found.count, found.mean, found.sigma) == (2, 2.0, 2.0)
    assert store.fleet_muster(record, chosen, None).standing.twins == muster.standing.twins == ("pump-0", "pump-1")


@pytest.mark.parametrize(
    "text", ['site = "mill"', 'site = "mill" and gateway = "gw-1"', 'not tags has "spare"', 'site = "none"']
)
def test_a_fleet_that_joins_whole_tables_has_the_members_a_listing_finds_by_keys(store, edge, text):
    chosen = parse(text, TWIN_FIELDS)
    record = put(store, "some", FleetSpec(filter=text))
    listed = [twin.key for twin in store.twins("acme", chosen=chosen, limit=100).items]
    found = store.fleet_muster(record, chosen, None).standing
    assert list(store.fleet_names(record, chosen, limit=100).items) == listed
    assert list(zip(found.sites, found.twins, strict=True)) == [(key.site, key.twin) for key in listed]
    assert bool(listed) == ("none" not in text)
