// The trend card: one row per property, its reading at the left and its charts beside it, fed by history and by time.
import { get, now, paced, stamp } from "./api.js";
import { chart, view } from "./chart.js";
import { $, clock, el, moment, number, put, withSigma } from "./format.js";
import { Track } from "./series.js";

const SPANS_S = { live: 300, "1h": 3_600, "24h": 86_400, "7d": 604_800 };
/** Longer ranges are read in buckets, which show every extreme of the span instead of its newest points. */
const RAW_MAX_S = 3_600;
const WINDOW_MIN_S = 60;
const POINTS = 4_000;
const ROLES = { output: "measured,estimate,sigma,innovation,drift", virtual: "estimate,sigma", input: "measured" };
const CHARTS = { output: ["band", "residual", "drift"], virtual: ["band"], input: ["input"] };
const rows = new Map();
let range = "live";
let where = "";
let frame = 0;

const what = (property) => property.estimated ? (property.reported ? "output" : "virtual") : "input";

/** Lays the rows out once per set of properties: outputs first, then what no sensor sees, then inputs. */
export function layTrends(twinPath, properties) {
  where = twinPath;
  const order = ["output", "virtual", "input"];
  const wanted = properties.filter((p) => p.estimated || typeof p.reported?.value !== "string")
    .sort((a, b) => order.indexOf(what(a)) - order.indexOf(what(b)));
  const shape = wanted.map((p) => p.name + what(p)).join();
  if (shape === $("charts").dataset.shape) return;
  $("charts").dataset.shape = shape;
  $("charts").replaceChildren();
  rows.clear();
  wanted.forEach((p, i) => rows.set(p.name, makeRow(p, what(p), i === wanted.length - 1)));
  refill();
}

function makeRow(property, kind, last) {
  const value = el("b", { class: "reading" }, "–");
  const unit = el("span", { class: "unit" }, property.unit === "1" ? "" : property.unit);
  const lines = el("dl", { class: "lines" });
  const at = el("output", { class: "at", for: "charts" });
  const face = el("div", { class: "face" },
    el("h3", {}, property.name, kind === "output" ? null : el("small", {}, kind === "virtual" ? "not measured" : "input")),
    el("p", {}, value, " ", unit), lines, at);
  const plots = el("div", { class: "plots" });
  $("charts").append(el("section", { class: `row ${kind}`, "aria-label": property.name }, face, plots));
  const row = { property, kind, value, lines, at, track: new Track(), charts: [], host: plots };
  row.charts = CHARTS[kind].map((name, k) => {
    const label = { band: "", residual: "residual, 2σ and 3σ", drift: "drift score", input: "" }[name];
    const host = el("div", { class: `plot ${name}`, tabindex: 0, role: "figure", "aria-label": `${property.name} ${name} over time; arrow keys move the cursor` });
    plots.append(host);
    if (label) host.append(el("span", { class: "label", "aria-hidden": "true" }, label));
    const lowest = last || (kind !== "input" && k === CHARTS[kind].length - 1);
    return chart(host, name, { lowest, onCursor: (t) => showAt(row, t) });
  });
  return row;
}

/** What the chart says at the cursor: the newest measured and model value not after `t`. */
function showAt(row, t) {
  if (t == null) return put(row.at, "");
  const { measured, estimate, sigma } = row.track.roles;
  const look = (run) => { const k = run ? run.t.findLastIndex((x) => x <= t) : -1; return k < 0 ? null : run.v[k]; };
  const bits = [(view.to - view.from > 90_000 ? moment : clock)(t * 1000)];
  if (measured) bits.push(`measured ${number(look(measured))}`);
  if (estimate) bits.push(`model ${withSigma(look(estimate), look(sigma))} ± ${number(look(sigma), 2)}`);
  put(row.at, bits.join("\n"));
}

/** Shows the present envelopes at the left of each row. */
export function showReadings(properties) {
  for (const p of properties) {
    const row = rows.get(p.name);
    if (!row) continue;
    row.property = p;
    const head = p.reported ?? p.estimated;
    put(row.value, p.reported ? (p.reported.sigma == null ? number(p.reported.value) : withSigma(p.reported.value, p.reported.sigma)) : withSigma(p.estimated?.value, p.estimated?.sigma));
    // A value that is merely uncertain is still a value: only what is bad is struck through.
    for (const doubt of ["uncertain", "bad"]) row.value.classList.toggle(doubt, Boolean(head?.quality.startsWith(doubt)));
    const facts = [];
    if (p.estimated) facts.push(["model", `${withSigma(p.estimated.value, p.estimated.sigma)} ± ${number(p.estimated.sigma, 2)}`, ""]);
    const spread = row.track.spread == null ? 0 : Math.max(p.estimated?.sigma ?? 0, row.track.spread);
    const z = p.innovation != null && spread ? p.innovation / spread : null;
    if (p.innovation != null && p.reported) facts.push(["residual", number(p.innovation, 2) + (z == null ? "" : ` (${z.toFixed(1).replace("-", "−")}σ)`), Math.abs(z) > 3 ? "bad" : ""]);
    if (p.drift != null && p.reported) facts.push(["drift", `${p.drift.toFixed(2)} / 1.0`, p.drift >= 1 ? "warn" : ""]);
    if (head && !head.quality.startsWith("good")) facts.push(["quality", head.quality, head.quality.startsWith("bad") ? "bad" : "warn"]);
    if (p.replaced) facts.push(["sensor", `${number(p.replaced.value)} ${p.replaced.quality}`, p.replaced.quality.startsWith("bad") ? "bad" : "warn"]);
    if (row.lines.childElementCount !== facts.length) row.lines.replaceChildren(...facts.map(() => el("div", {}, el("dt"), el("dd"))));
    facts.forEach(([name, text, mood], i) => {
      const [dt, dd] = row.lines.children[i].children;
      put(dt, name);
      put(dd, text);
      dd.className = mood;
    });
  }
}

async function load(row, from) {
  const until = now() + 5_000;
  const resolution = row.track.resolution ?? (SPANS_S[range] > RAW_MAX_S ? "auto" : "raw");
  const history = await get(`${where}/history`, { property: row.property.name, roles: ROLES[row.kind], from: stamp(from), to: stamp(until), points: POINTS, resolution });
  row.track.merge(history);
}

/** Reads the whole range again: at first, on another range, after the stream was away, and now and then for late points. */
export async function refill() {
  const asked = range;
  const from = now() - SPANS_S[asked] * 1000;
  await Promise.all([...rows.values()].map(async (row) => {
    const fresh = { ...row, track: new Track() };
    await load(fresh, from);
    if (asked === range) row.track = fresh.track;
  }));
  tellRange();
  redraw();
}

/** Reads what came since the newest point known; called for each burst of events, at a pace that fits the range. */
export const follow = paced(async () => {
  const from = now() - SPANS_S[range] * 1000;
  await Promise.all([...rows.values()].map((row) => {
    const newest = row.track.newest * 1000;
    return load(row, Math.max(from, Number.isFinite(newest) ? newest - 1 : from));
  })).catch(() => {});
  redraw();
}, () => Math.max(250, SPANS_S[range] * 1000 / 1_500));

function tellRange() {
  const cut = [...rows.values()].filter((row) => row.track.truncated);
  const oldest = Math.min(...cut.map((row) => row.track.oldest));
  const newest = Math.max(0, ...[...rows.values()].map((row) => row.track.newest));
  const since = Math.max(0, ...[...rows.values()].map((row) => row.track.keptFrom));
  const kept = since ? ` Not all of it is kept from before ${moment(since)}.` : "";
  put($("range-note"), !newest ? "No values in this range." : cut.length && Number.isFinite(oldest) && range !== "live"
    ? `Only the newest ${POINTS} points of this range are shown, since ${moment(oldest * 1000)}. Download the rest under History.` : kept);
}

/** Start of the window: of the range, or where a history that is younger than it begins. */
function begin(to) {
  const oldest = Math.min(...[...rows.values()].map(({ track }) => track.truncated ? -Infinity : track.oldest));
  const young = Number.isFinite(oldest) ? oldest - (to - oldest) * 0.02 : -Infinity;
  return Math.max(to - SPANS_S[range], Math.min(young, to - WINDOW_MIN_S));
}

/** Draws at the next frame, once, however often it is called. */
export function redraw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    view.to = now() / 1000;
    view.from = begin(view.to);
    let points = 0;
    let newest = 0;
    let resolution = "raw";
    for (const { track, charts } of rows.values()) {
      track.trim(view.to - SPANS_S[range] * 1.2);
      const facts = { band: () => track.band(), residual: () => track.residual(), drift: () => track.drift(), input: () => track.line() };
      for (const plot of charts) { plot.draw(facts[plot.kind]()); points += plot.points; }
      newest = Math.max(newest, track.newest);
      resolution = track.resolution ?? resolution;
    }
    Object.assign($("charts").dataset, { points, newest, resolution, span: Math.round(view.to - view.from), frames: Number($("charts").dataset.frames ?? 0) + 1 });
  });
}

/** Dims all charts while their values are old, so that nothing old looks live. */
export function setStale(stale) {
  if (stale === view.stale) return;
  view.stale = stale;
  $("charts").classList.toggle("stale", stale);
  redraw();
}

/** Usual time between samples of the fastest property, in seconds. */
export const usualPeriod = () => Math.min(10, ...[...rows.values()].map((row) => row.track.period));

for (const button of document.querySelectorAll("[data-range]")) {
  button.addEventListener("click", () => {
    range = button.dataset.range;
    for (const other of document.querySelectorAll("[data-range]")) other.setAttribute("aria-pressed", other === button);
    for (const row of rows.values()) row.track.clear();
    refill().catch((error) => put($("range-note"), error.message));
  });
}
new ResizeObserver(() => { for (const row of rows.values()) for (const plot of row.charts) plot.resize(); }).observe($("charts"));
addEventListener("look", () => { for (const row of rows.values()) for (const plot of row.charts) plot.repaint(); });
setInterval(redraw, 1000);
setInterval(() => refill().catch(() => {}), 60_000);
