// A chart's frame: heading, legend, table, downloads, and a note when there is nothing to draw.

import { savePicture, saveText } from "./download.js";
import { Part } from "./part.js";
import { calledAt, library, picture, plot, point, resize, saying, turn, unpoint } from "./plot.js";
import { csv, tableElement } from "./table.js";
import { button, make, nameElement, named } from "./text.js";

/**
 * @typedef {{id: string, name: string, raw?: string, kind: "bar"|"line"|"mark", values: (number|null)[], color: number,
 *   light?: boolean, dotted?: boolean, percent?: boolean, hidden?: boolean, at?: (string|null)[],
 *   errors?: {exact: boolean, standard_error: number|null}[]}} Series  `at` names the points of compared days
 * @typedef {{hint: string, kind: "day"|"month"|"name", x: string[], series: Series[], first: string, stacked?: boolean,
 *   across?: boolean, partial?: boolean, whole?: boolean, lines?: {value: number}[], empty?: string,
 *   table?: import("./table.js").Table, pick?: (place: number) => object|null}} Model
 *   `first` heads the table's first column; `partial`: the last point is not over; `whole`: shares near 100 %, so the
 *   axis need not begin at zero; `pick`: the filters that a click on a point sets
 */

export class Chart extends Part {
  /** @param {string} name of `figure#chart-<name>` @param {string} title @param {(changes: object) => void} go sets filters */
  constructor(name, title, go) {
    super(document.getElementById(`chart-${name}`), title);
    this.name = name;
    this.go = go;
    this.model = null;
    this.hidden = new Set();
    this.known = new Set();
    this.build();
    document.addEventListener("themechange", () => this.draw());
  }

  build() {
    const id = `${this.element.id}-title`;
    this.csv = button("CSV", { class: "csv quiet", "aria-label": `CSV: ${this.title}` }, () => saveText(csv(this.table()), `${this.file}.csv`));
    this.png = button("PNG", { class: "png quiet", "aria-label": `PNG: ${this.title}` }, async () => {
      savePicture(await picture(this.model, this.hidden, `${this.title}, ${this.model.hint}`), `${this.file}.png`);
    });
    this.hint = make("p", { class: "hint" });
    this.plot = make("div", { class: "plot", role: "img", tabindex: "0", "aria-label": this.title });
    this.legend = make("ul", { class: "legend", "aria-label": `Series of ${this.title}` });
    this.data = make("details", { class: "data" }, make("summary", {}, "Figures as a table"));
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${this.title}` });
    this.data.append(this.scroll);
    this.element.setAttribute("aria-labelledby", id);
    this.element.append(
      make("div", { class: "head" }, make("h3", { id }, this.title), this.csv, this.png),
      this.hint, this.old, this.plot, this.note, this.legend, this.data,
    );
    this.state("loading");
    // Built when opened: a year's table is long.
    this.data.addEventListener("toggle", () => this.tabulate());
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.plot.addEventListener("blur", () => {
      if (this.place !== undefined) unpoint(this.plot);
      this.place = undefined;
    });
  }

  get file() {
    return `authtally-${this.name}`;
  }

  state(state, sentence = "") {
    super.state(state, sentence);
    this.csv.disabled = !this.shown;
    this.png.disabled = state !== "ready";
  }

  clear() {
    this.model = null;
    this.drawnKey = null;
    this.hint.textContent = this.hint.title = "";
    this.legend.replaceChildren();
    this.scroll.replaceChildren();
    delete this.element.dataset.pick;
  }

  /** @param {Model} model */
  async render(model) {
    model.most = mostOf(model);
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
    if (!model.x.length || model.series.every((series) => series.dotted || series.values.every((value) => !value))) {
      this.legend.replaceChildren();
      return "empty";
    }
    this.keys();
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

  keys() {
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
    this.legend.replaceChildren(...items);
  }

  tabulate() {
    if (this.data.open && this.model) this.scroll.replaceChildren(tableElement(this.table(), `${this.title}, ${this.model.hint}`));
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

/** The greatest figure on the axis; bars are stacked. @param {Model} model */
function mostOf({ x, series, stacked }) {
  const bars = series.filter((each) => each.kind === "bar");
  const sums = stacked ? x.map((_, place) => bars.reduce((sum, each) => sum + (each.values[place] ?? 0), 0)) : [];
  return Math.max(0, ...sums, ...series.flatMap((each) => each.values.map((value) => value ?? 0)));
}

/** @param {Series} series */
function cells(series, place) {
  const found = series.at ? [series.at[place] ?? null] : [];
  found.push(series.values[place] ?? null);
  const error = series.errors?.[place];
  if (series.errors) found.push(!error ? null : error.exact ? "exact" : error.standard_error === null ? "unknown" : String(error.standard_error));
  return found;
}
