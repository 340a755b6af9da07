"""FMUs (FMI 2 and 3) as a reference at the desk: described, and run over measured inputs, in a process of their own.

    FMU ─▶ entries checked ─▶ taken apart in a folder ─▶ child: describe ─▶ Description
                                                     └─▶ child: simulate ─▶ outputs at the ticks of a dataset

Simulating runs foreign machine code with the rights of the caller. Gateways never import this module.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinmodel.equations.arrays import FILE_MAX as ARRAYS_MAX
from twinmodel.equations.arrays import read_arrays, safetensors
from twinmodel.errors import ConfigError, ConflictError, InputError
from twinmodel.importers.dataset import Dataset
from twinmodel.importers.fmu_child import DESCRIPTION, INPUTS, RESULTS
from twinmodel.units import parse

F64 = NDArray[np.float64]
FILE_MAX: Final = 256 << 20
UNPACKED_MAX: Final = 512 << 20
ENTRIES_MAX: Final = 4096
XML_MAX: Final = 16 << 20
DESCRIBE_S: Final = 60.0
_NUMBERS: Final = {"Real", "Float64", "Float32"}
_TELL: Final = 400


class _Variable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    causality: str
    type: str
    unit: str
    start: str
    array: bool


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    fmi_version: str
    generator: str
    co_simulation: bool
    model_exchange: bool
    step_s: str
    variables: list[_Variable] = Field(max_length=100_000)


@dataclass(frozen=True, slots=True)
class Variable:
    """A real scalar of an FMU.

    Attributes:
        name: as in its description.
        unit: its unit, empty where ours cannot read it.
    """

    name: str
    unit: str


@dataclass(frozen=True, slots=True)
class Description:
    """What an FMU says of itself; serves `read_dataset` as ports.

    Attributes:
        name, generator, fmi_version: of the model.
        kinds: what it can be run as, `CoSimulation` first.
        inputs, outputs: its real scalars.
        parameters: start value by name.
        dt_ns: the step it recommends, 0 where it does not.
    """

    name: str
    generator: str
    fmi_version: str
    kinds: tuple[str, ...]
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    parameters: Mapping[str, str]
    dt_ns: int


def describe(path: Path) -> Description:
    """Reads the description of an FMU; nothing of it runs.

    Raises:
        ConfigError: FILE_MISSING, or VALUE_INVALID when it is no sound FMU with a real output.
        ConflictError: EXTRA_MISSING without FMPy.
    """
    with _unpacked(path) as folder:
        _child("describe", folder, {"cpu_s": DESCRIBE_S}, DESCRIBE_S, path)
        return _described(folder, path)


def simulate(
    path: Path, dataset: Dataset, *, kind: str, start_values: Mapping[str, float], limit_s: float = 60.0
) -> F64:
    """Runs an FMU over the inputs of a dataset, each segment from its start. This executes foreign machine code.

    Args:
        path: the FMU.
        dataset: read with its `Description` as ports; missing inputs keep the last value, before the first 0.
        kind: one of `Description.kinds`.
        start_values: parameters to set, by name.
        limit_s: longest time it may take, of the clock and of the processor.

    Returns:
        Its outputs at the ticks of the dataset, shape (ticks, p).

    Raises:
        ConfigError: VALUE_INVALID when it fails.
        InputError: LIMIT_EXCEEDED when it takes longer, or the dataset is too large.
    """
    rows = [slice(a, b) for a, b in dataset.segments]
    inputs = {f"s{k}": _filled(dataset.u[part]) for k, part in enumerate(rows)}
    if dataset.u.shape[1] == 0:
        inputs = {name: np.zeros((len(u), 1)) for name, u in inputs.items()}
    content = safetensors(inputs)
    wanted = dataset.y.size * 8
    if max(len(content), wanted) > ARRAYS_MAX // 2 or len(rows) > 200:
        raise InputError(
            "LIMIT_EXCEEDED", f"{len(dataset.t_ns)} ticks are too many for one run; give a part of the data"
        )
    job = {
        "cpu_s": limit_s,
        "kind": kind,
        "dt_s": dataset.dt_ns / 1e9,
        "inputs": list(dataset.inputs),
        "outputs": list(dataset.outputs),
        "start_values": dict(start_values),
    }
    with _unpacked(path) as folder:
        (folder / INPUTS).write_bytes(content)
        _child("simulate", folder, job, limit_s, path)
        results = read_arrays(folder / RESULTS).values
        found = [results.get(f"s{k}", np.empty(0)) for k in range(len(rows))]
        if [f.shape for f in found] != [(part.stop - part.start, len(dataset.outputs)) for part in rows]:
            _refuse(path, "the FMU gave other results than asked for")
        return np.concatenate(found)


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A private folder with `fmu/`, after every entry of the file has been looked at."""
    if importlib.util.find_spec("fmpy") is None:
        raise ConflictError("EXTRA_MISSING", "FMUs need FMPy, of the extra hybridtwin[fit]", extra="fit")
    try:
        if path.stat().st_size > FILE_MAX:
            _refuse(path, f"it is larger than {FILE_MAX >> 20} MiB")
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="twin-fmu-") as place:
            _check(archive, path)
            folder = Path(place)
            archive.extractall(folder / "fmu")
            yield folder
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read it: {error.strerror or error}", path=str(path)) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError("VALUE_INVALID", f"no sound FMU: {error}", path=str(path)) from error


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if len(entries) > ENTRIES_MAX or sum(e.file_size for e in entries) > UNPACKED_MAX:
        _refuse(path, f"it holds more than {ENTRIES_MAX} files or {UNPACKED_MAX >> 20} MiB")
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
            _refuse(path, f"it holds a file called {entry.filename[:60]!r}")
    xml = next((e for e in entries if e.filename == "modelDescription.xml"), None)
    if xml is None or xml.file_size > XML_MAX:
        _refuse(path, "it holds no modelDescription.xml of a sane size")
    # Entities could read files of this machine or unfold to gigabytes; the standard needs none.
    if b"<!DOCTYPE" in archive.read(xml) or b"<!ENTITY" in archive.read(xml):
        _refuse(path, "its modelDescription.xml declares entities")


def _child(verb: str, folder: Path, job: Mapping[str, Any], limit_s: float, path: Path) -> None:
    """Runs the child in a session of its own, with nothing of our environment but the search path."""
    (folder / "job.json").write_text(json.dumps(job))
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "twinmodel.importers.fmu_child", verb, str(folder)]
    with (
        (folder / "words").open("wb") as words,
        subprocess.Popen(  # noqa: S603 - our own module
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            start_new_session=True,
        ) as child,
    ):
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            message = f"the FMU has not finished within {limit_s:g} s"
            raise InputError("LIMIT_EXCEEDED", message, hint="give a longer --limit", path=str(path)) from error
        finally:
            # Also what the FMU may have started.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode:
        with (folder / "words").open("rb") as file:
            lines = file.read(1 << 20).decode(errors="replace").strip().splitlines()
        what = "it cannot be read" if verb == "describe" else "it ended by an error"
        ended = f"it ended by signal {-child.returncode}" if child.returncode < 0 else what
        _refuse(path, f"{ended}: {lines[-1][:_TELL] if lines else 'it said nothing'}")


def _described(folder: Path, path: Path) -> Description:
    try:
        told = _Told.model_validate_json((folder / DESCRIPTION).read_bytes())
    except ValidationError as error:
        raise ConfigError("VALUE_INVALID", "its description cannot be understood", path=str(path)) from error
    real = [v for v in told.variables if v.type in _NUMBERS and not v.array]
    found = {
        causality: tuple(Variable(v.name, _unit(v.unit)) for v in real if v.causality == causality)
        for causality in ("input", "output")
    }
    if not found["output"]:
        _refuse(path, "it has no output that is a real number")
    offered = (("CoSimulation", told.co_simulation), ("ModelExchange", told.model_exchange))
    kinds = tuple(kind for kind, known in offered if known)
    if not kinds:
        _refuse(path, "it is neither for co-simulation nor for model exchange")
    try:
        dt_ns = round(float(told.step_s or 0.0) * 1e9)
    except (ValueError, OverflowError):
        dt_ns = 0
    parameters = {v.name: v.start for v in real if v.causality == "parameter"}
    return Description(
        told.name, told.generator, told.fmi_version, kinds, found["input"], found["output"], parameters, max(dt_ns, 0)
    )


def _unit(text: str) -> str:
    try:
        parse(text)
    except InputError:
        return ""
    return text


def _filled(u: F64) -> F64:
    """Inputs without holes."""
    rows = np.where(np.isnan(u), 0, np.arange(1, len(u) + 1)[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.take_along_axis(np.vstack([np.zeros((1, u.shape[1])), u]), last, axis=0)


def _refuse(path: Path, message: str) -> NoReturn:
    raise ConfigError("VALUE_INVALID", message, path=str(path))
