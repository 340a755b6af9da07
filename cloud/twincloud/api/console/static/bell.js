// How many alarms wait, in the header of every page; tells the page, too, when one has changed.
import { get, paced } from "./api.js";
import { $, count, put } from "./format.js";

const LOOK_MS = 15_000;
const TAGS = { urgent: "bad", high: "warn" };

async function look() {
  const found = await get("/alarms:summary").catch(() => null);
  if (!found) return;
  const bell = $("bell");
  const worst = ["urgent", "high", "medium", "low"].find((priority) => found.by_priority[priority]);
  const mark = bell.lastElementChild;
  put(bell.firstElementChild, found.unacked ? count(found.unacked) : "");
  put(mark, worst ? `${count(found.by_priority[worst])} ${worst}` : found.active ? `${count(found.active)} active` : "none");
  mark.className = `tag ${TAGS[worst] ?? ""}`;
  bell.title = `${count(found.unacked)} alarms to acknowledge, ${count(found.active)} active`;
}

const soon = paced(look, () => 1_000);
addEventListener("alarms", soon);
setInterval(soon, LOOK_MS);
soon();
