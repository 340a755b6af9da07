// Subscribes a page to events: through the shared worker where there is one, else by a stream of its own.
import { base, now } from "./api.js";
import { $, clock, put } from "./format.js";
import { Hub } from "./hub.js";

const RENEW_MS = 10_000;
const WORDS = { wait: "connecting", open: "connected", lost: "reconnecting" };

/** Calls `onEvents` with each batch and `onBack` when the stream was away and is there again: the page then refills. */
export function subscribe(interest, onEvents, onBack) {
  const facts = { base, ...interest };
  let away = false;
  const take = ({ state, events }) => {
    if (state) {
      const mark = $("stream");
      mark.dataset.state = state;
      put(mark.lastElementChild, WORDS[state]);
      if (state === "lost") away = true;
      if (state === "open" && away) { away = false; onBack(); }
    }
    if (events) onEvents(events);
    if (state === "open" || events?.some((event) => event.kind === "alarm")) dispatchEvent(new Event("alarms"));
  };
  let join;
  let leave;
  try {
    const { port } = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: `hybridtwin ${base}` });
    port.onmessage = ({ data }) => take(data);
    join = () => port.postMessage(facts);
    leave = () => port.postMessage({ leave: true });
  } catch {
    const hub = new Hub();
    join = () => hub.add("page", facts, take);
    leave = () => hub.remove("page");
  }
  join();
  setInterval(join, RENEW_MS);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", ({ persisted }) => { if (persisted) { join(); onBack(); } });
  const tick = () => put($("clock"), clock(now()));
  tick();
  setInterval(tick, 1000);
  addEventListener("look", tick);
}
