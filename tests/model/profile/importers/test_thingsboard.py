"""ThingsBoard's Modbus connector: orders of its dialect against the values its own tests expect."""

import json
import struct
from pathlib import Path

import pytest

from twinmodel.quality import GOOD, QualityReason, bad

EXPECTED = json.loads((Path(__file__).parents[3] / "data/thingsboard_modbus_values.json").read_text())
FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
FORMATS |= {"float16": "e", "float32": "f", "float64": "d"}
SIZES = {"16": 1, "32": 2, "64": 4}


def connector(entry, **slave):
    return json.dumps({"master": {"slaves": [{"deviceName": "d", "timeseries": [entry], **slave}]}})


@pytest.mark.parametrize("row", EXPECTED["rows"], ids=[r[0] for r in EXPECTED["rows"]])
@pytest.mark.parametrize("order", ["LITTLE", "BIG", None])
def test_the_same_registers_give_what_thingsboards_tests_expect_in_both_orders(row, order, bring, read):
    name, as_, little, big = row
    text = as_.startswith("string")
    raw = little.encode() if text else struct.pack("<" + FORMATS[as_], little)
    said = {} if order is None else {"byteOrder": order, "wordOrder": order}
    entry = {"tag": "p", "type": name, "functionCode": 3, "objectsCount": len(raw) // 2, "address": 7}
    value, quality = read(bring("thingsboard", connector(entry, **said)).profiles[0].settled.profile, "p", raw, 7)
    expected = big if order == "BIG" else little
    if isinstance(expected, int) and expected >= 1 << 63 and not as_.startswith("float"):
        assert (value, quality) == (0, bad(QualityReason.DECODE))
    elif as_.startswith("float"):
        assert value == pytest.approx(float(expected), rel=1e-15 if as_ == "float64" else 1e-5, abs=1e-6)
    else:
        assert (value, quality) == (expected, GOOD)


def test_the_two_orders_are_independent(bring):
    def order(**slave):
        entry = {"tag": "p", "type": "32int", "functionCode": 3, "objectsCount": 2, "address": 7}
        return bring("thingsboard", connector(entry, **slave)).profiles[0].settled.profile.points["p"].order

    assert order(byteOrder="BIG", wordOrder="LITTLE") == "CDAB"
    assert order(byteOrder="LITTLE", wordOrder="BIG") == "BADC"
    assert order(byteOrder="BIG", wordOrder="BIG") is None
    assert order() == "DCBA"


def test_the_sections_of_a_slave_are_carried_or_refused(points_of, bring):
    points, refused = points_of("thingsboard")
    assert refused == {
        "many": "POINT_AMBIGUOUS",
        "wide": "POINT_AMBIGUOUS",
        "goal": "POINT_NOT_READABLE",
    }
    assert (points["power"].order, points["total"].order, points["total"].as_) == ("BADC", None, "int64")
    assert points["flow"].scale == 0.125
    assert [points[f"flags.{n}"].at for n in range(3)] == ["coil 0", "coil 1", "coil 2"]
    assert (points["alarm"].at, points["alarm"].order) == ("holding 41.9", None)
    assert points["name"].as_ == "string(4)"
    profile = bring("thingsboard").profiles[0]
    assert profile.settled.profile.defaults.every == 500_000_000
    assert [n.text for n in profile.notes] == ["is read on demand there, and every period here"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"type": "24int"}, "POINT_TYPE_UNKNOWN"),
        ({"functionCode": 7}, "VALUE_INVALID"),
        ({"functionCode": None}, "VALUE_INVALID"),
        ({"address": -1}, "VALUE_INVALID"),
        ({"address": "0-9"}, "POINT_AMBIGUOUS"),
        ({"address": 65535, "type": "32int", "objectsCount": 2}, "VALUE_INVALID"),
        ({"divider": "0"}, "VALUE_INVALID"),
        ({"byteOrder": "MIDDLE"}, "VALUE_INVALID"),
        ({"type": ["16int"]}, "VALUE_INVALID"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused(bring, entry, reason):
    base = {"tag": "p", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 7}
    done = bring("thingsboard", connector(base | entry))
    assert [r.reason for r in done.refusals] == [reason]
    assert done.refusals[0].place == "master.slaves[0].timeseries[0]"
