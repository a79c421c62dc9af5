// A heat map of retention: a table whose cells are coloured by their shares, with a sentence about each cell.

import { savePicture } from "./download.js";
import { Frame } from "./frame.js";
import { heatPicture } from "./plot.js";
import { fewerText, make, number, percent, wholePercent } from "./text.js";

const STEPS = 8;

/**
 * @typedef {import("./lifecycle.js").Figure} Figure
 * @typedef {{period: string, age: number, partial: boolean, retained: Figure, rate: Figure, text: string}} Cell
 *   `text` is the sentence about the cell
 * @typedef {{period: string, head: string, name: string, users: Figure, cells: (Cell|null)[]}} Row
 *   `head` is short, for the row; `cells[n]` is n + 1 periods later
 * @typedef {{hint: string, kind: "week"|"month", heading: string, rows: Row[], ages: number, notes: string[], empty?: string,
 *   table: import("./table.js").Table}} HeatModel
 */

export class HeatMap extends Frame {
  /** @param {string} name of `figure#chart-<name>` @param {string} title */
  constructor(name, title) {
    super(name, title);
    this.grid = make("div", { class: "scroll heat-scroll" });
    this.readout = make("p", { class: "readout", "aria-hidden": "true" });
    this.legend = make("ul", { class: "legend", "aria-label": `Colours of ${title}` });
    this.build(this.grid, this.note, this.readout, this.legend);
    this.grid.addEventListener("keydown", (event) => this.step(event));
    this.grid.addEventListener("focusin", ({ target }) => this.read(target));
    this.grid.addEventListener("pointerover", ({ target }) => this.read(target.closest("[data-row]")));
    for (const type of ["pointerleave", "focusout"]) this.grid.addEventListener(type, () => this.read(null));
  }

  async savePicture() {
    const { rows, ages } = this.model;
    const lines = rows.filter((row) => row.cells.length).map((row) => ({
      name: row.head,
      cells: row.cells.map((cell) => ({ value: cell.rate.value, text: cellText(cell) })),
    }));
    const heads = Array.from({ length: ages }, (_, place) => `+${place + 1}`);
    savePicture(await heatPicture({ heads, lines, top: this.top, steps: STEPS }, `${this.title}, ${this.model.hint}`), `${this.file}.png`);
  }

  clear() {
    super.clear();
    this.grid.replaceChildren();
    this.legend.replaceChildren();
    this.readout.textContent = "";
  }

  /** @param {HeatModel} model @returns {import("./part.js").State} */
  render(model) {
    const key = JSON.stringify(model);
    if (this.element.dataset.state === "ready" && key === this.drawnKey) return "ready";
    this.drawnKey = key;
    this.model = model;
    this.hint.textContent = this.hint.title = model.hint;
    this.tabulate();
    this.grid.replaceChildren();
    this.legend.replaceChildren();
    if (!model.ages || model.rows.every(({ users }) => !users.value && !users.fewerThan)) return "empty";
    this.top = topOf(model);
    this.draw();
    this.showLegend();
    this.read(null);
    return "ready";
  }

  draw() {
    const { heading, rows, ages, kind } = this.model;
    const later = Array.from({ length: ages }, (_, place) => place + 1);
    const head = make(
      "tr", {},
      make("th", { scope: "col" }, heading), make("th", { scope: "col" }, "Users"),
      ...later.map((age) => make("th", { scope: "col", "aria-label": laterText(age, kind) }, `+${age}`)),
    );
    const body = rows.map((row, place) => make(
      "tr", {},
      make("th", { scope: "row", title: row.name }, row.head),
      figureCell(row.users),
      ...later.map((_, at) => this.cell(row.cells[at] ?? null, place, at)),
    ));
    // One cell takes part in the order of the Tab key; the arrow keys move from there.
    body.flatMap((line) => [...line.querySelectorAll("[data-row]")])[0]?.setAttribute("tabindex", "0");
    const table = make("table", { role: "grid", "aria-readonly": "true", "aria-label": `${this.title}, ${this.model.hint}. Arrow keys move through it.` });
    table.append(make("thead", {}, head), make("tbody", {}, ...body));
    this.grid.append(table);
  }

  /** @param {Cell|null} cell */
  cell(cell, row, column) {
    if (!cell) return make("td", { class: "none" });
    const { rate, partial, text } = cell;
    const element = make("td", { role: "gridcell", class: partial && (rate.value !== null || isBound(cell)) ? "partial" : "", tabindex: "-1", "aria-label": text, title: text, "data-row": String(row), "data-column": String(column) });
    element.textContent = cellText(cell);
    if (isBound(cell)) element.classList.add("fewer");
    if (rate.value !== null) {
      element.dataset.value = String(rate.value);
      element.dataset.step = String(Math.min(STEPS - 1, Math.floor((rate.value / this.top) * STEPS)));
    }
    return element;
  }

  showLegend() {
    const swatches = Array.from({ length: STEPS }, (_, step) => make("span", { class: "heat-key", "data-step": String(step) }));
    const cells = this.model.rows.flatMap((row) => row.cells).filter(Boolean);
    const items = [];
    if (cells.some(({ rate }) => rate.value !== null)) {
      items.push(make("li", { class: "scale" }, percent(0), make("span", { class: "steps", "aria-hidden": "true" }, ...swatches), percent(this.top)));
    }
    if (cells.some(isBound)) {
      items.push(make("li", {}, make("span", { class: "heat-key fewer", "aria-hidden": "true" }), "<: less than this share, too few users for a figure"));
    }
    if (cells.some(({ partial }) => partial)) {
      items.push(make("li", {}, make("span", { class: "heat-key partial", "aria-hidden": "true" }), `The last ${this.model.kind} is not over`));
    }
    for (const sentence of this.model.notes) items.push(make("li", { class: "sentence" }, sentence));
    this.legend.replaceChildren(...items);
  }

  /** Shows the sentence about a cell, else about the focused one. @param {HTMLElement|null} element */
  read(element) {
    const at = [element, this.grid.contains(document.activeElement) ? document.activeElement : null].find((each) => each?.dataset.row !== undefined);
    this.readout.textContent = at ? this.model.rows[at.dataset.row].cells[at.dataset.column].text : "Point at a cell for its figures and their error.";
  }

  /** Arrow keys move the focus, whose label a screen reader reads. */
  step(event) {
    const from = event.target;
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!by || from.dataset.row === undefined) return;
    event.preventDefault();
    const [row, column] = [Number(from.dataset.row) + by[0], Number(from.dataset.column) + by[1]];
    const next = this.grid.querySelector(`[data-row="${row}"][data-column="${column}"]`);
    if (!next) return;
    from.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  table() {
    return this.model?.table ?? null;
  }
}

/** Whether the estimate is too small against its error. @param {Cell} cell */
const isBound = ({ retained, rate }) => rate.fewerThan !== null || retained.fewerThan !== null;

/** @param {Cell} cell */
function cellText({ retained, rate }) {
  if (rate.value !== null) return wholePercent(rate.value);
  if (rate.fewerThan !== null) return `<${wholePercent(Math.ceil(rate.fewerThan * 100) / 100)}`;
  return retained.fewerThan === null ? "–" : `<${number(retained.fewerThan)}`;
}

/** "3 months later" */
export const laterText = (age, kind) => `${number(age)} ${kind}${age === 1 ? "" : "s"} later`;

/** The share at the end of the scale: that of the largest cell, rounded up to tens of percents. @param {HeatModel} model */
function topOf(model) {
  const shares = model.rows.flatMap((row) => row.cells.map((cell) => cell?.rate.value ?? 0));
  return Math.max(0.1, Math.ceil(Math.max(...shares) * 10) / 10);
}

/** @param {Figure} figure */
function figureCell(figure) {
  const cell = make("td", {}, figure.fewerThan ? fewerText(figure.fewerThan) : number(figure.value));
  if (figure.value !== null) cell.dataset.value = String(figure.value);
  return cell;
}
