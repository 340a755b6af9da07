"""Foreign models as model files: matrices become `family: linear`, networks `family: mlp`; checked by building them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.arrays import Arrays, safetensors
from twinmodel.equations.load import load
from twinmodel.errors import ConfigError, InputError
from twinmodel.importers.labels import Label, read_labels
from twinmodel.importers.onnx_graph import DenseLayer
from twinmodel.package.build import build_document

F64 = NDArray[np.float64]
# More weights than this stand in a file of their own.
INLINE_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says about a model that its file does not.

    Attributes:
        name, version, description: of the model.
        dt_ns: length of a tick, None when the file has to tell.
        kind: of matrices, None when the file has to tell.
        states, inputs, outputs: labels, see `labels.read_labels`; empty for names by number.
        process, measurement: standard deviations by state (per square root of a second) and by output.
        source: where it comes from, for its provenance.
    """

    name: str
    version: str = "1.0.0"
    description: str = ""
    dt_ns: int | None = None
    kind: Literal["continuous", "discrete"] | None = None
    states: Sequence[str] = ()
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    process: Mapping[str, float] = field(default_factory=dict)
    measurement: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """A model file that builds.

    Attributes:
        text: YAML.
        weights: content of the file of weights beside it, empty when there is none.
        weights_name: its name.
        package: the unsigned package it builds to.
    """

    text: str
    weights: bytes
    weights_name: str
    package: bytes


def from_matrices(arrays: Arrays, wanted: Wanted, path: str) -> Imported:
    """A linear model of arrays A, B, C and D; `dt` (seconds) beside them makes it discrete.

    Raises:
        ConfigError: VALUE_INVALID when shapes do not fit, or what building finds.
        InputError: REQUEST_INVALID when dt, kind or a label is missing or does not fit.
    """
    A, B, C, D = _matrices(arrays, path)  # noqa: N806 - letters of the literature
    kind, dt_ns = _timing(arrays, wanted, path)
    states = read_labels(wanted.states, len(A), "x", "--x")
    inputs = read_labels(wanted.inputs, B.shape[1], "u", "--u")
    outputs = read_labels(wanted.outputs, len(C), "y", "--y")
    _check_noise(wanted, states, outputs)
    fields = _head(wanted, "linear", dt_ns)
    fields["states"] = {label.name: label.fields() for label in states}
    fields |= _ports(inputs, outputs)
    matrices = {"A": A, "B": B, "C": C, "D": D}
    fields["matrices"] = {"kind": kind} | {k: v.tolist() for k, v in matrices.items() if v.size}
    return _built(fields, b"", "", wanted)


def from_network(layers: Sequence[DenseLayer], wanted: Wanted) -> Imported:
    """A static model (`mlp`) of a network; its outputs need ranges, which bound the offset a filter corrects them by.

    Raises:
        InputError: REQUEST_INVALID when dt, a label or a range is missing.
        ConfigError: what building finds.
    """
    if wanted.dt_ns is None:
        raise InputError("REQUEST_INVALID", "a network has no tick", hint="give --dt, such as 1s")
    inputs = read_labels(wanted.inputs, layers[0].weights.shape[1], "u", "--u")
    outputs = read_labels(wanted.outputs, len(layers[-1].weights), "y", "--y")
    unbounded = next((label.name for label in outputs if label.low is None), None)
    if unbounded is not None:
        hint = f"give --y '{unbounded} [UNIT] MIN..MAX' for each output, in order"
        raise InputError("REQUEST_INVALID", f"output {unbounded} has no range", hint=hint)
    fields = _head(wanted, "mlp", wanted.dt_ns) | _ports(inputs, outputs)
    network: dict[str, Any] = {"inputs": [label.name for label in inputs], "outputs": [o.name for o in outputs]}
    kinds = [layer.activation for layer in layers[:-1]]
    network["activation"] = kinds[0] if kinds else "tanh"
    if sum(layer.weights.size for layer in layers) <= INLINE_MAX or len(set(kinds)) > 1:
        network["layers"] = [
            {"weights": y.weights.tolist(), "bias": y.bias.tolist(), "activation": y.activation} for y in layers
        ]
        return _built(fields | {"network": network}, b"", "", wanted)
    values = {f"w{k}": layer.weights for k, layer in enumerate(layers)}
    values |= {f"b{k}": layer.bias for k, layer in enumerate(layers)}
    network["file"] = f"{wanted.name}.safetensors"
    return _built(fields | {"network": network}, safetensors(values), str(network["file"]), wanted)


def _matrices(arrays: Arrays, path: str) -> tuple[F64, F64, F64, F64]:
    known = {**{k.upper(): v for k, v in arrays.values.items() if len(k) == 1}, **arrays.values}
    missing = [letter for letter in "ABC" if letter not in known]
    if missing:
        found = ", ".join(sorted(arrays.values)) or "nothing"
        raise ConfigError("VALUE_INVALID", f"no array {', '.join(missing)}; the file has {found}", path=path)
    A = np.atleast_2d(known["A"])  # noqa: N806 - letters of the literature
    n = len(A)
    B = known["B"].reshape(n, -1) if known["B"].ndim < 2 and known["B"].size == n else known["B"]  # noqa: N806
    C = known["C"].reshape(-1, n) if known["C"].ndim < 2 and known["C"].size == n else known["C"]  # noqa: N806
    shaped = A.ndim == B.ndim == C.ndim == 2
    D = known.get("D", np.zeros((0, 0)))  # noqa: N806
    if shaped and D.ndim < 2 and D.size == len(C) * B.shape[1]:
        D = D.reshape(len(C), -1)  # noqa: N806
    if not shaped or A.shape != (n, n) or len(B) != n or C.shape[1] != n:
        shapes = f"A {A.shape}, B {B.shape}, C {C.shape}"
        raise ConfigError("VALUE_INVALID", f"{shapes} are no (n, n), (n, m), (p, n)", path=path)
    if D.size and D.shape != (len(C), B.shape[1]):
        raise ConfigError("VALUE_INVALID", f"D {D.shape} is no {(len(C), B.shape[1])}", path=path)
    return A, B, C, D


def _timing(arrays: Arrays, wanted: Wanted, path: str) -> tuple[str, int]:
    """Kind and dt: what the file says must not contradict what is asked for."""
    told = arrays.values.get("dt")
    seconds = float(told.reshape(-1)[0]) if told is not None and told.size == 1 else 0.0
    kind = wanted.kind or ("discrete" if seconds > 0.0 else None)
    if kind is None:
        raise InputError("REQUEST_INVALID", f"{path} does not tell its kind", hint="give --kind continuous or discrete")
    dt_ns = wanted.dt_ns if wanted.dt_ns is not None else round(seconds * 1e9) if kind == "discrete" else 0
    if dt_ns <= 0:
        raise InputError("REQUEST_INVALID", f"{path} does not tell its tick", hint="give --dt, such as 1s")
    if kind == "discrete" and seconds > 0.0 and round(seconds * 1e9) != dt_ns:
        message = f"{path} is discrete with dt = {seconds:g} s; another tick needs other matrices"
        raise InputError("REQUEST_INVALID", message, hint="leave out --dt")
    return kind, dt_ns


def _check_noise(wanted: Wanted, states: Sequence[Label], outputs: Sequence[Label]) -> None:
    for what, given, labels in (("--process", wanted.process, states), ("--noise", wanted.measurement, outputs)):
        strange = sorted(set(given) - {label.name for label in labels})
        if strange:
            known = ", ".join(label.name for label in labels)
            raise InputError("REQUEST_INVALID", f"{what} names {strange[0]!r}; there are {known}")
    silent = next((o.name for o in outputs if o.low is None and o.name not in wanted.measurement), None)
    if silent is not None:
        hint = f"give --noise {silent}=SIGMA, or a range: --y '{silent} [UNIT] MIN..MAX'"
        raise InputError("REQUEST_INVALID", f"nothing tells how much {silent} scatters", hint=hint)


def _head(wanted: Wanted, family: str, dt_ns: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": wanted.name, "version": wanted.version}
    if wanted.description:
        fields["description"] = wanted.description
    fields |= {"family": family, "dt": f"{dt_ns / 1e6:g}ms" if float(f"{dt_ns / 1e6:g}") * 1e6 == dt_ns else dt_ns}
    noise = {k: dict(v) for k, v in (("process", wanted.process), ("measurement", wanted.measurement)) if v}
    if noise:
        fields["noise"] = noise
    if wanted.source:
        fields["provenance"] = {"source": wanted.source[:500]}
    return fields


def _ports(inputs: Sequence[Label], outputs: Sequence[Label]) -> dict[str, Any]:
    return {
        "inputs": {label.name: label.fields() for label in inputs},
        "outputs": {label.name: label.fields() for label in outputs},
    }


def _built(fields: Mapping[str, Any], weights: bytes, weights_name: str, wanted: Wanted) -> Imported:
    """Writes the YAML and builds it as if a person had written it."""
    text = "".join(f"{key}: {_flow(value)}\n" for key, value in fields.items())
    with tempfile.TemporaryDirectory(prefix="twin-import-") as folder:
        path = Path(folder) / f"{wanted.name}.yaml"
        path.write_text(text)
        if weights:
            (path.parent / weights_name).write_bytes(weights)
        try:
            package = build_document(load(path))
        except ConfigError as error:
            # The file is gone by the time the error is read; its line is in a text nobody has seen.
            raise InputError(error.reason, f"the model cannot be built: {error.message}", hint=error.hint) from error
    return Imported(text, weights, weights_name, package)


def _flow(value: object, indent: str = "  ") -> str:
    """A value as YAML: mappings of more than plain values line by line, the rest as JSON, which YAML contains."""
    if isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()):
        return "".join(f"\n{indent}{key}: {_flow(part, indent + '  ')}" for key, part in value.items())
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
