// The users of each kind in the last period of the range that is over, against the compared one.

import { asked, SERIES } from "./charts_lifecycle.js";
import { spanText } from "./dates.js";
import { definedText, figureOf, figureText, inWords, isWeek } from "./lifecycle.js";
import { Part } from "./part.js";
import { spark } from "./spark.js";
import { changeText, exactness, make, number, percent } from "./text.js";

/** `better`: 1 if more is better, -1 if fewer is, 0 if it is neither. */
export const LIFECYCLE_TILES = [
  { id: "new", better: 1 }, { id: "returning", better: 1 }, { id: "reactivated", better: 0 }, { id: "lapsed", better: -1 },
].map((tile) => ({ ...tile, title: SERIES.find(({ id }) => id === tile.id).name }));

/** The period and the one to compare it with: directly before, or a year before. */
export async function askTiles(asker, chosen) {
  const { now, before, unkept } = await asked(asker, chosen);
  const over = now.items.findLastIndex((row) => row.ended);
  const place = over < 0 ? now.items.length - 1 : over;
  const all = [...(before?.items ?? []), ...now.items];
  const other = !chosen.before ? null : chosen.compare === "year" ? before?.items[place] : all[(before?.items.length ?? 0) + place - 1];
  return { row: now.items[place], other: other ?? null, rows: now.items, now, compares: Boolean(chosen.before), unkept };
}

export class LifecycleTile extends Part {
  /** @param {typeof LIFECYCLE_TILES[number]} tile */
  constructor(tile) {
    super(document.getElementById(`figure-${tile.id}`), tile.title);
    this.tile = tile;
    this.heading = make("h3", {}, tile.title);
    this.value = make("p", { class: "value" }, "–");
    this.detail = make("p", { class: "detail" });
    this.change = make("p", { class: "change" });
    this.spark = make("div", { class: "spark" });
    this.element.replaceChildren(this.heading, make("div", { class: "figure" }, this.value, this.detail), this.change, this.note, this.old, this.spark);
    this.state("loading");
  }

  clear() {
    this.model = null;
    this.heading.textContent = this.tile.title;
    this.heading.title = this.value.title = this.change.title = "";
    this.value.textContent = "–";
    this.detail.textContent = this.detail.title = "";
    delete this.value.dataset.value;
    delete this.value.dataset.bound;
    delete this.change.dataset.before;
    this.change.replaceChildren();
    this.spark.replaceChildren();
  }

  render(model) {
    this.clear();
    if (!model.row) return "empty";
    this.model = model;
    const { row, rows } = model;
    const { id, title } = this.tile;
    const figure = figureOf(row[id]);
    this.heading.textContent = `${title}${isWeek(row.period) ? `, ${spanText(row)}` : ` in ${inWords(row.period)}`}${row.ended ? "" : " so far"}`;
    this.heading.title = definedText(model.now, id);
    this.value.textContent = figureText(figure);
    this.value.dataset.bound = String(figure.fewerThan !== null);
    if (figure.value !== null) {
      this.value.dataset.value = String(figure.value);
      this.value.title = exactness(figure);
    } else {
      this.value.title = figure.fewerThan === null ? (row.unknown === "not_united" ? "Users of several regions are not united." : "No users before are known.") : "The estimate is too small against its error.";
    }
    this.divide(figure);
    this.compare(figure);
    spark(this.spark, rows.map((each) => each[id].value));
    return "ready";
  }

  /** The share: of the period's active users, or, for users who lapsed, of those of the period before. */
  divide(figure) {
    const { row } = this.model;
    const lapsed = this.tile.id === "lapsed";
    const parts = lapsed ? [row.returning.value, row.lapsed.value] : [row.active.value];
    const whole = parts.includes(null) ? null : parts.reduce((sum, value) => sum + value, 0);
    if (figure.value === null || !whole) return;
    this.detail.textContent = `${figure.exact ? "" : "about "}${percent(figure.value / whole)} of ${number(whole)}`;
    this.detail.title = lapsed ? "of the users active in the period before" : `of the users active in ${inWords(row.period)}`;
  }

  compare(figure) {
    const { row, other, compares, unkept } = this.model;
    if (!compares) return;
    const before = other && figureOf(other[this.tile.id]);
    if (!before || before.value === null || figure.value === null) {
      this.change.textContent = before && before.fewerThan !== null ? `vs ${figureText(before)}` : "no comparison";
      this.change.title = unkept ?? (other ? `${inWords(other.period)}: ${figureText(before)}` : "No earlier period is known.");
      return;
    }
    this.change.dataset.before = String(before.value);
    const difference = before.value ? (figure.value - before.value) / before.value : null;
    const { better } = this.tile;
    const kind = !difference || !better || !row.ended ? "plain" : difference * better > 0 ? "up" : "down";
    const sentence = `${figureText(figure)} in ${inWords(row.period)} against ${figureText(before)} in ${inWords(other.period)}${row.ended ? "" : ", which is not over"}`;
    this.change.title = sentence;
    const seen = make("span", { "aria-hidden": "true" }, make("b", { class: kind }, difference === null ? "" : changeText(difference)), ` vs ${figureText(before)}`);
    this.change.replaceChildren(seen, make("span", { class: "unseen" }, sentence));
  }
}
