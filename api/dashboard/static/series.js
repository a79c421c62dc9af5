// Converts rows of the API to series over the chosen periods.

import { dayText } from "./dates.js";

/** The most series before the rest is summed: the number of distinguishable colours. */
const MOST_SERIES = 7;
const REST = 8;

export const spanText = (chosen) => (chosen.from === chosen.to ? dayText(chosen.to) : `${dayText(chosen.from)} to ${dayText(chosen.to)}`);

const first = (chosen) => (chosen.granularity === "day" ? "Day" : "Month");

/** The caveats of an answer: incomplete labels, and settings that changed within the days. */
function caveats(answer) {
  const since = Object.entries(answer.since ?? {}).map(([name, time]) => `${name} has its present value since ${time.slice(0, 10)}`);
  return [...(answer.complete === false ? ["some labels overflowed and count as __other__"] : []), ...since];
}

const hint = (chosen, answer) =>
  [`${spanText(chosen)}, by ${chosen.granularity}`, ...caveats(answer)].join("; ");

/** The model of an answer with one item per period, in order. */
export function periodical(chosen, answer, series) {
  return {
    hint: hint(chosen, answer), kind: chosen.granularity, first: first(chosen),
    x: answer.items.map((item) => item.period), stacked: true, series,
  };
}

/** A series per value of `word`, largest first; those beyond MOST_SERIES are summed. */
export function grouped(chosen, answer, word, measure, empty) {
  const places = new Map(chosen.periods.map((period, place) => [period, place]));
  const found = new Map();
  for (const item of answer.items) {
    if (!found.has(item[word])) found.set(item[word], chosen.periods.map(() => 0));
    const place = places.get(item.period);
    if (place !== undefined) found.get(item[word])[place] += item[measure];
  }
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const ordered = [...found].sort(([, one], [, other]) => sum(other) - sum(one));
  const series = ordered
    .slice(0, MOST_SERIES)
    .map(([name, values], place) => ({ name, kind: "bar", color: place, values }));
  const rest = ordered.slice(MOST_SERIES);
  if (rest.length) {
    const values = chosen.periods.map((_, place) => sum(rest.map(([, each]) => each[place])));
    series.push({ name: `${rest.length} others`, kind: "bar", color: REST, values });
  }
  return {
    hint: hint(chosen, answer), kind: chosen.granularity, first: first(chosen), x: chosen.periods, stacked: true, series, empty,
    table: {
      columns: [{ name: first(chosen) }, ...ordered.map(([name]) => ({ name, kind: "number" }))],
      rows: chosen.periods.map((period, place) => [period, ...ordered.map(([, values]) => values[place])]),
    },
  };
}
