// Tests another model version on the past of the twin: asks, waits for the operation, shows verdict, figures and curves.
import { all, base, get, now, Refused } from "./api.js";
import { $, el, number } from "./format.js";

const { site, twin } = document.body.dataset;
const LOOK_MS = 1000;
const note = $("b-note");
let asked = 0;

const text = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");
const rfc = (field) => `${$(field).value.trim().replace(" ", "T")}Z`;

$("tab-Model").addEventListener("click", offer, { once: true });
$("backtest").addEventListener("submit", (event) => {
  event.preventDefault();
  ask().catch((refused) => { note.textContent = `${refused.message} ${refused.hint ?? ""}`; });
});

async function offer() {
  $("b-from").value = text(now() - 86_400_000);
  $("b-to").value = text(now());
  const { items } = await all("/models").catch(() => ({ items: [] }));
  $("b-models").replaceChildren(...items.map((m) => el("option", { value: `${m.name}@${m.version}` })));
}

async function ask() {
  const mine = ++asked;
  $("b-result").hidden = true;
  note.textContent = "asking\u2026";
  const path = `/sites/${encodeURIComponent(site)}/twins/${encodeURIComponent(twin)}:backtest`;
  const body = { model: $("b-model").value.trim(), against: $("b-against").value.trim(), from_time: rfc("b-from"), to_time: rfc("b-to") };
  const answer = await fetch(base + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  let operation = await answer.json();
  if (!answer.ok) throw new Refused(operation);
  while (mine === asked && ["queued", "running"].includes(operation.state)) {
    note.textContent = `operation ${operation.id}: ${operation.state} ${Math.round(100 * operation.progress)} %`;
    await new Promise((go) => setTimeout(go, LOOK_MS));
    operation = await get(`/operations/${operation.id}`);
  }
  if (mine !== asked) return;
  if (operation.state !== "done") {
    note.textContent = `operation ${operation.id}: ${operation.state} ${operation.reason} ${operation.detail} ${operation.hint}`;
    return;
  }
  note.textContent = `operation ${operation.id}: done${operation.cached ? ", answered from before" : ""}`;
  fill(operation);
}

function fill({ id, result }) {
  $("b-verdict").replaceChildren(...result.verdict.map((line) => el("li", {}, line)));
  const share = (x) => (x === null ? "\u2013" : `${(100 * x).toFixed(1)} %`);
  const rows = [result.candidate, result.against].filter(Boolean).flatMap((run) =>
    Object.entries(run.outputs).map(([output, f]) => [run.model, output, ...[f.rmse, f.mae, f.bias, f.nll, f.nis].map((x) => (x === null ? "\u2013" : number(x, 4))), share(f.coverage[1]), f.white ? "yes" : "no", run.drift_alarms, share(run.regime_coverage), f.count]));
  $("b-figures").replaceChildren(...rows.map((cells) => el("tr", {}, ...cells.map((cell, i) => el("td", { class: i > 1 ? "num" : null }, String(cell))))));
  $("b-plot").src = `${base}/operations/${id}/plot.svg`;
  $("b-result").hidden = false;
}
