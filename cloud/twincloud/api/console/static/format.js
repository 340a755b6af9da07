// Numbers, ages, times and elements: everything that turns a fact into what is read.
export const $ = (id) => document.getElementById(id);

/** Shows the page: its first values are in place, or they will not come soon. */
export const reveal = () => $("main").removeAttribute("aria-busy");
setTimeout(reveal, 3_000);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null && value !== false) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Replaces children only where something changed, so that focus and scroll stay. */
export function draw(body, items, key, make) {
  const old = new Map([...body.children].map((node) => [node.dataset.key, node]));
  const nodes = items.map((item) => {
    const facts = JSON.stringify(key(item));
    const node = old.get(facts) ?? make(item);
    node.dataset.key = facts;
    return node;
  });
  const focused = document.activeElement?.getAttribute("href");
  if (nodes.length !== body.childElementCount || nodes.some((node, i) => node !== body.children[i])) body.replaceChildren(...nodes);
  if (focused && document.activeElement === document.body) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

/** Sets text only when it differs: no needless layout, no needless announcement. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function number(value, digits = 4) {
  if (value == null) return "–";
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(2);
  const decimals = size === 0 ? 1 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(6, decimals)).replace("-", "−");
}

/** Decimals that show a value down to a tenth of its sigma, so that both read as one. */
export function withSigma(value, sigma) {
  if (!(sigma > 0) || typeof value !== "number") return number(value);
  const decimals = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(sigma))));
  return value.toFixed(decimals).replace("-", "−");
}

export const count = (value) => value == null ? "–" : value.toLocaleString("en").replaceAll(",", "\u202f");

export function seconds(value) {
  if (value == null) return "–";
  if (value < 0) return `−${seconds(-value)}`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86400)} d`;
}

/** An age: the clocks of two computers agree no better than to a second. */
export const ago = (value) => value == null ? "–" : value < 1 ? "< 1 s" : seconds(value);

export function bytes(value) {
  if (!value) return "0 B";
  const step = Math.min(4, Math.floor(Math.log10(value) / 3));
  return `${number(value / 1000 ** step, 3)} ${["B", "kB", "MB", "GB", "TB"][step]}`;
}

const two = (value) => String(value).padStart(2, "0");
export const isUTC = () => document.documentElement.dataset.zone !== "local";

function parts(ms) {
  const d = new Date(ms);
  return isUTC()
    ? [d.getUTCFullYear(), d.getUTCMonth() + 1, d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()]
    : [d.getFullYear(), d.getMonth() + 1, d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds()];
}

export function clock(ms, withSeconds = true) {
  const [, , , h, m, s] = parts(ms);
  return withSeconds ? `${two(h)}:${two(m)}:${two(s)}` : `${two(h)}:${two(m)}`;
}

export function date(ms) {
  const [y, m, d] = parts(ms);
  return `${y}-${two(m)}-${two(d)}`;
}

export const moment = (ms) => `${date(ms)} ${clock(ms)}`;


export const path = (...names) => names.map(encodeURIComponent).join("/");
