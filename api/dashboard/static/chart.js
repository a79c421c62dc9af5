// A chart's frame: heading, legend, table, downloads, and a note when there is nothing to draw.

import { calledAt, library, picture, plot, point, saying, turn, unpoint } from "./plot.js";
import { csv, tableElement } from "./table.js";
import { savePicture, saveText } from "./download.js";
import { make, nameElement, named } from "./text.js";

/**
 * @typedef {{name: string, kind: "bar"|"line"|"mark", values: (number|null)[], color: number, light?: boolean,
 *   percent?: boolean, hidden?: boolean, errors?: {exact: boolean, standard_error: number|null}[]}} Series
 * @typedef {{hint: string, kind: "day"|"month"|"name", x: string[], series: Series[], stacked?: boolean,
 *   across?: boolean, lines?: {value: number}[], empty?: string, table?: import("./table.js").Table,
 *   first: string}} Model  `first` heads the table's first column
 */

export class Chart {
  /** @param {string} name of `figure#chart-<name>` @param {string} title */
  constructor(name, title) {
    this.name = name;
    this.title = title;
    this.figure = document.getElementById(`chart-${name}`);
    this.model = null;
    this.drawable = false;
    this.hidden = new Set();
    this.file = `authtally-${name}`;
    this.build();
    document.addEventListener("themechange", () => this.draw());
  }

  build() {
    const id = `${this.figure.id}-title`;
    this.csv = make("button", { type: "button", class: "csv", "aria-label": `CSV: ${this.title}`, disabled: "" }, "CSV");
    this.png = make("button", { type: "button", class: "png", "aria-label": `PNG: ${this.title}`, disabled: "" }, "PNG");
    this.hint = make("p", { class: "hint" });
    this.plot = make("div", { class: "plot", role: "img", tabindex: "0", "aria-label": this.title });
    this.note = make("p", { class: "note", hidden: "" });
    this.legend = make("ul", { class: "legend", "aria-label": `Series of ${this.title}` });
    this.data = make("details", { class: "data" }, make("summary", {}, "Figures as a table"));
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${this.title}` });
    this.data.append(this.scroll);
    const head = make("div", { class: "head" }, make("h3", { id }, this.title), this.csv, this.png);
    this.figure.setAttribute("aria-labelledby", id);
    this.figure.prepend(head, this.hint);
    this.figure.append(this.plot, this.note, this.legend, this.data);
    this.state("loading");
    this.csv.addEventListener("click", () => saveText(csv(tableOf(this.model)), `${this.file}.csv`));
    this.png.addEventListener("click", async () => {
      savePicture(await picture(this.model, this.hidden, `${this.title}, ${this.model.hint}`), `${this.file}.png`);
    });
    // Built when opened: a year's table is long.
    this.data.addEventListener("toggle", () => this.tabulate());
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.plot.addEventListener("blur", () => {
      if (this.at !== undefined) unpoint(this.plot);
      this.at = undefined;
    });
  }

  state(state, sentence = "") {
    this.figure.dataset.state = state;
    this.note.textContent = sentence;
    this.note.hidden = !sentence;
    this.csv.disabled = !["ready", "undrawn"].includes(state);
    this.png.disabled = state !== "ready";
  }

  /** Keeps the present chart during a refresh. */
  wait() {
    if (this.figure.dataset.state !== "ready") this.state("loading");
  }

  /** @param {Model} model @param {string} file name of downloads, without its ending */
  async show(model, file) {
    model.most = Math.max(0, ...model.series.flatMap((series) => series.values.map((value) => value ?? 0)));
    this.file = file;
    const key = JSON.stringify(model);
    if (this.figure.dataset.state === "ready" && key === this.key) return;
    this.key = key;
    if (!this.model) for (const series of model.series) if (series.hidden) this.hidden.add(series.name);
    this.model = model;
    this.hint.textContent = this.hint.title = model.hint;
    this.tabulate();
    this.drawable = false;
    if (!model.x.length || model.series.every((series) => series.values.every((value) => !value))) {
      this.state("empty", model.empty ?? "Nothing in these days.");
      return;
    }
    this.drawable = true;
    this.keys();
    await this.draw();
  }

  async draw() {
    if (!this.drawable) return;
    try {
      await library();
    } catch {
      this.state("undrawn", "The chart cannot be drawn: its library did not load. The table has the figures.");
      return;
    }
    await turn(this.plot, () => plot(this.plot, this.model, this.hidden));
    if (!this.drawable) return;
    this.plot.setAttribute("aria-label", `${this.title}, ${this.model.hint}. Arrow keys go through it.`);
    this.state("ready");
  }

  /** Shows the reason instead of a chart. @param {import("./questions.js").Refusal} refusal */
  refuse(refusal) {
    if (refusal.kind === "dead" && this.model && this.figure.dataset.state === "ready") return;
    const state = { unkept: "unkept", refused: "refused" }[refusal.kind] ?? "failed";
    this.drawable = false;
    this.hint.textContent = "";
    this.state(state, refusal.message);
  }

  keys() {
    const items = this.model.series.map((series) => {
      const swatch = make("span", { class: series.light ? "swatch light" : "swatch", "data-color": String(series.color) });
      const pressed = String(!this.hidden.has(series.name));
      const button = make("button", { type: "button", "aria-pressed": pressed }, swatch, nameElement(series.name));
      button.addEventListener("click", () => {
        if (!this.hidden.delete(series.name)) this.hidden.add(series.name);
        button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
        plot(this.plot, this.model, this.hidden);
      });
      return make("li", {}, button);
    });
    this.legend.replaceChildren(...items);
  }

  tabulate() {
    if (!this.data.open || !this.model) return;
    this.scroll.replaceChildren(tableElement(tableOf(this.model), `${this.title}, ${this.model.hint}`));
  }

  /** Arrow keys move through the points, for keyboards and screen readers. */
  step(event) {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by || this.figure.dataset.state !== "ready") return;
    event.preventDefault();
    const last = this.model.x.length - 1;
    this.at = this.at === undefined ? (by > 0 ? 0 : last) : Math.min(last, Math.max(0, this.at + by));
    point(this.plot, this.model, this.at);
    const shown = this.model.series.filter((series) => !this.hidden.has(series.name));
    const figures = shown.map((series) => `${named(series.name)} ${saying(series, this.at)}`);
    document.getElementById("spoken").textContent = `${calledAt(this.model, this.at)}: ${figures.join("; ")}`;
  }
}

/** One row per point; a series of estimates has a column with their standard error. @param {Model} model */
export function tableOf(model) {
  if (model.table) return model.table;
  const columns = [{ name: model.first }];
  for (const series of model.series) {
    columns.push({ name: series.name, kind: "number" });
    if (series.errors) columns.push({ name: `${series.name}: standard error`, kind: "text" });
  }
  const rows = model.x.map((x, place) => {
    const row = [x];
    for (const series of model.series) {
      row.push(series.values[place]);
      const error = series.errors?.[place];
      if (error) row.push(error.exact ? "exact" : error.standard_error === null ? "unknown" : String(error.standard_error));
    }
    return row;
  });
  return { columns, rows };
}
