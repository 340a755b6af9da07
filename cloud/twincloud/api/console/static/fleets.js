// Fleets of the fleet page: one that is chosen, in numbers with their uncertainty and completeness, and who stands out.
import { get, paced } from "./api.js";
import { $, count, el, number, path, put, withSigma } from "./format.js";

const { tenant } = document.body.dataset;
const OUTLIERS_MAX = 8;
const MEMBERS_MAX = 6;
const page = (site, twin) => `/t/${path(tenant)}/${path("sites", site, "twins", twin)}`;
const chosen = $("fleet-name");
const kept = `fleet of ${tenant}`;
let drawn = "";

async function readNames() {
  const { items } = await get("/fleets", { page_size: 1000 });
  const names = items.map((f) => f.fleet);
  $("fleets-none").hidden = items.length > 0;
  $("fleets-some").hidden = !items.length;
  chosen.closest("form").hidden = !items.length;
  const wanted = chosen.value || localStorage.getItem(kept);
  if ([...chosen.options].map((o) => o.value).join() !== names.join()) chosen.replaceChildren(...names.map((n) => el("option", {}, n)));
  if (names.includes(wanted)) chosen.value = wanted;
  const fleet = items.find((f) => f.fleet === chosen.value);
  if (fleet) put($("fleet-about"), [fleet.description, fleet.filter || "members by name"].filter(Boolean).join(" · "));
  return chosen.value;
}

async function read() {
  const name = await readNames();
  if (!name) return;
  const [numbers, strange] = await Promise.all([get(`/${path("fleets", name, "aggregate")}`), get(`/${path("fleets", name, "outliers")}`)]);
  put($("fleet-count"), `${count(numbers.members)} twins`);
  const facts = JSON.stringify([numbers.properties, strange.items]);
  if (facts === drawn) return;
  drawn = facts;
  $("aggregate").replaceChildren(...numbers.properties.map(row));
  if (!numbers.properties.length) $("aggregate").append(el("tr", {}, el("td", { colspan: 8, class: "muted" }, "No member has a property yet.")));
  outliers(strange.items);
}

function row(p) {
  const short = p.count < p.members;
  const u = p.uncertainty;
  const sigma = (value, s) => value == null ? "–" : s > 0 ? `${withSigma(value, s)} ± ${number(s, 2)}` : number(value);
  const median = p.quantiles.find((x) => x.q === 0.5);
  const shared = u && u.versions.map((v) => `${v.model || "no model"}: ${count(v.count)} twins share ${number(v.sigma_common, 2)} ${p.unit} (${v.source})`).join("\n");
  const missing = Object.entries(p.missing).map(([why, n]) => `${count(n)} ${why}`).join(", ");
  const named = p.missing_members.slice(0, MEMBERS_MAX).flatMap((m) => [el("a", { href: page(m.site, m.twin), title: m.why }, m.twin), " "]);
  const rest = p.members - p.count - Math.min(p.missing_members.length, MEMBERS_MAX);
  return el("tr", {}, el("th", { scope: "row" }, p.property, " ", el("span", { class: "unit" }, p.unit)), el("td", { class: "muted" }, p.role),
    el("td", { class: `num ${short ? "warn" : ""}` }, `${count(p.count)} of ${count(p.members)}`),
    el("td", { class: "num", title: shared || (p.count ? "measurements carry no sigma" : null) }, el("b", {}, sigma(p.mean, u?.mean))),
    el("td", { class: "num" }, sigma(p.total, u?.total)),
    el("td", { class: "num" }, `${number(p.minimum)} / ${number(median?.value)} / ${number(p.maximum)}`),
    el("td", { class: `num ${p.outliers ? "warn" : ""}` }, p.outliers ? count(p.outliers) : "none"),
    el("td", { class: "why" }, missing ? `${missing}: ` : "", ...named, missing && rest > 0 ? `and ${count(rest)} more` : ""));
}

function outliers(list) {
  put($("outliers-count"), list.length ? count(list.length) : "");
  const lines = list.slice(0, OUTLIERS_MAX).map((o) => el("li", {}, el("span", { class: "tag warn" }, o.direction), el("a", { href: page(o.site, o.twin) }, o.twin), el("span", { class: "muted" }, o.site), el("p", {}, o.why)));
  if (!list.length) lines.push(el("li", { class: "calm" }, "None. No twin is far from its peers for its own uncertainty."));
  if (list.length > OUTLIERS_MAX) lines.push(el("li", { class: "muted" }, `and ${count(list.length - OUTLIERS_MAX)} more; twinctl fleet outliers ${chosen.value}`));
  $("outliers").replaceChildren(...lines);
}

const quietly = () => read().catch((error) => put($("fleet-about"), error.message));
const soon = paced(quietly, () => 1_000);
chosen.addEventListener("change", () => { localStorage.setItem(kept, chosen.value); drawn = ""; soon(); });
chosen.closest("form").addEventListener("submit", (event) => event.preventDefault());
soon();
setInterval(soon, 5_000);
