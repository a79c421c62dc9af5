// How figures and names read. Names come from outside: they are only ever text, and never more than one line of it.

const WHOLE = new Intl.NumberFormat("en");
const ONE = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const PERCENT = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const FINE = new Intl.NumberFormat("en", { style: "percent", maximumSignificantDigits: 2 });

/** "12,345"; a dash where nothing is known. */
export const number = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));
export const decimal = (value) => (value === null || value === undefined ? "–" : ONE.format(value));
export const percent = (value) => (value === null || value === undefined ? "–" : PERCENT.format(value));

/** Of a relative change: "+12.5 %". */
export const signed = (change) => `${change > 0 ? "+" : ""}${PERCENT.format(change)}`;

/**
 * How exact a figure is, in words.
 * @param {{value: number|null, exact: boolean, standard_error: number|null}} figure
 */
export function exactness(figure) {
  if (figure.value === null) return "no longer kept";
  if (figure.exact) return "exact";
  if (figure.standard_error === null) return "estimated elsewhere";
  const off = Math.round(1.96 * figure.standard_error * figure.value);
  return `± ${number(off)} in 95 of 100 cases (standard error ${FINE.format(figure.standard_error)})`;
}

export const NO_NAME = "(none)";
export const named = (name) => (name === "" ? NO_NAME : name);

export function shortened(name, most = 40) {
  const letters = Array.from(name);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : name;
}

/** Where no element can isolate a name: without what would turn its neighbours around. */
export const undirected = (name) => name.replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, " ");

/** For plotly.js, which reads some HTML in labels: shortened, isolated from its neighbours' direction, and escaped, the `$` of formulas too. */
export function label(name, most = 40) {
  const text = undirected(shortened(named(name), most));
  return `\u2068${text}\u2069`.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;");
}

/** An element with a name in it, whole in its title. */
export function nameElement(name) {
  const element = document.createElement("bdi");
  element.textContent = shortened(named(name), 80);
  element.title = named(name);
  return element;
}

/** @param {Record<string, string>} attributes */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
