// The text of figures and names. Names are untrusted: they are inserted as text only, on one line.

const WHOLE = new Intl.NumberFormat();
const ONE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const PERCENT = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const WHOLE_PERCENT = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 2 });

const COMPACT = new Intl.NumberFormat(undefined, { notation: "compact" });

const known = (value) => value !== null && value !== undefined;

/** "12,345"; a dash for an unknown value. */
export const number = (value) => (known(value) ? WHOLE.format(value) : "–");
export const decimal = (value) => (known(value) ? ONE.format(value) : "–");
export const percent = (value) => (known(value) ? PERCENT.format(value) : "–");

/** "12K", for axes. */
export const compact = (value) => (value < 10_000 ? WHOLE : COMPACT).format(value);

/** Without decimals, except below 10 %, where they are a large part of the figure. */
export const wholePercent = (value) => (value > 0 && value < 0.0995 ? PERCENT : WHOLE_PERCENT).format(value);

/** The separators of the browser's language, decimal first, as plotly.js takes them. */
export const SEPARATORS = [".", ","]
  .map((sign, place) => ONE.formatToParts(12345.6).find((part) => part.type === ["decimal", "group"][place])?.value ?? sign)
  .join("");

const sign = (change) => (change > 0 ? "▲" : change < 0 ? "▼" : "=");

/** A relative change: "▲ 12.5%". */
export const changeText = (change) => `${sign(change)} ${PERCENT.format(Math.abs(change))}`;

/** A difference of shares: "▲ 1.2 points". */
export const pointsText = (difference) => `${sign(Math.round(difference * 1000))} ${ONE.format(Math.abs(difference * 100))} points`;

/**
 * The accuracy of a figure, in words.
 * @param {{value: number|null, exact: boolean, standard_error: number|null}} figure
 */
export function exactness(figure) {
  if (figure.value === null) return "no longer kept";
  if (figure.exact) return "exact";
  if (figure.standard_error === null) return "estimated elsewhere";
  const off = Math.round(1.96 * figure.standard_error * figure.value);
  return `± ${number(off)} in 95 of 100 cases (standard error ${FINE.format(figure.standard_error)})`;
}

/** The same in a word or a number, for a place beside the figure. */
export function errorText({ value, exact, standard_error }) {
  if (value === null) return "";
  if (exact) return "exact";
  return standard_error === null ? "estimated" : `± ${number(Math.round(1.96 * standard_error * value))}`;
}

/** A share that stands for a figure too: rounded up, since a lower one would not be a bound. */
export const lessText = (bound) => PERCENT.format(Math.ceil(bound * 1000) / 1000);

/** The bound that stands for a figure which is too small against its error. */
export const fewerText = (bound) => `fewer than ${number(bound)}`;

export const NO_NAME = "(none)";
export const named = (name) => (name === "" ? NO_NAME : name);

export function shortened(name, most = 40) {
  const letters = Array.from(name);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : name;
}

/** The name without control and direction characters, for places where no element can isolate it. */
export const undirected = (name) => name.replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, " ");

/** A label for plotly.js, which interprets some HTML and `$` formulas: shortened, direction-isolated and escaped. */
export function label(name, most = 40) {
  const text = undirected(shortened(named(name), most));
  return `\u2068${text}\u2069`.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;");
}

/** An element with a shortened name; the title has the whole name, or the raw one. */
export function nameElement(name, raw = name) {
  const element = document.createElement("bdi");
  element.textContent = shortened(named(name), 80);
  element.title = named(raw);
  return element;
}

/** @param {Record<string, string>} attributes */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A button that runs `work`. @param {() => void} work */
export function button(text, attributes, work) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", work);
  return element;
}
