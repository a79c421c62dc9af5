// A chart's figures as a table, for screen readers and exact reading, and as CSV.

import { decimal, make, nameElement, number } from "./text.js";

/**
 * @typedef {{name: string, kind?: "name"|"number"|"text"}} Column
 * @typedef {{columns: Column[], rows: (string|number|null)[][]}} Table
 */

/** @param {Table} table */
export function tableElement(table, caption) {
  const head = make("tr");
  for (const column of table.columns) {
    head.append(make("th", { scope: "col", class: column.kind === "number" ? "" : "text" }, nameElement(column.name)));
  }
  const body = make("tbody");
  for (const row of table.rows) {
    const line = make("tr");
    row.forEach((value, place) => line.append(cell(value, table.columns[place], place === 0)));
    body.append(line);
  }
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), body);
}

function cell(value, column, first) {
  const element = first ? make("th", { scope: "row" }) : make("td");
  if (typeof value === "number") {
    element.dataset.value = String(value);
    element.textContent = Number.isInteger(value) ? number(value) : decimal(value);
  } else if (value === null || value === undefined) {
    element.textContent = "–";
  } else {
    if (column.kind !== "number") element.className = "text";
    element.append(nameElement(value));
  }
  return element;
}

/** RFC 4180. Names that a spreadsheet would run as a formula get a leading quote. @param {Table} table */
export function csv(table) {
  const lines = [table.columns.map((column) => field(column.name)), ...table.rows.map((row) => row.map(field))];
  return lines.map((line) => `${line.join(",")}\r\n`).join("");
}

function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
