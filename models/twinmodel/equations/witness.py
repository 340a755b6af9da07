"""A second opinion on units at build time: pint, where it is installed, must read every unit and expression as we do.

Our table of units is small enough for a gateway and therefore our own; a wrong entry would be a wrong number in a
plant. Without pint (extra `fit`) nothing is confirmed and nothing is refused; the tests always have it.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from twinmodel.equations.load import Document
from twinmodel.equations.system import System
from twinmodel.units import BASES
from twinmodel.units import parse as parse_unit

_CLOSE: Final = 1e-9
_TOKEN: Final = re.compile(r"[A-Za-zΩµ%°]+|\d+(?:\.\d+)?|\^-?|\*\*-?|[*·./()]")
# Names that pint spells otherwise; temperatures are differences inside products.
_SPELT: Final = {
    "%": "percent", "°C": "delta_degC", "degC": "delta_degC", "degF": "delta_degF", "in": "inch", "Ω": "ohm",
    "C": "coulomb", "T": "tesla", "F": "farad", "H": "henry", "d": "day", "deg": "degree", "h": "hour",
    # Turns a minute; pint counts the angle.
    "rpm": "(1/minute)",
}  # fmt: skip
_NAMES: Final = {
    "meter": "m", "kilogram": "kg", "second": "s", "ampere": "A", "kelvin": "K", "mole": "mol", "candela": "cd",
    "delta_degree_Celsius": "K",
}  # fmt: skip


def confirm(document: Document, system: System) -> None:
    """Compares every declared unit with pint's reading of it.

    Raises:
        ConfigError: UNIT_CLASH where the two differ; a fault of this program, not of the file.
    """
    registry = _registry()
    if registry is None:
        return
    spec = document.spec
    groups: dict[str, Mapping[str, object]] = {"states": spec.states, "inputs": spec.inputs, "params": spec.params}
    texts = {
        (group, name): str(getattr(entry, "unit", ""))
        for group, entries in groups.items()
        for name, entry in entries.items()
    }
    texts |= {("outputs", name): text for name, text in zip(spec.outputs, system.output_units, strict=True)}
    for keys, text in texts.items():
        fault = compare(text)
        if fault is not None:
            raise document.fail("UNIT_CLASH", fault, *keys)


@lru_cache(maxsize=512)
def compare(text: str) -> str | None:
    """How pint's reading of a unit differs from ours, None where it does not, or where pint knows no such name."""
    registry = _registry()
    ours = parse_unit(text)
    if registry is None:
        return None
    try:
        theirs = registry.parse_expression(spell(text)) if spell(text) else registry.Quantity(1.0, "")
        base = registry.Quantity(theirs).to_base_units()
    except Exception as error:  # noqa: BLE001 - pint has a dozen kinds of errors, and none of them says that we are wrong
        return None if type(error).__module__.startswith("pint") else f"pint cannot read {text!r}: {error}"
    powers = {_NAMES[k]: Fraction(v).limit_denominator(100) for k, v in base.unit_items() if k in _NAMES}
    dimension = tuple(powers.get(name, Fraction(0)) for name in BASES)
    if dimension != ours.dimension or not math.isclose(float(base.magnitude), ours.scale, rel_tol=_CLOSE):
        return f"unit {text!r} is {ours} here, but {base:~} to pint; please report it"
    return None


def spell(text: str) -> str:
    """A unit as pint writes it: `m3/h` becomes `m**3/hour`."""
    parts: list[str] = []
    before, end = "", 0
    for found in _TOKEN.finditer(text):
        token = found.group()
        if re.match(r"[A-Za-zΩµ%°(]", token) and (before[-1:].isalnum() or before.endswith((")", "%"))):
            parts.append("*")
        if token[0].isdigit() and before[:1].isalpha() and found.start() == end:
            parts.append("**")
        if token[0] == "^" or token.startswith("**"):
            parts.append("**" + token.lstrip("^*"))
        elif token in {"·", "."}:
            parts.append("*")
        else:
            parts.append(_SPELT.get(token, token))
        before, end = token, found.end()
    return "".join(parts)


@lru_cache(maxsize=1)
def _registry() -> Any:
    """Pint's registry; it takes a second to make, so there is one."""
    if importlib.util.find_spec("pint") is None:
        return None
    return importlib.import_module("pint").UnitRegistry()
