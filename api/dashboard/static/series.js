// Rows of the API as series over the periods that are looked at.

import { told } from "./dates.js";

/** Series beside each other before the rest is one: as many as there are colours that can be told apart. */
const MOST_SERIES = 7;
const REST = 8;

export const toldSpan = (chosen) => (chosen.from === chosen.to ? told(chosen.to) : `${told(chosen.from)} to ${told(chosen.to)}`);

const first = (chosen) => (chosen.granularity === "day" ? "Day" : "Month");

/** What an answer says about itself that a reader of its figures has to know. */
function caveats(answer) {
  const since = Object.entries(answer.since ?? {}).map(([name, time]) => `${name} as it is only since ${time.slice(0, 10)}`);
  return [...(answer.complete === false ? ["some labels found no room and count as __other__"] : []), ...since];
}

const hint = (chosen, answer) =>
  [`${toldSpan(chosen)}, by ${chosen.granularity}`, ...caveats(answer)].join("; ");

/** An answer with an item per period, in order. */
export function periodical(chosen, answer, series) {
  return {
    hint: hint(chosen, answer), kind: chosen.granularity, first: first(chosen),
    x: answer.items.map((item) => item.period), stacked: true, series,
  };
}

/** A series per value of `word`, the largest first; beyond MOST_SERIES they are added up. */
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
