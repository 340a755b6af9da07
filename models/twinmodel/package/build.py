"""From a model file to an unsigned package; the same file gives the same bytes on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.compile import Compiled, compile_model
from twinmodel.equations.load import Document, load
from twinmodel.equations.schema import Input, Output
from twinmodel.kernel.parity import TICKS, run_hash, vector
from twinmodel.kernel.reference import KERNELS
from twinmodel.package.archive import lay_out, pack
from twinmodel.package.manifest import (
    Manifest,
    NoiseEntry,
    ParamEntry,
    ParityEntry,
    PortEntry,
    StateEntry,
    dump,
)
from twinmodel.package.tensors import check, make_plan, start

_WANDER: Final = 0.1


def build(path: Path | str) -> bytes:
    """Builds the package of a model file, parity vector included.

    Raises:
        ConfigError: whatever is wrong with the file, with its place.
    """
    document = load(Path(path))
    return build_document(document)


def build_document(document: Document) -> bytes:
    """Builds the package of a model file that is read already."""
    compiled = compile_model(document)
    spec = document.spec
    tensors: dict[str, NDArray[Any]] = dict(compiled.tensors)
    step_of = (spec.dt, spec.substeps, compiled.integrator)
    plan = make_plan(compiled.kernel, tensors, compiled.registers, step_of, spec.drift)
    step = KERNELS[compiled.kernel]
    first = start(tensors)
    spans = zip(spec.inputs.values(), first[2], strict=True)
    widths = np.array([_WANDER * (i.span or max(abs(v), 1.0)) for i, v in spans], np.float64)
    tensors["parity_u"], tensors["parity_y"] = vector(plan, step, first, widths, np.sqrt(tensors["R"]))
    sha256 = run_hash(plan, step, first, tensors["parity_u"], tensors["parity_y"])
    if not np.isfinite(tensors["parity_y"]).any(axis=0).all():
        raise document.fail("EQUATION_INVALID", "the model diverges near its start", "equations")
    manifest, raw = _manifest(document, compiled, tensors, sha256)
    check(manifest, tensors)
    return pack(dump(manifest), raw)


def _manifest(
    document: Document, compiled: Compiled, tensors: Mapping[str, NDArray[Any]], sha256: str
) -> tuple[Manifest, bytes]:
    spec = document.spec
    entries, raw = lay_out(tensors)
    states = [
        StateEntry(
            name=n,
            unit=s.unit,
            quantity=s.quantity,
            low=s.low,
            high=s.high,
            start=s.start,
            sigma=float(np.sqrt(variance)),
        )
        for (n, s), variance in zip(spec.states.items(), np.diag(tensors["P0"]), strict=True)
    ]
    params = [
        ParamEntry(name=n, value=p.value, unit=p.unit, bounds=p.bounds, calibrate=p.calibrate, sigma=p.sigma)
        for n, p in spec.params.items()
    ]
    noise = NoiseEntry(
        process=dict(spec.noise.process), measurement=dict(spec.noise.measurement), inputs=dict(spec.noise.inputs)
    )
    manifest = Manifest(
        name=spec.model,
        version=spec.version,
        description=spec.description,
        family=spec.family,
        kernel=compiled.kernel,
        integrator=compiled.integrator,
        dt_ns=spec.dt,
        substeps=spec.substeps,
        registers=compiled.registers,
        pool=len(tensors.get("pool", ())),
        states=states,
        inputs=_inputs(document, tensors),
        outputs=_outputs(document, compiled, tensors),
        params=params,
        noise=noise,
        regime=spec.regime,
        drift=spec.drift,
        limits=spec.limits,
        provenance=spec.provenance,
        parity=ParityEntry(ticks=TICKS, sha256=sha256),
        tensors=entries,
    )
    return manifest, raw


def _inputs(document: Document, tensors: Mapping[str, NDArray[Any]]) -> list[PortEntry]:
    rows = zip(document.spec.inputs.items(), tensors["inputs_nominal"].tolist(), strict=True)
    return [
        _port(name, port, port.unit, nominal, _round((port.span or max(abs(nominal), 1.0)) * 1e-5))
        for (name, port), nominal in rows
    ]


def _outputs(document: Document, compiled: Compiled, tensors: Mapping[str, NDArray[Any]]) -> list[PortEntry]:
    ports = []
    rows = zip(document.spec.outputs.items(), compiled.output_units, tensors["R"].tolist(), strict=True)
    for (name, port), unit, variance in rows:
        middle = 0.0 if port.low is None or port.high is None else 0.5 * (port.low + port.high)
        # A tenth of the measurement noise loses nothing that anyone could see.
        resolution = port.resolution or _round(0.1 * math.sqrt(variance))
        ports.append(_port(name, port, unit, middle if port.nominal is None else port.nominal, resolution))
    return ports


def _port(name: str, port: Input | Output, unit: str, nominal: float, resolution: float) -> PortEntry:
    return PortEntry(
        name=name,
        unit=unit,
        quantity=port.quantity,
        low=port.low,
        high=port.high,
        nominal=nominal,
        resolution=resolution,
        tag=port.tag,
        quality=port.quality,
    )


def _round(value: float) -> float:
    """The power of ten at or below a positive value; by its text, because log10 differs between machines."""
    return float("1e" + f"{value:e}".split("e")[1])
