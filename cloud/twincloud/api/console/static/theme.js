// Theme and time zone chosen by the reader; a classic script in the head, so that no page flashes in the wrong colours.
(() => {
  const root = document.documentElement;
  const kept = (key, otherwise) => { try { return localStorage.getItem(key) || otherwise; } catch { return otherwise; } };
  const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private window: lasts for this page */ } };
  const next = (list, value) => list[(list.indexOf(value) + 1) % list.length];
  root.dataset.theme = kept("theme", "auto");
  root.dataset.zone = kept("zone", "UTC");
  const tell = () => dispatchEvent(new Event("look"));
  addEventListener("DOMContentLoaded", () => {
    for (const [id, values] of [["theme", ["auto", "light", "dark"]], ["zone", ["UTC", "local"]]]) {
      const button = document.getElementById(id);
      button.textContent = root.dataset[id];
      button.addEventListener("click", () => {
        root.dataset[id] = button.textContent = next(values, root.dataset[id]);
        keep(id, root.dataset[id]);
        tell();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  });
})();
