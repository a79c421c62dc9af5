// The frame of a chart or heat map: heading, hint, downloads, and a table of its figures below.

import { saveText } from "./download.js";
import { Part } from "./part.js";
import { csv, tableElement } from "./table.js";
import { button, make } from "./text.js";

export class Frame extends Part {
  /** @param {string} name of `figure#chart-<name>` @param {string} title */
  constructor(name, title) {
    super(document.getElementById(`chart-${name}`), title);
    this.name = name;
    this.model = null;
    this.csv = button("CSV", { class: "csv quiet", "aria-label": `CSV: ${title}` }, () => saveText(csv(this.table()), `${this.file}.csv`));
    this.png = button("PNG", { class: "png quiet", "aria-label": `PNG: ${title}` }, () => this.savePicture());
    this.hint = make("p", { class: "hint" });
    this.data = make("details", { class: "data" }, make("summary", {}, "Figures as a table"));
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${title}` });
    this.data.append(this.scroll);
    // Built when opened: a year's table is long.
    this.data.addEventListener("toggle", () => this.tabulate());
  }

  /** Subclasses call it once, with what is between the hint and the table. @param {Node[]} body */
  build(...body) {
    const id = `${this.element.id}-title`;
    this.element.setAttribute("aria-labelledby", id);
    this.element.append(make("div", { class: "head" }, make("h3", { id }, this.title), this.csv, this.png), this.hint, this.old, ...body, this.data);
    this.state("loading");
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
    this.scroll.replaceChildren();
  }

  tabulate() {
    if (this.data.open && this.model) this.scroll.replaceChildren(tableElement(this.table(), `${this.title}, ${this.model.hint}`));
  }
}
