// Converts figures to the models of charts over the chosen periods.

import { dayText, firstOf, lastOf, monthText, spanText } from "./dates.js";
import { series as seriesOf, sums } from "./counters.js";
import { nameOf } from "./names.js";
import { Refusal } from "./questions.js";

/** The most series before the rest is summed: the number of distinguishable colours. */
const MOST_SERIES = 7;
const REST = 8;

/** @typedef {import("./filters.js").Chosen} Chosen @typedef {import("./chart.js").Model} Model */

const BEFORE = { previous: "Range before", year: "A year before" };

/**
 * The answer, or `unkept` with the reason if this deployment does not keep such figures.
 * @template T @param {() => Promise<T>} work @returns {Promise<{found: T|null, unkept: string|null}>}
 */
export async function ifKept(work, kinds = ["unkept"]) {
  try {
    return { found: await work(), unkept: null };
  } catch (error) {
    if (error instanceof Refusal && kinds.includes(error.kind)) return { found: null, unkept: error.message };
    throw error;
  }
}

/**
 * Figures of the range to compare with; nothing if none is chosen. It may begin before the first day that the API knows.
 * @template T @param {Chosen} chosen @param {(span: import("./ranges.js").Span) => Promise<T>} work
 */
export const compared = async (chosen, work) =>
  chosen.before ? ifKept(() => work(chosen.before), ["unkept", "invalid"]) : { found: null, unkept: null };

/** Why the compared range is no whole one: it began before the first day with figures. Empty if it is one. @param {Chosen} chosen @param {string|null} from */
export const notWhole = ({ before }, from) => (before && from && before.from < from ? `nothing was counted before ${dayText(from)}` : "");

/** The dotted line of the compared range: its n-th point is at the n-th point of the chosen one. */
export function dotted(chosen, x, periods, values, more = {}) {
  const fit = (list) => x.map((_, place) => list[place] ?? null);
  return { id: "before", name: BEFORE[chosen.compare], kind: "line", dotted: true, color: REST, values: fit(values), at: fit(periods), ...more };
}

/** @param {Chosen} chosen @param {string[]} x @param {import("./chart.js").Series[]} series @returns {Model} */
export function overTime(chosen, x, series, { caveats = [], unkept = null, ...rest } = {}) {
  const remarks = [`${spanText(chosen)}, by ${chosen.granularity}`];
  const line = series.find((each) => each.dotted);
  if (line) remarks.push(`dotted: ${spanText(chosen.before)}`);
  // A range that began before the first event is no fair comparison.
  const began = chosen.granularity === "month" && line ? line.values.findIndex(Boolean) : 0;
  if (began > 0) remarks.push(`nothing counted there before ${monthText(line.at[began])}`);
  if (unkept) remarks.push(`no comparison: ${unkept}`);
  return {
    hint: [...remarks, ...new Set(caveats)].join("; "),
    kind: chosen.granularity, first: chosen.granularity === "day" ? "Day" : "Month", x, stacked: true,
    partial: chosen.to === chosen.today, pick: (place) => daysOf(chosen, x[place]), series, ...rest,
  };
}

/** The filters of one point: its day, or the part of its month that was chosen. */
function daysOf(chosen, period) {
  const from = period.length > 7 ? period : firstOf(period);
  const to = period.length > 7 ? period : lastOf(period);
  const span = { from: from > chosen.from ? from : chosen.from, to: to < chosen.to ? to : chosen.to };
  return span.from === chosen.from && span.to === chosen.to ? null : { range: "custom", ...span };
}

/** A series per value of `word`, largest first; those beyond MOST_SERIES are summed. */
export function grouped(chosen, counted, word, measure, rest = {}) {
  const ordered = sums(counted, [word], measure).map(({ names: [raw] }) => ({
    id: `= ${raw}`, raw, name: nameOf(word, raw), kind: "bar", values: seriesOf(counted, measure, (row) => row[word] === raw),
  }));
  const series = ordered.slice(0, MOST_SERIES).map((each, color) => ({ ...each, color }));
  const others = ordered.slice(MOST_SERIES);
  if (others.length) {
    const values = counted.periods.map((_, place) => others.reduce((sum, each) => sum + (each.values[place] ?? 0), 0));
    series.push({ id: "others", name: `${others.length} others`, kind: "bar", color: REST, values });
  }
  const model = overTime(chosen, counted.periods, series, { caveats: counted.caveats, ...rest });
  model.table = {
    columns: [{ name: model.first }, ...ordered.map(({ name, raw }) => ({ name, raw, kind: "number" }))],
    rows: counted.periods.map((period, place) => [period, ...ordered.map(({ values }) => values[place])]),
  };
  return model;
}

/** Raises a refusal for a part whose figures exist for the own region only. @param {import("./filters.js").Chosen} chosen */
export function ownRegionOnly({ region }, what) {
  if (region) throw new Refusal("unkept", `${what} are those of one region: remove the filter by region.`);
}
