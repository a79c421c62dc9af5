// The pipeline: lag, dead letters, lost offsets, and the totals of each partition.

import { momentText } from "./dates.js";
import { number } from "./text.js";
import { tableElement } from "./table.js";

const card = (name) => document.getElementById(`figure-${name}`);

function put(name, value, text, remark, bad = false) {
  const element = card(name).querySelector(".value");
  element.textContent = text;
  if (value === null) delete element.dataset.value;
  else element.dataset.value = String(value);
  element.classList.toggle("bad-cell", bad);
  card(name).querySelector(".change").textContent = remark;
}

const COLUMNS = [
  ["topic", "name"], ["partition", "number"], ["lag", "number"], ["position", "number"], ["end", "number"],
  ["consumed", "number"], ["counted", "number"], ["duplicates", "number"], ["ignored", "number"], ["dead", "number"],
  ["untimed", "number"], ["unexpected", "number"],
  ["lost", "number"], ["refused", "number"], ["last_event", "text"], ["seen", "text"],
];

/** @param {object} answer of /v1/pipeline */
export function pipeline(answer, zone) {
  const { total, items, as_of: asOf } = answer;
  const known = items.some((item) => item.lag !== null);
  put("lag", known ? total.lag : null, known ? number(total.lag) : "–", known ? `records in ${items.length} partitions` : "not yet read by a worker");
  const reasons = {};
  for (const item of items) for (const [reason, count] of Object.entries(item.dead_by_reason)) reasons[reason] = (reasons[reason] ?? 0) + count;
  const why = Object.entries(reasons).sort(([, one], [, other]) => other - one);
  put("dead", total.dead, number(total.dead), why.map(([reason, count]) => `${reason} ${number(count)}`).slice(0, 3).join(", "), total.dead > 0);
  put("lost", total.lost, number(total.lost), total.adds_up ? "consumed = counted + duplicates + ignored + dead" : "the totals of a partition do not add up", total.lost > 0 || !total.adds_up);
  newest(asOf, zone);
  const columns = COLUMNS.map(([name, kind]) => ({ name: name.replaceAll("_", " "), kind }));
  const rows = items.map((item) => COLUMNS.map(([name]) => item[name]));
  document.getElementById("pipeline").replaceChildren(tableElement({ columns, rows }, "Partitions, of the whole deployment"));
}

/** @param {{newest_event: string|null}} asOf */
export function newest(asOf, zone) {
  const at = asOf.newest_event;
  const text = at === null ? "–" : momentText(zone, new Date(at));
  put("newest", at, text.split(", ")[0], text.split(", ")[1] ?? "");
  document.getElementById("as-of").textContent = at === null ? "" : `newest event ${text}`;
}

/** @param {import("./questions.js").Refusal} refusal */
export function closed(refusal) {
  for (const name of ["lag", "dead", "lost"]) put(name, null, "–", "");
  document.getElementById("pipeline").textContent = refusal.message;
}
