"""The served log survives kills and restarts, and the check finds every planted loss and duplicate."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.errors import InputError
from twinsim.served import Declared, Served, ServedLog, check, read_served

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND
POINTS = ("level2", "pump", "sample_no", "status")


def record(log, n, device="T-1"):
    log.add("modbus", device, "127.0.0.1:1", n, T0 + n * SECOND, POINTS)


def test_what_is_written_is_read_back(tmp_path):
    log = ServedLog(tmp_path)
    record(log, 1)
    log.add("opcua", "HX-1", "c", None, T0, ["hot_in"])
    log.close()
    assert list(read_served(tmp_path)) == [
        Served("modbus", "T-1", "127.0.0.1:1", 1, T0 + SECOND, POINTS),
        Served("opcua", "HX-1", "c", None, T0, ("hot_in",)),
    ]


def test_a_restart_continues_beyond_every_number_that_may_have_been_given_out(tmp_path):
    log = ServedLog(tmp_path)
    record(log, 41)
    log.close()
    again = ServedLog(tmp_path)
    assert again.last["T-1"] > 41 + 500
    again.close()


def test_half_a_line_left_by_a_kill_is_passed_over_and_cut_at_the_next_start(tmp_path):
    log = ServedLog(tmp_path)
    record(log, 1)
    log.close()
    with log.path.open("a") as file:
        file.write('{"protocol":"mod')
    assert len(list(read_served(tmp_path))) == 1
    again = ServedLog(tmp_path)
    record(again, 2000)
    again.close()
    assert [r.n for r in read_served(tmp_path)] == [1, 2000]


def test_a_damaged_line_in_the_middle_is_refused_with_its_place(tmp_path):
    (tmp_path / "served.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match=r"served\.jsonl:1"):
        list(read_served(tmp_path))


def test_a_full_log_is_turned_over_and_both_parts_are_read(tmp_path):
    log = ServedLog(tmp_path, limit_bytes=1000)
    for n in range(1, 21):
        record(log, n)
        log.flush()
    log.close()
    numbers = [r.n for r in read_served(tmp_path)]
    assert numbers == list(range(numbers[0], 21))
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 2500


# ---- check -----------------------------------------------------------------------------------------------------


def modbus(n, device="T-1", points=POINTS):
    return Served("modbus", device, "c", n, T0 + n * SECOND, points)


def opcua(n, points=("hot_in", "sample_no"), connection="c"):
    return Served("opcua", "HX-1", connection, n, T0 + n * SECOND, points)


def rows(record, *, late_ns=3_000_000):
    """What a faultless agent stores of one record."""
    t_ns = record.t_ns + (late_ns if record.protocol == "modbus" else 0)
    return [(record.device, p, None, t_ns, float(record.n) if p == "sample_no" else 1.5) for p in record.points]


def test_everything_stored_once_gives_a_clean_verdict():
    served = [modbus(n) for n in range(1, 11)] + [opcua(n) for n in range(1, 6)]
    verdict = check(served, [row for r in served for row in rows(r)])
    assert (verdict.samples_acquired, verdict.samples_stored) == (50, 50)
    assert (verdict.lost, verdict.duplicates, verdict.declared_missing, verdict.excusable) == (0, 0, 0, 0)


def test_nothing_served_and_nothing_stored_is_clean():
    assert check([], []).samples_acquired == 0


def test_a_whole_lost_record_counts_each_of_its_points_and_is_named():
    served = [modbus(n) for n in range(1, 11)]
    verdict = check(served, [row for r in served if r.n != 4 for row in rows(r)])
    assert (verdict.lost, verdict.samples_stored) == (4, 36)
    assert {(f.point, f.n) for f in verdict.lost_examples} == {(p, 4) for p in POINTS}


def test_one_lost_point_counts_once():
    served = [modbus(n) for n in range(1, 11)]
    stored = [row for r in served for row in rows(r) if not (r.n == 7 and row[1] == "pump")]
    verdict = check(served, stored)
    assert verdict.lost == 1
    assert (verdict.lost_examples[0].point, verdict.lost_examples[0].n) == ("pump", 7)


def test_a_lost_sample_number_makes_the_whole_record_unprovable():
    served = [modbus(1)]
    assert check(served, [row for row in rows(served[0]) if row[1] != "sample_no"]).lost == 4


def test_a_sample_of_another_device_does_not_stand_in():
    served = [modbus(1), modbus(1, device="T-2")]
    assert check(served, rows(served[0])).lost == 4


def test_an_opcua_sample_is_found_by_its_time_also_without_a_number():
    served = [Served("opcua", "HX-1", "c", None, T0 + 5_400_000, ("hot_in",))]
    assert check(served, [("HX-1", "hot_in", None, T0 + 5_000_000, 1.0)]).lost == 0
    assert check(served, [("HX-1", "hot_in", None, T0 + 7_000_000, 1.0)]).lost == 1


def test_the_same_update_delivered_to_two_clients_counts_once():
    served = [opcua(1), opcua(1, connection="d")]
    verdict = check(served, rows(served[0]))
    assert (verdict.samples_acquired, verdict.lost) == (2, 0)


def test_a_sample_stored_twice_is_a_duplicate():
    served = [modbus(1), modbus(2)]
    stored = [row for r in served for row in rows(r)]
    verdict = check(served, [*stored, stored[1]])
    assert (verdict.duplicates, verdict.lost) == (1, 0)
    assert verdict.duplicate_examples[0].point == "pump"


def test_a_message_stored_again_at_its_second_arrival_is_found_by_its_number():
    served = [modbus(1), modbus(2)]
    stored = [row for r in served for row in rows(r)] + rows(served[0], late_ns=2_500_000_000)
    verdict = check(served, stored)
    assert (verdict.duplicates, verdict.lost) == (4, 0)


def test_declared_intervals_cover_their_device_and_point_only():
    served = [modbus(n) for n in range(1, 11)] + [modbus(n, device="T-2") for n in range(1, 11)]
    interval = Declared(T0 + 3 * SECOND, T0 + 5 * SECOND, device="T-1")
    verdict = check(served, [row for r in served if not 3 <= r.n <= 6 for row in rows(r)], [interval])
    assert (verdict.declared_missing, verdict.lost) == (12, 4 + 16)
    everywhere = check(served, [], [Declared(T0, T0 + 100 * SECOND)])
    assert (everywhere.declared_missing, everywhere.lost) == (80, 0)
    pump = check([modbus(1)], [], [Declared(T0, T0 + 9 * SECOND, point="pump")])
    assert (pump.declared_missing, pump.lost) == (1, 3)


def test_losses_just_before_a_kill_are_counted_apart():
    served = [modbus(n) for n in range(1, 11)]
    stored = [row for r in served if r.n not in {2, 6} for row in rows(r)]
    verdict = check(served, stored, kills_ns=[T0 + 6 * SECOND + 400_000_000], window_ns=SECOND)
    assert (verdict.excusable, verdict.lost) == (4, 4)
    assert {f.n for f in verdict.lost_examples} == {2}


def test_a_bad_sample_number_is_no_number_and_no_crash():
    stored = [("T-1", "sample_no", None, T0, float("nan")), ("T-1", "sample_no", None, T0 + SECOND, float("nan"))]
    assert check([modbus(1)], stored).lost == 4


@given(
    lost=st.sets(st.integers(1, 200), max_size=20),
    doubled=st.sets(st.integers(1, 200), max_size=20),
    declared=st.sets(st.integers(1, 200), max_size=20),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_mix_of_planted_losses_and_duplicates_is_counted_exactly(lost, doubled, declared, seed):
    served = [modbus(n) for n in range(1, 201)]
    stored = [row for r in served if r.n not in lost | declared for row in rows(r)]
    stored += [row for r in served if r.n in doubled - lost - declared for row in rows(r)]
    random.Random(seed).shuffle(stored)
    intervals = [Declared(T0 + n * SECOND, T0 + n * SECOND, device="T-1") for n in declared]
    verdict = check(served, stored, intervals)
    assert verdict.samples_acquired == 800
    assert verdict.lost == 4 * len(lost - declared)
    assert verdict.declared_missing == 4 * len(declared)
    assert verdict.duplicates == 4 * len(doubled - lost - declared)
    assert verdict.samples_stored == 800 - verdict.lost - verdict.declared_missing
