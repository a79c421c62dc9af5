// Figures of a range of days: requests to the API, and their sums per point of a chart.

import { monthOf } from "./dates.js";
import { periodsOf, pieces } from "./ranges.js";
import { regionCaveat } from "./regions.js";

/**
 * @typedef {import("./filters.js").Chosen} Chosen
 * @typedef {import("./questions.js").Asker} Asker
 * @typedef {import("./ranges.js").Span} Span
 * @typedef {{periods: string[], rows: object[], caveats: string[], asOf: object}} Counted
 *   `period` of a row is the name of the point to which it belongs; a month that was asked by days has several rows
 *
 * Functions take the days from `span` and the other filters from `chosen`. For the chosen range itself both are `chosen`,
 * which is a Span too.
 */

/** Counters over the span. @param {string} [group] columns separated by commas @returns {Promise<Counted>} */
export async function counted(/** @type {Asker} */ asker, path, /** @type {Span} */ span, /** @type {Chosen} */ chosen, group) {
  const { granularity } = chosen;
  const answers = await Promise.all(
    pieces(span, granularity, chosen.today).map((piece) => asker.ask(path, { ...piece, ...(group && { group_by: group }), ...chosen.query })),
  );
  const rows = answers.flatMap((answer) =>
    answer.items.map((item) => ({ ...item, period: granularity === "day" ? item.period : monthOf(item.period) })),
  );
  return { periods: periodsOf(span, granularity), rows, caveats: answers.flatMap(caveats), asOf: answers[0].as_of };
}

/** The sum of each point; null where an imported month lacks the measure. */
export function series({ periods, rows }, measure, wanted = () => true) {
  const places = new Map(periods.map((period, place) => [period, place]));
  const sums = periods.map(() => 0);
  for (const row of rows) {
    const place = places.get(row.period);
    if (place === undefined || !wanted(row)) continue;
    sums[place] = row[measure] === null || sums[place] === null ? null : sums[place] + (row[measure] ?? 0);
  }
  return sums;
}

/** The sum of what is known; null if nothing is. */
export function total(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length || !values.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

/** The share of successes; null without logins. */
export const successRate = (succeeded, failed) =>
  succeeded === null || failed === null || succeeded + failed === 0 ? null : succeeded / (succeeded + failed);

/** Sums of a measure by the values of `words`, largest first: `[{key, names, value}]`. */
export function sums({ rows }, words, measure) {
  const found = new Map();
  for (const row of rows) {
    const names = words.map((word) => row[word]);
    const key = JSON.stringify(names);
    const each = found.get(key) ?? { key, names, value: 0 };
    each.value += row[measure] ?? 0;
    found.set(key, each);
  }
  return [...found.values()].sort((one, other) => other.value - one.value);
}

/** Distinct users of the whole span; its item. */
export async function usersIn(/** @type {Asker} */ asker, /** @type {Span} */ span, /** @type {Chosen} */ chosen) {
  const answer = await asker.ask("/v1/active-users", { granularity: "range", from: span.from, to: span.to, ...chosen.query });
  return { ...answer.items[0], answer };
}

/** Distinct users of each point of the span. A part of a month is united over its days. */
export async function usersOver(/** @type {Asker} */ asker, /** @type {Span} */ span, /** @type {Chosen} */ chosen) {
  const { granularity } = chosen;
  const asked = pieces(span, granularity, chosen.today).map((piece) => ({
    ...piece, granularity: granularity === "month" && piece.granularity === "day" ? "range" : piece.granularity,
  }));
  const answers = await Promise.all(asked.map((piece) => asker.ask("/v1/active-users", { ...piece, ...chosen.query })));
  return {
    periods: periodsOf(span, granularity),
    items: answers.flatMap((answer) => answer.items),
    caveats: answers.flatMap(caveats),
  };
}

/** The caveats of an answer: regions that it lacks, incomplete labels, and settings that changed within the days. */
export function caveats(answer) {
  const since = Object.entries(answer.since ?? {}).map(([name, time]) => `${name} has its present value since ${time.slice(0, 10)}`);
  const regions = (answer.regions ?? []).filter(({ state, imported }) => state !== "current" || imported).map(regionCaveat);
  const labels = answer.complete === false && !regions.length ? ["some labels overflowed and count as Other"] : [];
  return [...regions, ...labels, ...since];
}
