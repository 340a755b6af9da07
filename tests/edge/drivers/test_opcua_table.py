"""Changes to samples: columns and rows give the same, clocks are judged, overflows declared."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from asyncua import ua

from tests.edge.drivers.test_opcua_wire import response
from twinedge.drivers.link import DeviceLink
from twinedge.drivers.opcua_clock import MESSAGES_MIN, SourceClock
from twinedge.drivers.opcua_items import Deadband, deadband_of, items_of
from twinedge.drivers.opcua_table import ItemTable
from twinedge.drivers.opcua_values import CLOCK, DOUBTED, EPOCH, OVERFLOW
from twinedge.drivers.opcua_wire import read_publish_response
from twinmodel.errors import ConfigError
from twinmodel.quality import GOOD, QualityReason, bad, uncertain

ARRIVAL = 1_780_000_000 * 10**9
NOW = EPOCH + timedelta(seconds=1_780_000_000)
T = ua.VariantType


@pytest.fixture
def table(assign, clock):
    def build(points, *, root="", **profile):
        shaped = {"namespace": "urn:x", "points": points} | profile
        assignments, _ = assign(("p", {"opcua": "opc.tcp://h:4840", "root": root}, shaped))
        links = [DeviceLink(a, clock) for a in assignments]
        return ItemTable(items_of(links), links)

    return build


def take(table, *values, arrival_ns=ARRIVAL):
    """(signal, value, quality, t_ns) of one message, and what else it gave."""
    taken = table.take(read_publish_response(response(values)), arrival_ns)
    columns = [(b.signal, b.value, b.quality, b.t_ns) for b in taken.batches]
    found = [row for c in columns for row in zip(*(x.tolist() for x in c), strict=True)]
    return found, taken


def stamped(value, kind=T.Double, status=0, source=NOW, server=NOW):
    return ua.DataValue(ua.Variant(value, kind), ua.StatusCode(status), source, server)


FLOATS = {f"v{n}": {"at": f"V{n}", "as": "float64"} for n in range(40)}


def test_columns_carry_value_status_and_time_of_each_signal(table):
    values = [stamped(float(n), status=ua.StatusCodes.UncertainInitialValue if n == 3 else 0) for n in range(40)]
    values[5] = stamped(math.nan)
    values[6] = stamped(math.inf)
    values[7] = stamped(7.0, source=EPOCH, server=NOW)
    values[8] = stamped(8.0, source=NOW + timedelta(hours=1), server=None)
    found, taken = take(table(FLOATS), *values)
    by_signal = {row[0]: row for row in found}
    assert by_signal[4][1:] == (4.0, GOOD, ARRIVAL)
    assert by_signal[3][2] == uncertain(QualityReason.SUBSTITUTED)
    assert by_signal[5][2] == bad(QualityReason.ABSENT)
    assert by_signal[6][2] == bad(QualityReason.DECODE)
    assert math.isnan(by_signal[6][1])
    assert by_signal[7][1:] == (7.0, CLOCK, ARRIVAL)
    assert by_signal[8][1:] == (8.0, CLOCK, ARRIVAL)
    assert taken.counts.tolist() == [40]


def test_missing_source_time_is_the_servers_without_doubt(table):
    server = NOW - timedelta(seconds=2)
    values = [stamped(1.0, source=None, server=server)] * 40
    found, _ = take(table(FLOATS), *values)
    assert {row[2:] for row in found} == {(GOOD, ARRIVAL - 2 * 10**9)}
    alone, _ = take(table({"n": {"at": "N", "as": "string(4)"}}), stamped("x", T.String, source=None, server=server))
    assert alone == [(0, "x", GOOD, ARRIVAL - 2 * 10**9)]


def test_integers_are_scaled_exactly_in_columns_and_rows(table):
    points = {f"v{n}": {"at": f"V{n}", "as": "int32", "scale": 0.1} for n in range(40)}
    many, _ = take(table(points), *[stamped(65496, T.Int32)] * 40)
    single, _ = take(
        table(points | {"v0": {"at": "V0", "as": "int32", "scale": 0.1, "absent": -1}}), stamped(65496, T.Int32)
    )
    assert {row[1] for row in many} == {6549.6}
    assert single[0][1] == 6549.6


@pytest.mark.parametrize(
    ("as_", "value", "kind", "sample", "quality"),
    [
        ("float64", 7, T.Int64, 7.0, GOOD),
        ("int64", 2**63, T.UInt64, 0, bad(QualityReason.DECODE)),
        ("int64", 2.0, T.Double, 2, GOOD),
        ("int64", 2.5, T.Double, 0, bad(QualityReason.DECODE)),
        ("bool", 1, T.Byte, True, GOOD),
        ("bool", 2, T.Byte, False, bad(QualityReason.DECODE)),
        ("string(9)", ua.LocalizedText("an", "de"), T.LocalizedText, "an", GOOD),
        ("string(40)", NOW, T.DateTime, "2026-05-28T20:26:40.000000000Z", GOOD),
        ("int64", NOW, T.DateTime, ARRIVAL, GOOD),
        ("float64", "x", T.String, math.nan, bad(QualityReason.DECODE)),
        ("float64", ua.Range(1.0, 2.0), T.ExtensionObject, math.nan, bad(QualityReason.DECODE)),
        ("float64", [1.0], T.Double, math.nan, bad(QualityReason.DECODE)),
    ],
)
def test_value_of_each_type_fits_its_signal_or_is_bad(table, as_, value, kind, sample, quality):
    ((_, found, code, _),), _ = take(table({"v": {"at": "V", "as": as_}}), stamped(value, kind))
    assert code == quality
    assert found == sample or (math.isnan(found) and math.isnan(sample))


def test_elements_of_one_array_share_an_item_and_a_missing_one_is_absent(table):
    made = table({f"l{n}": {"at": f"Levels[{n}]", "as": "float64"} for n in (0, 2, 9)})
    assert len(made.items) == 1
    found, _ = take(made, stamped([1.0, 2.0, 3.0]))
    assert [(row[1], row[2]) for row in found[:2]] == [(1.0, GOOD), (3.0, GOOD)]
    assert found[2][2] == bad(QualityReason.ABSENT)


def test_enumeration_as_text_is_its_label(table):
    made = table({"state": {"at": "State", "as": "string(9)"}})
    made.labels = {0: {2: "running"}}
    found, _ = take(made, stamped(2, T.Int32))
    assert found[0][1:3] == ("running", GOOD)


def test_bad_status_without_value_keeps_its_own_reason(table):
    found, _ = take(table(FLOATS), ua.DataValue(None, ua.StatusCode(ua.StatusCodes.BadNoCommunication), NOW, NOW))
    assert math.isnan(found[0][1])
    assert found[0][2] == bad(QualityReason.NOT_CONNECTED)


def test_overflow_doubts_values_and_declares_one_hole_for_the_device(table):
    made = table(FLOATS)
    take(made, *[stamped(1.0)] * 40)
    later = NOW + timedelta(seconds=5)
    values = [stamped(2.0, status=OVERFLOW, source=later)] * 40
    found, taken = take(made, *values, arrival_ns=ARRIVAL + 5 * 10**9)
    assert {row[2] for row in found} == {DOUBTED}
    (hole,) = taken.holes
    assert (hole.device, hole.reason, hole.from_ns, hole.to_ns) == ("p", "QUEUE_OVERFLOW", ARRIVAL, ARRIVAL + 5 * 10**9)
    assert len(taken.faults) <= 4


def test_unknown_handles_are_left_out(table):
    made = table({"v": {"at": "V", "as": "float64"}})
    found, _ = take(made, *[stamped(float(n)) for n in range(30)])
    assert [row[1] for row in found] == [0.0]


def test_refused_point_gives_no_sample(table):
    made = table(FLOATS)
    made.refuse(frozenset({3}))
    found, _ = take(made, *[stamped(1.0)] * 40)
    assert {row[0] for row in found} == set(range(40)) - {3}


def test_unchanged_value_is_said_again_after_a_loss(table):
    made = table(FLOATS)
    take(made, *[stamped(1.0)] * 40)
    made.confirm(ARRIVAL + 10)
    found, _ = take(made, *[stamped(1.0)] * 40, arrival_ns=ARRIVAL + 10**9)
    assert {row[1:] for row in found} == {(1.0, GOOD, ARRIVAL + 10**9)}
    again, _ = take(made, *[stamped(2.0, source=NOW + timedelta(seconds=2))] * 40, arrival_ns=ARRIVAL + 2 * 10**9)
    assert len(again) == 40


def test_change_dated_before_a_value_that_was_said_again_is_the_newest_word_once(table):
    made = table(FLOATS)
    take(made, *[stamped(1.0)] * 40)
    made.confirm(ARRIVAL + 10)
    take(made, *[stamped(1.0)] * 40, arrival_ns=ARRIVAL + 2 * 10**9)
    early = NOW + timedelta(seconds=1)
    late, _ = take(made, *[stamped(2.0, source=early)] * 40, arrival_ns=ARRIVAL + 3 * 10**9)
    assert {row[1:] for row in late} == {(2.0, GOOD, ARRIVAL + 10**9), (2.0, GOOD, ARRIVAL + 3 * 10**9)}
    # A clock that is always behind doubles no more than that.
    next_, _ = take(made, *[stamped(3.0, source=early + timedelta(seconds=1))] * 40, arrival_ns=ARRIVAL + 4 * 10**9)
    assert {row[1:] for row in next_} == {(3.0, GOOD, ARRIVAL + 2 * 10**9)}


def test_value_that_was_read_again_is_given_only_when_it_has_not_changed(table):
    made = table(FLOATS)
    take(made, *[stamped(1.0)] * 40)
    made.confirm(ARRIVAL + 10)
    changed = [stamped(2.0, source=NOW + timedelta(seconds=1))] * 20  # these come by the subscription, too
    message = read_publish_response(response([stamped(1.0)] * 20 + changed))
    taken = made.take(message, ARRIVAL + 2 * 10**9, restated=True)
    assert taken.counts.tolist() == [20]
    assert set(taken.batches[0].t_ns.tolist()) == {ARRIVAL + 2 * 10**9}


def test_source_clock_that_is_slow_is_found_out_and_its_stamps_are_not_used(table):
    made = table(FLOATS)
    slow = timedelta(hours=1)
    for n in range(MESSAGES_MIN + 1):
        at = NOW + timedelta(seconds=n)
        found, _ = take(made, *[stamped(float(n), source=at - slow, server=at)] * 40, arrival_ns=ARRIVAL + n * 10**9)
    assert {row[2:] for row in found} == {(CLOCK, ARRIVAL + MESSAGES_MIN * 10**9)}
    assert made.clocks[0].skew_ns == -3600 * 10**9


def test_one_fresh_stamp_among_old_ones_keeps_a_clock_trusted():
    clock = SourceClock()
    for n in range(MESSAGES_MIN):
        clock.note(ARRIVAL - 10**13, ARRIVAL + n)
    assert not clock.trusted
    clock.note(ARRIVAL, ARRIVAL + 10**9)
    assert clock.trusted
    assert clock.skew_ns == -(10**9)


def test_clock_that_runs_ahead_within_the_limit_is_measured_and_used():
    clock = SourceClock()
    for n in range(MESSAGES_MIN):
        clock.note(ARRIVAL + 5 * 10**9 + n, ARRIVAL + n)
    assert clock.skew_ns == 5 * 10**9
    assert clock.sane(ARRIVAL + 5 * 10**9, ARRIVAL)
    assert not clock.sane(ARRIVAL + 61 * 10**9, ARRIVAL)
    assert clock.sane_column(np.array([0, ARRIVAL]), ARRIVAL).tolist() == [False, True]


def test_deadband_is_absolute_percent_of_range_or_of_the_servers_range(assign):
    points = {
        "a": {"at": "A", "report": {"deadband": 0.5}, "scale": 0.1},
        "b": {"at": "B", "report": {"deadband": "2%"}, "range": [0, 50]},
        "c": {"at": "C", "report": {"deadband": "2%"}},
        "d": {"at": "D", "as": "string(4)", "report": {"deadband": "2%"}},
    }
    (assignment,), _ = assign(("p", {"opcua": "opc.tcp://h:1"}, {"namespace": "urn:x", "points": points}))
    found = [deadband_of(assignment.profile, p) for p in assignment.profile.points.values()]
    assert found == [Deadband(5.0), Deadband(1.0), Deadband(2.0, percent=True), None]


def test_root_that_is_no_address_is_refused_at_the_start(table):
    with pytest.raises(ConfigError, match="device p: root"):
        table(FLOATS, root="ns=2;s=Press")
