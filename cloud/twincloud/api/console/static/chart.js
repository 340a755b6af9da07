// Trend charts over uPlot: grey by default, red and amber only for what is an exception; all share one time axis.
/* global uPlot */
import { clock, date, isUTC, number } from "./format.js";

let colours = null;
const css = (name) => (colours ??= getComputedStyle(document.documentElement)).getPropertyValue(`--${name}`).trim();
addEventListener("look", () => { colours = null; });

/** What all charts show: the window in seconds, and whether its values are old. */
export const view = { from: 0, to: 1, stale: false };

const paint = (name) => () => css(view.stale ? "stale" : name);
/** Bands let the grid, the line and the points shine through, also where they are old. */
const wash = (name) => () => view.stale ? css("stale") + css(name).slice(-2) : css(name);
/** What lies between extremes: so thin that all else is seen through it. */
const veil = () => css(view.stale ? "stale" : "ink") + "2a";
const FONT = '11px "Segoe UI", system-ui, sans-serif';
const AXIS_PX = 58;
const dots = (name, { size = 4, hollow = false } = {}) => ({
  paths: () => null,
  points: { show: true, size, width: hollow ? 1.2 : 0, stroke: paint(name), fill: hollow ? () => css("panel") : paint(name) },
});
/** Solid dots as one path of squares: at four pixels nobody sees the corners, and it draws several times faster. */
const specks = (name, size = 3) => ({
  width: 0,
  fill: paint(name),
  points: { show: false },
  paths: (u, k, first, last) => {
    const path = new Path2D();
    const [xs, ys] = [u.data[0], u.data[k]];
    const side = size * devicePixelRatio;
    for (let i = first; i <= last; i += 1) {
      if (ys[i] != null) path.rect(Math.round(u.valToPos(xs[i], "x", true) - side / 2), Math.round(u.valToPos(ys[i], "y", true) - side / 2), side, side);
    }
    return { stroke: null, fill: path, clip: null, band: null, gaps: null, flags: 0 };
  },
});
const stroke = (name, width = 1, more = {}) => ({ stroke: paint(name), width, points: { show: false }, ...more });
const unseen = { stroke: "transparent", width: 0, points: { show: false } };

const KINDS = {
  band: {
    height: 216,
    series: [unseen, unseen, unseen, unseen, stroke("model", 1.5), specks("ink"), specks("bad", 4), dots("ink", { size: 5, hollow: true }), dots("faint", { size: 5, hollow: true }), unseen, unseen],
    bands: [{ series: [1, 2], fill: wash("wide") }, { series: [3, 4], fill: wash("band") }, { series: [10, 11], fill: veil }],
    columns: ({ model, points }) => uPlot.join([model, points], [[2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1]]),
  },
  residual: {
    height: 76,
    series: [stroke("line", 1), specks("bad", 4), ...["faint", "faint"].map((c) => stroke(c, 1, { dash: [4, 4] })), ...["faint", "faint"].map((c) => stroke(c, 1, { dash: [1, 3] }))],
    marks: [[0, "", "grid2"]],
    columns: (columns) => columns,
  },
  drift: {
    height: 62,
    series: [stroke("line", 1), stroke("warn", 2)],
    marks: [[1, "limit 1.0", "faint"]],
    range: (u, low, high) => [0, Math.max(1.25, (high ?? 0) * 1.1)],
    columns: (columns) => columns,
  },
  input: { height: 92, series: [stroke("line", 1), dots("faint", { size: 5, hollow: true }), unseen, unseen], bands: [{ series: [3, 4], fill: veil }], columns: (columns) => columns },
};

/** Time labels: hours and minutes, seconds when zoomed in, the date where a day begins. */
function times(u, splits, axis, space, step) {
  return splits.map((s, i) => {
    const ms = s * 1000;
    if (step >= 86400) return date(ms).slice(5);
    return clock(ms, step < 60) + (i === 0 && step >= 3600 ? ` ${date(ms).slice(5)}` : "");
  });
}

function rule(u, [value, text, colour]) {
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = css(colour);
  ctx.setLineDash(text ? [6, 3] : []);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = FONT.replace("11px", `${10 * devicePixelRatio}px`);
  ctx.textAlign = "right";
  ctx.textBaseline = "bottom";
  if (text) { ctx.fillStyle = css("muted"); ctx.fillText(text, bbox.left + bbox.width - 4, y - 2); }
  ctx.restore();
}

/** Makes a chart of `kind` in `host`; `onCursor(t)` gets seconds, or null when the pointer left. */
export function chart(host, kind, { lowest = false, onCursor } = {}) {
  const { height, series, bands, marks = [], range, columns } = KINDS[kind];
  const grid = { stroke: () => css("grid"), width: 1 };
  const axis = { stroke: () => css("muted"), font: FONT, grid, ticks: { show: false } };
  const plot = new uPlot({
    width: Math.max(200, host.clientWidth),
    height: height + (lowest ? 22 : 0),
    legend: { show: false },
    padding: [6, 10, lowest ? 0 : 4, 0],
    tzDate: (s) => isUTC() ? uPlot.tzDate(new Date(s * 1000), "Etc/UTC") : new Date(s * 1000),
    cursor: { sync: { key: "twin" }, points: { show: false }, drag: { x: false, y: false }, y: false },
    scales: { x: { range: () => [view.from, view.to] }, ...(range && { y: { range } }) },
    axes: [
      { ...axis, size: lowest ? 26 : 0, gap: 4, space: 76, values: lowest ? times : (u, splits) => splits.map(() => "") },
      { ...axis, size: AXIS_PX, gap: 6, space: kind === "band" ? 34 : 18, values: (u, splits) => splits.map((v) => number(v, 4).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "")) },
    ],
    series: [{}, ...series],
    bands,
    hooks: {
      draw: [(u) => marks.forEach((mark) => rule(u, mark))],
      setCursor: [(u) => onCursor?.(u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : null)],
    },
  }, [[], ...series.map(() => [])], host);
  host.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -8, ArrowRight: 8 }[event.key];
    if (event.key === "Escape") plot.setCursor({ left: -10, top: -10 });
    if (!step) return;
    const left = plot.cursor.left >= 0 ? plot.cursor.left : plot.over.clientWidth;
    plot.setCursor({ left: Math.min(plot.over.clientWidth - 1, Math.max(0, left + step)), top: 10 });
    event.preventDefault();
  });
  return {
    kind,
    draw: (facts) => plot.setData(columns(facts)),
    slide: () => plot.setScale("x", { min: view.from, max: view.to }),
    repaint: () => plot.redraw(false, true),
    resize: () => plot.setSize({ width: Math.max(200, host.clientWidth), height: height + (lowest ? 22 : 0) }),
    get points() { return plot.data[0].length; },
  };
}
