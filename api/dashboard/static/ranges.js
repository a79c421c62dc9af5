// Ranges of days: the presets, what each is compared with, and the requests that cover it exactly.

import { days, firstOf, lastOf, lengthOf, monthOf, months, plusDays, plusMonths, shiftMonths } from "./dates.js";

export const RANGES = {
  "7d": "Last 7 days", "30d": "Last 30 days", "90d": "Last 90 days", "12m": "Last 12 months",
  month: "This month", "last-month": "Last month", custom: "From … to …",
};
export const DEFAULT_RANGE = "30d";
export const COMPARISONS = { previous: "the range before", year: "a year before", none: "nothing" };
const LAST = { "7d": 7, "30d": 30, "90d": 90 };
/** Above this number of days charts have a point per month. */
const MOST_DAYS = 92;

/** @typedef {{from: string, to: string}} Span days, both included */

/** @returns {Span|null} null for an unknown range */
export function spanOf(range, today) {
  const month = monthOf(today);
  if (Object.hasOwn(LAST, range)) return { from: plusDays(today, 1 - LAST[range]), to: today };
  if (range === "12m") return { from: firstOf(plusMonths(month, -11)), to: today };
  if (range === "month") return { from: firstOf(month), to: today };
  if (range === "last-month") return { from: firstOf(plusMonths(month, -1)), to: lastOf(plusMonths(month, -1)) };
  return null;
}

export const granularityOf = ({ from, to }) => (lengthOf(from, to) > MOST_DAYS ? "month" : "day");

const isWhole = ({ from, to }) => from === firstOf(monthOf(from)) && to === lastOf(monthOf(to));

/**
 * The range that `span` is compared with. Whole months and months to date are compared by the calendar, as a month
 * with the month before; others with as many days.
 *
 * @param {string} range its name @param {Span} span @param {string} today @param {"previous"|"year"|"none"} how
 * @returns {Span|null}
 */
export function comparisonOf(range, span, today, how) {
  if (how === "none") return null;
  const number = months(span.from, span.to).length;
  const byDays = Object.hasOwn(LAST, range);
  if (!byDays && isWhole(span)) {
    const back = how === "year" ? -12 : -number;
    return { from: shiftMonths(span.from, back), to: lastOf(plusMonths(monthOf(span.to), back)) };
  }
  if (how === "year") return { from: shiftMonths(span.from, -12), to: shiftMonths(span.to, -12) };
  if (!byDays && span.to === today && span.from === firstOf(monthOf(span.from))) {
    return { from: shiftMonths(span.from, -number), to: shiftMonths(span.to, -number) };
  }
  const to = plusDays(span.from, -1);
  return { from: plusDays(to, 1 - lengthOf(span.from, span.to)), to };
}

/** The names of the points of a chart. @param {Span} span @param {"day"|"month"} granularity */
export const periodsOf = (span, granularity) => (granularity === "day" ? days(span.from, span.to) : months(span.from, span.to));

/**
 * Requests that together cover the span exactly: the API counts months as a whole, so a month that the span has only
 * a part of is asked by days. The current month has no later days.
 *
 * @param {Span} span @param {"day"|"month"} granularity @param {string} today
 * @returns {{granularity: "day"|"month", from: string, to: string}[]}
 */
export function pieces(span, granularity, today) {
  const { from, to } = span;
  if (granularity === "day") return [{ granularity, from, to }];
  const first = from === firstOf(monthOf(from)) ? monthOf(from) : plusMonths(monthOf(from), 1);
  const ends = to === lastOf(monthOf(to)) || to === today;
  const last = ends ? monthOf(to) : plusMonths(monthOf(to), -1);
  const found = [];
  if (from < firstOf(first)) found.push({ granularity: "day", from, to: plusDays(firstOf(first), -1) });
  if (first <= last) found.push({ granularity: "month", from: firstOf(first), to: ends ? to : lastOf(last) });
  if (!ends) found.push({ granularity: "day", from: firstOf(monthOf(to)), to });
  return found;
}
