"""Catalogues, bindings, ports and event bodies as bytes in the database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgpack

from twinmodel.signal import Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync.command import Commandable

_UNSHOWN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """What gateways and people say, without what steers a terminal or what an engine would not keep."""
    return _UNSHOWN.sub("\ufffd", text)


def pack(content: object) -> bytes:
    """Anything msgpack knows."""
    packed: bytes = msgpack.packb(content, use_bin_type=True)
    return packed


def unpack(blob: bytes) -> Any:
    """What `pack` packed."""
    return msgpack.unpackb(blob)


def pack_catalogue(catalogue: Catalogue) -> bytes:
    """A catalogue, whole."""
    signals = [[s.name, s.kind, s.unit, s.stream, s.exponent, s.step, s.period_ns] for s in catalogue.signals]
    return pack([catalogue.time_step_ns, signals, [_plain(twin) for twin in catalogue.twins]])


def unpack_catalogue(blob: bytes) -> Catalogue:
    """The catalogue of `pack_catalogue`."""
    step_ns, signals, twins = unpack(blob)
    return Catalogue(
        tuple(
            Signal(position, name, Kind(kind), unit, Stream(stream), exponent, step, period_ns)
            for position, (name, kind, unit, stream, exponent, step, period_ns) in enumerate(signals)
        ),
        tuple(_binding(twin) for twin in twins),
        step_ns,
    )


def pack_binding(binding: TwinBinding) -> bytes:
    """A binding, the same bytes for equal ones."""
    return pack(_plain(binding))


def unpack_binding(blob: bytes) -> TwinBinding:
    """The binding of `pack_binding`."""
    return _binding(unpack(blob))


def pack_ports(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bytes:
    """Names and units of a model's inputs and outputs, in the model's order."""
    return pack([list(inputs.items()), list(outputs.items())])


def unpack_ports(blob: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Inputs and outputs of `pack_ports`."""
    inputs, outputs = unpack(blob)
    return dict(inputs), dict(outputs)


def pack_commandables(commandables: Iterable[Commandable]) -> bytes:
    """What a gateway lets be commanded."""
    return pack([[one.target, one.two_persons, one.unit, one.low, one.high] for one in commandables])


def unpack_commandables(blob: bytes | None) -> dict[str, Commandable] | None:
    """By target what `pack_commandables` packed; None where the gateway has not said it."""
    if blob is None:
        return None
    return {fields[0]: Commandable(*fields) for fields in unpack(blob)}


def _plain(binding: TwinBinding) -> list[object]:
    properties, units = sorted(binding.properties.items()), sorted(binding.units.items())
    return [binding.twin, binding.definition, binding.model, properties, list(binding.outputs), units]


def _binding(plain: list[Any]) -> TwinBinding:
    twin, definition, model, properties, outputs, units = plain
    return TwinBinding(twin, definition, model, dict(properties), tuple(outputs), dict(units))
