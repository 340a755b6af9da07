"""Telegraf's Modbus input: three styles, its published vectors, and what it says of slaves and tags."""

import ast
import json
import math
from pathlib import Path

import pytest

from twinmodel.profile.importers.found import Wanted
from twinmodel.quality import GOOD, QualityReason, bad

VECTORS = json.loads((Path(__file__).parents[3] / "data/telegraf_register_vectors.json").read_text())["rows"]


def configuration(row):
    """A vector as a person would configure it."""
    _, cells, order, kind, scale, bit, _, _ = row
    table = "coils" if kind == "" else "holding_registers"
    field = f'name = "p", address = {list(range(3, 3 + cells))}'
    if kind:
        field += f', byte_order = "{order}", data_type = "{kind}"'
    if scale:
        field += f", scale = {float(scale)!r}"
    if bit is not None:
        field += f", bit = {bit}"
    return f"[[inputs.modbus]]\nslave_id = 1\n{table} = [{{ {field} }}]\n"


@pytest.mark.parametrize("row", VECTORS, ids=[r[0] for r in VECTORS])
def test_a_published_vector_is_imported_and_read_as_telegraf_reads_it(row, bring, read):
    done = bring("telegraf", configuration(row))
    assert done.carried == 1
    value, quality = read(done.profiles[0].settled.profile, "p", bytes.fromhex(row[6]), 3)
    kind, _, text = row[7].partition("(")
    expected = json.loads(kind) if not text else ast.literal_eval(text.rstrip(")"))
    if kind == "uint64" and expected >= 1 << 63:
        assert (value, quality) == (0, bad(QualityReason.DECODE))
        return
    assert quality == GOOD
    if kind == "float32":
        assert value == pytest.approx(expected, rel=1e-7)
    elif isinstance(expected, int) and isinstance(value, float):
        assert math.trunc(value) == expected
        assert [n.text for n in done.profiles[0].notes if "cuts the decimals" in n.text] or value == expected
    else:
        assert value == expected


def test_there_are_as_many_vectors_as_telegraf_publishes():
    assert len(VECTORS) == 69


def test_every_slave_of_every_plugin_is_a_profile(bring):
    done = bring("telegraf")
    found = {p.part: (p.settled and list(p.settled.profile.points)) for p in done.profiles}
    assert found == {
        "mill-2": ["start", "run", "torque", "speed", "text"],
        "line-7": ["drive.energy", "drive.low"],
        "line-8": ["on"],
        "meter-1": ["bit", "power"],
    }
    assert [(r.point, r.reason) for r in done.refusals] == [
        ("gap", "VALUE_INVALID"),
        ("fields[1]", "POINT_RESERVED"),
        ("again", "POINT_DUPLICATE"),
        ("odd", "POINT_TYPE_UNKNOWN"),
    ]
    assert done.profiles[0].settled.profile.defaults.every == 5_000_000_000


def test_orders_and_types_are_those_of_the_style(bring):
    done = {p.part: p.settled.profile.points for p in bring("telegraf").profiles}
    torque, text = done["mill-2"]["torque"], done["mill-2"]["text"]
    assert (torque.at, torque.as_, torque.order) == ("holding 4", "float32", "CDAB")
    assert (text.at, text.as_, text.order) == ("input 20", "string(4)", "DCBA")
    energy, power, bit = done["line-7"]["drive.energy"], done["meter-1"]["power"], done["meter-1"]["bit"]
    assert (energy.as_, energy.order, energy.scale) == ("int64", "DCBA", 0.01)
    assert (power.order, power.scale) == ("BADC", 0.001)
    assert (bit.at, bit.as_, bit.order) == ("input 1.3", "bit", "BADC")


def test_what_has_no_place_in_a_profile_is_noted(bring):
    notes = {(n.part, n.point): n.text for p in bring("telegraf").profiles for n in p.notes}
    assert notes["line-7", "energy"] == "tags are left out: place=hall"
    assert "cuts the decimals" in notes["mill-2", "speed"]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ('byte_order = "AB", data_type = "INT32", scale = 1.0, address = [1, 2]', "VALUE_INVALID"),
        ('byte_order = "ABCD", data_type = "INT16", scale = 1.0, address = [1, 2]', "VALUE_INVALID"),
        ('byte_order = "ABDC", data_type = "INT32", scale = 1.0, address = [1, 2]', "VALUE_INVALID"),
        ('byte_order = "AB", data_type = "INT24", scale = 1.0, address = [1]', "POINT_TYPE_UNKNOWN"),
        ('byte_order = "AB", data_type = "INT16", scale = nan, address = [1]', "VALUE_INVALID"),
        ('byte_order = "AB", data_type = "INT16", scale = 1.0, address = [70000]', "VALUE_INVALID"),
        ('byte_order = "AB", data_type = "INT16", scale = 1.0, address = []', "VALUE_INVALID"),
        ('byte_order = "ABCDEF", data_type = "FIXED", scale = 1.0, address = [1, 2, 3]', "VALUE_INVALID"),
        ('byte_order = "AB", data_type = "BIT", bit = 16, address = [1]', "VALUE_INVALID"),
        ('data_type = "INT16", scale = 1.0, address = [1]', "VALUE_INVALID"),
    ],
)
def test_a_field_that_telegraf_would_refuse_is_refused(bring, field, reason):
    done = bring("telegraf", f'[[inputs.modbus]]\nholding_registers = [{{ name = "p", {field} }}]\n', Wanted())
    assert [r.reason for r in done.refusals] == [reason]
    assert done.profiles[0].settled is None
