"""A fit from end to end: data and model file in; new model file, unsigned package, report and figures out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twinmodel.equations.load import Document
from twinmodel.equations.revise import dump, with_params
from twinmodel.errors import InputError
from twinmodel.fit.calibrate import Calibration, Settings, calibrate
from twinmodel.fit.noise import Kernel, estimate_noise
from twinmodel.fit.report import Story, page, pictures, summary
from twinmodel.fit.segments import Measured, cut, window
from twinmodel.package.archive import model_id
from twinmodel.package.build import build_document


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a fit gives.

    Attributes:
        text: the new model file, comments kept.
        package: its unsigned package.
        story: what the report tells.
        figures: the summary, ready for JSON.
    """

    text: str
    package: bytes
    story: Story
    figures: dict[str, Any]

    @property
    def calibration(self) -> Calibration:
        """What was found."""
        return self.story.calibration


def fit_model(
    document: Document,
    data: Measured,
    random: Random,
    settings: Settings,
    *,
    holdout: float = 0.3,
    version: str | None = None,
    step: Kernel | None = None,
) -> Outcome:
    """Fits a model file to data.

    Args:
        document: the model file.
        data: what was measured, at the ticks of the model.
        random: where the starts come from.
        settings: how to fit.
        holdout: part of the data, the latest, that is not looked at.
        version: of the new model; the next minor one by default.
        step: gives the kernel of a model, for Q and R; None leaves the noise of the file.

    Raises:
        InputError: FIT_DATA_UNFIT or VALUE_INVALID.
        ConflictError: FIT_NOT_IDENTIFIABLE or FIT_FAILED.
    """
    parent = model_id(build_document(document))
    segments = cut(data, holdout=holdout)
    calibration = calibrate(document, segments, random, settings)
    target = version or next_version(document.spec.version)
    if target == document.spec.version:
        raise InputError("VALUE_INVALID", f"version {target} is taken by the model that is fitted")
    fitted = with_params(document, calibration.values, version=target)
    noise = None
    if step is not None:
        noise = estimate_noise(fitted, segments, [r.start for r in calibration.runs], step)
    model = f"{document.spec.model}@{target}"
    story = Story(document, calibration, noise, model, parent, data.sha256)
    changed = {"process": noise.process, "measurement": noise.measurement} if noise is not None else {}
    final = with_params(fitted, {}, noise=changed, provenance=_provenance(story))
    return Outcome(dump(final), build_document(final), story, summary(story))


def next_version(version: str) -> str:
    """The next minor version: a fit keeps the meaning of a model and changes its numbers."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def write_report(outcome: Outcome, folder: Path) -> Path:
    """Writes index.html, the pictures and summary.json into a folder; returns the page.

    Raises:
        OSError: when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pictures(outcome.story)
    for name, raw in drawn.items():
        (folder / name).write_bytes(raw)
    (folder / "summary.json").write_text(json.dumps(outcome.figures, indent=2, sort_keys=True) + "\n")
    target = folder / "index.html"
    target.write_text(page(outcome.story, drawn))
    return target


def _provenance(story: Story) -> dict[str, Any]:
    calibration, noise = story.calibration, story.noise
    metrics: dict[str, float] = {}
    for at, name in enumerate(story.document.spec.outputs):
        metrics[f"rmse_{name}"] = float(calibration.rmse_seen[at])
        metrics[f"rmse_holdout_{name}"] = float(calibration.rmse_hidden[at])
    if noise is not None:
        metrics |= {"coverage_90": noise.covered_seen, "coverage_90_holdout": noise.covered_hidden}
    known = {name[:63]: float(f"{value:.6g}") for name, value in metrics.items() if math.isfinite(value)}
    found: dict[str, Any] = {
        "parent": story.parent_id,
        "window": list(window([r.segment for r in calibration.runs])),
        "metrics": known,
    }
    if story.data_sha256:
        found["data_sha256"] = story.data_sha256
    return found
