"""What a fit says of itself: one HTML file that asks no network, PNG pictures, and a summary as JSON."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from twinmodel.equations.load import Document
from twinmodel.fit import plots
from twinmodel.fit.calibrate import Calibration
from twinmodel.fit.noise import NoiseFit
from twinmodel.fit.segments import window

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ccc}
table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.2rem .8rem .2rem 0;text-align:right}
th{font-weight:600;border-bottom:1px solid #ccc}th:first-child,td:first-child{text-align:left}
img{max-width:100%;height:auto}ul{padding-left:1.2rem}.note{color:#555}
"""
_CSP: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Story:
    """Everything a report tells.

    Attributes:
        document: the model before.
        calibration: parameters found.
        noise: Q and R found, None when they were not sought.
        model: `name@version` of the new model.
        parent_id: model id of the old one.
        data_sha256: hash of the data.
    """

    document: Document
    calibration: Calibration
    noise: NoiseFit | None
    model: str
    parent_id: str
    data_sha256: str


def summary(story: Story) -> dict[str, Any]:
    """The figures, ready for JSON: NaN is None."""
    calibration, noise = story.calibration, story.noise
    outputs = list(story.document.spec.outputs)
    rmse = {
        kind: dict(zip(outputs, map(_known, values.tolist()), strict=True))
        for kind, values in (
            ("before", calibration.rmse_before),
            ("seen", calibration.rmse_seen),
            ("hidden", calibration.rmse_hidden),
        )
    }
    params = [
        {"name": p.name, "unit": p.unit, "before": p.before, "after": p.after, "sigma": p.sigma, "at_bound": p.at_bound}
        for p in calibration.params
    ]
    found: dict[str, Any] = {
        "model": story.model,
        "parent": story.parent_id,
        "data_sha256": story.data_sha256,
        "window": list(window([r.segment for r in calibration.runs])),
        "samples": {"seen": calibration.samples_seen, "hidden": calibration.samples_hidden},
        "rmse": rmse,
        "params": params,
        "correlation": calibration.identification.correlation.tolist(),
        "singular_values": calibration.identification.singular.tolist(),
        "starts": [
            {"cost": _known(d.cost), "rounds": d.rounds, "converged": d.converged} for d in calibration.descents
        ],
        "warnings": list(calibration.warnings),
    }
    if noise is not None:
        found["noise"] = {
            "process": noise.process,
            "measurement": noise.measurement,
            "covered_90": {"seen": _known(noise.covered_seen), "hidden": _known(noise.covered_hidden)},
            "log_likelihood": {"before": _known(noise.likelihood[0]), "after": _known(noise.likelihood[1])},
        }
    return found


def pictures(story: Story) -> dict[str, bytes]:
    """PNG pictures by file name."""
    calibration = story.calibration
    start_ns = min(int(r.segment.t_ns[0]) for r in calibration.runs)
    found: dict[str, bytes] = {}
    spec = story.document.spec
    for at, (name, output) in enumerate(spec.outputs.items()):
        if not any(np.isfinite(r.segment.y[:, at]).any() for r in calibration.runs):
            continue
        label = f"{name} in {output.unit}" if output.unit else name
        found[f"run-{name}.png"] = plots.free_run(calibration.runs, at, label, start_ns)
        found[f"residuals-{name}.png"] = plots.residuals(
            calibration.runs, at, label, start_ns, float(calibration.rmse_seen[at])
        )
        values, count = plots.autocorrelation(calibration, at)
        found[f"autocorrelation-{name}.png"] = plots.autocorrelation_plot(values, count, name)
    names = [p.name for p in calibration.params]
    found["correlation.png"] = plots.correlation_plot(calibration.identification.correlation, names)
    columns = np.concatenate([np.concatenate([r.segment.u, r.segment.y], axis=1) for r in calibration.runs])
    ports = [*spec.inputs, *spec.outputs]
    told = [i for i in range(len(ports)) if np.isfinite(columns[:, i]).any()]
    box = {name: (low, high) for name, (low, high) in spec.regime.box.items()}
    found["coverage.png"] = plots.coverage_plot(columns[:, told], [ports[i] for i in told], box)
    return found


def page(story: Story, drawn: dict[str, bytes]) -> str:
    """The report as one HTML file."""
    figures = summary(story)
    first, last = figures["window"]
    told = (
        f"Fitted to {figures['samples']['seen']} measured values from {first} to {last}; "
        f"{figures['samples']['hidden']} later ones were held out. Parent {story.parent_id[:16]}, "
        f"data {story.data_sha256[:16]}."
    )
    parts = [f"<h1>Calibration of {_text(story.model)}</h1>", f'<p class="note">{told}</p>']
    if figures["warnings"]:
        parts.append("<ul>" + "".join(f"<li>{_text(w)}</li>" for w in figures["warnings"]) + "</ul>")
    parts += ["<h2>Parameters</h2>", _params(story)]
    parts += ["<h2>Error of a free run</h2>", _errors(figures)]
    parts += [_image(name, raw) for name, raw in drawn.items() if name.startswith("run-")]
    parts.append('<p class="note">Shaded: held out. "Before" starts from its own best start state.</p>')
    parts.append("<h2>Residuals</h2>")
    parts += [_image(name, raw) for name, raw in drawn.items() if name.startswith(("residuals-", "autocorrelation-"))]
    parts.append(
        '<p class="note">Residuals within the dashed limits of the autocorrelation would be white noise. What stands '
        "out is structure that the equations lack; the sigma of the parameters accounts for it.</p>"
    )
    parts += ["<h2>Correlation of the parameters</h2>", _image("correlation.png", drawn["correlation.png"])]
    singular = ", ".join(f"{v:.3g}" for v in figures["singular_values"])
    parts.append(f'<p class="note">Singular values of the scaled sensitivities: {singular}.</p>')
    parts += ["<h2>Where the data was</h2>", _image("coverage.png", drawn["coverage.png"])]
    if story.noise is not None:
        parts += ["<h2>Noise and intervals</h2>", _noise(story.noise)]
    parts += ["<h2>Starts</h2>", _starts(story.calibration)]
    body = "\n".join(parts)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_CSP}">'
        f"<title>{_text(story.model)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _params(story: Story) -> str:
    rows = []
    for p in story.calibration.params:
        bounds = "" if not (math.isfinite(p.low) or math.isfinite(p.high)) else f"{p.low:g} to {p.high:g}"
        note = "at its bound" if p.at_bound else ""
        rows.append([p.name, f"{p.before:.5g}", f"{p.after:.5g}", f"{p.sigma:.2g}", p.unit, bounds, note])
    return _table(["parameter", "before", "after", "sigma", "unit", "bounds", ""], rows)


def _errors(figures: dict[str, Any]) -> str:
    kinds = ("before", "seen", "hidden")
    rows = [[name, *(_number(figures["rmse"][kind][name]) for kind in kinds)] for name in figures["rmse"]["seen"]]
    return _table(["output", "before (seen)", "after (seen)", "after (held out)"], rows)


def _noise(noise: NoiseFit) -> str:
    rows = [[f"process, {name}", f"{value:.4g}"] for name, value in noise.process.items()]
    rows += [[f"measurement, {name}", f"{value:.4g}"] for name, value in noise.measurement.items()]
    rows.append(["inside 90 % interval, seen", _percent(noise.covered_seen)])
    rows.append(["inside 90 % interval, held out", _percent(noise.covered_hidden)])
    rows.append(["log-likelihood before", f"{noise.likelihood[0]:.1f}"])
    rows.append(["log-likelihood after", f"{noise.likelihood[1]:.1f}"])
    return _table(["of the filter, one tick ahead", ""], rows)


def _starts(calibration: Calibration) -> str:
    rows = [
        [str(at + 1), f"{d.cost:.6g}", str(d.rounds), "yes" if d.converged else "no"]
        for at, d in enumerate(calibration.descents)
    ]
    return _table(["start", "cost", "simulations", "ended"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _image(name: str, raw: bytes) -> str:
    return f'<p><img alt="{_text(name)}" src="data:image/png;base64,{base64.b64encode(raw).decode()}"></p>'


def _text(value: str) -> str:
    return html.escape(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{100.0 * value:.1f} %" if math.isfinite(value) else "none measured"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
