"""A twin as people see it: its binding, its newest readings and its model, joined to one record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from twincloud.registry.fitness import unit_of
from twincloud.storage.contract import Origin, Property, Twin, TwinKey, TwinModel, Value
from twincloud.twins.document import Document
from twincloud.twins.latest import Latest, outputs_in
from twincloud.twins.state import Reading, drifts, paired
from twinmodel import units
from twinmodel.clock import SECOND_NS
from twinmodel.definition.resolve import Resolved
from twinmodel.errors import InputError
from twinmodel.quality import QualityClass, QualityReason, bad, class_of, good, uncertain
from twinmodel.signal import SUBSTITUTE, Catalogue, Signal, TwinBinding

STAND_IN_NS = 30 * SECOND_NS
"""How far what stands in may lie behind a measurement that is still bad: a tick waits for its samples."""
_SUBSTITUTED = uncertain(QualityReason.SUBSTITUTED)
GOOD = good()
_STALE = bad(QualityReason.STALE)
UNBOUND = TwinBinding("", "", "", {}, (), {})
"""The binding of a twin that no gateway has told of."""
UNBOUND_CATALOGUE = Catalogue(())


@dataclass(frozen=True, slots=True)
class ModelLabel:
    """Which model the values of a twin are labelled with."""

    reference: str = ""
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database holds of a twin; `definition` is the one that people gave it."""

    key: TwinKey
    gateway: str
    binding: TwinBinding
    catalogue: Catalogue
    state: Mapping[str, Sequence[Reading]]
    model: TwinModel
    model_id: str
    revision: int
    updated_ns: int
    document: Document = field(default_factory=Document)
    definition: Resolved | None = None
    record: int = 0


def twin_view(facts: Facts) -> Twin:
    """The twin."""
    outputs = outputs_of(facts.binding, facts.catalogue)
    said = facts.definition.properties if facts.definition is not None else ()
    names = dict.fromkeys((*facts.binding.properties, *outputs, *said))
    modelled = facts.state.outputs if isinstance(facts.state, Latest) else outputs_in(facts.state)
    return Twin(
        key=facts.key,
        gateway=facts.gateway,
        definition=facts.document.definition or facts.binding.definition,
        properties=tuple(_property(facts, name, modelled) for name in names),
        model=facts.model,
        drifting=drifts(facts.state, (f"{facts.binding.twin}/{output}" for output in outputs)),
        revision=facts.revision,
        updated_ns=facts.updated_ns,
        state=facts.document.state,
        run=facts.document.run,
        tags=facts.document.tags,
        record=facts.record,
    )


def outputs_of(binding: TwinBinding, catalogue: Catalogue) -> tuple[str, ...]:
    """Outputs of a twin's model: those of its binding, then those that only have signals."""
    return tuple(dict.fromkeys((*binding.outputs, *catalogue.outputs.get(binding.twin, ()))))


def _property(facts: Facts, name: str, modelled: AbstractSet[str]) -> Property:
    binding, state, by_name = facts.binding, facts.state, facts.catalogue.by_name
    output = f"{binding.twin}/{name}"
    measured = binding.properties.get(name, "")
    unit = unit_of(binding, facts.catalogue, name) or _unit(by_name, f"{output}#estimate") or _said_unit(facts, name)
    found = state.get(measured, ())
    reported = _value(found[0], _unit(by_name, measured), Origin.MEASURED) if found else None
    said = _NOTHING
    if output in modelled:  # most properties have no model, and no look at six signals that are not there
        said = _said_of_model(facts, output, unit, found)
    replaced = None
    if said.stand_in is not None:
        replaced, reported = reported, said.stand_in
    desired = _desired(facts, name)
    delta, differs = _compared(facts, name, reported, desired)
    return Property(
        name, unit, measured, reported, said.estimated, said.predicted, innovation=said.innovation, drift=said.drift,
        replaced=replaced, desired=desired, delta=delta, differs=differs,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Said:
    """What a model says of an output."""

    estimated: Value | None = None
    predicted: Value | None = None
    stand_in: Value | None = None
    innovation: float | None = None
    drift: float | None = None


_NOTHING = _Said()


def _said_of_model(facts: Facts, output: str, unit: str, measured: Sequence[Reading]) -> _Said:
    state, by_name = facts.state, facts.catalogue.by_name
    label = ModelLabel(facts.model.running, facts.model_id)
    estimated = predicted = shown_instead = None
    pair = paired(state, output)
    if pair is not None:
        # An estimate without its sigma is not shown: nobody could tell what it is worth.
        sigma = _sigma(pair[1].value)
        if sigma is not None:
            estimated = _value(
                pair[0], _unit(by_name, f"{output}#estimate") or unit, Origin.ESTIMATED, label, sigma=sigma
            )
    stand_in = _stand_in(facts, output, measured) if f"{output}#{SUBSTITUTE}" in by_name else None
    if stand_in is not None:
        shown = _unit(by_name, f"{output}#{SUBSTITUTE}") or unit
        shown_instead = _value(stand_in[0], shown, Origin.SUBSTITUTED, label, sigma=stand_in[1])
    prediction = state.get(f"{output}#prediction")
    if prediction:
        period_ns = _period_ns(by_name, output)
        shown = _unit(by_name, f"{output}#prediction") or unit
        predicted = _value(prediction[0], shown, Origin.PREDICTED, label, period_ns=period_ns)
    innovation, drift = _first(state.get(f"{output}#innovation")), _first(state.get(f"{output}#drift"))
    return _Said(estimated, predicted, shown_instead, innovation, drift)


def _said_unit(facts: Facts, name: str) -> str:
    said = facts.definition.properties.get(name) if facts.definition is not None else None
    return said.unit if said is not None else ""


def _desired(facts: Facts, name: str) -> Value | None:
    one = facts.document.desired.get(name)
    if one is None:
        return None
    return Value(one.value, one.unit, GOOD, one.at_ns, one.at_ns, one.at_ns, Origin.COMMANDED, by=one.by)


def _compared(
    facts: Facts, name: str, reported: Value | None, desired: Value | None
) -> tuple[float | None, bool | None]:
    """Reported minus desired, and whether that is more than the definition tolerates."""
    if reported is None or desired is None or reported.value is None:
        return None, None
    have, want = reported.value, desired.value
    if isinstance(want, bool | str) or isinstance(have, bool | str) or want is None:
        return None, have != want
    try:
        # A gateway that tells no unit means that of the definition.
        delta = units.convert(float(have), reported.unit or desired.unit or "1", desired.unit or "1") - want
    except InputError:
        return None, True
    said = facts.definition.properties.get(name) if facts.definition is not None else None
    return delta, abs(delta) > (said.tolerance if said is not None else 0.0)


def _stand_in(facts: Facts, output: str, measured: Sequence[Reading]) -> tuple[Reading, float | None] | None:
    """What stands in for a measurement, and its sigma; None when the measurement counts.

    The gateway says when it begins and ends. A usable measurement that is newer ends it at once, whatever has come
    of what the gateway says; and what the gateway went on measuring badly without saying more is not stood in for.
    """
    said = next(iter(facts.state.get(f"{output}#{SUBSTITUTE}", ())), None)
    if said is None or said.quality not in (_SUBSTITUTED, _STALE):
        return None
    newest = next(iter(measured), None)
    if newest is not None:
        usable = class_of(newest.quality) is not QualityClass.BAD
        if newest.t_ns >= said.t_ns and (usable or newest.t_ns - said.t_ns > STAND_IN_NS):
            return None
    if said.quality == _STALE:
        return said, None
    sigmas = facts.state.get(f"{output}#sigma", ())
    sigma = next((_sigma(s.value) for s in sigmas if s.t_ns == said.t_ns), None)
    # As with an estimate: without its sigma nobody could tell what it is worth.
    return None if sigma is None else (said, sigma)


def _value(
    reading: Reading,
    unit: str,
    origin: Origin,
    label: ModelLabel | None = None,
    *,
    sigma: float | None = None,
    period_ns: int | None = None,
) -> Value:
    """The envelope of a reading; a prediction at t is what the model said of t one period before."""
    label, block = label or ModelLabel(), reading.origin
    return Value(
        value=None if isinstance(reading.value, float) and math.isnan(reading.value) else reading.value,
        unit=unit,
        quality=reading.quality,
        t_event_ns=reading.t_ns - (period_ns or 0),
        t_received_ns=block.received_ns,
        t_committed_ns=block.committed_ns,
        origin=origin,
        sigma=sigma,
        target_ns=None if period_ns is None else reading.t_ns,
        model=label.reference,
        model_id=label.model_id,
        block=f"{block.boot.hex()}/{block.stream}/{block.first_seq}",
    )


def _period_ns(by_name: Mapping[str, Signal], output: str) -> int:
    for role in ("prediction", "estimate"):
        signal = by_name.get(f"{output}#{role}")
        if signal is not None and signal.period_ns:
            return signal.period_ns
    return 0


def _unit(by_name: Mapping[str, Signal], signal: str) -> str:
    return by_name[signal].unit if signal in by_name else ""


def _first(readings: Iterable[Reading] | None) -> float | None:
    return next((_number(reading.value) for reading in readings or ()), None)


def _sigma(value: object) -> float | None:
    """A standard deviation, None for what is none: not finite, or below 0."""
    sigma = _number(value)
    return sigma if sigma is not None and sigma >= 0 else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
