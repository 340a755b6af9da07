"""`python -m twincloud.replay.judging`: the child of a back-test; gets packages and frames, gives figures.

{models: [blob, blob?], trusted, from_ns, to_ns}  then  {model, t, u, y} ...  then  {end}  -> the result
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from twincloud.operations.child import serve
from twincloud.replay.frames import Frames
from twincloud.replay.running import F64, I64, Trial
from twincloud.replay.scores import EXPECTED, Difference, Score, difference
from twinmodel.errors import InputError
from twinmodel.package import archive, signing

BUCKETS: Final = 360
"""Points of a curve in the plot."""
CALLS: Final = {
    "better": "predicts {output} better than",
    "worse": "predicts {output} worse than",
    "alike": "predicts {output} as well as",
    "undecided": "cannot be told apart on {output} from",
}


class Judge:
    """Both models of a back-test, the candidate first."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.period = (0, 0)

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """See the head of this module."""
        if "models" in message:
            trusted = {key: signing.parse_public_key(pem) for key, pem in message["trusted"].items()}
            self.period = message["from_ns"], message["to_ns"]
            packages = [archive.load(blob, trusted) for blob in message["models"]]
            self.trials = [Trial(package, self.period[0]) for package in packages]
        elif "model" in message:
            trial = self.trials[message["model"]]
            m, p = len(trial.estimator.inputs), len(trial.estimator.outputs)
            t_ns = np.frombuffer(message["t"], np.int64)
            u, y = np.frombuffer(message["u"]), np.frombuffer(message["y"])
            trial.run(Frames(t_ns, u.reshape(len(t_ns), m), y.reshape(len(t_ns), p)))
        if message.get("end"):
            return self.result()
        return {}

    def result(self) -> dict[str, Any]:
        """All figures, ready for JSON: what is not finite is None."""
        candidate = self.trials[0]
        if not any(figures.count for figures in candidate.scores().values()):
            message = "no tick of this period counts: nothing was measured, or the filter was settling throughout"
            raise InputError("REQUEST_INVALID", message, hint="ask for a longer period, or another one")
        against = self.trials[1] if len(self.trials) > 1 else None
        differences = {} if against is None else _differences(candidate, against)
        outputs = [port.name for port in candidate.estimator.outputs]
        units = {port.name: port.unit for port in candidate.estimator.outputs}
        result: dict[str, Any] = {
            "candidate": _described(candidate),
            "against": None if against is None else _described(against),
            "differences": {name: asdict(found) for name, found in differences.items()},
            "expected_coverage": list(EXPECTED),
            "units": units,
            "verdict": _verdict(candidate, against, differences, units),
            "plot": {name: _curves(self.trials, name, self.period) for name in outputs},
        }
        return dict(_plain(result))


def _described(trial: Trial) -> dict[str, Any]:
    estimator = trial.estimator
    return {
        "model": estimator.package.manifest.id,
        "model_id": estimator.package.model_id,
        "tier": estimator.tier,
        "ticks": trial.ticks,
        "ticks_starting": trial.starting,
        "regime_coverage": trial.in_regime / trial.ticks if trial.ticks else math.nan,
        "drift_alarms": trial.alarms,
        "drifting_share": trial.drifting_ticks / trial.ticks if trial.ticks else math.nan,
        "divergences": estimator.divergences,
        "rejections": estimator.rejections,
        "kernel_hash": estimator.state_hash().hex(),
        "outputs": {name: asdict(found) for name, found in trial.scores().items()},
    }


def _differences(candidate: Trial, against: Trial) -> dict[str, Difference]:
    mine, theirs = candidate.columns(), against.columns()
    _, at, other_at = np.intersect1d(mine[0], theirs[0], assume_unique=True, return_indices=True)
    places = {port.name: place for place, port in enumerate(against.estimator.outputs)}
    found = {}
    for place, port in enumerate(candidate.estimator.outputs):
        other = places.get(port.name)
        if other is None or against.estimator.outputs[other].unit != port.unit:
            continue
        errors = (mine[1] - mine[2])[at, place], (theirs[1] - theirs[2])[other_at, other]
        if np.isfinite(errors[0] + errors[1]).any():
            found[port.name] = difference(*errors)
    return found


def _verdict(
    candidate: Trial, against: Trial | None, differences: dict[str, Difference], units: dict[str, str]
) -> list[str]:
    name = candidate.estimator.package.manifest.id
    said = []
    for output, found in differences.items():
        assert against is not None
        call = CALLS[found.call].format(output=output)
        now = found.reference + found.rmse
        text = f"{name} {call} {against.estimator.package.manifest.id}: RMSE {found.reference:.4g} -> {now:.4g}"
        if math.isfinite(found.low):
            interval = f"difference {found.low:+.3g} to {found.high:+.3g} with 95 %"
        else:
            interval = "too few independent samples for an interval"
        said.append(f"{text} {units[output]}, {interval}, {found.effective:.0f} effective of {found.count} samples")
    for output, figures in candidate.scores().items():
        if figures.count:
            said.append(_honesty(name, output, figures))
    if candidate.in_regime < candidate.ticks:
        share = candidate.in_regime / candidate.ticks
        said.append(f"{share:.1%} of the ticks lie where {name} is valid")
    if candidate.alarms:
        said.append(f"{name} raises {candidate.alarms} drift alarms in this period")
    return said


def _honesty(name: str, output: str, figures: Score) -> str:
    two = figures.coverage[1]
    said = "too sure of itself" if two < EXPECTED[1] - 0.03 else "too careful" if two > EXPECTED[1] + 0.03 else "honest"
    white = "white" if figures.white else "not white: something is left to be modelled"
    return (
        f"{name} is {said} about {output}: {two:.1%} within 2 sigma ({EXPECTED[1]:.1%} expected); residuals are {white}"
    )


def _curves(trials: list[Trial], output: str, period: tuple[int, int]) -> dict[str, list[float]]:
    """Means over equal parts of the period; a part without values is NaN."""
    edges = np.linspace(period[0], period[1], BUCKETS + 1).astype(np.int64)
    curves: dict[str, list[float]] = {"t_ns": [int(t) for t in (edges[:-1] + edges[1:]) // 2]}
    for trial, label in zip(trials, ("candidate", "against"), strict=False):
        places = {port.name: place for place, port in enumerate(trial.estimator.outputs)}
        if output not in places:
            continue
        t_ns, y, prediction, spread = trial.columns()
        place = places[output]
        if label == "candidate":
            curves["measured"] = _means(t_ns, y[:, place], edges)
            curves["sigma"] = _means(t_ns, spread[:, place], edges)
        curves[label] = _means(t_ns, prediction[:, place], edges)
        curves[f"{label}_error"] = _means(t_ns, np.abs(y[:, place] - prediction[:, place]), edges)
    return curves


def _means(t_ns: I64, values: F64, edges: I64) -> list[float]:
    told = np.isfinite(values)
    part = np.searchsorted(edges, t_ns[told], "right") - 1
    part = np.clip(part, 0, BUCKETS - 1)
    count = np.bincount(part, minlength=BUCKETS)
    total = np.bincount(part, values[told], minlength=BUCKETS)
    found: list[float] = np.where(count > 0, total / np.maximum(count, 1), np.nan).tolist()
    return found


def _plain(value: Any) -> Any:
    """The same without NaN, infinities and tuples, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    serve(Judge().answer)
