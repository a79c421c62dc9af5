// Actions on the whole view: copy its link, download its figures, print it.

import { saveText } from "./download.js";
import { viewCsv } from "./table.js";

/** The size of a chart on paper, two beside each other, and of one that has the whole width; print.css has the height too. */
const PAPER = { half: { width: 600, height: 180 }, full: { width: 1250, height: 180 } };
const SHOWN_MS = 2_000;

/** @param {import("./board.js").Board} board @param {import("./filters.js").Filters} filters @param {string} zone */
export function actions(board, filters, zone) {
  const on = (id, work) => document.getElementById(id).addEventListener("click", work);
  on("copy-link", ({ currentTarget }) => copied(currentTarget));
  on("view-csv", () => {
    const chosen = filters.read();
    const parts = board.shown(chosen.tab).map(({ part }) => ({ part: part.title, table: part.table() })).filter(({ table }) => table);
    const names = { from: chosen.from, to: chosen.to, timezone: zone, ...(filters.config.region && { region: chosen.region || filters.config.region }), realm: chosen.realm, client_id: chosen.client };
    saveText(viewCsv(parts, names), `authtally-${chosen.tab}-${chosen.from}-${chosen.to}.csv`);
  });
  on("print", () => window.print());
  const resize = (sizes) => {
    for (const { part } of board.shown(filters.read().tab)) part.resize?.(sizes && sizes[part.element.dataset.paper ?? "half"]);
  };
  window.addEventListener("beforeprint", () => resize(PAPER));
  window.addEventListener("afterprint", () => resize(null));
}

async function copied(button) {
  const done = await copy(location.href);
  const text = done ? "Link copied" : "Copy the address";
  document.getElementById("spoken").textContent = text;
  button.textContent = text;
  setTimeout(() => (button.textContent = "Copy link"), SHOWN_MS);
}

/** Pages without HTTPS have no clipboard of their own: a selected field is copied there. */
async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
