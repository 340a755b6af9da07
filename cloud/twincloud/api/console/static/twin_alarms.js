// Alarms of the twin that is shown; nothing is drawn where there are none.
import { all, paced } from "./api.js";
import { $, count, el, moment, number } from "./format.js";

const { tenant, site, twin } = document.body.dataset;
const SHOWN_MAX = 8;
const TAGS = { urgent: "bad", high: "warn" };
const WORDS = { UNACK: "not acknowledged", ACKED: "acknowledged", RTNUN: "over, not acknowledged", SHELVED: "shelved", SUPPRESSED: "suppressed", OUT_OF_SERVICE: "out of service" };

async function read() {
  const { items } = await all("/alarms", { site, twin, standing: true }, 200).catch(() => ({ items: null }));
  if (!items) return;
  $("twin-alarms").hidden = !items.length;
  $("twin-alarms-count").textContent = items.length ? count(items.length) : "";
  const shown = items.filter((a, i) => !a.cause || items.findIndex((b) => b.cause === a.cause) === i);
  const others = (a) => a.cause ? items.filter((b) => b.cause === a.cause).length - 1 : 0;
  const value = (a) => a.value == null ? a.quality : `${number(a.value)} ${a.unit}${a.limit == null ? "" : `, limit ${number(a.limit)}`}`;
  $("twin-alarms-list").replaceChildren(...shown.slice(0, SHOWN_MAX).map((a) => el("li", {},
    el("span", { class: `tag ${a.active && a.state.endsWith("ACK") || a.state === "ACKED" ? TAGS[a.priority] ?? "" : ""}` }, a.priority), el("span", {}, el("b", {}, a.text || a.alarm), others(a) ? ` and ${count(others(a))} more` : null),
    el("span", { class: "muted" }, value(a)), el("p", { class: "muted" }, `${WORDS[a.state]} since ${moment(Date.parse(a.changed))}${a.cause ? `, because of ${a.cause}` : ""}${a.as_of ? `, as of ${moment(Date.parse(a.as_of))}` : ""}`))));
  if (shown.length > SHOWN_MAX) $("twin-alarms-list").append(el("li", { class: "muted" }, el("a", { href: `/t/${encodeURIComponent(tenant)}/alarms` }, `and ${count(shown.length - SHOWN_MAX)} more`)));
}

const soon = paced(read, () => 500);
addEventListener("alarms", soon);
setInterval(soon, 30_000);
soon();
