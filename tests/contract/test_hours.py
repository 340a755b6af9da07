"""Compacted history: the same answers before and after, for any order, duplication and delay of blocks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.contract.conftest import _PARAMS, IMPLEMENTATIONS
from tests.contract.plant import KEY, NOW, TWIN, Edge, invite
from twincloud.storage import merging
from twincloud.storage import schema_hours as h
from twincloud.storage.contract import Arrival, GatewayKey, TwinKey
from twincloud.storage.tiers import Wanted
from twincloud.twins.buckets import WIDTHS_NS, minutes_of, widened
from twincloud.twins.history import Columns
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, MissingError, StorageError
from twinmodel.signal import Batch, Kind, Stream

S = SECOND_NS
HOUR = 3_600 * S
START = NOW // HOUR * HOUR
ODD_NAN = np.array([0x7FF8_0000_0000_BEEF], np.uint64).view(np.float64)[0]


PLANTS = (KEY, GatewayKey("acme", "mill-2", "gw-1"), GatewayKey("umbra", "mill", "gw-1"))


def ready(store, seed: int = 0, key: GatewayKey = KEY) -> Edge:
    """A gateway that speaks; of a store that knows it already or not."""
    edge = Edge(seed)
    try:
        store.gateway(key)
    except MissingError:
        invite(store, key)
    edge.connect(store, key)
    return edge


def odd_blocks(edge: Edge) -> list[Arrival]:
    """Blocks over three hours with equal times, odd bits, all kinds, and times that go back."""
    ids = {name: edge.catalogue.by_name[name].id for name in ("plc0.flow", "line.state", "line.count", "line.running")}
    made = []
    for n in range(9):
        t_ns = [START + n * 1_300 * S + k * 700_000_001 for k in (0, 3, 1, 1, 2)]
        flow = [1.5, ODD_NAN, -0.0, float(n), 1e300]
        texts = ["off", "\ud800", "", "on", "on"]
        made.append(edge.block([
            Batch.of(Kind.FLOAT, [ids["plc0.flow"]] * 5, flow, [0, 3, 0, 9, 0], t_ns),
            Batch.of(Kind.INT, [ids["line.count"]] * 5, [-(2**63), 2**63 - 1, 0, n, 1], [0] * 5, t_ns),
            Batch.of(Kind.BOOL, [ids["line.running"]] * 5, [True, False, True, True, False], [0] * 5, t_ns),
            Batch.of(Kind.STRING, [ids["line.state"]] * 5, texts, [0] * 5, t_ns),
        ], stream=Stream.STATE))  # fmt: skip
    return made


def wanted(store, known: int | None = None, twin: TwinKey = TWIN) -> Wanted:
    names = frozenset(("plc0.flow", "plc0.speed", "line.state", "line.count", "line.running", "pump-0/flow#estimate"))
    span = Wanted(twin.tenant, store.owners(twin), names, START - HOUR, START + 99 * HOUR)
    return span if known is None else Wanted(twin.tenant, span.gateways, names, span.from_ns, span.to_ns, known)


def bits(column: np.ndarray) -> list:
    return column.view(np.int64).tolist() if column.dtype == np.float64 else column.tolist()


def told(store, *, arrival: bool = True, known: int | None = None, twin: TwinKey = TWIN) -> list:
    """All that history says, bit by bit; with `arrival` also what depends on the moment of it."""
    found = []
    for name, runs in store.runs(wanted(store, known, twin)).items():
        for run in runs:
            origins = [run.origins[n] for n in run.origin.tolist()]
            found.append((
                name, run.gateway, int(run.kind), run.unit, run.t_ns.tolist(), bits(run.value), run.quality.tolist(),
                run.seq.tolist(), [o if arrival else o[:4] for o in origins],
                run.commit_no.tolist() if arrival else None,
            ))  # fmt: skip
    return found


def counted(store, key: GatewayKey = KEY) -> list:
    """Every stored sample in the order of commits, page by page."""
    found, after = [], 0
    while True:
        page = store.samples(key, after=after, limit=7)
        for name, batch in page.items:
            found.append((name, bits(batch.value), batch.t_ns.tolist(), batch.quality.tolist(), batch.signal.tolist()))
        if not page.next_token:
            return found
        after = int(page.next_token)


LATER = START + 9 * HOUR


def compact_all(store, now_ns: int = LATER, **options) -> int:
    moved = 0
    while step := store.compact(now_ns, **options):
        moved += step
    return moved


def merge_all(store, now_ns: int = LATER) -> int:
    merged = 0
    while step := store.merge(now_ns):
        merged += step
    return merged


def rows_of(store) -> Counter:
    """Rows of each point and hour."""
    with store._database.read() as connection:
        keys = select(h.points.c.gateway_id, h.points.c.signal, h.hours.c.hour_ns)
        return Counter(map(tuple, connection.execute(keys.join(h.hours, h.hours.c.point_id == h.points.c.id))))


@pytest.mark.parametrize("samples_max", [1, 2_000_000])
def test_compacted_hours_tell_what_the_blocks_told(place, samples_max):
    store = place.open()
    edge = ready(store)
    edge.send(store, [*odd_blocks(edge), edge.tick(START + 5 * S), edge.tick(START + 2 * HOUR)])
    before = told(store), counted(store), store.state_hash(TWIN), store.twin(TWIN)
    assert compact_all(store, samples_max=samples_max) == 11
    assert (told(store), counted(store), store.state_hash(TWIN), store.twin(TWIN)) == before
    store.close()
    again = place.open()
    rows = rows_of(again).total()
    assert (merge_all(again) > 0) == (samples_max == 1)
    assert max(rows_of(again).values()) == 1
    assert rows_of(again).total() <= rows
    assert (told(again), counted(again), again.state_hash(TWIN), again.twin(TWIN)) == before
    assert compact_all(again) == merge_all(again) == 0


def test_blocks_become_parts_minutes_after_their_commit_and_one_once_their_hour_is_over(place):
    store = place.open()
    edge = ready(store)
    made = 0
    for n in range(4):
        edge.send(store, [edge.tick(START + n * 300 * S, float(n)), edge.tick(START + n * 300 * S + S)])
        assert store.compact(place.clock.wall_ns() + 299 * S) == 0
        place.clock.advance(300 * S)
        moved = store.compact(place.clock.wall_ns() + S)
        assert moved == (0, 0, 6, 0)[n]  # those committed 5 min ago, once one was committed 15 min ago
        made += moved
    before = told(store), counted(store)
    assert made + compact_all(store, place.clock.wall_ns() + HOUR) == 8
    assert set(rows_of(store).values()) == {2}
    assert store.merge(START + HOUR + 1_499 * S) == store.bucket(START + HOUR + 1_499 * S) == 0
    assert store.merge(START + HOUR + 1_500 * S) == 2 * len(rows_of(store))
    assert set(rows_of(store).values()) == {1}
    assert (told(store), counted(store)) == before


def test_late_data_join_an_hour_that_is_compacted(store):
    edge = ready(store)
    edge.send(store, odd_blocks(edge))
    compact_all(store)
    known = max(no for run in told(store) for no in run[9])
    before = told(store)
    edge.send(store, [edge.tick(START + 5 * S, 7.0), *odd_blocks(edge)[::3]])
    with_late = told(store), counted(store)
    assert with_late[0] != before
    for change in (compact_all, merge_all):
        assert change(store)
        assert (told(store), counted(store)) == with_late
        assert told(store, known=known) == before
    assert max(rows_of(store).values()) == 1


def test_merge_of_rows_that_another_changed_meanwhile_changes_nothing(store, monkeypatch):
    edge = ready(store)
    edge.send(store, odd_blocks(edge))
    compact_all(store, samples_max=1)
    before = told(store), counted(store)
    real = merging.merged_of

    def meanwhile(*args):
        monkeypatch.setattr(merging, "merged_of", real)
        assert store.merge(LATER)  # another coordinator
        return real(*args)

    monkeypatch.setattr(merging, "merged_of", meanwhile)
    with pytest.raises(ConflictError, match="STATE_LOCKED"):
        store.merge(LATER)
    merge_all(store)
    assert (told(store), counted(store)) == before


def test_disk_that_fills_up_in_the_middle_loses_nothing(store, monkeypatch):
    edge = ready(store)
    edge.send(store, odd_blocks(edge))
    before = told(store), counted(store)
    monkeypatch.setattr("twincloud.storage.compaction.forget_buckets", full)
    with pytest.raises(StorageError):
        store.compact(LATER)
    assert (told(store), counted(store)) == before
    monkeypatch.undo()
    assert compact_all(store) == 9
    assert (told(store), counted(store)) == before


def full(*_):
    raise StorageError("STORE_FULL", "no space left")


class Implementation(NamedTuple):
    """Places of one kind."""

    name: str
    make: Callable[[Path], Any]


@pytest.fixture(params=_PARAMS)
def implementation(request, templates):
    """Makes places of one implementation in a folder."""
    cluster = request.getfixturevalue("postgres_cluster") if request.param == "postgresql" else None
    made = IMPLEMENTATIONS[request.param]
    return Implementation(request.param, lambda folder: made(folder, templates / request.param, cluster))


SHUFFLES = st.tuples(st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=4), st.integers(8, 30))
EXPECTED: dict[object, object] = {}
"""What each implementation says of the blocks in their plain order."""


@given(shuffle=SHUFFLES)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_and_any_moments_of_compaction_give_the_same_history(implementation, tmp_path_factory, shuffle):
    seed, moments, batch = shuffle
    rng = random.Random(seed)
    for mixed in (False, True) if implementation.name not in EXPECTED else (True,):
        place = implementation.make(tmp_path_factory.mktemp("shuffled"))
        try:
            store = place.open()
            edges = {key: ready(store, seed, key) for seed, key in enumerate(PLANTS)}
            lanes = [[(key, one) for one in lane] for key, edge in edges.items() for lane in lanes_of(edge)]
            for key, edge in edges.items():
                edge.connect(store, key)
            order = mix(lanes, rng) if mixed else [one for lane in lanes for one in lane]
            for n in range(0, len(order), batch if mixed else len(order)):
                some = order[n : n + batch] if mixed else order
                for key, edge in edges.items():
                    mine = [one for of, one in some if of == key]
                    edge.send(store, mine, key=key)
                    if mixed and rng.random() < 0.3:
                        edge.send(store, mine, key=key)  # a commit whose answer was lost
                if mixed and any(n <= m < n + batch for m in moments):
                    store.compact(LATER, samples_max=rng.choice([1, 60, 10**6]))
                    store.merge(LATER)
            found = everything(store)
            expected = EXPECTED.setdefault(implementation.name, found)
            assert found == expected
            for change in (compact_all, merge_all):
                change(store)
                assert everything(store) == expected
        finally:
            place.close()


def everything(store) -> list:
    """What is the same for any order: history and state of the twins of all plants, and their samples."""
    return [
        (told(store, twin=twin, arrival=False), store.state_hash(twin), sorted(map(repr, counted(store, key))))
        for key in PLANTS
        for twin in [TwinKey(key.tenant, key.site, TWIN.twin)]
    ]


def lanes_of(edge: Edge) -> list[list[Arrival]]:
    """Blocks of two boots and two streams; only the order inside a lane is fixed."""
    lanes = []
    for boot in (edge.boots[0], edge.boot()):
        for stream in (Stream.STATE, Stream.TELEMETRY):
            times = [START + n * 1_400 * S for n in range(5)]
            lanes.append([
                edge.samples(
                    {"plc0.flow": [(t, n), (t + 2 * S, -n), (t, n + 0.5)], "pump-0/flow#estimate": [(t, n)]},
                    stream=stream, boot=boot,
                )
                for n, t in enumerate(times)
            ])  # fmt: skip
    return lanes


def mix(lanes: list[list[Arrival]], rng: random.Random) -> list[Arrival]:
    left = [list(lane) for lane in lanes]
    order = []
    while any(left):
        lane = rng.choice([lane for lane in left if lane])
        order.append(lane.pop(0))
    return order


def test_what_was_known_at_a_time_stays_the_same_for_ever(place):
    store = place.open()
    edge = ready(store)
    with pytest.raises(InputError, match="KNOWN_AT_OPEN"):
        store.known_at(place.clock.wall_ns(), place.clock.wall_ns())
    assert store.known_at(NOW - S, NOW) == 0
    seen = []
    for n in range(6):
        place.clock.advance(10 * S)
        if n == 3:
            place.clock.jump_wall(-25 * S)
        edge.send(store, [edge.tick(START + n * 400 * S, float(n)), *odd_blocks(edge)[n::3]])
        place.clock.advance(S)
        if n not in (3, 4):  # the clock has stepped back behind times that are sealed
            at_ns = place.clock.wall_ns() - 1
            known = store.known_at(at_ns, place.clock.wall_ns())
            seen.append((at_ns, known, told(store, known=known), store.twin_as_of(TWIN, START + 9 * HOUR, known)))
    assert [known for _, known, _, _ in seen] == sorted({known for _, known, _, _ in seen})
    place.clock.advance(9 * HOUR)
    for change in (
        lambda: compact_all(store, samples_max=1),
        lambda: merge_all(store),
        lambda: store.pack_commits(place.clock.wall_ns()),
        lambda: None,
    ):
        change()
        for at_ns, known, answer, twin in seen:
            assert store.known_at(at_ns, place.clock.wall_ns()) == known
            assert told(store, known=known) == answer
            assert values(store.twin_as_of(TWIN, START + 9 * HOUR, known)) == values(twin)


def values(twin) -> list:
    return [(p.name, p.reported, p.estimated, p.predicted, p.innovation, p.drift) for p in twin.properties]


def test_twin_as_it_was_has_the_values_of_then_and_is_the_newest_one_now(store):
    edge = ready(store)
    for n in range(4):
        edge.send(store, [edge.tick(START + n * 400 * S, float(n))], received_ns=START + n * 400 * S)
    for _ in range(2):
        at = store.twin_as_of(TWIN, START + 900 * S)
        assert at.properties[0].reported.value == 2.0
        assert at.properties[0].estimated.t_event_ns == START + 800 * S
        assert values(store.twin_as_of(TWIN, START + HOUR)) == values(store.twin(TWIN))
        assert store.twin_as_of(TWIN, START - 1).properties[0].reported is None
        compact_all(store)


def plain(buckets) -> list:
    return [bits(getattr(buckets, name)) for name in buckets.__slots__]


def test_stored_minutes_are_those_of_the_samples_also_after_late_data(store):
    edge = ready(store)
    rng = random.Random(3)
    edge.send(store, [
        edge.samples({"plc0.flow": [(START + n * 17 * S + k * S, rng.uniform(-9, 9)) for k in range(17)]},
                     quality=rng.choice([0, 0, 0x8001]))
        for n in range(500)
    ])  # fmt: skip
    wide = (TWIN, "flow", ["measured"], START + 5 * S, START + 3 * HOUR)
    for late in (False, True):
        if late:
            edge.send(store, [edge.tick(START + 30 * S, 99.0), edge.tick(START + 2 * HOUR, float("nan"))])
        series = store.history(TWIN, "flow", ["measured"], START, START + 3 * HOUR, 99_999)["measured"]
        expected = minutes_of(Columns(series.t_ns, series.value, series.quality))
        for _ in range(2):
            assert plain(store.buckets(*wide, "1m")["measured"]) == plain(expected)
            for text, width_ns in WIDTHS_NS.items():
                assert plain(store.buckets(*wide, text)["measured"]) == plain(widened(expected, width_ns))
            compact_all(store)
            while store.merge(LATER) or store.bucket(LATER):
                pass
    with pytest.raises(InputError, match="REQUEST_INVALID"):
        store.buckets(*wide, "7m")
