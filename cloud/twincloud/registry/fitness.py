"""Whether a model fits a twin: every port is a property of the twin, with a unit of the same dimension."""

from __future__ import annotations

from collections.abc import Mapping

from twinmodel import units
from twinmodel.errors import InputError
from twinmodel.signal import Catalogue, Kind, TwinBinding


def misfits(
    inputs: Mapping[str, str], outputs: Mapping[str, str], binding: TwinBinding, catalogue: Catalogue
) -> tuple[str, ...]:
    """What keeps a model from running for a twin, one sentence each; empty when it fits.

    Every input must be a measured property that is no text. An output that the twin measures or declares must have its
    dimension; one it does not know becomes a virtual property and is no misfit.

    Args:
        inputs: input of the model -> unit.
        outputs: output of the model -> unit.
        binding: the twin's.
        catalogue: the one the binding belongs to.
    """
    found = []
    for name, unit in inputs.items():
        if not binding.properties.get(name):
            has = ", ".join(sorted(p for p, signal in binding.properties.items() if signal)) or "none"
            found.append(f"input {name!r} is no measured property of the twin (it has {has})")
        elif (signal := catalogue.by_name.get(binding.properties[name])) is not None and signal.kind is Kind.STRING:
            found.append(f"input {name!r} is a number in the model, {signal.name} is text")
        else:
            found += _unit_misfit("input", name, unit, unit_of(binding, catalogue, name))
    for name, unit in outputs.items():
        if name in binding.properties or name in binding.units:
            found += _unit_misfit("output", name, unit, unit_of(binding, catalogue, name))
    return tuple(found)


def unit_of(binding: TwinBinding, catalogue: Catalogue, prop: str) -> str:
    """The unit a property is measured in, else the one its definition or model gives it."""
    signal = catalogue.by_name.get(binding.properties.get(prop, ""))
    return signal.unit if signal is not None else binding.units.get(prop, "")


def _unit_misfit(port: str, name: str, model_unit: str, twin_unit: str) -> list[str]:
    try:
        if units.same_dimension(model_unit or "1", twin_unit or "1"):
            return []
    except InputError as error:
        return [f"{port} {name!r}: {error.message}"]
    return [f"{port} {name!r} is in {model_unit or '1'} in the model, in {twin_unit or '1'} in the twin"]
