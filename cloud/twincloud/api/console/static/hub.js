// One event stream for all who listen: narrows it to what they have in common, batches, and says how it is.
const KINDS = ["twin", "gateway", "alarm", "directive", "command"];
const BATCH_MS = 100;
const QUIET_MS = 150_000; // a background tab's timers may sleep for a minute
const RETRY_MS = 3_000;

export class Hub {
  #listeners = new Map();
  #source = null;
  #url = "";
  #state = "wait";
  #batch = [];
  #timer = 0;
  #last = "";

  /** Adds or renews a listener `{base, site, twin}`; `post` gets `{state}` and `{events}`. */
  add(key, interest, post) {
    const known = this.#listeners.has(key);
    this.#listeners.set(key, { interest, post, seen: Date.now() });
    this.#connect();
    if (!known) post({ state: this.#state });
  }

  remove(key) {
    this.#listeners.delete(key);
    this.#connect();
  }

  #address() {
    const wants = [...this.#listeners.values()].map((l) => l.interest);
    if (!wants.length) return "";
    const query = new URLSearchParams();
    for (const name of ["site", "twin"]) {
      const values = new Set(wants.map((w) => w[name] || ""));
      if (values.size === 1 && !values.has("")) query.set(name, [...values][0]);
      else break; // a twin's name means something within one site only
    }
    const text = query.toString();
    return `${wants[0].base}/events${text ? `?${text}` : ""}`;
  }

  #connect() {
    for (const [key, l] of this.#listeners) if (Date.now() - l.seen > QUIET_MS) this.#listeners.delete(key);
    const url = this.#address();
    if (url === this.#url && this.#source?.readyState !== EventSource.CLOSED) return;
    this.#source?.close();
    this.#source = null;
    this.#url = url;
    if (!url) return;
    const resume = this.#last && (url.includes("?") ? "&" : "?") + `after=${this.#last}`;
    const source = new EventSource(url + resume);
    this.#source = source;
    source.onopen = () => this.#tell("open");
    source.onerror = () => {
      this.#tell("lost");
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.#source === source && this.#connect(), RETRY_MS);
    };
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.#take(event));
  }

  #tell(state) {
    this.#state = state;
    for (const { post } of this.#listeners.values()) post({ state });
  }

  #take(event) {
    this.#last = event.lastEventId;
    try {
      if (this.#batch.length < 5_000) this.#batch.push({ kind: event.type, view: JSON.parse(event.data) });
    } catch { /* not an event of ours */ }
    this.#timer ||= setTimeout(() => this.#flush(), BATCH_MS);
  }

  #flush() {
    const events = this.#batch;
    this.#batch = [];
    this.#timer = 0;
    for (const { interest, post } of this.#listeners.values()) {
      const mine = events.filter((e) => concerns(e, interest));
      if (mine.length) post({ events: mine });
    }
  }
}

/** True when an event is about what the listener shows. */
function concerns({ kind, view }, { site, twin }) {
  if (site && view.site !== site) return false;
  if (kind === "alarm") return !twin || view.twins.includes(twin);
  return !twin || kind === "gateway" || (view.twin ?? view.target) === twin;
}
