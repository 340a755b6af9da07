"""Decoded blocks held within a bound, and columns of roles over blocks."""

from __future__ import annotations

from twincloud.twins.history import Columns, Decoded, DecodedBlocks, newest_points, select, signal_of
from twinmodel.signal import Batch, Catalogue, Kind, Signal, TwinBinding

ONE = Catalogue((Signal(0, "plc.flow"), Signal(1, "p/flow#estimate"), Signal(2, "plc.mode", Kind.INT)))
TWO = Catalogue((Signal(0, "plc.mode", Kind.INT), Signal(1, "plc.flow", Kind.INT)))


def decoded(first: int, rows, counter: int = 1, schema: int = 1, kind: Kind = Kind.FLOAT) -> Decoded:
    signal, t_ns, value = zip(*rows, strict=True)
    return Decoded((counter, b"", 1, first), schema, (Batch.of(kind, signal, value, [0] * len(rows), t_ns),))


def test_blocks_used_longest_ago_make_room_and_the_bound_holds():
    held = DecodedBlocks(samples_max=4 * 42)
    for n in range(4):
        held.put(n, decoded(n, [(0, 1, 1.0), (0, 2, 2.0)]))
    assert set(held.take([0])) == {0}
    held.put(4, decoded(4, [(0, 1, 1.0), (0, 2, 2.0)]))
    held.put(4, decoded(4, [(0, 1, 1.0), (0, 2, 2.0)]))
    assert set(held.take(range(9))) == {0, 2, 3, 4}
    assert (held.samples, len(held)) == (4 * 42, 4)
    held.put(5, decoded(5, [(0, n, 0.0) for n in range(4 * 42)]))
    assert (held.samples, len(held)) == (0, 0)


def test_equal_times_stand_in_the_order_of_boots_and_numbers():
    blocks = [decoded(5, [(0, 7, 3.0)]), decoded(0, [(0, 7, 4.0)], counter=2), decoded(1, [(0, 7, 2.0), (0, 3, 1.0)])]
    found = select(blocks, {1: ONE}, {"measured": {1: "plc.flow"}, "estimate": {1: "p/flow#estimate"}}, 0, 99)
    assert found["measured"].t_ns.tolist() == [3, 7, 7, 7]
    assert found["measured"].value.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert len(found["estimate"]) == 0


def test_range_is_half_open_and_kinds_may_change_with_the_catalogue():
    blocks = [
        decoded(0, [(0, 1, 1.5), (0, 2, 2.5), (1, 2, 9.0)]),
        decoded(9, [(1, 3, 7), (1, 4, 8)], schema=2, kind=Kind.INT),
    ]
    found = select(blocks, {1: ONE, 2: TWO}, {"measured": {1: "plc.flow", 2: "plc.flow"}}, 2, 4)["measured"]
    assert found.value.tolist() == [2.5, 7]
    assert select(blocks, {1: ONE, 2: TWO}, {"measured": {1: "none"}}, 0, 9)["measured"].t_ns.tolist() == []


def test_newest_points_keep_the_end():
    columns = select([decoded(0, [(0, n, float(n)) for n in range(5)])], {1: ONE}, {"m": {1: "plc.flow"}}, 0, 9)["m"]
    kept, cut = newest_points(columns, 2)
    assert isinstance(kept, Columns)
    assert (kept.t_ns.tolist(), cut) == ([3, 4], True)
    assert newest_points(columns, 5) == (columns, False)


def test_role_names_its_signal():
    binding = TwinBinding("p", "pump", "", {"flow": "plc.flow"}, ("flow",), {})
    assert signal_of(binding, "flow", "measured") == "plc.flow"
    assert signal_of(binding, "flow", "sigma") == "p/flow#sigma"
    assert signal_of(binding, "head", "measured") == ""
