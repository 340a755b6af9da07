"""Images made from profiles: what the agent's decoder reads of them is what they hold, and nothing else exists."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinedge.drivers.modbus_decode import Extractor
from twinedge.drivers.modbus_fields import Scales, fields_of
from twinmodel.errors import ConfigError, InputError, MissingError
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Signal
from twinsim.image.cells import TABLES, RefusedError, pack_bits, unpack_bits
from twinsim.image.codec import Codec
from twinsim.image.device import ProfileDevice
from twinsim.image.source import Source, find_source, settings_of, split_settings, updated

FOLDER = Path(__file__).resolve().parents[2] / "firmware-profiles"
FILES = sorted(FOLDER.glob("*/*/*.yaml"))
SOURCES = {f"{s.profile.name}/{f.stem}": s for f in FILES for s in [find_source(str(f))]}
MODBUS = {name: s for name, s in SOURCES.items() if s.profile.protocol == "modbus"}
ABSENT = bad(QualityReason.ABSENT)
T0_NS = 1_700_000_000_000_000_000


def made(points, **keys):
    profile = FirmwareProfile.model_validate(
        {"profile": "test/device", "protocol": "modbus", "base": 0, "points": points} | keys
    )
    return Source(profile, Path("test/device/1.yaml"))


def device(source, seed=1, **texts):
    found = ProfileDevice("d-1", 1, source, seed, texts)
    found.tick(1.0, T0_NS)
    return found


def decoded(found):
    """Point -> (value, quality) as the agent reads them from the registers of a device."""
    profile, image = found.source.profile, found.registers
    signals = {n: Signal(i, f"d.{n}", kind_of(p)) for i, (n, p) in enumerate(profile.points.items())}
    names = list(profile.points)
    fields = fields_of(profile, signals)
    sources = {p for f in fields.values() if f.scale is not None for p in f.scale.points}
    scales, rows, replies = Scales(), {}, []
    for field in fields.values():
        function = next(f for f, table in TABLES.items() if table == field.span.table)
        replies.append(
            (Extractor(field.span.start, [field], sources), image.read(function, field.span.start, field.span.count))
        )
    for extractor, raw in replies:
        extractor.learn(raw, scales)
    for extractor, raw in replies:
        for batch in extractor.decode(raw, 0, scales):
            rows[names[int(batch.signal[0])]] = (batch.value.tolist()[0], int(batch.quality[0]))
    return rows


# ---- encoder and decoder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODBUS)
def test_the_agent_reads_from_every_shipped_profile_exactly_what_the_device_holds(name):
    found = device(MODBUS[name], seed=3)
    for _ in range(12):
        found.tick(37.0, T0_NS)
        rows = decoded(found)
        assert {n: q for n, (_, q) in rows.items() if q != GOOD} == {}
        assert {n: v for n, (v, _) in rows.items()} == {n: found.image.value(n) for n in rows}
        for point_name, (value, _) in rows.items():
            limits = found.source.profile.points[point_name].range
            assert limits is None or limits[0] <= value <= limits[1], point_name


ORDERS = st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"])
NUMBERS = st.sampled_from(
    [f"{k}{s}" for k in ("int", "uint") for s in ("8h", "8l", "16", "32", "64")]
    + ["float16", "float32", "float64", "bcd16", "bcd32"]
)
SCALES = st.sampled_from([None, 0.1, 0.001, 10, -0.5, "10^@e", "@e * 0.25"])


@settings(max_examples=150, deadline=None)
@given(NUMBERS, ORDERS, SCALES, st.sampled_from([None, -40, 0.5]), st.integers(0, 1 << 64), st.integers(1, 4))
def test_any_number_on_the_wire_is_read_as_the_value_the_encoder_meant(as_, order, scale, offset, seed, exponent):
    point = {"at": "holding 10", "as": as_, "order": order}
    point |= {k: v for k, v in (("scale", scale), ("offset", offset)) if v is not None}
    source = made({"x": point, "e": {"at": "holding 0", "as": "int16"}})
    found = device(source, e=str(exponent))
    codec: Codec = found.image.codecs["x"]
    low, high = codec.raw_range()
    floating = codec.wire.name == "float"
    if floating:
        most = {16: 2000.0, 32: 1e30, 64: 1e200}[codec.wire.size]
        raw = codec.raw(
            codec.value(most * (2 * seed / (1 << 64) - 1), found.image.factor(codec)), found.image.factor(codec)
        )
    else:
        raw = int(low) + seed % int(high - low + 1)
    packed = codec.packed(raw)
    found.image.tables["holding"].apply(packed)
    found._stale = False
    read, quality = decoded(found)["x"]
    assert (read, quality) == (found.image.value("x"), GOOD)
    assert read == codec.value(raw, found.image.factor(codec))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 15), st.integers(1, 16), ORDERS, st.integers(0, 65535))
def test_bit_fields_leave_their_neighbours_alone(low, width, order, number):
    high = min(15, low + width - 1)
    at = f"holding 3.{low}" + (f"-{high}" if high > low else "")
    point = {"at": at, "as": "uint" if high > low else "bit", "order": order}
    found = device(made({"all": {"at": "holding 3", "as": "uint16", "order": order}, "x": point}), all=str(0xA5A5))
    image = found.image
    field = ((1 << (high - low + 1)) - 1) << low
    wanted = number & ((1 << (high - low + 1)) - 1)
    image.show("x", bool(wanted) if high == low else wanted)
    found._stale = False
    rows = decoded(found)
    assert rows["all"][0] == 0xA5A5 & ~field | wanted << low
    assert rows["x"][0] == wanted


def test_absent_values_are_read_as_absent_where_the_maker_has_a_word_for_it():
    found = device(MODBUS["sunspec/inverter-three-phase/all"], current="absent", current_sf="absent", power="absent")
    rows = decoded(found)
    assert {n for n, (_, q) in rows.items() if q == ABSENT} == {
        "current",
        "current_l1",
        "current_l2",
        "current_l3",
        "current_sf",
        "power",
    }
    floats = device(MODBUS["eastron/sdm630/all"], power="absent")
    assert decoded(floats)["power"][1] == ABSENT
    assert floats.image.value("power") is None


def test_scale_factor_registers_hold_exponents_with_which_everything_fits():
    found = device(MODBUS["kostal/ksem/2.6"])
    rows = decoded(found)
    assert rows["power_sf"][0] == int(rows["power_sf"][0])
    assert abs(rows["power"][0]) < 32767 * 10.0 ** rows["power_sf"][0]


def test_a_value_that_was_set_stays_and_the_same_registers_elsewhere_follow_it():
    found = device(MODBUS["danfoss/vlt-fc/all"], frequency="50.1", trip="true")
    for _ in range(3):
        found.tick(100, T0_NS)
        assert (decoded(found)["frequency"][0], decoded(found)["trip"][0]) == (50.1, True)


def test_counters_only_rise_and_wrap_where_the_profile_says_so():
    found = device(
        made(
            {
                "n": {"at": "holding 0", "as": "uint32", "class": "counter"},
                "w": {"at": "holding 4", "as": "uint16", "class": "counter", "wraps": 60},
            }
        )
    )
    rows = []
    for _ in range(200):
        found.tick(1.0, T0_NS)
        rows.append((found.image.value("n") if found.current() is None else 0, found.image.value("w")))
    assert all(b[0] >= a[0] for a, b in pairwise(rows))
    assert max(w for _, w in rows) < 60


def test_the_same_seed_repeats_all_values_and_another_does_not():
    def values(seed):
        found = device(MODBUS["abb/b23/all"], seed=seed)
        found.tick(100.0, T0_NS)
        return dict(found.reading)

    assert values(5) == values(5) != values(6)


# ---- what exists -----------------------------------------------------------------------------------------------


def test_registers_exist_where_the_profile_has_points_and_nowhere_else():
    found = device(MODBUS["heidelberg/energy-control/all"])
    read = found.registers.read
    assert len(read(4, 4, 9)) == 18
    for function, start, count, code in [
        (4, 4, 11, 2),
        (4, 13, 1, 2),
        (3, 4, 1, 2),
        (1, 0, 1, 2),
        (4, 4, 126, 3),
        (4, 4, 0, 3),
        (4, 65535, 2, 2),
    ]:
        with pytest.raises(RefusedError) as refused:
            read(function, start, count)
        assert refused.value.code == code


def test_a_profile_that_may_bridge_gaps_says_that_they_can_be_read():
    points = {"a": {"at": "holding 0"}, "b": {"at": "holding 4"}, "c": {"at": "holding 20"}}
    assert len(device(made(points, limits={"bridge": 3})).registers.read(3, 0, 5)) == 10
    with pytest.raises(RefusedError):
        device(made(points)).registers.read(3, 0, 5)


def test_the_identity_and_the_firmware_told_are_those_the_profile_knows():
    for name in ("sunspec/inverter-three-phase/all", "thies/clima-sensor-us/all", "abb/b23/all"):
        assert device(MODBUS[name]).image.firmware
    found = ProfileDevice("d", 1, find_source("abb/b23", "B1.2"), 1)
    assert found.registers.read(3, 35080, 8).rstrip(b"\0") == b"B1.2"
    assert found.registers.read(3, 35168, 2) == b"B23\0"


WRITABLE = {
    "at": "holding 0",
    "as": "int16",
    "scale": 0.1,
    "write": {"range": [10, 60], "step": 20, "rate": "2/min", "interlock": "not tripped"},
}
POINTS = {"setpoint": WRITABLE, "tripped": {"at": "coil 1", "as": "bit"}, "other": {"at": "holding 1", "as": "uint16"}}


def refusal(found, table, start, cells, now_s=0.0):
    with pytest.raises(RefusedError) as refused:
        found.registers.write(table, start, cells, now_s)
    return refused.value.code


def test_writes_are_taken_within_their_rules_and_refused_beyond():
    found = device(made(POINTS), setpoint="30", tripped="false")
    assert found.registers.write("holding", 0, (400).to_bytes(2, "big"), 0.0) == [("setpoint", 40.0)]
    assert refusal(found, "holding", 0, (700).to_bytes(2, "big")) == 3
    assert refusal(found, "holding", 0, (150).to_bytes(2, "big")) == 3, "a step of 25"
    assert refusal(found, "holding", 1, b"\0\1") == 2, "no rule, no write"
    assert refusal(found, "holding", 9, b"\0\1") == 2
    assert refusal(found, "coil", 1, b"\1") == 2
    found.registers.write("holding", 0, (410).to_bytes(2, "big"), 1.0)
    assert refusal(found, "holding", 0, (420).to_bytes(2, "big"), 2.0) == 6, "two a minute"
    found.registers.write("holding", 0, (420).to_bytes(2, "big"), 62.0)
    found.tick(500.0, T0_NS)
    assert decoded(found)["setpoint"][0] == 42.0
    locked = device(made(POINTS), setpoint="30", tripped="true")
    assert refusal(locked, "holding", 0, (310).to_bytes(2, "big")) == 4


@given(st.binary(max_size=40))
def test_packed_bits_unpack_to_the_same(raw):
    cells = bytes(b & 1 for b in raw)
    assert unpack_bits(pack_bits(cells), len(cells)) == cells


# ---- life ------------------------------------------------------------------------------------------------------


def test_a_reboot_takes_its_time_and_restarts_the_uptime_but_no_energy():
    points = {
        "uptime": {"at": "holding 0", "as": "uint32", "unit": "s", "class": "counter"},
        "energy": {"at": "holding 2", "as": "uint32", "unit": "Wh", "class": "counter"},
    }
    found = device(made(points))
    for _ in range(50):
        found.tick(10.0, T0_NS)
    before = dict(found.reading)
    found.inject("reboot", size=3.0)
    assert found.away
    for _ in range(3):
        found.tick(1.0, T0_NS)
    assert not found.away
    assert found.starts == 2
    assert found.reading["uptime"] < before["uptime"]
    assert found.reading["energy"] >= before["energy"]


def test_a_firmware_update_moves_the_registers_to_the_next_profile():
    found = device(SOURCES["kostal/ksem/2.5"])
    assert found.registers.read(3, 40072, 1)
    found.inject("firmware_update", to="2.6", size=1.0)
    found.tick(1.0, T0_NS)
    assert found.profile == "kostal/ksem/2.6"
    with pytest.raises(RefusedError):
        found.registers.read(3, 40072, 1)
    assert all(q == GOOD for _, q in decoded(found).values())


def test_a_firmware_no_profile_is_for_is_told_and_changes_nothing_else():
    found = updated(SOURCES["hybridtwin/coupled-tanks/1.0"], "7.0")
    assert (found.firmware, found.title) == ("7.0", "hybridtwin/coupled-tanks/1.0")
    with pytest.raises(InputError):
        updated(SOURCES["kostal/ksem/2.5"], "eclipse/sparkplug-node")


def test_stuck_and_drifting_sensors_show_in_the_registers():
    found = device(MODBUS["eastron/sdm630/all"])
    held = found.reading["power"]
    found.inject("stuck", point="power")
    found.inject("drift", point="frequency", size=1.0)
    was = found.reading["frequency"]
    for _ in range(30):
        found.tick(1.0, T0_NS)
    assert decoded(found)["power"][0] == held
    assert decoded(found)["frequency"][0] - was == pytest.approx(30, abs=1)


# ---- what cannot be simulated ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "texts", "says"),
    [
        ({"x": {"at": "holding 0", "as": "int16"}}, {"x": "absent"}, "x: it cannot be absent"),
        ({"x": {"at": "holding 0", "as": "int16"}}, {"x": "70000"}, "x: 70000 does not fit"),
        ({"x": {"at": "holding 0", "scale": "1 / @y"}, "y": {"at": "holding 1"}}, {"y": "0"}, "x: its scale"),
    ],
)
def test_a_point_that_cannot_be_simulated_is_named_with_the_reason(points, texts, says):
    with pytest.raises(InputError, match="cannot be simulated") as refused:
        device(made(points), **texts)
    assert says in refused.value.message


def test_an_unknown_profile_or_point_is_answered_with_the_nearest():
    with pytest.raises(ConfigError) as unknown:
        find_source("abb/b32")
    assert unknown.value.reason == "PROFILE_MISSING"
    assert "abb/b23" in unknown.value.hint
    with pytest.raises(MissingError) as point:
        settings_of(MODBUS["abb/b23/all"].profile, {"powr": "1"})
    assert "power" in point.value.hint
    for text in ("power", "=3"):
        with pytest.raises(InputError):
            split_settings([text])
    with pytest.raises(InputError):
        settings_of(MODBUS["abb/b23/all"].profile, {"power": "much"})


def test_a_state_is_set_by_its_label():
    found = device(MODBUS["sunspec/inverter-three-phase/all"], state="mppt")
    assert decoded(found)["state"][0] == 4
    assert math.isfinite(found.reading["power"])
