// The REST API as this console uses it, and the coordinator's time as its answers tell it.
const tenant = document.body.dataset.tenant;
export const base = `/api/v1/tenants/${encodeURIComponent(tenant)}`;

let earliest = -Infinity;
let latest = Infinity;

/** Milliseconds now at the coordinator: each answer's Date header narrows the offset of this computer's clock. */
export function now() {
  const known = Number.isFinite(earliest) ? (earliest + Math.max(earliest, latest)) / 2 : 0;
  return Date.now() + known;
}

function learn(header, sent, received) {
  const at = Date.parse(header);
  if (!at) return;
  earliest = Math.max(earliest, at - received);
  latest = Math.min(latest, at + 1000 - sent);
  if (latest < earliest - 1000) { earliest = at - received; latest = at + 1000 - sent; } // a clock was set
}

export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "refused");
    this.reason = problem.reason || "";
    this.hint = problem.hint || "";
  }
}

/** Reads JSON; a lost session leads to the sign-in page and back. */
export async function get(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  const sent = Date.now();
  const answer = await fetch(base + path + (text ? `?${text}` : ""), { headers: { accept: "application/json" } });
  learn(answer.headers.get("date"), sent, Date.now());
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
    throw new Refused({ detail: "signed out" });
  }
  if (!answer.ok) throw new Refused(await answer.json().catch(() => ({ title: `HTTP ${answer.status}` })));
  return answer.json();
}

/** Changes something; raises Refused. */
export async function post(path, body) {
  const answer = await fetch(base + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Refused(await answer.json().catch(() => ({ title: `HTTP ${answer.status}` })));
  return answer.json();
}

/** All pages of a listing, at most `most` items. */
export async function all(path, query = {}, most = 1000) {
  const items = [];
  let token = "";
  do {
    const page = await get(path, { ...query, page_size: 100, ...(token && { page_token: token }) });
    items.push(...page.items);
    token = page.next_page_token;
  } while (token && items.length < most);
  return { items, more: Boolean(token) };
}

/** RFC 3339 with nine digits, as the API writes and reads time. */
export const stamp = (ms) => new Date(ms).toISOString().replace("Z", "000000Z");

/** Makes a function that runs `work` at most once per `every` ms and never twice at the same time. */
export function paced(work, every) {
  let running = false;
  let again = false;
  let last = -Infinity;
  let timer = 0;
  const run = async () => {
    timer = 0;
    running = true;
    again = false;
    last = performance.now();
    try { await work(); } finally {
      running = false;
      if (again) call();
    }
  };
  const call = () => {
    if (running) again = true;
    else if (!timer) timer = setTimeout(run, Math.max(0, last + every() - performance.now()));
  };
  return call;
}
