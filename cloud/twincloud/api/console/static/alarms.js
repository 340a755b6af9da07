// The alarms page: one line per cause, the gravest first; acknowledged and shelved here, and told anew as events come.
import { all, get, now, paced, post } from "./api.js";
import { $, ago, count, draw, el, moment, number, path, put, reveal } from "./format.js";
import { subscribe } from "./stream.js";

const { tenant, role } = document.body.dataset;
const RANKS = { urgent: 0, high: 1, medium: 2, low: 3 };
const TAGS = { urgent: "bad", high: "warn", medium: "medium", low: "" };
const STATES = { UNACK: "active", ACKED: "active", RTNUN: "over", NORM: "over", SHELVED: "shelved", SUPPRESSED: "suppressed", OUT_OF_SERVICE: "out of service" };
const HIDDEN = ["SHELVED", "SUPPRESSED", "OUT_OF_SERVICE"];
const ROWS_MAX = 300;
const ACK_MAX = 500;
const OWN = "@gateway";
const mayAct = role !== "viewer";
let alarms = new Map();
let more = false;
let open = new Set();
let chosen = new Set();

const page = (a, twin) => `/t/${path(tenant)}/${path("sites", a.site, "twins", twin)}`;
const toAck = (a) => !a.acked && !HIDDEN.includes(a.state) && !a.pending;

async function read() {
  const query = $("show").value === "all" ? {} : { standing: true };
  const found = await all("/alarms", query, 2_000);
  alarms = new Map(found.items.map((a) => [a.id, a]));
  more = found.more;
  table();
}

/** Alarms that the filters let through, each with its consequences: those it causes, or whose gateway is away. */
function lines() {
  const text = $("text").value.trim().toLowerCase();
  const [site, priority, show] = [$("site").value, $("priority").value, $("show").value];
  const passes = {
    all: () => true,
    standing: (a) => a.state !== "NORM" && !HIDDEN.includes(a.state),
    unacked: (a) => !a.acked && !HIDDEN.includes(a.state),
    active: (a) => a.active && !HIDDEN.includes(a.state),
    hidden: (a) => HIDDEN.includes(a.state),
  }[show];
  // Gateways suppress the consequences of what they know the cause of; below it they are shown all the same.
  const caused = (a) => a.cause && a.state === "SUPPRESSED";
  const some = [...alarms.values()].filter((a) => (passes(a) || caused(a)) && (!site || a.site === site) && (!priority || a.priority === priority)
    && (!text || `${a.alarm} ${a.text} ${a.site}/${a.gateway} ${a.twins.join(" ")} ${a.source} ${a.by} ${a.comment}`.toLowerCase().includes(text)));
  some.sort((a, b) => RANKS[a.priority] - RANKS[b.priority] || a.acked - b.acked || (a.changed < b.changed ? 1 : a.changed > b.changed ? -1 : a.id < b.id ? -1 : 1));
  const causes = new Map();
  for (const a of some) {
    causes.set(`${a.site}/${a.gateway}/${a.alarm}`, a);
    if (!a.cause) causes.set(`${a.site}/${a.gateway}/of ${a.source}`, a);
  }
  const of = (a) => {
    const place = `${a.site}/${a.gateway}`;
    const cause = a.cause && (causes.get(`${place}/${a.cause}`) ?? causes.get(`${place}/of ${a.cause}`));
    const gateway = a.as_of && causes.get(`${place}/${OWN}`);
    return [gateway, cause].find((one) => one && one !== a && one.state !== "NORM");
  };
  const below = new Map();
  for (const a of some) {
    let top = of(a);
    for (let step = 0; top && of(top) && step < 8; step += 1) top = of(top);
    if (top && top !== a) below.set(top.id, [...(below.get(top.id) ?? []), a]);
  }
  const told = new Set([...below.values()].flat().map((a) => a.id));
  return some.filter((a) => passes(a) && !told.has(a.id)).map((a) => ({ alarm: a, below: below.get(a.id) ?? [] }));
}

function value(a) {
  if (a.value == null || (typeof a.value === "string" && a.text.includes(a.value))) return a.quality;
  const limit = a.limit == null ? "" : ` (${number(a.limit)})`;
  return `${number(a.value)}${limit} ${a.unit}`;
}

function state(a) {
  const { action } = a;
  if (a.pending) return [`${STATES[a.state]}; `, el("span", { class: "muted" }, `${action.do.replaceAll("_", " ")} by ${action.by} waits for ${a.gateway}`)];
  if (action?.outcome === "REJECTED" && action.at > a.changed) return [`${STATES[a.state]}; `, el("span", { class: "warn" }, `${action.do} refused: ${action.detail || action.reason}`)];
  if (a.state === "SHELVED" && a.until) return [`shelved until ${moment(Date.parse(a.until))}`];
  return [STATES[a.state] + (a.state === "RTNUN" ? ", not acknowledged" : a.state === "ACKED" ? ", acknowledged" : "")];
}

function row({ alarm: a, below, inner }) {
  const mark = !a.acked && !HIDDEN.includes(a.state);
  const box = mayAct && toAck(a) ? el("input", { type: "checkbox", "data-do": "choose", "aria-label": `choose ${a.alarm}` }) : null;
  if (box) box.checked = chosen.has(a.id);
  const about = [el("b", {}, a.text || a.alarm), a.count > 1 ? el("span", { class: "muted" }, ` ×${count(a.count)}`) : null];
  const fold = below.length ? el("button", { type: "button", class: "fold", "data-do": "fold", "aria-expanded": String(open.has(a.id)) }, `${count(below.length)} ${below.length === 1 ? "consequence" : "consequences"}`) : null;
  const where = [a.alarm === OWN ? "coordinator" : a.alarm, ` · ${a.site}/${a.gateway}`, ...a.twins.slice(0, 4).flatMap((t) => [" · ", el("a", { href: page(a, t) }, t)])];
  const said = [a.by, a.comment].filter(Boolean).join(": ");
  const because = a.cause && !inner ? el("span", { class: "muted" }, ` because of ${a.cause}`) : null;
  const shelved = a.state === "SHELVED";
  const acts = mayAct ? [toAck(a) ? act("ack", "Ack") : null, a.pending ? null : shelved ? act("unshelve", "Unshelve") : HIDDEN.includes(a.state) ? null : act("shelve", "Shelve")] : [];
  return el("tr", { tabindex: "-1", "data-id": a.id, class: inner ? "inner" : mark ? "waits" : null },
    el("td", {}, box), el("td", {}, el("span", { class: `tag ${mark || a.active ? TAGS[a.priority] : ""}` }, a.priority), el("i", { class: mark ? "mark on" : "mark", role: "img", "aria-label": mark ? "not acknowledged" : "acknowledged" })),
    el("th", { scope: "row" }, el("p", {}, ...about, because, fold ? " " : null, fold), el("p", { class: "muted" }, ...where, said ? ` · ${said}` : null)),
    el("td", { class: "state" }, ...state(a)), el("td", { class: "num" }, value(a)), el("td", { class: "num since", "data-at": Date.parse(a.since), title: moment(Date.parse(a.since)) }),
    el("td", { class: "acts" }, ...acts));
}

const act = (name, text) => el("button", { type: "button", "data-do": name }, text);

function table() {
  const found = lines();
  const rows = found.flatMap((line) => [line, ...(open.has(line.alarm.id) ? line.below.map((alarm) => ({ alarm, below: [], inner: true })) : [])]);
  const shown = rows.slice(0, ROWS_MAX);
  const key = ({ alarm: a, below, inner }) => [a.id, a.state, a.changed, a.pending, a.action?.outcome, a.as_of && true, a.count, a.text, a.value, below.length, open.has(a.id), inner, chosen.has(a.id)];
  const focused = document.activeElement?.closest?.("tr")?.dataset.id;
  draw($("alarms"), shown, key, row);
  if (focused && document.activeElement === document.body) at(focused)?.focus();
  if (!$("alarms").querySelector("tr[tabindex='0']")) $("alarms").rows[0]?.setAttribute("tabindex", "0");
  age();
  $("none").hidden = found.length > 0;
  const folded = found.reduce((sum, line) => sum + line.below.length, 0);
  put($("alarms-count"), `${count(found.length)}${folded ? ` and ${count(folded)} consequences` : ""}`);
  put($("more"), rows.length > ROWS_MAX || more ? `Showing ${shown.length}; narrow the filter, or use twinctl alarm list.` : "");
  const waiting = [...alarms.values()].filter(toAck);
  for (const button of document.querySelectorAll(".count")) {
    const some = waiting.filter((a) => a.priority === button.dataset.priority).length;
    put(button.firstElementChild, count(some));
    button.classList.toggle("none", !some);
    button.setAttribute("aria-pressed", String($("priority").value === button.dataset.priority));
  }
  chosen = new Set([...chosen].filter((id) => alarms.has(id) && toAck(alarms.get(id))));
  $("ack-chosen").disabled = !chosen.size;
  put($("ack-chosen"), chosen.size ? `Acknowledge ${count(chosen.size)}` : "Acknowledge chosen");
  const sites = [...new Set([...alarms.values()].map((a) => a.site))].sort();
  const known = [...$("site").options].map((o) => o.value).slice(1);
  $("site").append(...sites.filter((s) => !known.includes(s)).map((s) => el("option", {}, s)));
}

function age() {
  for (const cell of document.querySelectorAll("td.since")) put(cell, ago(Math.max(0, (now() - cell.dataset.at) / 1000)));
}

const at = (id) => document.querySelector(`#alarms tr[data-id="${id}"]`);

/** Asks for a word and the way to go on; resolves to what was entered, or null when it was called off. */
function confirm_(title, some, { span = false } = {}) {
  const dialog = $("confirm");
  put($("confirm-title"), title);
  $("confirm-list").replaceChildren(...some.slice(0, 8).map((a) => el("li", {}, el("b", {}, a.text || a.alarm), ` ${a.site}/${a.gateway}`)));
  if (some.length > 8) $("confirm-list").append(el("li", { class: "muted" }, `and ${count(some.length - 8)} more`));
  $("span").closest("label").hidden = !span;
  $("comment").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "ok" ? { comment: $("comment").value.trim(), for_s: Number($("span").value) } : null), { once: true }));
}

async function acknowledge(some) {
  some = some.slice(0, ACK_MAX);
  if (!some.length) return;
  const said = await confirm_(`Acknowledge ${some.length === 1 ? "this alarm" : `${count(some.length)} alarms`}?`, some);
  if (!said) return;
  const { items } = await post("/alarms:ack", { items: some.map((a) => ({ alarm: a.id, occurrence: a.occurrence })), comment: said.comment });
  const refused = items.filter((one) => one.problem);
  put($("note"), refused.length ? `${refused.length} not acknowledged: ${refused[0].problem.detail}` : "");
  chosen.clear();
  keep(items.map((one) => one.alarm).filter(Boolean));
}

async function shelve(a) {
  const said = await confirm_("Shelve this alarm?", [a], { span: true });
  if (said) keep([await post(`/alarms/${a.id}:shelve`, { ...said, occurrence: a.occurrence })]);
}

async function unshelve(a) {
  keep([await post(`/alarms/${a.id}:unshelve`, {})]);
}

function keep(views) {
  for (const view of views) {
    if (view.state === "NORM" && $("show").value !== "all") alarms.delete(view.id);
    else alarms.set(view.id, view);
  }
  table();
}

const quietly = (work) => (...args) => work(...args).catch((error) => put($("note"), `${error.message} ${error.hint ?? ""}`));
const ACTS = { ack: quietly((a) => acknowledge([a])), shelve: quietly(shelve), unshelve: quietly(unshelve) };
const soon = paced(quietly(read), () => 1_000);
const tableSoon = paced(async () => table(), () => 100);

$("alarms").addEventListener("click", (event) => {
  const asked = event.target.closest("[data-do]")?.dataset.do;
  const a = alarms.get(event.target.closest("tr")?.dataset.id);
  if (!asked || !a) return;
  if (asked === "choose") chosen[event.target.checked ? "add" : "delete"](a.id);
  if (asked === "fold") open[open.has(a.id) ? "delete" : "add"](a.id);
  if (ACTS[asked]) ACTS[asked](a);
  else table();
  if (asked === "fold") at(a.id)?.querySelector(".fold")?.focus();
});
$("alarms").addEventListener("keydown", (event) => {
  const tr = event.target.closest("tr");
  const to = { ArrowDown: tr?.nextElementSibling, ArrowUp: tr?.previousElementSibling, Home: $("alarms").rows[0], End: $("alarms").rows[$("alarms").rows.length - 1] }[event.key];
  if (to) {
    event.preventDefault();
    tr.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
    return;
  }
  if (event.target !== tr || event.ctrlKey || event.metaKey || event.altKey) return;
  const a = alarms.get(tr.dataset.id);
  const button = { a: "ack", s: "shelve", u: "unshelve", Enter: "fold", " ": "choose" }[event.key];
  const wanted = button && tr.querySelector(`[data-do="${button}"]`);
  if (!a || !wanted) return;
  event.preventDefault();
  wanted.click();
});
$("ack-chosen").addEventListener("click", () => quietly(acknowledge)([...chosen].map((id) => alarms.get(id)).filter(Boolean)));
$("call-off").addEventListener("click", () => $("confirm").close(""));
$("confirm").querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); $("confirm").close("ok"); });
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", (event) => event.target === $("show") ? soon() : table());
for (const button of document.querySelectorAll(".count")) {
  button.addEventListener("click", () => {
    $("priority").value = $("priority").value === button.dataset.priority ? "" : button.dataset.priority;
    table();
  });
}
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) { event.preventDefault(); $("text").focus(); }
});
for (const part of document.querySelectorAll(".mine")) part.hidden = !mayAct;

function take(events) {
  for (const { kind, view } of events) {
    if (kind === "alarm" && view.state === "NORM" && $("show").value !== "all") alarms.delete(view.id);
    else if (kind === "alarm") alarms.set(view.id, view);
    // Whether what is known of a gateway's alarms is still so.
    else if (kind === "gateway" && [...alarms.values()].some((a) => a.site === view.site && a.gateway === view.gateway && Boolean(a.as_of) === view.connected && a.alarm !== OWN)) soon();
  }
  tableSoon();
}

quietly(read)().then(reveal);
subscribe({}, take, soon);
setInterval(age, 1_000);
setInterval(soon, 30_000);
addEventListener("look", () => { for (const tr of $("alarms").rows) tr.dataset.key = ""; table(); });
