// Why a twin says what it says: the explanation of one value, beside the table of values.
import { get } from "./api.js";
import { $, ago, el, moment, number, withSigma } from "./format.js";

const { site, twin } = document.body.dataset;
const at = (text) => moment(Date.parse(text));

$("values").addEventListener("click", (event) => {
  const { property, at } = event.target.closest("button.why-value")?.dataset ?? {};
  if (property) show(property, at);
});

async function show(property, at) {
  const card = $("explanation");
  card.hidden = false;
  $("explained").textContent = property;
  $("because").replaceChildren(el("div", {}, el("dt", {}, "Explanation"), el("dd", {}, "reading\u2026")));
  $("seen").replaceChildren();
  card.scrollIntoView({ block: "nearest" });
  try {
    const path = `/sites/${encodeURIComponent(site)}/twins/${encodeURIComponent(twin)}/properties/${encodeURIComponent(property)}/explanation`;
    fill(await get(path, { at }));
  } catch (refused) {
    $("because").replaceChildren(el("div", {}, el("dt", {}, "Explanation"), el("dd", { class: "bad" }, `${refused.message} ${refused.hint ?? ""}`)));
  }
}

function fill(found) {
  const { said, replay, model, assigned } = found;
  const value = (one, sigma) => one && `${withSigma(one.value, sigma)} ${one.unit} \u00b7 ${one.words}`;
  const pairs = {
    Measured: value(said.measured),
    Estimated: value(said.estimate, said.sigma?.value),
    Sigma: said.sigma && `${number(said.sigma.value, 2)} ${said.sigma.unit}`,
    Innovation: said.innovation && `${number(said.innovation.value, 2)} ${said.innovation.unit}`,
    Drift: said.drift && `${number(said.drift.value, 2)} of 1`,
    Time: at(found.time),
    Model: found.running && `${found.running}${model ? `, signed by ${model.signer}` : ", not held here"}`,
    Assigned: assigned ? `by ${assigned.created_by} at ${at(assigned.created)}` : found.running && "the gateway\u2019s first choice",
    Checkpoint: found.checkpoint && `${at(found.checkpoint)} (${found.checkpoint_cause})`,
    Replay: replay && `${replay.verdict}: ${replay.words}`,
    Block: (said.estimate ?? said.measured)?.block,
    Gateway: `${found.gateway}, clock ${found.clock}`,
    Losses: found.losses.length ? found.losses.map((loss) => `${loss.kind} ${loss.reason}`).join(", ") : "none declared near it",
  };
  $("because").replaceChildren(...Object.entries(pairs).filter(([, text]) => text).map(([name, text]) =>
    el("div", {}, el("dt", {}, name), el("dd", name === "Replay" ? { class: replay.reason ? "bad" : "" } : {}, text))));
  $("seen").replaceChildren(...found.inputs.map((one) => el("tr", {},
    el("th", { scope: "row" }, one.port), el("td", {}, one.signal), el("td", { class: "num" }, number(one.value)),
    el("td", {}, one.unit), el("td", {}, one.words), el("td", { class: "num", title: one.time }, at(one.time)), el("td", { class: "num" }, ago(one.age_s)))));
}
