// The fleet page: numbers, what needs attention, sites, versions and the table of twins; drawn again as events come.
import { all, get, now, paced } from "./api.js";
import { $, ago, bytes, count, draw, el, moment, path, put, reveal, seconds } from "./format.js";
import { subscribe } from "./stream.js";

const { tenant } = document.body.dataset;
const HEALTH = ["ok", "warn", "bad", "offline"];
const ROWS_MAX = 200;
const ATTENTION_MAX = 12;
const NAMES_MAX = 8;
let twins = [];
let more = false;

const tag = (health) => el("span", { class: `tag ${health}` }, health);
const page = (site, twin) => `/t/${path(tenant)}/${path("sites", site, "twins", twin)}`;
const newest = (t) => Math.max(0, ...t.properties.flatMap((p) => [p.reported, p.estimated]).filter(Boolean).map((v) => Date.parse(v.t_event)));

async function readSummary() {
  const s = await get("/fleet");
  for (const button of document.querySelectorAll(".count")) {
    put(button.firstElementChild, count(s[button.dataset.health]));
    button.classList.toggle("none", !s[button.dataset.health]);
  }
  put($("freshness"), `${seconds(s.freshness_p50_s)} / ${seconds(s.freshness_p95_s)}`);
  put($("lag"), seconds(s.lag_p95_s));
  put($("backlog"), s.backlog_samples ? `${count(s.backlog_samples)} samples, ${bytes(s.backlog_bytes)}` : "none");
  put($("gateways"), `${s.gateways_connected} of ${s.gateways} connected`);
  $("gateways").className = s.gateways_connected < s.gateways ? "warn" : "";
  put($("samples"), count(s.samples));
  attention(s.attention);
  sites(s.sites);
  versions(s.versions);
}

function attention(list) {
  put($("attention-count"), list.length ? count(list.length) : "");
  const causes = grouped(list);
  const shown = causes.slice(0, ATTENTION_MAX);
  if (!list.length) return $("attention").replaceChildren(el("li", { class: "calm" }, "Nothing. All twins report, and agree with their models."));
  draw($("attention"), shown, (g) => g, (g) => el("li", {}, tag(g.severity), el("span", { class: "names" }, ...g.names.slice(0, NAMES_MAX).flatMap(([site, name]) =>
    [g.kind === "gateway" ? el("b", {}, name) : el("a", { href: g.kind === "twin" ? page(site, name) : `/t/${path(tenant)}/alarms` }, name), " "]), g.names.length > NAMES_MAX ? `and ${count(g.names.length - NAMES_MAX)} more` : null),
    el("span", { class: "muted" }, [...new Set(g.names.map(([site]) => site))].join(", ") + (g.kind === "gateway" ? g.names.length > 1 ? ", gateways" : ", gateway" : "")), el("p", {}, g.why)));
  const hidden = causes.slice(ATTENTION_MAX).reduce((sum, g) => sum + g.names.length, 0);
  if (hidden) $("attention").append(el("li", { class: "muted" }, `and ${count(hidden)} more; filter the table below`));
}

/** One line per cause: a gateway that is away, or a clock nobody set, is not told once for each of its twins. */
function grouped(list) {
  const groups = new Map();
  for (const { severity, kind, site, name, why } of list) {
    const key = `${severity} ${kind} ${why}`;
    if (!groups.has(key)) groups.set(key, { severity, kind, why, names: [] });
    groups.get(key).names.push([site, name]);
  }
  return [...groups.values()];
}

function split(parts) {
  const total = Math.max(1, parts.reduce((sum, [, n]) => sum + n, 0));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "splitbar");
  svg.setAttribute("aria-hidden", "true");
  let x = 0;
  for (const [name, n] of parts) {
    const rect = document.createElementNS(svg.namespaceURI, "rect");
    for (const [key, value] of Object.entries({ x, y: 0, width: 100 * n / total, height: 1, class: name })) rect.setAttribute(key, value);
    svg.append(rect);
    x += 100 * n / total;
  }
  return svg;
}

function sites(list) {
  const said = (s) => HEALTH.slice(1).filter((h) => s[h]).map((h) => `${s[h]} ${h}`).join(", ") || (s.ok ? "all ok" : "no twins yet");
  draw($("sites"), list, (s) => s, (s) => el("tr", {}, el("th", { scope: "row" }, s.site),
    el("td", {}, split(HEALTH.map((h) => [h, s[h]])), el("span", { class: "muted" }, said(s))),
    el("td", { class: "num" }, count(HEALTH.reduce((sum, h) => sum + s[h], 0))),
    el("td", { class: `num ${s.gateways_connected < s.gateways ? "warn" : ""}` }, `${s.gateways_connected}/${s.gateways}`)));
  const known = [...$("site").options].map((o) => o.value).slice(1);
  const names = list.map((s) => s.site);
  if (known.join() !== names.join()) $("site").append(...names.filter((n) => !known.includes(n)).map((n) => el("option", {}, n)));
}

function versions(counts) {
  const list = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  draw($("versions-bar"), [list], (l) => l, () => split(list.map(([, n], i) => [`v${Math.min(i, 4)}`, n])));
  draw($("versions"), list, (l) => [l, list.indexOf(l)], ([name, n]) => el("li", {}, el("i", { class: `v${Math.min(list.findIndex((l) => l[0] === name), 4)}` }), name || "no model", el("b", {}, count(n))));
}

function table() {
  const text = $("text").value.trim().toLowerCase();
  const [site, health] = [$("site").value, $("health").value];
  const found = twins.filter((t) => (!site || t.site === site) && (!health || t.health === health)
    && (!text || `${t.site}/${t.twin} ${t.gateway} ${t.model.running} ${t.why}`.toLowerCase().includes(text)));
  put($("twins-count"), found.length === twins.length ? count(twins.length) : `${count(found.length)} of ${count(twins.length)}`);
  const drift = (t) => t.properties.reduce((most, p) => Math.max(most, p.drift ?? -1), -1);
  const skew = (t) => t.model.desired && t.model.desired !== t.model.running ? ` → ${t.model.desired}` : "";
  const key = (t) => [t.site, t.twin, t.health, t.why, t.gateway, t.model];
  draw($("twins"), found.slice(0, ROWS_MAX), key, (t) => el("tr", {}, el("td", {}, tag(t.health)),
    el("th", { scope: "row" }, el("a", { href: page(t.site, t.twin) }, t.twin)), el("td", {}, t.site), el("td", {}, t.gateway),
    el("td", { class: skew(t) ? "warn" : "" }, (t.model.running || "none") + skew(t)), el("td", { class: "num" }), el("td", { class: "num" }), el("td", { class: "why", title: t.why }, t.why)));
  found.slice(0, ROWS_MAX).forEach((t, i) => {
    const { cells } = $("twins").rows[i];
    const at = newest(t);
    const score = drift(t);
    put(cells[5], at ? ago((now() - at) / 1000) : "–");
    cells[5].title = at ? moment(at) : "no value yet";
    put(cells[6], score < 0 ? "" : score.toFixed(2));
    cells[6].className = score >= 1 ? "num warn" : "num";
  });
  const hidden = found.length - ROWS_MAX;
  put($("more"), hidden > 0 || more ? `Showing ${Math.min(found.length, ROWS_MAX)}; narrow the filter, or use twinctl twin list.` : "");
  for (const button of document.querySelectorAll(".count")) button.setAttribute("aria-pressed", button.dataset.health === health);
}

async function readTwins() {
  const site = $("site").value;
  ({ items: twins, more } = await all("/twins", site ? { site } : {}, 1000));
  table();
}

const quietly = (work) => () => work().catch((error) => put($("more"), error.message));
const summarySoon = paced(quietly(readSummary), () => 1_000);
const twinsSoon = paced(quietly(readTwins), () => 2_000);
const tableSoon = paced(async () => table(), () => 250);
const both = () => { summarySoon(); twinsSoon(); };
const begin = () => Promise.all([quietly(readSummary)(), quietly(readTwins)()]).then(reveal);

function take(events) {
  const place = new Map(twins.map((t, i) => [`${t.site}/${t.twin}`, i]));
  for (const { kind, view } of events) {
    const i = kind === "twin" ? place.get(`${view.site}/${view.twin}`) : null;
    if (i >= 0) twins[i] = view;
    else if (i === undefined && !more) twinsSoon();
  }
  summarySoon();
  tableSoon();
}

$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", (event) => event.target === $("site") && more ? twinsSoon() : table());
for (const button of document.querySelectorAll(".count")) {
  button.addEventListener("click", () => {
    $("health").value = $("health").value === button.dataset.health ? "" : button.dataset.health;
    table();
  });
}
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) { event.preventDefault(); $("text").focus(); }
});
begin();
subscribe({}, take, both);
setInterval(table, 1000);
setInterval(both, 30_000);
addEventListener("look", table);
