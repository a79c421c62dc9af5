// A chart: its drawing, legend and arrow keys, and a note when there is nothing to draw.

import { savePicture } from "./download.js";
import { Frame } from "./frame.js";
import { calledAt, library, picture, plot, point, resize, saying, turn, unpoint } from "./plot.js";
import { button, make, nameElement, named } from "./text.js";

/**
 * @typedef {{id: string, name: string, raw?: string, kind: "bar"|"line"|"mark", values: (number|null)[], color: number,
 *   light?: boolean, dotted?: boolean, percent?: boolean, below?: boolean, hidden?: boolean, at?: (string|null)[],
 *   errors?: {exact: boolean, standard_error: number|null, fewerThan?: number|null}[]}} Series
 *   `at` names the points of compared days; `below`: bars point downwards; `fewerThan`: a bound instead of a figure
 * @typedef {{hint: string, kind: "day"|"week"|"month"|"name", x: string[], series: Series[], first: string, stacked?: boolean,
 *   across?: boolean, partial?: boolean, whole?: boolean, lines?: {value: number}[], empty?: string,
 *   notes?: string[], table?: import("./table.js").Table, pick?: (place: number) => object|null}} Model
 *   `first` heads the table's first column; `partial`: the last point is not over; `whole`: shares near 100 %, so the
 *   axis need not begin at zero; `notes` are shown below the legend; `pick`: the filters that a click on a point sets
 */

export class Chart extends Frame {
  /** @param {string} name of `figure#chart-<name>` @param {string} title @param {(changes: object) => void} go sets filters */
  constructor(name, title, go) {
    super(name, title);
    this.go = go;
    this.hidden = new Set();
    this.known = new Set();
    this.plot = make("div", { class: "plot", role: "img", tabindex: "0", "aria-label": title });
    this.legend = make("ul", { class: "legend", "aria-label": `Series of ${title}` });
    this.build(this.plot, this.note, this.legend);
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.plot.addEventListener("blur", () => {
      if (this.place !== undefined) unpoint(this.plot);
      this.place = undefined;
    });
    document.addEventListener("themechange", () => this.draw());
  }

  async savePicture() {
    savePicture(await picture(this.model, this.hidden, `${this.title}, ${this.model.hint}`), `${this.file}.png`);
  }

  clear() {
    super.clear();
    this.legend.replaceChildren();
    delete this.element.dataset.pick;
  }

  /** @param {Model} model */
  async render(model) {
    [model.least, model.most] = endsOf(model);
    const key = JSON.stringify(model);
    if (this.element.dataset.state === "ready" && key === this.drawnKey) return "ready";
    this.drawnKey = key;
    for (const series of model.series) {
      // Only at its first appearance: a choice in the legend stays.
      if (!this.known.has(series.id) && series.hidden) this.hidden.add(series.id);
      this.known.add(series.id);
    }
    this.model = model;
    this.hint.textContent = this.hint.title = model.hint;
    if (model.pick) this.element.dataset.pick = "true";
    this.tabulate();
    if (!model.x.length || model.series.every((series) => series.dotted || series.values.every((value, at) => !value && !series.errors?.[at]?.fewerThan))) {
      this.legend.replaceChildren();
      return "empty";
    }
    this.showLegend();
    return this.draw();
  }

  /** @returns {Promise<import("./part.js").State>} */
  async draw() {
    const { model } = this;
    if (!model || !this.legend.childElementCount) return this.element.dataset.state;
    this.remark = "";
    try {
      await library();
    } catch {
      this.remark = "The chart cannot be drawn: its library did not load. The table has the figures.";
      return "undrawn";
    }
    await turn(this.plot, () => (model === this.model ? plot(this.plot, model, this.hidden, (place) => this.pick(place)) : null));
    this.plot.setAttribute("aria-label", `${this.title}, ${model.hint}. Arrow keys move through it${model.pick ? ", Enter filters by a point" : ""}.`);
    return "ready";
  }

  pick(place) {
    const changes = this.model?.pick?.(place);
    if (changes) this.go(changes);
  }

  /** A button per series, which shows or hides it. */
  showLegend() {
    const items = this.model.series.map((series) => {
      const swatch = make("span", {
        class: series.dotted ? "swatch dotted" : series.light ? "swatch light" : "swatch", "data-color": String(series.color),
      });
      const key = button("", { "aria-pressed": String(!this.hidden.has(series.id)) }, () => {
        if (!this.hidden.delete(series.id)) this.hidden.add(series.id);
        key.setAttribute("aria-pressed", String(!this.hidden.has(series.id)));
        this.draw();
      });
      key.append(swatch, nameElement(series.name, series.raw));
      return make("li", {}, key);
    });
    if (this.model.partial) items.push(make("li", { class: "today" }, `The last ${this.model.kind} is not over.`));
    for (const sentence of this.model.notes ?? []) items.push(make("li", { class: "sentence" }, sentence));
    this.legend.replaceChildren(...items);
  }

  /** Arrow keys move through the points, for keyboards and screen readers; Enter picks one, as a click does. */
  step(event) {
    if (this.element.dataset.state !== "ready") return;
    if (event.key === "Enter" && this.place !== undefined) this.pick(this.place);
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const last = this.model.x.length - 1;
    this.place = this.place === undefined ? (by > 0 ? 0 : last) : Math.min(last, Math.max(0, this.place + by));
    point(this.plot, this.model, this.place);
    const shown = this.model.series.filter((series) => !this.hidden.has(series.id));
    const figures = shown.map((series) => `${named(series.name)} ${saying(series, this.place)}`);
    document.getElementById("spoken").textContent = `${calledAt(this.model, this.place)}: ${figures.join("; ")}`;
  }

  /** @param {{width: number, height: number}|null} size on paper; null: as the page has it */
  resize(size) {
    if (this.element.dataset.state === "ready") resize(this.plot, size);
  }

  /** One row per point; a series of estimates has a column with their standard error. */
  table() {
    const { model } = this;
    if (!model) return null;
    if (model.table) return model.table;
    const columns = [{ name: model.first }];
    for (const series of model.series) {
      if (series.at) columns.push({ name: `${series.name}: ${model.first.toLowerCase()}`, kind: "text" });
      columns.push({ name: series.name, raw: series.raw, kind: series.percent ? "share" : "number" });
      if (series.errors) columns.push({ name: `${series.name}: standard error`, kind: "text" });
    }
    const rows = model.x.map((x, place) => model.series.reduce((row, series) => [...row, ...cells(series, place)], [x]));
    return { columns, rows };
  }
}

/** The least and the greatest figure on the axis; bars are stacked. @param {Model} model @returns {[number, number]} */
function endsOf({ x, series, stacked }) {
  const bars = series.filter((each) => each.kind === "bar" && !each.below);
  const sums = stacked ? x.map((_, place) => bars.reduce((sum, each) => sum + (each.values[place] ?? 0), 0)) : [];
  const all = (below) => series.filter((each) => Boolean(each.below) === below).flatMap((each) => each.values.map((value) => value ?? 0));
  return [-Math.max(0, ...all(true)), Math.max(0, ...sums, ...all(false))];
}

/** @param {Series} series */
function cells(series, place) {
  const found = series.at ? [series.at[place] ?? null] : [];
  const error = series.errors?.[place];
  found.push(error?.fewerThan ? { fewerThan: error.fewerThan } : series.values[place] ?? null);
  if (series.errors) found.push(!error || error.fewerThan ? null : error.exact ? "exact" : error.standard_error === null ? "unknown" : String(error.standard_error));
  return found;
}
