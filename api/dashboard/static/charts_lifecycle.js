// New, returning, reactivated and lapsed users: the question, and the conversion of its answer.

import { caveats } from "./counters.js";
import { mondayOf, plusDays, spanText } from "./dates.js";
import { byOf, daysOfPeriod, definedText, figureCells, figureColumns, figureOf, listed, NEW, PERIODS, sinceText, spanBefore, UNKNOWN } from "./lifecycle.js";
import { compared, dotted } from "./models.js";

/** @typedef {import("./filters.js").Chosen} Chosen @typedef {import("./lifecycle.js").Figure} Figure */

/** Weeks of one request: each is a union of days, and the API has a deadline per answer. */
const MOST_WEEKS = 13;
export const SERIES = [
  { id: "returning", name: "Returning", color: 0 },
  { id: "reactivated", name: "Reactivated", color: 6 },
  { id: NEW, name: "New", color: 1 },
  { id: "lapsed", name: "Lapsed", color: 8, below: true },
];
/** Spans of at most MOST_WEEKS whole weeks, or of all months. */
function pieces({ from, to }, by) {
  if (by === "month") return [{ from, to }];
  const found = [];
  for (let start = from; start <= to; start = plusDays(mondayOf(start), 7 * MOST_WEEKS)) {
    const end = plusDays(mondayOf(start), 7 * MOST_WEEKS - 1);
    found.push({ from: start, to: end < to ? end : to });
  }
  return found;
}

/** The answer of the chosen periods and of the compared ones. @param {Chosen} chosen */
export async function asked(asker, chosen) {
  const by = byOf(chosen);
  const of = async (span) => {
    const answers = await Promise.all(
      pieces(span, by).map(({ from, to }) => asker.ask("/v1/lifecycle", { granularity: by, from, to, ...chosen.query })),
    );
    return { ...answers.at(-1), from: answers[0].from, items: answers.flatMap((answer) => answer.items), caveats: [...new Set(answers.flatMap(caveats))] };
  };
  const [now, { found: before, unkept }] = await Promise.all([of(chosen), compared({ ...chosen, before: spanBefore(chosen) }, of)]);
  return { by, now, before, unkept };
}

async function lifecycle(asker, chosen) {
  const { by, now, before, unkept } = await asked(asker, chosen);
  const rows = now.items;
  const x = rows.map((row) => row.period);
  const bars = (id, more, wanted = () => true) => {
    const errors = rows.map((row) => (wanted(row) ? figureOf(row[id]) : UNKNOWN));
    return { id, kind: "bar", values: errors.map(({ value }) => value), errors, ...more };
  };
  const series = SERIES.map(({ id, ...more }) => bars(id, { ...more, raw: definedText(now, id) }));
  const undivided = bars("active", { id: "undivided", name: "Active, kind unknown", raw: "Users of a period without known users before it", color: 8, light: true }, isUndivided);
  if (undivided.values.some(Boolean)) series.unshift(undivided);
  const hint = [`${spanText(now)}, by ${by}`];
  if (before) {
    // The height of the bars is that of all active users, so the line is too.
    const errors = before.items.map((row) => (isBefore(row, before) ? UNKNOWN : figureOf(row.active)));
    const line = dotted(chosen, x, before.items.map((row) => row.period), errors.map(({ value }) => value), { errors });
    series.push({ ...line, name: `${line.name}, active` });
    hint.push(`dotted: active users of ${spanText(before)}`);
  }
  if (unkept) hint.push(`no comparison: ${unkept}`);
  hint.push(...now.caveats);
  const open = rows.at(-1)?.ended === false;
  return {
    hint: hint.join("; "), kind: by, first: PERIODS[by], x, stacked: true, partial: open, series, notes: notes(now, rows, open),
    table: table(now, before), empty: "No user was active in these periods.",
    pick: (place) => picked(chosen, x[place]),
  };
}

/** Before anything was counted: its zeros are no comparison. */
const isBefore = (row, { history }) => history.since !== null && row.to < history.since;
const isUndivided = (row) => row.unknown !== undefined && row.new.value === null && row.new.fewer_than === null;

/** The filters of one period; null if it is the only one that is shown. */
function picked(chosen, period) {
  const days = daysOfPeriod(period);
  const to = days.to < chosen.today ? days.to : chosen.today;
  return days.from === chosen.from && to === chosen.to ? null : { range: "custom", from: days.from, to };
}

/** What limits the figures, in sentences. */
function notes({ history, granularity }, rows, open) {
  const found = [];
  found.push(...sinceText(history));
  if (history.since) found.push(`Reactivated: active before, but not in the ${granularity} directly before.`);
  if (open) found.push("Lapsed in the period that is not over: not yet back.");
  const known = rows.filter((row) => row.unknown === "history").map((row) => row.period);
  if (known.length) found.push(`Kinds are unknown in ${listed(known)}: no users before are known.`);
  const imported = rows.filter((row) => row.unknown === "imported").map((row) => row.period);
  if (imported.length) found.push(`Incomplete in ${listed(imported)}: the month or the one before was imported as numbers without users.`);
  const apart = rows.filter((row) => row.unknown === "not_united").map((row) => row.period);
  if (apart.length) found.push(`Incomplete in ${listed(apart)}: users of several regions are not united, and the sum is too small.`);
  if (SERIES.some(({ id }) => rows.some((row) => row[id].fewer_than !== null))) found.push("No bar where the estimate is too small against its error: “fewer than” in the table.");
  return found;
}

const KINDS = [["active", "Active"], ...SERIES.map(({ id, name }) => [id, name])];

const COMPARED = KINDS.filter(([id]) => id === "active" || id === NEW);

/** A row per period with the errors, and the active and new users of the compared one. */
function table(now, before) {
  const columns = [
    { name: PERIODS[now.granularity], raw: "period" }, { name: "From", raw: "from", kind: "text" }, { name: "To", raw: "to", kind: "text" },
    ...KINDS.flatMap(([, name]) => figureColumns(name)),
    ...(before ? [{ name: "Compared period", kind: "text" }, ...COMPARED.flatMap(([, name]) => figureColumns(`${name} in it`))] : []),
  ];
  const rows = now.items.map((row, place) => {
    const other = before?.items[place];
    const cells = KINDS.flatMap(([id]) => figureCells(figureOf(row[id])));
    const compare = COMPARED.flatMap(([id]) => (other ? figureCells(figureOf(other[id])) : [null, null]));
    return [row.period, row.from, row.to, ...cells, ...(before ? [other?.period ?? null, ...compare] : [])];
  });
  return { columns, rows };
}

export const LIFECYCLE = [{ name: "lifecycle", title: "New, returning, lapsed", ask: lifecycle }];
