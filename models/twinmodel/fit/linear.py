"""Linear models found in data or cut from larger ones, as model files and packages with their provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.equations.arrays import read_arrays
from twinmodel.equations.compile import compile_model
from twinmodel.equations.load import Document, load, read
from twinmodel.equations.revise import dump, with_params
from twinmodel.errors import ConfigError, InputError
from twinmodel.fit.identification import Identified, identify_linear
from twinmodel.fit.noise import Kernel, estimate_noise
from twinmodel.fit.reduction import Reduced, reduce_system
from twinmodel.fit.segments import Measured, Segment, cut, window
from twinmodel.fit.system import System
from twinmodel.package.archive import model_id
from twinmodel.package.build import build_document

F64 = NDArray[np.float64]
_YAML: Final = {".yaml", ".yml"}
# Process noise where none is known: this part of what a state may be at the start, per square root of a tick.
_RESTLESS: Final = 0.01


class Port(Protocol):
    """An input or output as a person labels it; `importers.labels.Label` is one."""

    @property
    def name(self) -> str:
        """An identifier."""
        ...

    @property
    def unit(self) -> str:
        """Empty for a plain number."""
        ...

    @property
    def low(self) -> float | None:
        """Lower end of its range, None where none is given."""
        ...

    @property
    def high(self) -> float | None:
        """Upper end."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says about a linear model.

    Attributes:
        name, version: of the model.
        dt_ns: length of a tick, 0 where the source tells it.
        inputs, outputs: labels in order, empty where the source names them.
    """

    name: str
    version: str
    dt_ns: int
    inputs: Sequence[Port] = ()
    outputs: Sequence[Port] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A linear model: text of its file, unsigned package, figures ready for JSON."""

    text: str
    package: bytes
    figures: dict[str, Any]


def identify_model(
    wanted: Wanted,
    data: Measured,
    *,
    holdout: float = 0.3,
    order: int | None = None,
    step: Kernel | None = None,
) -> Made:
    """Finds a linear model in data, see `identification`, with Q and R where `step` gives a kernel for them.

    Raises:
        InputError: FIT_DATA_UNFIT or VALUE_INVALID.
        ConflictError: MODEL_UNSTABLE when no stable model is found.
        ConfigError: when the labels make no valid model file.
    """
    segments = cut(data, holdout=holdout)
    names = ([p.name for p in wanted.inputs], [p.name for p in wanted.outputs])
    found = identify_linear(segments, names, wanted.dt_ns / SECOND_NS, order)
    u = np.concatenate([s.u[: s.held_out] for s in segments])
    fields = _head(wanted, f"Linear, of order {found.system.order}, found in data around its mean.")
    spread = np.maximum(np.abs(np.array(found.starts)).max(axis=0), np.sqrt(_stationary(found.system, u)))
    fields["states"] = _states(found.starts[0], spread)
    fields |= _ports(wanted, u.mean(axis=0))
    fields["matrices"] = _matrices(found.system)
    fields["noise"] = {
        "process": {
            name: _RESTLESS * s["sigma"] / math.sqrt(wanted.dt_ns / SECOND_NS) for name, s in fields["states"].items()
        },
        "measurement": {name: float(v) or 1e-9 for name, v in zip(names[1], found.rmse_seen, strict=True)},
    }
    box = {n: [float(c.min()), float(c.max())] for n, c in zip(names[0], u.T, strict=True)}
    fields["regime"] = {"box": box}
    fields["provenance"] = _identified_provenance(found, segments, names[1], data.sha256)
    document = read(dump(fields), f"{wanted.name}.yaml")
    figures = _identified_figures(wanted, found, names[1])
    if step is not None:
        noise = estimate_noise(document, segments, list(found.starts), step)
        document = with_params(document, {}, noise={"process": noise.process, "measurement": noise.measurement})
        figures["covered_90"] = {"seen": _known(noise.covered_seen), "hidden": _known(noise.covered_hidden)}
    return Made(dump(document), build_document(document), figures)


def reduce_model(
    path: Path,
    wanted: Wanted,
    *,
    kind: Literal["continuous", "discrete"] | None = None,
    order: int | None = None,
    error: float | None = None,
    measurement: dict[str, float] | None = None,
) -> Made:
    """Cuts a stable linear model, see `reduction`.

    Args:
        path: a linear model file, or A, B, C and D as `.npz` or `.safetensors`, discrete where `dt` (s) is beside them.
        wanted: name and version of the new model; labels and tick for arrays.
        kind: of arrays that do not tell it.
        order: states to keep.
        error: largest relative error bound.
        measurement: standard deviation of outputs.

    Raises:
        InputError: VALUE_INVALID or REQUEST_INVALID.
        ConflictError: MODEL_UNSTABLE.
        ConfigError: what is wrong with the file.
    """
    parent: Document | None = load(path) if path.suffix.lower() in _YAML else None
    if parent is not None:
        system, wanted, fields = _of_document(parent, wanted)
    else:
        system, wanted, fields = _of_arrays(path, wanted, kind, measurement or {})
    found = reduce_system(_centred(system), order=order, error=error)
    small = found.system
    sigma = np.sqrt(np.maximum(found.singular[: small.order], 1e-12))
    fields["states"] = _states(np.zeros(small.order), sigma)
    fields["matrices"] = _matrices(small)
    per_root_s = _RESTLESS / math.sqrt(wanted.dt_ns / SECOND_NS)
    fields.setdefault("noise", {})["process"] = {n: per_root_s * s["sigma"] for n, s in fields["states"].items()}
    metrics = {
        "order_before": float(found.order_before),
        "error_bound": found.bound,
        "hankel_largest": found.gain,
        "error_bound_relative": found.bound / found.gain,
    }
    source = "balanced truncation; error_bound is twice the sum of the Hankel singular values cut off"
    fields["provenance"] = {"source": source, "metrics": metrics}
    if parent is not None:
        fields["provenance"]["parent"] = model_id(build_document(parent))
    document = read(dump(fields), f"{wanted.name}.yaml")
    return Made(dump(document), build_document(document), _reduced_figures(wanted, found))


def _of_document(document: Document, wanted: Wanted) -> tuple[System, Wanted, dict[str, Any]]:
    spec = document.spec
    if spec.family != "linear":
        raise InputError("VALUE_INVALID", f"{spec.model} is of family {spec.family}; only linear models can be reduced")
    t = compile_model(document).tensors
    system = System(t["A"], t["B"], t["C"], t["D"], spec.dt / SECOND_NS, t["a"], t["c"])
    wanted = Wanted(wanted.name or f"{spec.model}-reduced", wanted.version, spec.dt)
    fields = _head(wanted, spec.description or f"Reduced from {spec.model}@{spec.version}.")
    for group in ("inputs", "outputs"):
        entries = document.tree.get(group) or {}
        fields[group] = {str(k): {"unit": ""} if not isinstance(v, dict) else dict(v) for k, v in entries.items()}
    for name, unit in zip(spec.outputs, spec.outputs.values(), strict=True):
        entry = fields["outputs"][name]
        entry.pop("value", None)
        entry["unit"] = unit.unit or entry.get("unit", "")
    measured = dict(zip(spec.outputs, np.sqrt(t["R"]).tolist(), strict=True))
    fields["noise"] = {"measurement": measured} | ({"inputs": dict(spec.noise.inputs)} if spec.noise.inputs else {})
    return system, wanted, fields


def _of_arrays(
    path: Path, wanted: Wanted, kind: str | None, measurement: dict[str, float]
) -> tuple[System, Wanted, dict[str, Any]]:
    values = read_arrays(path).values
    lacking = [letter for letter in "ABC" if letter not in values]
    if lacking:
        raise ConfigError("VALUE_INVALID", f"no array {', '.join(lacking)}", path=str(path))
    A, B, C = (np.atleast_2d(values[letter]) for letter in "ABC")  # noqa: N806 - letters of the literature
    n = len(A)
    D = np.atleast_2d(values["D"]) if "D" in values else np.zeros((len(C), B.shape[1]))  # noqa: N806
    if A.shape != (n, n) or len(B) != n or C.shape[1] != n or D.shape != (len(C), B.shape[1]):
        message = f"A {A.shape}, B {B.shape}, C {C.shape}, D {D.shape} are no (n, n), (n, m), (p, n), (p, m)"
        raise ConfigError("VALUE_INVALID", message, path=str(path))
    told = float(values["dt"].reshape(-1)[0]) if "dt" in values and values["dt"].size == 1 else 0.0
    kind = kind or ("discrete" if told > 0.0 else None)
    dt_ns = wanted.dt_ns or (round(told * SECOND_NS) if kind == "discrete" else 0)
    if kind is None or dt_ns <= 0:
        hint = "give --kind continuous or discrete, and --dt such as 1s"
        raise InputError("REQUEST_INVALID", f"{path} does not tell its kind and tick", hint=hint)
    if (len(wanted.inputs), len(wanted.outputs)) != (B.shape[1], len(C)):
        raise InputError("REQUEST_INVALID", f"{path} has {B.shape[1]} inputs and {len(C)} outputs; label all of them")
    wanted = Wanted(wanted.name or f"{path.stem}-reduced", wanted.version, dt_ns, wanted.inputs, wanted.outputs)
    fields = _head(wanted, f"Reduced from {path.name}, {n} states.") | _ports(wanted, None)
    silent = [p.name for p in wanted.outputs if p.low is None and p.name not in measurement]
    if silent:
        raise InputError(
            "REQUEST_INVALID", f"nothing tells how much {silent[0]} scatters", hint="give --noise or a range"
        )
    fields["noise"] = {"measurement": measurement} if measurement else {}
    return System(A, B, C, D, dt_ns / SECOND_NS if kind == "discrete" else 0.0), wanted, fields


def _centred(system: System) -> System:
    """The same behaviour around the state it rests in, so that no constant is left in the states."""
    a, c = system.drift
    if not a.any():
        return system
    system.require_stable()
    rest = np.linalg.solve(np.eye(system.order) - system.A if system.dt_s > 0.0 else -system.A, a)
    return System(system.A, system.B, system.C, system.D, system.dt_s, c=c + system.C @ rest)


def _stationary(system: System, u: F64) -> F64:
    """Variance of each state while the inputs move as measured."""
    states = System(system.A, system.B, np.eye(system.order), np.zeros_like(system.B), system.dt_s, system.a)
    moved = states.respond(u, np.zeros(system.order))
    return np.asarray(np.maximum(moved.var(axis=0), 1e-12))


def _head(wanted: Wanted, description: str) -> dict[str, Any]:
    dt = f"{wanted.dt_ns / 1e6:.12g}ms"
    fields = {"model": wanted.name, "version": wanted.version, "description": description}
    return fields | {"family": "linear", "dt": dt}


def _states(start: F64, sigma: F64) -> dict[str, dict[str, float]]:
    pairs = zip(start.tolist(), sigma.tolist(), strict=True)
    return {f"x{i + 1}": {"start": value, "sigma": wide} for i, (value, wide) in enumerate(pairs)}


def _ports(wanted: Wanted, nominal: F64 | None) -> dict[str, Any]:
    inputs = {p.name: _port(p) for p in wanted.inputs}
    for entry, value in zip(inputs.values(), () if nominal is None else nominal.tolist(), strict=nominal is not None):
        entry["nominal"] = value
    return {"inputs": inputs, "outputs": {p.name: _port(p) for p in wanted.outputs}}


def _port(port: Port) -> dict[str, Any]:
    ranged = {"min": port.low, "max": port.high} if port.low is not None else {}
    return {"unit": port.unit} | ranged


def _matrices(system: System) -> dict[str, Any]:
    a, c = system.drift
    found = {"kind": "discrete" if system.dt_s > 0.0 else "continuous"}
    found |= {k: getattr(system, k).tolist() for k in ("A", "B", "C", "D")}
    return found | {k: v.tolist() for k, v in (("a", a), ("c", c)) if v.any()}


def _identified_provenance(
    found: Identified, segments: Sequence[Segment], outputs: Sequence[str], sha256: str
) -> dict[str, Any]:
    metrics = {f"rmse_{n}": float(v) for n, v in zip(outputs, found.rmse_seen, strict=True)}
    metrics |= {
        f"rmse_holdout_{n}": float(v) for n, v in zip(outputs, found.rmse_hidden, strict=True) if np.isfinite(v)
    }
    facts: dict[str, Any] = {
        "source": f"OKID with {found.lags} lags, realised by ERA",
        "window": list(window(segments)),
        "metrics": metrics,
    }
    return facts | ({"data_sha256": sha256} if sha256 else {})


def _identified_figures(wanted: Wanted, found: Identified, outputs: Sequence[str]) -> dict[str, Any]:
    rmse = {
        kind: {n: _known(v) for n, v in zip(outputs, values.tolist(), strict=True)}
        for kind, values in (("seen", found.rmse_seen), ("hidden", found.rmse_hidden))
    }
    tried = [
        {"order": t.order, "rmse_seen": _known(t.rmse_seen), "rmse_hidden": _known(t.rmse_hidden)} for t in found.trials
    ]
    modes = np.abs(np.linalg.eigvals(found.system.A))
    return {
        "model": f"{wanted.name}@{wanted.version}",
        "order": found.system.order,
        "lags": found.lags,
        "rmse": rmse,
        "orders_tried": tried,
        "singular_values": found.singular.tolist(),
        "slowest_mode": float(modes.max()),
    }


def _reduced_figures(wanted: Wanted, found: Reduced) -> dict[str, Any]:
    return {
        "model": f"{wanted.name}@{wanted.version}",
        "order_before": found.order_before,
        "order": found.system.order,
        "error_bound": found.bound,
        "gain": found.gain,
        "singular_values": found.singular[:64].tolist(),
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
