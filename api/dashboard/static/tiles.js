// The tiles: one figure of the range each, against the range that it is compared with.

import { counted, series, successRate, total, usersIn, usersOver } from "./counters.js";
import { spanText } from "./dates.js";
import { compared } from "./models.js";
import { Part } from "./part.js";
import { spark } from "./spark.js";
import { changeText, errorText, exactness, make, number, percent, pointsText } from "./text.js";

/**
 * @typedef {{value: number|null, before: number|null, unkept: string|null, values: (number|null)[], detail?: string, remark: string}} Figure
 *   `values` are those of the small line; `detail` is beside the figure, `remark` in its title
 */

async function users(asker, chosen) {
  const [now, { found, unkept }, over] = await Promise.all([
    usersIn(asker, chosen, chosen),
    compared(chosen, (span) => usersIn(asker, span, chosen)),
    usersOver(asker, chosen, chosen),
  ]);
  return { value: now.value, before: found?.value ?? null, unkept, values: over.items.map((item) => item.value), detail: errorText(now), remark: exactness(now) };
}

/** A tile of counters. @param {(found: import("./counters.js").Counted) => (number|null)[]} valuesOf */
const summed = (path, group, valuesOf) => async (asker, chosen) => {
  const of = (span) => counted(asker, path, span, chosen, group);
  const [now, { found, unkept }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const values = valuesOf(now);
  const incomplete = values.includes(null) ? "imported months without this figure are left out" : "exact";
  return { value: total(values), before: found && total(valuesOf(found)), unkept, values, remark: incomplete };
};

async function rate(asker, chosen) {
  const of = (span) => counted(asker, "/v1/logins", span, chosen);
  const [now, { found, unkept }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const whole = (each) => successRate(total(series(each, "succeeded")), total(series(each, "failed")));
  const failed = series(now, "failed");
  const values = series(now, "succeeded").map((succeeded, place) => successRate(succeeded, failed[place]));
  const failures = total(failed);
  return { value: whole(now), before: found && whole(found), unkept, values, detail: `${number(failures)} failed`, remark: `${number(failures)} logins failed` };
}

/** `better`: 1 if more is better, 0 if it is neither. */
export const TILES = [
  { name: "users", title: "Users", better: 1, ask: users },
  { name: "logins", title: "Logins", better: 1, ask: summed("/v1/logins", "", (each) => series(each, "succeeded")) },
  { name: "rate", title: "Success rate", better: 1, share: true, ask: rate },
  { name: "signups", title: "Sign-ups", better: 1, ask: summed("/v1/accounts", "kind", (each) => series(each, "events", (row) => row.kind === "signup")) },
  { name: "tokens", title: "Tokens issued", better: 0, ask: summed("/v1/tokens", "", (each) => series(each, "tokens")) },
];

export class Tile extends Part {
  /** @param {typeof TILES[number]} tile */
  constructor(tile) {
    super(document.getElementById(`figure-${tile.name}`), tile.title);
    this.tile = tile;
    this.value = make("p", { class: "value" }, "–");
    this.detail = make("p", { class: "detail" });
    this.change = make("p", { class: "change" });
    this.spark = make("div", { class: "spark" });
    this.element.replaceChildren(make("h3", {}, tile.title), make("div", { class: "figure" }, this.value, this.detail), this.change, this.note, this.old, this.spark);
    this.state("loading");
  }

  clear() {
    this.figure = null;
    this.value.textContent = "–";
    this.value.title = this.detail.textContent = this.detail.title = "";
    delete this.value.dataset.value;
    delete this.change.dataset.before;
    this.change.title = "";
    this.change.replaceChildren();
    this.spark.replaceChildren();
  }

  text(value) {
    return this.tile.share ? percent(value) : number(value);
  }

  /** @param {Figure & {chosen: import("./filters.js").Chosen}} figure */
  render(figure) {
    this.clear();
    this.figure = figure;
    const { value, chosen } = figure;
    const notOver = chosen.to === chosen.today ? "; today is not over" : "";
    this.value.textContent = this.text(value);
    this.value.title = this.detail.title = `${spanText(chosen)}: ${figure.remark}${notOver}`;
    this.detail.textContent = value === null ? "" : (figure.detail ?? "");
    if (value !== null) this.value.dataset.value = String(value);
    spark(this.spark, figure.values);
    this.compare(figure, notOver);
    return "ready";
  }

  /** "▲ 3.9% vs 416", and the sentence behind it on hover and for screen readers. */
  compare({ value, before, unkept, chosen }, notOver) {
    if (!chosen.before) return;
    const span = spanText(chosen.before);
    if (before === null || value === null) {
      this.change.textContent = before === null ? "no comparison" : `vs ${this.text(before)}`;
      this.change.title = unkept ?? `No figure for ${span}.`;
      return;
    }
    this.change.dataset.before = String(before);
    const difference = this.tile.share ? value - before : before ? (value - before) / before : null;
    const words = difference === null ? "" : this.tile.share ? pointsText(difference) : changeText(difference);
    const sentence = `${this.text(value)} in ${spanText(chosen)} against ${this.text(before)} in ${span}${notOver}`;
    this.change.title = sentence;
    // An unfinished day alone is neither better nor worse than a whole one.
    const better = chosen.from === chosen.today ? 0 : this.tile.better;
    const kind = !difference || !better ? "plain" : difference > 0 ? "up" : "down";
    const seen = make("span", { "aria-hidden": "true" }, make("b", { class: kind }, words), ` vs ${this.text(before)}`);
    this.change.replaceChildren(seen, make("span", { class: "unseen" }, sentence));
  }

  table() {
    if (!this.figure) return null;
    const { value, before, chosen } = this.figure;
    const columns = [{ name: "figure" }, { name: "value", kind: "number" }];
    const row = [this.title, value];
    if (chosen.before) {
      columns.push({ name: `value ${chosen.before.from} to ${chosen.before.to}`, kind: "number" });
      row.push(before);
    }
    return { columns, rows: [row] };
  }
}
