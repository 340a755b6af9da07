"""The curves of a back-test as one SVG file that asks no network and needs no library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from twinmodel.clock import SECOND_NS

WIDTH: Final = 960
LEFT, RIGHT = 70, 16
PANEL, STRIP, HEAD, GAP = 200, 90, 34, 46
Curve = Sequence[float | None]
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#333}.h{font-size:14px;font-weight:600}.axis{stroke:#bbb;fill:none}"
    ".measured{stroke:#222}.candidate{stroke:#0b66c3}.against{stroke:#c2570c;stroke-dasharray:5 3}"
    ".line{fill:none;stroke-width:1.4}.band{fill:#0b66c3;fill-opacity:.14;stroke:none}"
)
NAMES: Final = {"measured": "measured", "candidate": "candidate", "against": "present"}


def draw(result: Mapping[str, Any]) -> str:
    """An SVG document: for each output the curves with the candidate's 2-sigma band, and the errors below.

    Args:
        result: of a back-test.
    """
    curves: Mapping[str, Mapping[str, Any]] = result["plot"]
    height = HEAD + len(curves) * (PANEL + STRIP + 2 * GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style><rect width='100%' height='100%' fill='#fff'/>",
        f'<text class="h" x="{LEFT}" y="20">{_title(result)}</text>',
    ]
    top = HEAD
    for output, some in curves.items():
        unit = result["units"].get(output, "")
        label = f"{output} in {unit}" if unit else output
        parts += _panel(some, label, top)
        parts += _strip(some, f"mean absolute error of {label}", top + PANEL + GAP)
        top += PANEL + STRIP + 2 * GAP
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _title(result: Mapping[str, Any]) -> str:
    against = result.get("against")
    other = f" against {against['model']}" if against else ""
    return html.escape(f"Back-test of {result['candidate']['model']}{other}")


def _panel(some: Mapping[str, Any], label: str, top: int) -> list[str]:
    """Measured and predicted, with the band."""
    lines = {name: some[name] for name in NAMES if name in some}
    middle, sigma = some.get("candidate", ()), some.get("sigma", ())
    low = [None if m is None or s is None else m - 2 * s for m, s in zip(middle, sigma, strict=True)]
    high = [None if m is None or s is None else m + 2 * s for m, s in zip(middle, sigma, strict=True)]
    scale = _Scale.over([*lines.values(), low, high], some["t_ns"], top, PANEL)
    parts = [*scale.frame(label), *scale.band(low, high)]
    parts += [part for name, values in lines.items() for part in scale.line(values, name)]
    return parts + _legend(lines, top)


def _strip(some: Mapping[str, Any], label: str, top: int) -> list[str]:
    """Errors of both models."""
    lines = {name: some[f"{name}_error"] for name in ("candidate", "against") if f"{name}_error" in some}
    scale = _Scale.over([*lines.values(), [0.0]], some["t_ns"], top, STRIP)
    return [*scale.frame(label), *(part for name, values in lines.items() for part in scale.line(values, name))]


def _legend(lines: Mapping[str, Curve], top: int) -> list[str]:
    parts = []
    for place, name in enumerate(lines):
        x = WIDTH - RIGHT - 110 * (len(lines) - place)
        parts.append(f'<path class="line {name}" d="M{x} {top - 5}h24"/>')
        parts.append(f'<text x="{x + 30}" y="{top - 1}">{NAMES[name]}</text>')
    return parts


class _Scale:
    """A rectangle of the drawing, with times across and values up."""

    def __init__(self, times: Sequence[int], low: float, high: float, top: int, height: int) -> None:
        self.times, self.low, self.high, self.top, self.height = times, low, high, top, height

    @staticmethod
    def over(curves: Sequence[Curve], times: Sequence[int], top: int, height: int) -> _Scale:
        """Wide enough for all curves."""
        values = [v for curve in curves for v in curve if v is not None]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = 0.05 * (high - low) or 0.5 * max(abs(high), 1e-9)
        return _Scale(times, low - room, high + room, top, height)

    def x(self, t_ns: int) -> float:
        first, last = self.times[0], self.times[-1]
        return LEFT + (WIDTH - LEFT - RIGHT) * (t_ns - first) / max(last - first, 1)

    def y(self, value: float) -> float:
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def point(self, place: int, value: float) -> str:
        return f"{self.x(self.times[place]):.1f} {self.y(value):.1f}"

    def line(self, values: Curve, name: str) -> list[str]:
        """A path, with holes where there is no value."""
        steps, pen = [], "M"
        for place, value in enumerate(values):
            if value is not None:
                steps.append(f"{pen}{self.point(place, value)}")
            pen = "M" if value is None else "L"
        return [f'<path class="line {name}" d="{"".join(steps)}"/>'] if steps else []

    def band(self, low: Curve, high: Curve) -> list[str]:
        """Polygons between two curves."""
        parts: list[str] = []
        run: list[int] = []
        for place in [*range(len(low)), -1]:
            if place >= 0 and low[place] is not None and high[place] is not None:
                run.append(place)
            elif run:
                up = [self.point(p, v) for p in run if (v := high[p]) is not None]
                down = [self.point(p, v) for p in reversed(run) if (v := low[p]) is not None]
                parts.append(f'<path class="band" d="M{"L".join([*up, *down])}Z"/>')
                run = []
        return parts

    def frame(self, label: str) -> list[str]:
        """Axes with their figures."""
        bottom, right = self.top + self.height, WIDTH - RIGHT
        parts = [f'<path class="axis" d="M{LEFT} {self.top}V{bottom}H{right}"/>']
        parts.append(f'<text x="{LEFT}" y="{self.top - 1}">{html.escape(label)}</text>')
        for value in _ticks(self.low, self.high):
            y = self.y(value)
            parts.append(f'<path class="axis" d="M{LEFT - 4} {y:.1f}H{LEFT}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for t_ns, anchor in ((self.times[0], "start"), (self.times[-1], "end")):
            said = datetime.fromtimestamp(t_ns // SECOND_NS, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            parts.append(f'<text x="{self.x(t_ns):.1f}" y="{bottom + 16}" text-anchor="{anchor}">{said}</text>')
        return parts


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round values."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]
