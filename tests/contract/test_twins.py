"""Newest values, history, audits and listings as people read them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.plant import KEY, NOW, TWIN, Edge, catalogue, invite, stored
from twincloud.storage.contract import GatewayKey, Origin, TwinKey
from twincloud.twins.history import ROLES
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError
from twinmodel.signal import Stream

S = SECOND_NS


@pytest.fixture
def edge(store):
    made = Edge()
    made.connect(store)
    return made


def prop(store, name: str, key: TwinKey = TWIN):
    return next(p for p in store.twin(key).properties if p.name == name)


def test_unknown_twin_is_told_with_the_nearest_name(store, edge):
    with pytest.raises(MissingError, match=r"UNKNOWN_TWIN.*did you mean 'pump-0'"):
        store.twin(TwinKey("acme", "mill", "pump-00"))


def test_value_carries_its_whole_envelope(place, store, edge):
    place.clock.advance(3 * S)
    edge.send(store, [edge.tick(NOW, 8.0)], NOW + 2 * S)
    value = prop(store, "flow").estimated
    assert (value.value, value.sigma, value.unit, value.origin) == (2.0, 2.0, "m3/h", Origin.ESTIMATED)
    assert (value.t_event_ns, value.t_received_ns, value.t_committed_ns) == (NOW, NOW + 2 * S, NOW + 3 * S)
    assert value.block == f"{edge.boots[0].id.hex()}/{int(Stream.STATE)}/0"
    reported = prop(store, "flow").reported
    assert (reported.value, reported.sigma, reported.model) == (8.0, None, "")
    assert [p.name for p in store.twin(TWIN).properties] == ["flow", "speed", "head"]
    assert prop(store, "head").reported is None
    assert prop(store, "head").unit == "m"


def test_prediction_says_when_it_was_issued_and_for_when(store, edge):
    edge.send(store, [edge.tick(NOW)])
    predicted = prop(store, "flow").predicted
    assert (predicted.t_event_ns, predicted.target_ns, predicted.origin) == (NOW - S, NOW, Origin.PREDICTED)


def test_estimate_without_a_sigma_of_its_tick_is_not_shown(store, edge):
    edge.send(store, [edge.samples({"pump-0/flow#estimate": [(NOW, 4.0)]})])
    assert prop(store, "flow").estimated is None
    edge.send(store, [edge.samples({"pump-0/flow#sigma": [(NOW, 0.5)]})])
    assert (prop(store, "flow").estimated.value, prop(store, "flow").estimated.sigma) == (4.0, 0.5)
    edge.send(store, [edge.samples({"pump-0/flow#estimate": [(NOW + S, 5.0)]})])
    assert prop(store, "flow").estimated.value == 4.0


@pytest.mark.parametrize(("score", "drifting"), [(0.99, False), (1.0, True), (1.7, True)])
def test_twin_drifts_when_a_score_reaches_its_limit(store, edge, score, drifting):
    edge.send(store, [edge.samples({"pump-0/head#drift": [(NOW, score)]})])
    assert store.twin(TWIN).drifting is drifting
    assert prop(store, "head").drift == score


def test_late_sample_is_stored_but_does_not_become_newest(store, edge):
    edge.send(store, [edge.tick(NOW + 9 * S, 2.0)], NOW + 9 * S)
    revision = store.twin(TWIN).revision
    done = edge.send(store, [edge.samples({"plc0.flow": [(NOW, 1.0)]})], NOW + 9 * S)
    assert done.twins == ()
    assert (prop(store, "flow").reported.value, store.twin(TWIN).revision) == (2.0, revision)
    assert len(stored(store)) == 25


def test_sample_from_the_future_is_stored_but_never_becomes_newest(store, edge):
    edge.send(store, [edge.tick(NOW, 1.0)])
    edge.send(store, [edge.tick(NOW + 5 * S + 1_000_000, 9.0)])
    assert prop(store, "flow").reported.value == 1.0
    edge.send(store, [edge.tick(NOW + 5 * S, 3.0)])
    assert prop(store, "flow").reported.value == 3.0


def test_not_a_number_is_told_as_no_value_with_its_quality(store, edge):
    edge.send(store, [edge.samples({"plc0.flow": [(NOW, float("nan"))]}, quality=0x207)])
    assert (prop(store, "flow").reported.value, prop(store, "flow").reported.quality) == (None, 0x207)


def test_rejected_blocks_change_no_twin(store, edge):
    assert edge.send(store, [edge.poison()]).twins == ()
    assert prop(store, "flow").reported is None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_state_is_the_same_for_any_interleaving_of_boots_and_streams(place, data):
    """Each (boot, stream) keeps its order, as a gateway does; everything else may come in any order, twice."""
    store = place.stores[0] if place.stores else place.open()
    hashes = set()
    for _ in range(2):
        key = GatewayKey("acme", f"site{store.last_event()}", f"gw-{store.last_event()}")
        invite(store, key)
        edge = Edge(3)
        lanes: list[list] = []
        for n in range(2):
            if n:
                edge.boot()
            for stream in (Stream.ALARM, Stream.STATE):
                times = [NOW + k * S for k in (0, 3, 3, 1 + n)]
                lanes.append([edge.tick(t, float(n + len(lanes) + k), 1, stream=stream) for k, t in enumerate(times)])
        edge.connect(store, key)
        order = data.draw(st.permutations([n for n, lane in enumerate(lanes) for _ in lane]))
        place_of = [0] * len(lanes)
        for n in order:
            arrival = lanes[n][place_of[n]]
            edge.send(store, [arrival] * data.draw(st.integers(1, 2)), NOW + 4 * S, key)
            place_of[n] += 1
        hashes.add(store.state_hash(TwinKey("acme", key.site, "pump-0")))
    assert len(hashes) == 1


def test_history_gives_every_role_ascending_whatever_order_it_came_in(store, edge):
    seconds = [5, 1, 3, 2, 4, 0]
    for second in seconds:
        edge.send(store, [edge.tick(NOW + second * S, float(second))])
    found = store.history(TWIN, "flow", ROLES, NOW + S, NOW + 5 * S, 100)
    assert set(found) == set(ROLES)
    for role, series in found.items():
        assert series.t_ns.tolist() == [NOW + n * S for n in (1, 2, 3, 4)]
        assert series.value.tolist() == [n if role == "measured" else n / 4 for n in (1.0, 2.0, 3.0, 4.0)]
        assert not series.truncated
        assert series.quality.dtype == np.uint16


def test_history_beyond_the_points_keeps_the_newest_and_says_so(store, edge):
    edge.send(store, [edge.tick(NOW + n * S, float(n)) for n in range(10)])
    series = store.history(TWIN, "flow", ["measured"], 0, NOW + 99 * S, 3)["measured"]
    assert (series.value.tolist(), series.truncated) == ([7.0, 8.0, 9.0], True)


def test_history_reads_in_steps_and_stays_exact_where_blocks_overlap(place, monkeypatch):
    monkeypatch.setattr("twincloud.storage.timeline.STEP_BLOCKS", 4)
    store = place.open()
    invite(store)
    edge = Edge()
    edge.connect(store)
    for n in range(20):
        edge.send(store, [edge.samples({"plc0.flow": [(NOW + n * S, float(n)), (NOW + (n + 90) * S, n + 90.0)]})])
    edge.send(store, [edge.samples({"plc0.flow": [(NOW - 3_600 * S, -1.0), (NOW + 200 * S, 200.0)]})])
    for points in (1, 5, 21, 30, 42, 50):
        series = store.history(TWIN, "flow", ["measured", "estimate"], NOW - 4_000 * S, NOW + 999 * S, points)[
            "measured"
        ]
        every = [-1.0, *map(float, range(20)), *(n + 90.0 for n in range(20)), 200.0]
        assert series.value.tolist() == every[-points:]
    assert len(store.history(TWIN, "flow", ["measured"], NOW, NOW + S, 9)["measured"].t_ns) == 1


def test_history_is_the_same_after_the_store_was_opened_again(place, store, edge):
    edge.send(store, [edge.tick(NOW + n * S, float(n)) for n in range(5)])
    before = store.history(TWIN, "head", ["estimate"], NOW, NOW + 9 * S, 99)["estimate"]
    store.close()
    again = place.open().history(TWIN, "head", ["estimate"], NOW, NOW + 9 * S, 99)["estimate"]
    assert again.value.tolist() == before.value.tolist()
    assert again.t_ns.tolist() == before.t_ns.tolist()


def test_history_follows_a_property_through_a_change_of_its_signal(store, edge):
    edge.send(store, [edge.tick(NOW, 1.0)])
    edge.catalogue = catalogue(2, extra="new")
    store.put_catalogue(KEY, edge.session, edge.catalogue, NOW)
    edge.send(store, [edge.tick(NOW + S, 2.0)])
    series = store.history(TWIN, "flow", ["measured"], NOW, NOW + 9 * S, 99)["measured"]
    assert series.value.tolist() == [1.0, 2.0]
    assert prop(store, "flow").reported.value == 2.0


def test_history_of_what_does_not_exist_is_refused(store, edge):
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.history(TWIN, "colour", ["measured"], 0, NOW, 10)
    with pytest.raises(InputError, match="REQUEST_INVALID"):
        store.history(TWIN, "flow", ["guess"], 0, NOW, 10)
    with pytest.raises(InputError, match="REQUEST_INVALID"):
        store.history(TWIN, "flow", ["measured"], 0, NOW, 0)
    assert len(store.history(TWIN, "flow", ["measured"], 0, NOW, 10)["measured"].t_ns) == 0


def test_samples_come_in_pages_of_whole_blocks_and_all_of_them_once(store, edge):
    for n in range(5):
        edge.send(store, [edge.tick(NOW + n * S)])
    page = store.samples(KEY, limit=30)
    assert sum(len(batch) for _, batch in page.items) == 48
    rest = store.samples(KEY, after=int(page.next_token), limit=10**6)
    assert sum(len(batch) for _, batch in rest.items) == 72
    assert rest.next_token == ""
    with pytest.raises(MissingError, match="UNKNOWN_GATEWAY"):
        store.samples(GatewayKey("other", "mill", "gw-1"))


def test_listings_page_in_order_and_stay_within_tenant_and_site(store):
    for site, name in (("mill", "gw-2"), ("dock", "gw-3")):
        key = GatewayKey("acme", site, name)
        invite(store, key)
        Edge(int(name[-1]), catalogue(3, prefix=f"fan{name[-1]}")).connect(store, key)
    found, token = [], ""
    while True:
        page = store.twins("acme", limit=2, token=token)
        found += [(t.key.site, t.key.twin) for t in page.items]
        token = page.next_token
        if not token:
            break
    assert found == sorted(found)
    assert len(found) == len(set(found)) == 6
    assert [t.key.twin for t in store.twins("acme", site="dock").items] == ["fan3-0", "fan3-1", "fan3-2"]
    assert [g.key.gateway for g in store.gateways("acme", limit=2).items] == ["gw-3", "gw-1"]
    assert [g.key.gateway for g in store.gateways("acme", token=store.gateways("acme", limit=2).next_token).items] == [
        "gw-2"
    ]
    assert store.twins("other").items == ()
    for token in ("?", "bm9w", "W10", "WzFd"):
        with pytest.raises(InputError, match="REQUEST_INVALID"):
            store.twins("acme", token=token)


def test_a_store_keeps_as_many_samples_decoded_as_it_is_told_and_tells_the_same_history(place):
    small = place.open(decoded_samples=100)
    invite(small)
    edge = Edge()
    edge.connect(small)
    for n in range(9):
        edge.send(small, [edge.tick(NOW + n * S)])
    assert 0 < small.status().facts["decoded_samples"] <= 100
    assert len(stored(small)) == 9 * 24
