// The twin page: header, badge, tabs; keeps what it shows as fresh as its stream and says so when it is not.
import { all, base, get, now, paced, stamp } from "./api.js";
import { $, ago, el, moment, number, path, put, reveal, seconds, withSigma } from "./format.js";
import { subscribe } from "./stream.js";
import { follow, layTrends, redraw, refill, setStale, showReadings, usualPeriod } from "./trends.js";

const { tenant, site, twin } = document.body.dataset;
const here = `/${path("sites", site, "twins", twin)}`;
const worst = (list) => ["bad", "uncertain", "good"].map((c) => list.find((q) => q.startsWith(c))).find(Boolean);
const CLOCKS = {
  synced: "follows a time source", holdover: "followed a time source until a while ago",
  free: "follows no time source: times may be off", unset: "has not been set since the start: times may be wrong",
};
let shown = null;
let trouble = "";

const newestMs = () => Math.max(0, ...shown.properties.flatMap((p) => [p.reported, p.estimated]).filter(Boolean).map((v) => Date.parse(v.t_event)));

async function readTwin() {
  try {
    show(await get(here));
  } catch (error) {
    trouble = error.hint ? `${error.message} (${error.hint})` : error.message;
    age();
  }
}

function show(view) {
  shown = view;
  trouble = "";
  layTrends(here, shown.properties);
  header();
  showReadings(shown.properties);
  values();
  modelPairs();
  age();
}

function take(events) {
  const newest = events.findLast((event) => event.kind === "twin");
  if (newest) { show(newest.view); follow(); }
  if (events.some((event) => event.kind === "command")) dispatchEvent(new Event("told"));
  if (events.some((event) => !["twin", "command"].includes(event.kind))) aroundSoon();
}

function header() {
  const { model, properties } = shown;
  const health = $("health");
  health.className = `tag ${shown.health}`;
  put(health, shown.health);
  const skew = model.desired && model.running !== model.desired;
  put($("f-gateway"), `${site} / ${shown.gateway || "no gateway"}`);
  const apart = properties.filter((p) => p.differs).length;
  put($("f-said"), `${shown.state ?? "active"}${shown.definition ? ` · ${shown.definition}` : ""}`);
  put($("f-apart"), apart ? ` · ${apart} not as desired` : "");
  $("f-state").title = Object.entries(shown.tags ?? {}).map(([name, value]) => `${name}=${value}`).join("\n");
  put($("f-model"), model.running ? `${model.running} ${model.tier && `(${model.tier})`}${skew ? `, desired ${model.desired}` : ""}` : model.desired ? `none, desired ${model.desired}` : "none");
  $("f-model").className = skew ? "warn" : "";
  const lags = properties.map((p) => p.reported).filter(Boolean).map((v) => (Date.parse(v.t_committed) - Date.parse(v.t_event)) / 1000);
  put($("f-lag"), lags.length ? seconds(Math.max(...lags)) : "–");
  const drifts = properties.filter((p) => p.drift != null && p.reported);
  const top = drifts.sort((a, b) => b.drift - a.drift)[0];
  put($("f-drift"), top ? `${top.drift.toFixed(2)} / 1.0 ${drifts.length > 1 ? top.name : ""}` : "–");
  $("f-drift").className = top?.drift >= 1 || shown.drifting ? "warn" : "";
  const quality = worst(properties.map((p) => (p.reported ?? p.estimated)?.quality).filter(Boolean)) ?? "–";
  put($("f-quality"), quality);
  $("f-quality").className = quality.startsWith("bad") ? "bad" : quality.startsWith("uncertain") ? "warn" : "";
}

/** Ages move with time, not with data: run each second. */
function age() {
  if (!shown) { put($("why"), trouble || "\u00a0"); return; }
  const newest = newestMs();
  const old = newest ? Math.max(0, (now() - newest) / 1000) : null;
  const limit = Math.max(5, 5 * usualPeriod());
  const live = old != null && old <= limit && !trouble && $("stream").dataset.state === "open";
  const badge = $("badge");
  badge.dataset.state = live ? "live" : old != null && old > 60 ? "old" : "stale";
  put(badge, live ? "live" : old == null ? "no data" : `${old <= limit ? "not streaming" : "stale"} ${seconds(old)}`);
  put($("f-fresh"), ago(old));
  $("f-fresh").className = old == null || old > limit ? "warn" : "";
  setStale(!live);
  put($("why"), trouble || shown.why || (live ? "All readings agree with the model." : `Last value ${newest ? moment(newest) : "never"}.`));
  $("why").classList.toggle("problem", Boolean(trouble));
  for (const cell of document.querySelectorAll("td[data-at]")) put(cell, ago((now() - cell.dataset.at) / 1000));
}

function values() {
  const lines = shown.properties.flatMap((p) => ["reported", "replaced", "estimated", "predicted", "desired"].filter((role) => p[role]).map((role) => [p, p[role]]));
  const body = $("values");
  if (body.childElementCount !== lines.length) {
    body.replaceChildren(...lines.map(() => el("tr", {}, el("th", { scope: "row" }), ...["", "num", "num", "", "", "", "num", "num", ""].map((c) => el("td", { class: c })), el("td", {}, el("button", { type: "button", class: "why-value" }, "why this value")))));
  }
  lines.forEach(([p, v], i) => {
    const cells = body.children[i].children;
    const at = Date.parse(v.t_event);
    const lag = seconds((Date.parse(v.t_committed) - at) / 1000);
    const source = v.origin === "commanded" ? `by ${v.by}` : v.model || p.signal;
    [p.name, v.origin, withSigma(v.value, v.sigma), v.sigma == null ? "" : number(v.sigma, 2), v.unit, v.quality, moment(at), cells[7].textContent, lag, source]
      .forEach((text, k) => put(cells[k], text));
    cells[7].dataset.at = at;
    cells[10].firstChild.dataset.property = p.name;
    cells[10].firstChild.dataset.at = v.t_event;
    cells[9].title = [v.block && `block ${v.block}`, v.model_id && `model id ${v.model_id}`, v.target_time && `for ${v.target_time}`].filter(Boolean).join("\n");
    cells[5].className = v.quality.startsWith("bad") ? "bad" : v.quality.startsWith("good") ? "" : "warn";
  });
}

function modelPairs() {
  const { model } = shown;
  const pairs = { Desired: model.desired, Running: model.running, Digest: model.running_digest, Tier: model.tier, Definition: shown.definition, State: shown.state, Record: shown.record_revision, Directive: model.directive && `${model.directive} ${model.outcome || "open"} ${model.reason}`, Revision: shown.revision };
  const list = $("model");
  if (!list.childElementCount) list.replaceChildren(...Object.keys(pairs).map((name) => el("div", {}, el("dt", {}, name), el("dd"))));
  Object.values(pairs).forEach((text, i) => put(list.children[i].lastElementChild, String(text || "–")));
}

async function readAround() {
  // Only a twin that people have described can be related to others.
  const around = shown?.record_revision ? await get(`${here}/relationships?direction=both&page_size=200`).catch(() => ({ items: [] })) : { items: [] };
  const ends = (r) => el("tr", {}, ...[`${r.site}/${r.twin}`, r.type, `${r.target_site}/${r.target}`, Object.entries(r.properties).map(([name, value]) => `${name} ${value}`).join(", "), r.updated_by].map((text) => el("td", {}, text)));
  $("relations").replaceChildren(...(around.items.length ? around.items.map(ends) : [el("tr", {}, el("td", { colspan: 5, class: "muted" }, "None."))]));
  const gateway = shown?.gateway && await get(`/${path("sites", site, "gateways", shown.gateway)}`).catch(() => null);
  put($("f-clock"), gateway?.clock.toLowerCase() ?? "–");
  $("f-clock").title = CLOCKS[gateway?.clock.toLowerCase()] ?? "";
  $("f-clock").className = ["SYNCED", "synced", undefined].includes(gateway?.clock) ? "" : "warn";
  const { items } = await all("/directives", {}, 500).catch(() => ({ items: [] }));
  const mine = items.filter((d) => d.site === site && d.target.split("/").pop() === twin);
  const row = (d) => el("tr", {}, ...[moment(Date.parse(d.created)), d.kind, d.name, d.outcome || "open", [d.reason, d.detail].filter(Boolean).join(": "), d.created_by, d.ended ? moment(Date.parse(d.ended)) : ""].map((text) => el("td", {}, text)));
  $("directives").replaceChildren(...(mine.length ? mine.map(row) : [el("tr", {}, el("td", { colspan: 7, class: "muted" }, "None yet."))]));
}

function tabs() {
  const list = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const other of list) {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = other !== tab;
    }
  };
  list.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: list.length - 1 }[key];
      if (to == null) return;
      const next = list[(to + list.length) % list.length];
      choose(next);
      next.focus();
    });
  });
}

const field = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");

/** CSV of all roles of one property; reads page after page backwards until the start is reached. */
async function download(event) {
  event.preventDefault();
  const property = $("x-property").value;
  const from = Date.parse(`${$("x-from").value.replace(" ", "T")}Z`);
  let to = Date.parse(`${$("x-to").value.replace(" ", "T")}Z`);
  const lines = new Set();
  for (let page = 0; page < 200 && to > from; page += 1) {
    const history = await get(`${here}/history`, { property, roles: "measured,estimate,sigma,prediction,innovation,drift", from: stamp(from), to: stamp(to), points: 5_000 });
    let oldest = Infinity;
    let cut = false;
    for (const [role, run] of Object.entries(history.series)) {
      run.t_ns.forEach((ns, i) => lines.add(`${new Date(ns / 1e6).toISOString()},${role},${run.value[i] ?? ""},${run.quality[i]},${history.unit}`));
      if (run.truncated) { cut = true; oldest = Math.min(oldest, run.t_ns[0] / 1e6); }
    }
    put($("x-note"), `${lines.size} rows`);
    if (!cut || !(oldest < to)) break;
    to = Math.floor(oldest);
  }
  const link = el("a", { href: URL.createObjectURL(new Blob([`time,role,value,quality,unit\n${[...lines].sort().join("\n")}\n`], { type: "text/csv" })), download: `${site}_${twin}_${property}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
  put($("x-note"), `${lines.size} rows saved.`);
}

function links() {
  const history = `${here}/history?property=${encodeURIComponent(shown?.properties[0]?.name ?? "")}&roles=measured,estimate,sigma`;
  const get_ = (url) => el("li", {}, el("span", { class: "muted" }, "GET"), el("a", { href: base + url }, base + url));
  const run = (line) => el("li", {}, el("span", { class: "muted" }, "$"), el("code", {}, line));
  $("api").replaceChildren(get_(here), get_(history), get_(`/events?site=${site}&twin=${twin}`), run(`twinctl twin show ${site}/${twin} -o json`), run(`twinctl twin history ${site}/${twin} PROPERTY -o json`), run(`twinctl model assign ${site}/${twin} NAME@VERSION --wait`));
  $("x-property").replaceChildren(...(shown?.properties ?? []).map((p) => el("option", {}, p.name)));
}

const soon = paced(readTwin, () => 250);
const aroundSoon = paced(readAround, () => 2_000);
tabs();
$("export").addEventListener("submit", (event) => download(event).catch((error) => put($("x-note"), error.message)));
$("x-from").value = field(now() - 3_600_000);
$("x-to").value = field(now());
await readTwin();
links();
reveal();
subscribe({ site, twin }, take, () => { soon(); refill().catch(() => {}); });
aroundSoon();
setInterval(age, 1000);
setInterval(soon, 15_000);
setInterval(aroundSoon, 15_000);
addEventListener("look", () => { if (shown) { header(); values(); age(); redraw(); } });
