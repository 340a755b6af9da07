"""Pictures of a fit as PNG bytes, drawn without a screen."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.coverage import WIDTH_90
from twinmodel.fit.calibrate import Calibration, Run

F64 = NDArray[np.float64]
_MEASURED, _BEFORE, _AFTER, _HIDDEN = "#444444", "#c9a227", "#1f6fb2", "#e8eef7"
_LAGS: Final = 60


def free_run(runs: Sequence[Run], output: int, label: str, start_ns: int) -> bytes:
    """Measured values, and the simulations before and after; the part held out is shaded."""
    figure, axes = _canvas(9.0, 3.4)
    first = True
    for run in runs:
        t = _hours(run.segment.t_ns, start_ns)
        said = ("measured", "before", "after") if first else (None, None, None)
        axes.plot(t, run.segment.y[:, output], ".", color=_MEASURED, markersize=2.5, label=said[0])
        axes.plot(t, run.before[:, output], color=_BEFORE, linewidth=1.0, label=said[1])
        axes.plot(t, run.after[:, output], color=_AFTER, linewidth=1.2, label=said[2])
        if run.segment.held_out < run.segment.ticks:
            axes.axvspan(t[run.segment.held_out], t[-1], color=_HIDDEN, zorder=0)
        first = False
    axes.set_xlabel("time in h")
    axes.set_ylabel(label)
    axes.legend(loc="best", frameon=False, fontsize=8)
    return _png(figure)


def residuals(runs: Sequence[Run], output: int, label: str, start_ns: int, band: float) -> bytes:
    """Measured minus simulated over time; the band holds 90 % of what the fit saw, were it Gaussian."""
    figure, axes = _canvas(9.0, 2.6)
    for run in runs:
        t = _hours(run.segment.t_ns, start_ns)
        rest = run.segment.y[:, output] - run.after[:, output]
        axes.plot(t, rest, ".", color=_AFTER, markersize=2.5)
        if run.segment.held_out < run.segment.ticks:
            axes.axvspan(t[run.segment.held_out], t[-1], color=_HIDDEN, zorder=0)
    for side in (-1.0, 1.0):
        axes.axhline(side * WIDTH_90 * band, color=_MEASURED, linewidth=0.7, linestyle="--")
    axes.set_xlabel("time in h")
    axes.set_ylabel(f"residual of {label}")
    return _png(figure)


def autocorrelation_plot(values: F64, count: int, label: str) -> bytes:
    """Autocorrelation of residuals with the limits white noise keeps in 95 % of lags."""
    figure, axes = _canvas(4.4, 2.8)
    axes.bar(np.arange(len(values)), values, color=_AFTER, width=0.8)
    for side in (-1.0, 1.0):
        axes.axhline(side * 1.96 / max(count, 1) ** 0.5, color=_MEASURED, linewidth=0.7, linestyle="--")
    axes.set_xlabel("lag in ticks")
    axes.set_ylabel(f"autocorrelation, {label}")
    return _png(figure)


def correlation_plot(matrix: F64, names: Sequence[str]) -> bytes:
    """Correlation of the parameters' errors."""
    size = 2.2 + 0.35 * len(names)
    figure, axes = _canvas(size + 0.8, size)
    image = axes.imshow(matrix, vmin=-1.0, vmax=1.0, cmap="RdBu_r")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return _png(figure)


def coverage_plot(columns: F64, names: Sequence[str], boxes: dict[str, tuple[float, float]]) -> bytes:
    """How often each input and output was where: histograms, with the regime the model declares."""
    count = len(names)
    figure, grid = _canvas(min(2.6 * count + 1.0, 12.0), 2.4, count)
    every = grid if count > 1 else [grid]
    for axes, column, name in zip(every, columns.T, names, strict=True):
        axes.hist(column[np.isfinite(column)], bins=30, color=_AFTER)
        for edge in boxes.get(name, ()):
            axes.axvline(edge, color=_MEASURED, linewidth=0.8, linestyle="--")
        axes.set_xlabel(name)
    return _png(figure)


def autocorrelation(calibration: Calibration, output: int) -> tuple[F64, int]:
    """Of one output's residuals seen, up to lag 60, and their number; gaps count as nothing."""
    top = np.zeros(_LAGS + 1)
    bottom, count = 0.0, 0
    for run in calibration.runs:
        rest = run.seen[:, output] - run.after[:, output]
        told = np.isfinite(rest)
        if not told.any():
            continue
        rest = np.where(told, rest - rest[told].mean(), 0.0)
        count += int(told.sum())
        bottom += float(rest @ rest)
        top += [float(rest[lag:] @ rest[: len(rest) - lag]) if lag < len(rest) else 0.0 for lag in range(_LAGS + 1)]
    return (top / bottom if bottom > 0.0 else np.zeros(_LAGS + 1)), count


def _hours(t_ns: NDArray[np.int64], start_ns: int) -> F64:
    return np.asarray((t_ns - start_ns) / 3.6e12)


def _canvas(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    # The object interface of matplotlib keeps no global state and opens no window.
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(1, columns)


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    # No program name and no time: the same fit gives the same bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
