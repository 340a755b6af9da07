// Commands of the twin: asks, shows once more what would be done, sends it once; lists each step, lets another person approve.
import { base, get, now, paced, Refused } from "./api.js";
import { $, ago, el, moment, path, put } from "./format.js";

const { site, twin } = document.body.dataset;
const here = `/${path("sites", site, "twins", twin)}`;
const CALM = { SUCCEEDED: "", FAILED: "bad", UNKNOWN: "warn", WAITING_APPROVAL: "" };
const EDIT = ["operator", "engineer", "admin"];
let shown = null;
let me = { name: "", role: "viewer" };
let order = null;
let key = "";

const note = $("c-note");
const said = (one) => (one === null ? "" : Array.isArray(one) ? one.map(said).join(", ") : typeof one === "number" ? String(Number(one.toPrecision(7))) : String(one));
const chosen = () => shown?.properties.find((p) => p.name === $("c-property").value);
const measured = (p) => p?.replaced ?? p?.reported;

/** What was typed, as the point would have it: the kind of its newest value says which. */
function typed(p, text) {
  const kind = typeof measured(p)?.value;
  if (kind === "string") return text;
  if (/^(true|on)$/i.test(text)) return true;
  if (/^(false|off)$/i.test(text)) return false;
  return text !== "" && Number.isFinite(Number(text.replace("−", "-").replace(",", "."))) ? Number(text.replace("−", "-").replace(",", ".")) : text;
}

async function open() {
  let past;
  [shown, me, past] = await Promise.all([get(here), fetch("/api/v1/session").then((answer) => answer.json()), newest()]);
  const can = shown.properties.filter((p) => p.signal);
  $("c-property").replaceChildren(...can.map((p) => el("option", { value: p.name }, p.name)));
  // What was told last may be told; which others may, the gateway alone knows.
  const last = past.find((c) => can.some((p) => p.name === c.property));
  if (last) $("c-property").value = last.property;
  const may = EDIT.includes(me.role);
  $("command").hidden = !may || !can.length;
  if (!may) put(note, `Signed in as ${me.name} (${me.role}): commands need the role operator.`);
  else if (!can.length) put(note, "No property of this twin is bound to a point of a device.");
  offer();
  fill(past);
}

function offer() {
  const p = chosen();
  const value = measured(p);
  put($("c-unit"), value?.unit || p?.unit || "");
  $("c-value").placeholder = value ? `now ${said(value.value)}` : "";
}

function words(o) {
  const value = measured(chosen());
  const others = o.approvals ? ` Sent once ${o.approvals} other${o.approvals > 1 ? "s" : ""} approved it.` : "";
  return `Write ${o.property} = ${said(o.value)} ${$("c-unit").textContent}${value ? ` (now ${said(value.value)})` : ""} of ${site}/${twin}, by gateway ${shown.gateway || "none"}, within ${o.deadline_s} s or not at all.${others}`;
}

const quoted = (text) => (/^[\w@%+=:,./-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const shell = (o) => ["twinctl twin command", `${site}/${twin}`, quoted(`${o.property}=${o.value}`), `--deadline ${o.deadline_s}s`, o.approvals && `--approvals ${o.approvals}`, o.why && `--why ${quoted(o.why)}`].filter(Boolean).join(" ");

/** Reads the values of now and asks back; nothing is sent yet. */
async function review(event) {
  event.preventDefault();
  shown = await get(here);
  const p = chosen();
  order = { property: p.name, value: typed(p, $("c-value").value.trim()), deadline_s: Number($("c-deadline").value), approvals: Number($("c-approvals").value), why: $("c-why").value.trim() };
  key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  put($("c-words"), words(order));
  put($("c-shell"), shell(order));
  put(note, "");
  confirming(true);
}

function confirming(yes) {
  $("command").hidden = yes;
  $("c-confirm").hidden = !yes;
  $(yes ? "c-send" : "c-value").focus();
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
  const state = el("span", { class: `tag ${CALM[c.state] ?? ""}`.trim() }, c.state.replace("_", " ").toLowerCase());
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
  return [
    waits && c.issued_by !== me.name && ["engineer", "admin"].includes(me.role) && !c.approved_by.includes(me.name) ? act("approve", `Approve (${ago(left)} left)`) : null,
    (waits || c.state === "PENDING") && EDIT.includes(me.role) ? act("cancel", "Cancel") : null,
  ].filter(Boolean);
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
$("c-property").addEventListener("change", offer);
$("command").addEventListener("submit", (event) => review(event).catch((refused) => put(note, refused.message)));
$("c-send").addEventListener("click", send);
$("c-back").addEventListener("click", () => confirming(false));
