"""Cascaded tanks: fits the model file to the estimation half and runs it free over the validation half.

Nothing is chosen by the validation half. The structure of the model was chosen by fits to the first 70 % of the
estimation half and free runs over the rest of it. As the benchmark allows, the start state of the validation run is
estimated from its first samples (`START_SAMPLES`), with the parameters held; all samples count in the error.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.load import load
from twinmodel.equations.revise import with_params
from twinmodel.fit.calibrate import Settings
from twinmodel.fit.noise import coverage, kernel_of
from twinmodel.fit.publish import Outcome, fit_model, write_report
from twinmodel.fit.segments import Segment
from twinmodel.fit.simulation import simulation
from twinmodel.kernel.rollout import Tier

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "tests/data/cascaded_tanks/dataBenchmark.csv"
TICK_NS = 4_000_000_000
START_SAMPLES = 10
STARTS = 8


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two experiments, as `fit.segments.Measured`."""

    t_ns: NDArray[np.int64]
    u: NDArray[np.float64]
    y: NDArray[np.float64]
    segments: tuple[tuple[int, int], ...]
    sha256: str


def read_halves(path: Path) -> tuple[Half, Half]:
    """Estimation and validation half of the benchmark's file."""
    raw = path.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    rows = list(csv.DictReader(raw.decode().splitlines()))
    t_ns = np.arange(len(rows), dtype=np.int64) * TICK_NS
    halves = []
    for half in ("Est", "Val"):
        u, y = (np.array([[float(row[f"{kind}{half}"])] for row in rows]) for kind in "uy")
        halves.append(Half(t_ns, u, y, ((0, len(rows)),), sha256))
    return halves[0], halves[1]


def solve(
    model: Path, data: Path, *, noise: bool = True, tier: Tier = "auto", cache_dir: Path | None = None
) -> tuple[Outcome, dict[str, float | int | str]]:
    """Fits and judges; the figures are those of the last line."""
    estimation, validation = read_halves(data)
    document = load(model)
    step = kernel_of(tier, cache_dir) if noise else None
    random = Random(0)  # noqa: S311 - starts of a search, the same every time
    outcome = fit_model(
        document, estimation, random, Settings(starts=STARTS, tier=tier, cache_dir=cache_dir), holdout=0.0, step=step
    )
    fitted = with_params(document, outcome.calibration.values)
    params = np.array([p.value for p in fitted.spec.params.values()])
    free = simulation(fitted, tier, cache_dir)
    segment = Segment(validation.t_ns, validation.u, validation.y, 0)
    start = free.start_state(params, segment, samples=START_SAMPLES)
    error = free.run(params, start, validation.u) - validation.y
    figures: dict[str, float | int | str] = {
        "rmse_validation_v": round(float(np.sqrt(np.mean(error * error))), 4),
        "rmse_estimation_v": round(float(outcome.calibration.rmse_seen[0]), 4),
        "parameters_fitted": len(outcome.calibration.params),
        "start_state_samples": START_SAMPLES,
        "data_sha256": validation.sha256,
    }
    if step is not None and outcome.story.noise is not None:
        found = outcome.story.noise
        noisy = with_params(fitted, {}, noise={"process": found.process, "measurement": found.measurement})
        figures["coverage_90_estimation"] = round(found.covered_seen, 4)
        figures["coverage_90_validation"] = round(coverage(noisy, [segment], [start], step), 4)
    return outcome, figures


def main() -> None:
    """Talks on stderr; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(description="cascaded tanks benchmark")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, required=True, help="folder of the fitted model and its report")
    options = parser.parse_args()
    outcome, figures = solve(HERE / "cascaded-tanks.yaml", options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cascaded-tanks.yaml").write_text(outcome.text)
    (options.out / "cascaded-tanks.twin").write_bytes(outcome.package)
    page = write_report(outcome, options.out / "report")
    for param in outcome.calibration.params:
        print(f"{param.name:12} {param.after:10.5g} +- {param.sigma:.2g} {param.unit}", file=sys.stderr)
    print(f"report: {page}", file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
