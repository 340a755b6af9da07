"""Pint as a witness: it reads every unit of ours, and a fault in our table would be found at build time."""

from __future__ import annotations

import pytest

from twinmodel import units
from twinmodel.equations import witness
from twinmodel.equations.compile import compile_model
from twinmodel.equations.load import load
from twinmodel.errors import ConfigError

TEXTS = [
    "m", "m^0.5/s", "m3/h", "m/(V s)", "mbar", "W/(m2 K)", "%", "t/h", "uS/cm", "m/(m3/h)^2", "d", "deg", "s^-1",
    "kg.m/s2", "W/degC", "degC", "degF", "1 degF", "", "rpm", "°C", "W m^-2 K^-1", "kWh/m2", "µm", "ohm m", "m3 h",
    "Ah", "in", "psi", "ppm", "mol/l", "VA", "m^2.5/s", "kJ/K", "N/m^3", "m/(m3/h)^2",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_pint_reads_a_unit_as_we_do(text):
    assert witness.compare(text) is None


@pytest.mark.parametrize("name", [*units._PREFIXED, *units._PLAIN])
def test_pint_reads_every_name_of_the_table_as_we_do(name):
    assert witness.compare(name) is None


def test_a_wrong_entry_of_the_table_stops_a_build(plants, monkeypatch):
    document = load(plants / "two-tanks.yaml")
    compile_model(document)
    witness.compare.cache_clear()
    monkeypatch.setattr(witness, "parse_unit", lambda text: units.Unit(units.parse(text).dimension, 1000.0))
    with pytest.raises(ConfigError, match="to pint; please report it") as caught:
        compile_model(document)
    witness.compare.cache_clear()
    assert caught.value.reason == "UNIT_CLASH"
    assert caught.value.facts["line"] == 9


def test_without_pint_nothing_is_confirmed(plants, monkeypatch):
    monkeypatch.setattr(witness, "_registry", lambda: None)
    witness.compare.cache_clear()
    assert witness.compare("m") is None
    compile_model(load(plants / "two-tanks.yaml"))
    witness.compare.cache_clear()
