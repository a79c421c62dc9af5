// The pipeline: one line about its state on the first tab; lag, dead letters, lost offsets and partitions on its own.

import { agoText, momentText } from "./dates.js";
import { Part } from "./part.js";
import { tableElement } from "./table.js";
import { make, number } from "./text.js";

export const askPipeline = (asker, { region }) => asker.ask("/v1/pipeline", region ? { region } : {});

const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

/** "All 13 partitions up to date · 11 dead letters · newest event 2 sec. ago" */
export class StatusLine extends Part {
  constructor() {
    super(document.getElementById("status"), "Pipeline");
    this.text = make("a", { href: "?tab=pipeline" });
    this.newest = make("span", { class: "newest" });
    this.element.replaceChildren(this.text, this.newest, this.note, this.old);
    this.state("loading");
    setInterval(() => this.age(), 1000);
  }

  clear() {
    this.model = null;
    this.text.textContent = this.newest.textContent = "";
    delete this.element.dataset.health;
  }

  render(answer) {
    const { total, items, as_of: asOf } = answer;
    this.model = {
      partitions: items.length, behind: items.filter((item) => item.lag > 0).length, known: items.some((item) => item.lag !== null),
      lag: total.lag, dead: total.dead, lost: total.lost, adds: total.adds_up, at: asOf.newest_event,
    };
    this.write();
    return "ready";
  }

  write() {
    const { partitions, behind, known, lag, dead, lost, adds } = this.model;
    const said = !partitions
      ? ["No partition was counted yet"]
      : [!known ? `${plural(partitions, "partition", "partitions")}, not yet read to the end` : !lag
        ? (partitions === 1 ? "The partition is up to date" : `All ${number(partitions)} partitions up to date`)
        : `${plural(lag, "offset", "offsets")} behind${behind ? ` in ${number(behind)} of ${plural(partitions, "partition", "partitions")}` : ""}`];
    if (partitions) said.push(dead ? plural(dead, "dead letter", "dead letters") : "no dead letters");
    if (lost) said.push(`${plural(lost, "offset", "offsets")} lost before being read`);
    if (!adds) said.push("the totals of a partition do not add up");
    this.text.textContent = said.join(" · ");
    this.element.dataset.health = lost || !adds ? "bad" : lag || !known ? "busy" : "good";
    this.age();
  }

  age() {
    const at = this.model?.at;
    this.newest.textContent = at ? ` · newest event ${agoText(new Date(at))}` : "";
  }

  /** Figures that arrive live; `dead_letters` is null for bearers of some realms. */
  live({ as_of: { newest_event: at, lag }, dead_letters: dead }) {
    if (!this.model) return;
    Object.assign(this.model, { at, lag, dead: dead ?? this.model.dead, ...(lag ? {} : { behind: 0 }) });
    this.write();
  }
}

const COLUMNS = [
  ["topic", "name"], ["partition", "number"], ["lag", "number"], ["position", "number"], ["end", "number"],
  ["consumed", "number"], ["counted", "number"], ["duplicates", "number"], ["ignored", "number"], ["dead", "number"],
  ["untimed", "number"], ["unexpected", "number"],
  ["lost", "number"], ["refused", "number"], ["last_event", "text"], ["seen", "text"],
];
const CARDS = [["lag", "Offsets behind"], ["dead", "Dead letters"], ["lost", "Lost before being read"], ["newest", "Newest event"]];

export class Pipeline extends Part {
  constructor(zone) {
    super(document.getElementById("pipeline"), "Partitions");
    this.zone = zone;
    this.cards = make("div", { class: "cards" });
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Partitions" });
    this.element.replaceChildren(this.cards, this.note, this.old, this.scroll);
    this.state("loading");
    this.clear();
  }

  clear() {
    this.model = null;
    this.cards.replaceChildren(...CARDS.map(([name, title]) => this.card(name, title, null, "–", "")));
    this.scroll.hidden = true;
    this.scroll.replaceChildren();
  }

  card(name, title, value, text, remark, bad = false) {
    const figure = make("p", { class: bad ? "value bad-cell" : "value" }, text);
    if (value !== null) figure.dataset.value = String(value);
    return make("article", { class: "card tile", id: `figure-${name}` }, make("h3", {}, title), figure, make("p", { class: "change", title: remark }, remark));
  }

  render(answer) {
    const { total, items, as_of: asOf } = answer;
    this.model = answer;
    const known = items.some((item) => item.lag !== null);
    const reasons = {};
    for (const item of items) for (const [reason, count] of Object.entries(item.dead_by_reason)) reasons[reason] = (reasons[reason] ?? 0) + count;
    const why = Object.entries(reasons).sort(([, one], [, other]) => other - one).map(([reason, count]) => `${reason} ${number(count)}`);
    const at = asOf.newest_event;
    const [lag, dead, lost, newest] = CARDS;
    this.cards.replaceChildren(
      this.card(...lag, known ? total.lag : null, known ? number(total.lag) : "–", known ? `in ${plural(items.length, "partition", "partitions")}` : "not yet read by a worker"),
      this.card(...dead, total.dead, number(total.dead), why.join(", "), total.dead > 0),
      this.card(...lost, total.lost, number(total.lost), total.adds_up ? "consumed = counted + duplicates + ignored + dead" : "the totals of a partition do not add up", total.lost > 0 || !total.adds_up),
      this.card(...newest, at, at === null ? "–" : agoText(new Date(at)), at === null ? "" : momentText(this.zone, new Date(at))),
    );
    this.scroll.hidden = false;
    this.scroll.replaceChildren(tableElement(this.table(), "Partitions, of the whole deployment"));
    return "ready";
  }

  table() {
    if (!this.model) return null;
    const shown = this.model.items.some((item) => item.region) ? [["region", "name"], ...COLUMNS] : COLUMNS;
    const columns = shown.map(([name, kind]) => ({ name: name.replaceAll("_", " "), raw: name, kind }));
    const text = (item, [name, kind]) => (kind === "text" && item[name] ? momentText(this.zone, new Date(item[name])) : item[name]);
    return { columns, rows: this.model.items.map((item) => shown.map((column) => text(item, column))) };
  }
}
