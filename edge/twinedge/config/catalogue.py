"""The catalogue of a site: what its devices measure, what its models say, and how twins tie both together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from twinedge.config.load import Fault, LoadedSite
from twinedge.config.schema import Twin
from twinmodel import units
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConfigError, InputError
from twinmodel.lineage import lineage_signal
from twinmodel.profile.document import joined, nearest
from twinmodel.profile.schema import FirmwareProfile, Point, kind_of, stream_of
from twinmodel.signal import ALARMS_SIGNAL, OUTPUT_ROLES, SUBSTITUTE, Catalogue, Kind, Signal, Stream, TwinBinding

EXPONENT_DEFAULT = 6
EXPONENT_MAX = 9


@dataclass(frozen=True, slots=True)
class ModelPorts:
    """What a model package takes and gives: name -> unit symbol."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def build_catalogue(loaded: LoadedSite, models: Mapping[str, ModelPorts] | None = None) -> Catalogue:
    """Numbers every signal of a site; the same files and models give the same catalogue, bit for bit.

    Args:
        loaded: the site.
        models: twin -> ports of the model it runs; all outputs of the model become signals, also those that
            no device measures. A twin without an entry gets the outputs that site.yaml names.

    Raises:
        ConfigError: UNKNOWN_SIGNAL, DUPLICATE_SIGNAL, UNIT_CLASH or VALUE_INVALID, with the line of site.yaml.
    """
    catalogue, faults = examine_catalogue(loaded, models)
    if faults:
        raise joined([fault.error for fault in faults])
    return catalogue


def examine_catalogue(
    loaded: LoadedSite, models: Mapping[str, ModelPorts] | None = None
) -> tuple[Catalogue, tuple[Fault, ...]]:
    """As `build_catalogue`, but twins that are wrong are left out and told."""
    builder = _Builder(loaded, models or {})
    builder.measured()
    # Before those of models, which come and go: its number stays.
    builder.add((), ALARMS_SIGNAL, Kind.STRING, "", Stream.ALARM)
    faults = []
    for name, twin in loaded.site.twins.items():
        count = len(builder.signals)
        try:
            builder.twin(name, twin)
        except ConfigError as error:
            builder.forget_after(count)
            faults.append(Fault("twin", name, error))
    return Catalogue(tuple(builder.signals), tuple(builder.bindings)), tuple(faults)


class _Builder:
    def __init__(self, loaded: LoadedSite, models: Mapping[str, ModelPorts]) -> None:
        self.loaded = loaded
        self.models = models
        self.signals: list[Signal] = []
        self.bindings: list[TwinBinding] = []
        self.by_name: dict[str, Signal] = {}

    def add(self, keys: tuple[str, ...], name: str, kind: Kind, unit: str, stream: Stream, **storage: int) -> None:
        if name in self.by_name:
            raise self.error("DUPLICATE_SIGNAL", keys, f"signal {name} is declared twice")
        signal = Signal(len(self.signals), name, kind, unit, stream, **storage)
        self.signals.append(signal)
        self.by_name[name] = signal

    def forget_after(self, count: int) -> None:
        for signal in self.signals[count:]:
            del self.by_name[signal.name]
        del self.signals[count:]

    def error(self, reason: str, keys: tuple[str, ...], message: str, hint: str | None = None) -> ConfigError:
        return self.loaded.document.error(reason, keys, message, hint=hint)

    def measured(self) -> None:
        twins = self.loaded.site.twins.values()
        bound = {name for t in twins for name in (*t.inputs.values(), *t.outputs.values())}
        known: dict[int, list[tuple[str, Point, Kind, tuple[int, int], int]]] = {}
        for device, profile in self.loaded.profiles.items():
            points = known.get(id(profile))
            if points is None:  # devices of one profile share it: what it says is worked out once
                points = known[id(profile)] = [
                    (name, point, kind_of(point), storage_step(point), profile.every_ns(point))
                    for name, point in profile.points.items()
                ]
            keys = ("devices", device)
            for point_name, point, kind, (exponent, step), period_ns in points:
                name = f"{device}.{point_name}"
                stream = stream_of(point, bound=name in bound)
                self.add(keys, name, kind, point.unit, stream, exponent=exponent, step=step, period_ns=period_ns)

    def twin(self, name: str, twin: Twin) -> None:
        keys = ("twins", name)
        ports = self.models.get(name)
        self._same_ports(keys, twin, ports)
        properties: dict[str, str] = {}
        symbols: dict[str, str] = {}
        for role, bound in (("inputs", twin.inputs), ("outputs", twin.outputs), ("properties", twin.properties)):
            expected = (ports.inputs if role == "inputs" else ports.outputs) if ports and role != "properties" else {}
            for port, signal_name in bound.items():
                signal = self._signal((*keys, role, port), signal_name)
                unit = expected.get(port)
                if unit is not None:
                    if signal.kind is Kind.STRING:
                        message = f"the model takes {port} as a number, {signal.name} is text"
                        raise self.error("VALUE_INVALID", (*keys, role, port), message)
                    self._same_dimension((*keys, role, port), port, unit, signal)
                if port in properties and properties[port] != signal_name:
                    message = f"property {port} is bound to {properties[port]} and to {signal_name}"
                    raise self.error("DUPLICATE_SIGNAL", (*keys, role, port), message)
                properties[port] = signal_name
                symbols[port] = unit if unit is not None else signal.unit
        outputs = list(ports.outputs) if ports else list(twin.outputs)
        for output in outputs:
            properties.setdefault(output, "")
            symbols.setdefault(output, ports.outputs[output] if ports else "")
            self._output_signals((*keys, "outputs"), name, output, symbols[output], properties)
        if ports is not None:
            self.add(keys, lineage_signal(name), Kind.STRING, "", Stream.STATE)
        self.bindings.append(TwinBinding(name, twin.definition, twin.model, properties, tuple(outputs), symbols))

    def _output_signals(
        self, keys: tuple[str, ...], twin: str, output: str, unit: str, properties: Mapping[str, str]
    ) -> None:
        """One signal per role, one digit finer than the sensor; drift is a number without unit."""
        sensor = self.by_name.get(properties[output])
        exponent = EXPONENT_DEFAULT
        if sensor is not None and sensor.exponent > 0:
            exponent = min(sensor.exponent + 1 + _digits_between(unit, sensor.unit), EXPONENT_MAX)
        stands_in = (SUBSTITUTE,) if output in self.loaded.site.twins[twin].substitute.outputs else ()
        for role in (*OUTPUT_ROLES, *stands_in):
            self.add(
                keys,
                f"{twin}/{output}#{role}",
                Kind.FLOAT,
                "" if role == "drift" else unit,
                Stream.STATE,
                exponent=exponent,
                period_ns=sensor.period_ns if sensor else SECOND_NS,
            )

    def _signal(self, keys: tuple[str, ...], name: str) -> Signal:
        signal = self.by_name.get(name)
        if signal is None or signal.role != "measured":
            known = [s.name for s in self.signals if s.role == "measured"]
            guess = nearest(name, known)
            hint = f"did you mean `{guess}`?" if guess else None
            raise self.error("UNKNOWN_SIGNAL", keys, f"no signal {name!r} in this site", hint)
        return signal

    def _same_ports(self, keys: tuple[str, ...], twin: Twin, ports: ModelPorts | None) -> None:
        if ports is None:
            return
        for role, bound, known in (("inputs", twin.inputs, ports.inputs), ("outputs", twin.outputs, ports.outputs)):
            for port in bound:
                if port not in known:
                    guess = nearest(port, known)
                    hint = f"did you mean `{guess}`?" if guess else f"the model has: {', '.join(known) or 'none'}"
                    message = f"model {twin.model} has no {role[:-1]} {port!r}"
                    raise self.error("VALUE_INVALID", (*keys, role, port), message, hint)
        missing = [port for port in ports.inputs if port not in twin.inputs]
        if missing:
            message = f"model {twin.model} needs the inputs {', '.join(missing)}"
            raise self.error("VALUE_INVALID", (*keys, "inputs"), message, "bind each input to a `device.point`")

    def _same_dimension(self, keys: tuple[str, ...], port: str, unit: str, signal: Signal) -> None:
        try:
            clash = units.parse(unit).dimension != units.parse(signal.unit).dimension
        except InputError as wrong:
            raise self.error(wrong.reason, keys, wrong.message, wrong.hint) from None
        if clash:
            message = f"the model takes {port} in {unit or '1'}, {signal.name} is in {signal.unit or '1'}"
            raise self.error("UNIT_CLASH", keys, message)


def _digits_between(coarse: str, fine: str) -> int:
    """Decimal digits that values gain when they go from a fine unit to a coarse one: 3 from mm to m, 0 from m to mm."""
    if coarse == fine:
        return 0
    return max(math.ceil(math.log10(units.parse(coarse).scale / units.parse(fine).scale) - 1e-9), 0)


def storage_step(point: Point) -> tuple[int, int]:
    """Exponent and step so that values are integers of `step * 10**-exponent`; (0, 1) when nothing is known.

    The step is the point's `resolution`, else its numeric `scale`: what the converter can tell apart.
    """
    fine = point.resolution
    if fine is None and isinstance(point.scale, (int, float)):
        fine = abs(float(point.scale))
    if fine is None or not math.isfinite(fine) or fine <= 0:
        return 0, 1
    exact = Fraction(repr(float(fine)))
    for exponent in range(EXPONENT_MAX + 1):
        step = exact * 10**exponent
        if step.denominator == 1 and step.numerator < 1 << 31:
            return exponent, step.numerator
    return 0, 1


def signals_of(catalogue: Catalogue, device: str, profile: FirmwareProfile) -> dict[str, Signal]:
    """Point -> signal of one device."""
    return {point: catalogue.by_name[f"{device}.{point}"] for point in profile.points}
