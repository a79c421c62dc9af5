// Figures as a table, for screen readers and exact reading, and as CSV.

import { decimal, fewerText, lessText, make, nameElement, number, percent } from "./text.js";

/**
 * @typedef {{name: string, raw?: string, kind?: "name"|"number"|"share"|"text"}} Column
 * @typedef {{columns: Column[], rows: (string|number|Bound|null)[][]}} Table
 * @typedef {{fewerThan: number}|{lessThan: number}} Bound of a number or a share whose estimate is too inexact to be a figure
 */

/** @param {Table} table */
export function tableElement(table, caption) {
  const head = make("tr");
  for (const column of table.columns) {
    const numeric = column.kind === "number" || column.kind === "share";
    head.append(make("th", { scope: "col", class: numeric ? "" : "text" }, nameElement(column.name, column.raw)));
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
    element.textContent = column.kind === "share" ? percent(value) : Number.isInteger(value) ? number(value) : decimal(value);
  } else if (value === null || value === undefined) {
    element.textContent = "–";
  } else if (typeof value === "object") {
    element.textContent = value.lessThan === undefined ? fewerText(value.fewerThan) : `less than ${lessText(value.lessThan)}`;
  } else {
    if (column.kind !== "number") element.className = "text";
    element.append(nameElement(value));
  }
  return element;
}

/** RFC 4180. @param {Table} table */
export function csv(table) {
  return lines([table.columns.map((column) => column.raw ?? column.name), ...table.rows]);
}

/**
 * All parts of a view in one table, a line per figure, since their columns differ.
 * @param {{part: string, table: Table}[]} parts @param {Record<string, string>} filters
 */
export function viewCsv(parts, filters) {
  const names = Object.keys(filters);
  const found = [[...names, "part", "row", "column", "value"]];
  for (const { part, table } of parts) {
    // A table's first columns name its rows.
    const keys = table.columns.findIndex((column) => column.kind === "number" || column.kind === "share");
    for (const row of table.rows) {
      const name = row.slice(0, keys).map((each) => each ?? "").join(" / ");
      table.columns.forEach((column, place) => {
        if (place >= keys) found.push([...Object.values(filters), part, name, column.raw ?? column.name, row[place]]);
      });
    }
  }
  return lines(found);
}

const lines = (rows) => rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");

/** Names that a spreadsheet would run as a formula get a leading quote. */
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  if (typeof value === "object") return value.lessThan === undefined ? `fewer than ${value.fewerThan}` : `less than ${value.lessThan}`;
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
