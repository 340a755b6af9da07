// Commands of the twin: asks, shows once more what would be done, sends it once; lists each step, lets another person approve.
import { base, get, now, paced, Refused } from "./api.js";
import { $, ago, el, moment, path, put } from "./format.js";

const { site, twin } = document.body.dataset;
const here = `/${path("sites", site, "twins", twin)}`;
const CALM = { SUCCEEDED: "", FAILED: "bad", UNKNOWN: "warn", WAITING_APPROVAL: "" };
const EDIT = ["operator", "engineer", "admin"];
const HOW = { write: "write once", hold: "hold", call: "call" };
let shown = null;
let told = { items: [] };
let me = { name: "", role: "viewer" };
let order = null;
let key = "";

const note = $("c-note");
const said = (one) => (one === null ? "" : Array.isArray(one) ? one.map(said).join(", ") : typeof one === "number" ? String(Number(one.toPrecision(7))) : String(one));
const chosen = () => told.items[$("c-target").selectedIndex];
const nameOf = (t) => t.property || t.target;
const newestOf = (t) => {
  const p = shown?.properties.find((one) => t.property && one.name === t.property);
  return p?.replaced ?? p?.reported;
};
const people = (n) => `${n} other ${n > 1 ? "people" : "person"}`;

function bounds(t) {
  const ends = [t.low, t.high].map((end) => (end === null ? "" : said(end)));
  return ends.some(Boolean) ? `${ends.join(" … ")} ${t.unit}`.trim() : t.unit;
}

/** What was typed, as the point would have it. */
function typed(kind, text) {
  if (kind === "text") return text;
  if (/^(true|on)$/i.test(text)) return true;
  if (/^(false|off)$/i.test(text)) return false;
  const digits = text.replace("−", "-").replace(/^([^,]*),([^,]*)$/, "$1.$2");
  return text !== "" && Number.isFinite(Number(digits)) ? Number(digits) : text;
}

/** Arguments of a method: as JSON has them, else each as it looks. */
function several(text) {
  try {
    const values = JSON.parse(`[${text}]`);
    if (values.every((value) => ["number", "string", "boolean"].includes(typeof value))) return values;
  } catch { /* not JSON */ }
  return text.split(",").map((one) => typed("", one.trim()));
}

async function open() {
  let past;
  [shown, told, me, past] = await Promise.all([get(here), get(`${here}/commandables`), fetch("/api/v1/session").then((answer) => answer.json()), newest()]);
  const groups = new Map();
  for (const t of told.items) {
    const group = t.property ? "Of this twin" : t.kinds.includes("call") ? "Methods" : "Other points of its gateway";
    const facts = [nameOf(t), bounds(t), t.two_persons && "class B"].filter(Boolean).join(" · ");
    if (!groups.has(group)) groups.set(group, el("optgroup", { label: group }));
    groups.get(group).append(el("option", { value: nameOf(t) }, facts));
  }
  $("c-target").replaceChildren(...groups.values());
  const last = past.find((c) => told.items.some((t) => t.target === c.target));
  if (last) $("c-target").selectedIndex = told.items.findIndex((t) => t.target === last.target);
  const may = EDIT.includes(me.role);
  $("command").hidden = !may || !told.items.length;
  if (!may) put(note, `Signed in as ${me.name} (${me.role}): commands need the role operator.`);
  else if (!told.items.length) put(note, told.told ? `Gateway ${told.gateway} lets nothing be commanded: its site.yaml allows nothing.` : "No property of this twin is bound to a point of a device.");
  else if (!told.connected) put(note, `Gateway ${told.gateway} is away: nothing can be sent now.`);
  offer();
  fill(past);
}

/** What can be done to the target, and what it takes. */
function offer() {
  const t = chosen();
  if (!t) return;
  const was = $("c-kind").value;
  $("c-kind").replaceChildren(...t.kinds.map((kind) => el("option", { value: kind }, HOW[kind])));
  if (t.kinds.includes(was)) $("c-kind").value = was;
  const least = t.two_persons ? 1 : 0;
  for (const option of $("c-approvals").options) option.disabled = Number(option.value) < least;
  $("c-approvals").value = String(least);
  const words = [told.told ? bounds(t) && `Takes ${bounds(t)}.` : "Its gateway has not said what may be commanded; it judges.", least && "Class B: another person must approve it."];
  put($("c-range"), words.filter(Boolean).join(" "));
  ask();
}

function ask() {
  const t = chosen();
  const kind = $("c-kind").value;
  const value = newestOf(t);
  $("c-one").hidden = kind === "call";
  $("c-value").required = kind !== "call";
  $("c-many").hidden = kind !== "call";
  put($("c-time"), kind === "hold" ? "Hold for" : "Good for");
  put($("c-unit"), t.unit || value?.unit || "");
  $("c-value").placeholder = value ? `now ${said(value.value)}` : t.value === "boolean" ? "true or false" : "";
}

function words(o, t) {
  const value = newestOf(t);
  const others = o.approvals ? ` Sent once ${people(o.approvals)} approved it.` : "";
  const time = $("c-deadline").selectedOptions[0].text;
  const by = `by gateway ${told.gateway || "none"}`;
  if (o.kind === "call") return `Call ${t.target}(${o.arguments.map(said).join(", ")}), ${by}, within ${time} or not at all.${others}`;
  const what = `${nameOf(t)} = ${said(o.value)} ${$("c-unit").textContent}${value ? ` (now ${said(value.value)})` : ""} of ${site}/${twin}`;
  if (o.kind === "hold") return `Hold ${what} for ${time}, ${by}. It ends before when the session does, an interlock opens or another command for it comes; the device then falls back by itself.${others}`;
  return `Write ${what}, ${by}, within ${time} or not at all.${others}`;
}

const quoted = (text) => (/^[\w@%+=:,./-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const spoken = (value) => quoted(typeof value === "string" && /^(["\d-]|true$|false$|null$)/.test(value) ? JSON.stringify(value) : String(value));
const shell = (o) => ["twinctl twin command", `${site}/${twin}`, ...(o.kind === "call" ? [quoted(o.target), "--call", ...o.arguments.map(spoken)] : [`${quoted(o.property || o.target)}=${spoken(o.value)}`, o.kind === "hold" && "--hold"]), `--deadline ${o.deadline_s}s`, o.approvals && `--approvals ${o.approvals}`, o.why && `--why ${quoted(o.why)}`].filter(Boolean).join(" ");

/** Reads the values of now and asks back; nothing is sent yet. */
async function review(event) {
  event.preventDefault();
  shown = await get(here);
  const t = chosen();
  const kind = $("c-kind").value;
  const given = kind === "call" ? { arguments: several($("c-arguments").value.trim()) } : { value: typed(t.value, $("c-value").value.trim()) };
  order = { property: t.property, target: t.property ? "" : t.target, kind, ...given, deadline_s: Number($("c-deadline").value), approvals: Number($("c-approvals").value), why: $("c-why").value.trim() };
  key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  put($("c-words"), words(order, t));
  put($("c-shell"), shell(order));
  put(note, "");
  confirming(true);
}

function confirming(yes) {
  $("command").hidden = yes;
  $("c-confirm").hidden = !yes;
  $(yes ? "c-send" : $("c-one").hidden ? "c-arguments" : "c-value").focus();
}

/** One key for all tries: what was sent twice is done once. */
async function send() {
  $("c-send").disabled = true;
  try {
    await post(`${here}/commands`, order, { "idempotency-key": key });
    confirming(false);
    put(note, "Issued. Its steps stand below.");
  } catch (refused) {
    // Nobody answered: it may have been issued. Under the same key it can be sent again, under a new one it could be done twice.
    if (refused instanceof Refused) confirming(false);
    else refused = new Refused({ title: "No answer; it may have been issued. Send it again: it is done once all the same." });
    put(note, [refused.reason, refused.message, refused.hint].filter(Boolean).join(" · "));
  } finally {
    $("c-send").disabled = false;
    soon();
  }
}

async function post(url, body, headers = {}) {
  const answer = await fetch(base + url, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Refused(await answer.json().catch(() => ({ title: `HTTP ${answer.status}` })));
  return answer.json();
}

const newest = async () => (await get(`${here}/commands`, { page_size: 20 })).items;
const list = async () => fill(await newest());

function fill(items) {
  $("commands").replaceChildren(...(items.length ? items.map(row) : [el("tr", {}, el("td", { colspan: 8, class: "muted" }, "None yet."))]));
}

function row(c) {
  const what = c.kind === "call" ? `${c.target}(${c.arguments.map(said).join(", ")})` : `${c.kind === "hold" ? "hold " : ""}${c.property || c.target} = ${said(c.value)} ${c.unit}`;
  const tag = el("span", { class: `tag ${CALM[c.state] ?? ""}`.trim() }, c.state.replace("_", " ").toLowerCase());
  const missing = c.state === "WAITING_APPROVAL" ? c.approvals - c.approved_by.length : 0;
  const state = el("div", {}, tag, missing > 0 ? el("div", { class: "muted" }, `for ${missing} more ${missing > 1 ? "people" : "person"}, not ${[c.issued_by, ...c.approved_by].join(", ")}`) : null);
  const why = [c.reason, c.detail].filter(Boolean).join(": ");
  const steps = el("details", {}, el("summary", {}, `${c.steps.length} step${c.steps.length > 1 ? "s" : ""}`), el("ol", { class: "steps" }, ...c.steps.map((s) => el("li", {}, `${moment(Date.parse(s.at))} ${s.step.toLowerCase()} by ${s.by}${s.read_back === null ? "" : `, read back ${said(s.read_back)}`}${s.reason ? `: ${s.reason}` : ""}`))));
  const cells = [moment(Date.parse(c.issued)), what, state, said(c.read_back), `${c.issued_by}${c.approvals ? `, approved by ${c.approved_by.join(", ") || "nobody yet"} (${c.approvals} needed)` : ""}`, c.why, el("span", { title: c.reason ? c.hint : null }, why), el("div", {}, steps, ...acts(c))];
  return el("tr", {}, ...cells.map((cell, i) => el("td", { class: i > 3 && i < 7 ? "why" : null }, cell)));
}

function acts(c) {
  const left = Math.max(0, (Date.parse(c.deadline) - now()) / 1000);
  const act = (verb, label) => {
    const button = el("button", { type: "button", "aria-label": `${label}: ${c.property || c.target}` }, label);
    button.addEventListener("click", () => {
      button.disabled = true;
      post(`${here}/commands/${c.id}:${verb}`, {}).then(soon, (refused) => { put(note, `${refused.message} ${refused.hint}`); soon(); });
    });
    return button;
  };
  const waits = c.state === "WAITING_APPROVAL";
  const held = c.kind === "hold" && ["SENT", "ACCEPTED"].includes(c.state) && told.items.some((t) => t.target === c.target);
  return [
    held && EDIT.includes(me.role) ? again(c) : null,
    waits && c.issued_by !== me.name && ["engineer", "admin"].includes(me.role) && !c.approved_by.includes(me.name) ? act("approve", `Approve (${ago(left)} left)`) : null,
    (waits || c.state === "PENDING") && EDIT.includes(me.role) ? act("cancel", "Cancel") : null,
  ].filter(Boolean);
}

/** A hold is prolonged by another one: the form is filled in, and asks as ever. */
function again(c) {
  const button = el("button", { type: "button", "aria-label": `Hold anew: ${c.property || c.target}` }, "Hold anew…");
  button.addEventListener("click", () => {
    confirming(false);
    $("c-target").selectedIndex = told.items.findIndex((t) => t.target === c.target);
    offer();
    $("c-kind").value = "hold";
    ask();
    $("c-value").value = said(c.value);
    $("c-value").focus();
  });
  return button;
}

const soon = paced(() => list().catch((refused) => put(note, refused.message)), () => 300);
let opened = false;
$("tab-Commands").addEventListener("click", () => {
  if (opened) return;
  opened = true;
  open().catch((refused) => put(note, refused.message));
});
addEventListener("told", () => { if (opened) soon(); });
addEventListener("look", () => { if (opened) soon(); });
$("c-target").addEventListener("change", offer);
$("c-kind").addEventListener("change", ask);
$("command").addEventListener("submit", (event) => review(event).catch((refused) => put(note, refused.message)));
$("c-send").addEventListener("click", send);
$("c-back").addEventListener("click", () => confirming(false));
