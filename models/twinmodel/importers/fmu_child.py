"""The process an FMU is read and run in: `python -m twinmodel.importers.fmu_child describe|simulate FOLDER`.

FOLDER holds `fmu/`, the file taken apart, and `job.json`; results are written there too. An FMU is foreign machine code
that runs with the rights of whoever calls it: the limits set here end one that runs away, they hold back no malice.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from twinmodel.equations.arrays import read_arrays, safetensors

MEMORY_MAX: Final = 4 << 30
FILE_MAX: Final = 512 << 20
DESCRIPTION: Final = "description.json"
INPUTS: Final = "inputs.safetensors"
RESULTS: Final = "results.safetensors"


def main() -> None:
    """Does what the arguments say."""
    verb, folder = sys.argv[1], Path(sys.argv[2])
    job = json.loads((folder / "job.json").read_text())
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(job["cpu_s"]) + 1),
        (resource.RLIMIT_AS, MEMORY_MAX),
        (resource.RLIMIT_FSIZE, FILE_MAX),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard < 0 else min(value, hard), hard))
    if verb == "describe":
        (folder / DESCRIPTION).write_text(json.dumps(describe(folder / "fmu")))
    else:
        (folder / RESULTS).write_bytes(safetensors(simulate(folder, job)))


def describe(folder: Path) -> dict[str, Any]:
    """What modelDescription.xml says; nothing of the FMU runs."""
    from fmpy import read_model_description  # noqa: PLC0415 - after the limits

    found = read_model_description(str(folder))
    experiment = found.defaultExperiment
    variables = [
        {
            "name": v.name,
            "causality": v.causality,
            "type": v.type,
            "unit": v.unit or (v.declaredType.unit if v.declaredType is not None else None) or "",
            "start": str(v.start) if v.start is not None else "",
            "array": bool(getattr(v, "dimensions", None)),
        }
        for v in found.modelVariables
        if v.causality in {"input", "output", "parameter"}
    ]
    return {
        "name": found.modelName,
        "fmi_version": found.fmiVersion,
        "generator": found.generationTool or "",
        "co_simulation": found.coSimulation is not None,
        "model_exchange": found.modelExchange is not None,
        "step_s": str(experiment.stepSize or "") if experiment is not None else "",
        "variables": variables,
    }


def simulate(folder: Path, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Outputs of every segment at its ticks, shape (ticks, p)."""
    from fmpy import simulate_fmu  # noqa: PLC0415 - after the limits

    arrays = read_arrays(folder / INPUTS).values
    exchange = job["kind"] == "ModelExchange"
    results = {}
    for name, u in arrays.items():
        ticks = len(u)
        # One tick more than wanted, so that a segment of one tick has a length too.
        told = simulate_fmu(
            str(folder / "fmu"),
            start_time=0.0,
            stop_time=max(ticks - 1, 1) * job["dt_s"],
            output_interval=job["dt_s"],
            step_size=job["dt_s"] / 100 if exchange else None,
            record_events=False,
            fmi_type=job["kind"],
            start_values=job["start_values"],
            input=_signals(u, job["inputs"], job["dt_s"], exchange=exchange),
            output=job["outputs"],
        )
        t_s = np.arange(ticks) * job["dt_s"]
        columns = [np.interp(t_s, told["time"], told[output].astype(np.float64)) for output in job["outputs"]]
        results[name] = np.stack(columns, axis=1)
    return results


def _signals(u: np.ndarray, names: list[str], dt_s: float, *, exchange: bool) -> np.ndarray | None:
    """Inputs as FMPy reads them, each held from its tick to the next."""
    if not names:
        return None
    t_s = np.arange(len(u)) * dt_s
    if exchange:
        # A time that stands twice is a step: the solver stops there, and interpolates between equal values elsewhere.
        t_s = np.repeat(t_s, 2)[1:]
        u = np.repeat(u, 2, axis=0)[: len(t_s)]
    signals = np.empty(len(u), [("time", np.float64), *((name, np.float64) for name in names)])
    signals["time"] = t_s
    for column, name in enumerate(names):
        signals[name] = u[:, column]
    return signals


if __name__ == "__main__":
    main()
