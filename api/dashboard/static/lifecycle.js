// Lifecycle and retention: whole weeks or months of the chosen range, and the figures of the API with their errors.

import { dayText, firstOf, firstOfWeek, lastOf, lengthOf, mondayOf, monthOf, months, monthText, plusDays, plusMonths, weekText } from "./dates.js";
import { button, fewerText, make, number } from "./text.js";

export const PERIODS = { week: "Week", month: "Month" };
export const NEW = "new";
export const COHORTS = { all: "All users", [NEW]: "New users" };
/** Above this number of days a period is a month, unless one is chosen. */
const MOST_DAYS = 92;
const WEEKS_OF_YEAR = 52;

/**
 * @typedef {import("./filters.js").Chosen} Chosen @typedef {import("./ranges.js").Span} Span
 * @typedef {{value: number|null, exact: boolean, standard_error: number|null, fewerThan: number|null}} Figure
 *   `fewerThan`: a bound where the estimate is too small against its error; without value and bound it is unknown
 */

/** A figure of users as the API has it, or a rate. @returns {Figure} */
export const figureOf = ({ value, exact, standard_error, fewer_than, less_than }) => ({ value, exact, standard_error, fewerThan: fewer_than ?? less_than ?? null });

/** The length of a period. @param {Chosen} chosen @returns {"week"|"month"} */
export const byOf = (chosen) => chosen.by || (lengthOf(chosen.from, chosen.to) > MOST_DAYS ? "month" : "week");

/** All that these figures depend on. @param {Chosen} chosen */
export const keyOf = (chosen) => JSON.stringify([chosen.key, byOf(chosen), chosen.cohort]);

/** The days of the whole periods that a span touches. @param {Span} span @param {"week"|"month"} by @returns {Span} */
export function wholeSpan({ from, to }, by) {
  return by === "week" ? { from: mondayOf(from), to: plusDays(mondayOf(to), 6) } : { from: firstOf(monthOf(from)), to: lastOf(monthOf(to)) };
}

/**
 * The periods to compare with: as many directly before, or those of the year before (52 weeks, 12 months).
 * A week of both ranges would be compared with itself, so the compared days of other charts do not serve here.
 *
 * @param {Chosen} chosen @returns {Span|null}
 */
export function spanBefore(chosen) {
  if (!chosen.before) return null;
  const by = byOf(chosen);
  const { from, to } = wholeSpan(chosen, by);
  if (by === "week") {
    const back = chosen.compare === "year" ? 7 * WEEKS_OF_YEAR : lengthOf(from, to);
    return { from: plusDays(from, -back), to: plusDays(to, -back) };
  }
  const back = chosen.compare === "year" ? 12 : months(from, to).length;
  return { from: firstOf(plusMonths(monthOf(from), -back)), to: lastOf(plusMonths(monthOf(to), -back)) };
}

/** The days of a period by its name in the API. */
export function daysOfPeriod(name) {
  return name.includes("W") ? { from: firstOfWeek(name), to: plusDays(firstOfWeek(name), 6) } : { from: firstOf(name), to: lastOf(name) };
}

export const isWeek = (period) => period.includes("W");
export const periodText = (period) => (isWeek(period) ? weekText(period) : monthText(period));
/** Within a sentence: "week 43, 19 – 25 Oct 2026", "Oct 2026". */
export const inWords = (period) => (isWeek(period) ? `${periodText(period)[0].toLowerCase()}${periodText(period).slice(1)}` : periodText(period));
export const listed = (periods) => (periods.length > 3 ? `${inWords(periods[0])} and ${number(periods.length - 1)} more` : periods.map(inWords).join(", "));

/** Why figures of a period are unknown, by the API's word. */
export const WHY_UNKNOWN = {
  history: "no users before are known",
  imported: "a month was imported as a number without users",
  not_united: "users of several regions are not united, and the sum is too small",
};

const REASONS = {
  first_counted: "the first counted day",
  retain_months: "the first day that RETAIN_MONTHS keeps",
  users_by: "when USERS_BY got its present value",
  active_on: "when ACTIVE_ON got its present value",
};

/** The days in which a user was not seen before being new. */
export const sinceText = ({ since, reason }) => (since ? [`New: not active between ${dayText(since)} (${REASONS[reason] ?? reason}) and the period.`] : []);

export const UNKNOWN = { value: null, exact: false, standard_error: null, fewerThan: null };

/** The API's definition of a figure, with the day from which users are known. */
export const definedText = ({ definition, history }, id) => (history.since ? definition[id].replace("`history.since`", dayText(history.since)) : definition[id]);

/** @param {Figure} figure */
export const figureText = (figure) => (figure.fewerThan !== null ? fewerText(figure.fewerThan) : number(figure.value));

/** Columns of a table for a figure and its error. */
export const figureColumns = (name, kind = "number") => [{ name, kind }, { name: `${name}: standard error`, kind: "text" }];

/** Value or bound, and error. @param {Figure} figure @returns {(string|number|{fewerThan: number}|null)[]} */
export function figureCells(figure) {
  if (figure.fewerThan !== null) return [{ fewerThan: figure.fewerThan }, null];
  if (figure.value === null) return [null, null];
  return [figure.value, figure.exact ? "exact" : figure.standard_error === null ? "unknown" : String(figure.standard_error)];
}

/** The choices that only these figures have: their periods and their cohorts. */
export class LifecycleChoices {
  /** @param {(changes: object) => void} go sets filters */
  constructor(go) {
    this.buttons = { by: group("By", PERIODS, (by) => go({ by })), cohort: group("Retention of", COHORTS, (cohort) => go({ cohort })) };
    const place = document.getElementById("lifecycle-choices");
    for (const { element } of Object.values(this.buttons)) place.append(element);
  }

  /** @param {Chosen} chosen */
  show(chosen) {
    this.buttons.by.press(byOf(chosen));
    this.buttons.cohort.press(chosen.cohort);
  }
}

/** Buttons of which one is pressed. @param {Record<string, string>} choices @param {(choice: string) => void} onChoice */
function group(title, choices, onChoice) {
  const buttons = Object.entries(choices).map(([value, text]) => button(text, { "data-choice": value }, () => onChoice(value)));
  const element = make("div", { role: "group", "aria-label": title }, make("span", { "aria-hidden": "true" }, title), ...buttons);
  const press = (chosen) => {
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.choice === chosen));
  };
  return { element, press };
}
