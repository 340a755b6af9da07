"""Packages compared and read: every fact has its place, equations are text that means the same."""

from __future__ import annotations

import math

import pytest

from twinmodel.package.archive import open_at_desk
from twinmodel.package.build import build
from twinmodel.rom import readable
from twinmodel.rom.difference import differences
from twinmodel.rom.readable import TEXT_MAX, equations


@pytest.fixture
def changed(plants, tmp_path):
    """Function: pairs of texts to replace in two-tanks -> what differs, by place."""
    text = (plants / "two-tanks.yaml").read_text()
    before = open_at_desk(build(plants / "two-tanks.yaml"))

    def compare(*pairs):
        new = text
        for old_part, new_part in pairs:
            assert old_part in new
            new = new.replace(old_part, new_part)
        path = tmp_path / "changed.yaml"
        path.write_text(new)
        return {c.place: c for c in differences(before, open_at_desk(build(path)))}

    return compare


def test_the_same_model_has_no_differences_whoever_signed_it(packages, plants):
    assert differences(packages["pump"], open_at_desk(build(plants / "pump.yaml"))) == []


def test_a_parameter_differs_by_its_value_alone(changed):
    found = changed(("k1: {value: 0.02", "k1: {value: 0.03"))
    assert [p for p in found if p.startswith("params.")] == ["params.k1.value"]
    assert math.isclose(found["params.k1.value"].relative, 0.5)
    assert not any(p.startswith("equations.") for p in found)


def test_an_equation_differs_as_text(changed):
    found = changed(("- k3*sqrt(max(h2, 0))", "- 2*k3*sqrt(max(h2, 0))"))
    assert [p for p in found if not p.startswith("arrays.")] == ["equations.h2'"]
    assert found["equations.h2'"].after == "k1 * sqrt(max(h1, 0)) - 2 * k3 * sqrt(max(h2, 0))"
    assert found["equations.h2'"].relative is None


def test_what_is_new_has_no_before(packages):
    found = {c.place: c for c in differences(packages["two-tanks"], packages["pump"])}
    assert found["params.k1.value"].after is None
    assert found["params.friction.value"].before is None
    assert found["states.order"].after == ["q"]
    assert "equations.q'" in found


def test_families_of_different_kernels_are_compared(packages):
    found = {c.place for c in differences(packages["two-tanks"], packages["exchanger"])}
    assert {"kernel", "equations.Th+", "equations.h1'"} <= found


def test_equations_keep_the_order_that_decides_their_bits(packages):
    text = equations(packages["pump"])
    assert text["flow"] == "q"
    assert "static" in text["q'"]
    names = dict.fromkeys(("q", "speed", *(p.name for p in packages["pump"].manifest.params)), 1.5)
    for right in text.values():
        assert math.isfinite(eval(right, {"abs": abs, "sqrt": math.sqrt, "min": min, "max": max}, names))


def test_linear_equations_leave_out_what_is_zero(packages):
    text = equations(packages["exchanger"])
    assert set(text) == {"Th+", "Tc+", "hot_out", "cold_out"}
    assert text["hot_out"] == "1.0*Th"
    assert text["Th+"].count("*") == 4


def test_an_equation_that_unfolds_to_gigabytes_is_cut():
    registers = {0: readable._Text("h1")}
    for k in range(60):
        readable._follow((2, k + 1, k, k, 0, 0), registers)
    assert len(registers[3].text) < 100
    assert len(registers[60].text) <= TEXT_MAX
    assert " ... " in registers[60].text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((3, 9, 0, 1, 0, 0), "a / (b - c)"), ((4, 9, 1, 1, 0, 0), "-(b - c)"), ((15, 9, 0, 1, 0, 0), "less(a, b - c)"),
        ((16, 9, 0, 1, 0, 0), "select(a, b - c, a)"), ((18, 9, 1, 0, 7, 0), "table@7(b - c)"),
        ((19, 9, 0, 1, 7, 0), "table@7(a, b - c)"), ((14, 9, 0, 1, 0, 0), "pow(a, b - c)"),
        ((17, 9, 0, 2, 5, 1), "dense@5[0](a, b - c)"), ((99, 9, 0, 1, 0, 0), "operation99(a, b - c)"),
    ],
)  # fmt: skip
def test_every_operation_has_a_text(row, text):
    registers = {0: readable._Text("a"), 1: readable._Text("b - c", 1)}
    readable._follow(row, registers)
    assert registers[9].text == text
