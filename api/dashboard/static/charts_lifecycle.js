// New, returning, reactivated and lapsed users, and retention: the questions, and the conversion of their answers.

import { dayText, lengthOf, months, monthText, spanText, weekText } from "./dates.js";
import { laterText } from "./heat_map.js";
import { byOf, daysOfPeriod, figureOf, spanBefore, wholeSpan } from "./lifecycle.js";
import { compared, dotted } from "./models.js";
import { decimal, exactness, fewerText, number, percent } from "./text.js";

/** @typedef {import("./filters.js").Chosen} Chosen @typedef {import("./lifecycle.js").Figure} Figure */

const NEW = "new";
const SERIES = [
  { id: "returning", name: "Returning", color: 0 },
  { id: "reactivated", name: "Reactivated", color: 6 },
  { id: NEW, name: "New", color: 1 },
  { id: "lapsed", name: "Lapsed", color: 8, below: true },
];
/** The most periods after a cohort's own; the API limits the cells of a matrix. */
const MOST_AGES = { week: 26, month: 24 };
const HEADINGS = { week: "Week", month: "Month" };

const isWeek = (period) => period.includes("W");
const periodText = (period) => (isWeek(period) ? weekText(period) : monthText(period));
/** Within a sentence: "week 43, 19 – 25 Oct 2026", "Oct 2026". */
const inWords = (period) => (isWeek(period) ? `${periodText(period)[0].toLowerCase()}${periodText(period).slice(1)}` : periodText(period));
const listed = (periods) => (periods.length > 3 ? `${inWords(periods[0])} and ${number(periods.length - 1)} more` : periods.map(inWords).join(", "));

async function lifecycle(asker, chosen) {
  const by = byOf(chosen);
  const of = (span) => asker.ask("/v1/lifecycle", { granularity: by, from: span.from, to: span.to, ...chosen.query });
  const earlier = { ...chosen, before: spanBefore(chosen) };
  const [now, { found: before, unkept }] = await Promise.all([of(chosen), compared(earlier, of)]);
  const rows = now.items;
  const x = rows.map((row) => row.period);
  const bars = (id, more, wanted = () => true) => {
    const errors = rows.map((row) => (wanted(row) ? figureOf(row[id]) : UNKNOWN));
    return { id, kind: "bar", values: errors.map(({ value }) => value), errors, ...more };
  };
  const series = SERIES.map(({ id, ...more }) => bars(id, { ...more, raw: now.definition[id] }));
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
  const open = rows.at(-1)?.ended === false;
  return {
    hint: hint.join("; "), kind: by, first: HEADINGS[by], x, stacked: true, partial: open, series, notes: notes(now, rows, open),
    table: table(now, before), empty: "No user was active in these periods.",
    pick: (place) => picked(chosen, x[place]),
  };
}

const UNKNOWN = { value: null, exact: false, standard_error: null, fewerThan: null };
/** Before anything was counted: its zeros are no comparison. */
const isBefore = (row, { history }) => history.since !== null && row.to < history.since;
const isUndivided = (row) => row.unknown !== undefined && row.new.value === null && row.new.fewer_than === null;

/** The filters of one period; null if it is the only one that is shown. */
function picked(chosen, period) {
  const days = daysOfPeriod(period);
  const to = days.to < chosen.today ? days.to : chosen.today;
  return days.from === chosen.from && to === chosen.to ? null : { range: "custom", from: days.from, to };
}

const REASONS = {
  first_counted: "the first counted day",
  retain_months: "the first day that RETAIN_MONTHS keeps",
  users_by: "when USERS_BY got its present value",
  active_on: "when ACTIVE_ON got its present value",
};

/** The days in which a user was not seen before being new. */
const sinceText = ({ since, reason }) => (since ? [`New: not active between ${dayText(since)} (${REASONS[reason] ?? reason}) and the period.`] : []);

/** What limits the figures, in sentences. */
function notes({ history }, rows, open) {
  const found = [];
  found.push(...sinceText(history));
  if (open) found.push("Lapsed in the period that is not over: not yet back.");
  const known = rows.filter((row) => row.unknown === "history").map((row) => row.period);
  if (known.length) found.push(`Kinds are unknown in ${listed(known)}: no users before are known.`);
  const imported = rows.filter((row) => row.unknown === "imported").map((row) => row.period);
  if (imported.length) found.push(`Incomplete in ${listed(imported)}: the month or the one before was imported as numbers without users.`);
  if (SERIES.some(({ id }) => rows.some((row) => row[id].fewer_than !== null))) found.push("No bar where the estimate is too small against its error: “fewer than” in the table.");
  return found;
}

const KINDS = [["active", "Active"], ...SERIES.map(({ id, name }) => [id, name])];

const COMPARED = KINDS.filter(([id]) => id === "active" || id === NEW);
const figureColumns = (name) => [{ name, kind: "number" }, { name: `${name}: standard error`, kind: "text" }];

/** A row per period with the errors, and the active and new users of the compared one. */
function table(now, before) {
  const columns = [
    { name: HEADINGS[now.granularity], raw: "period" }, { name: "From", raw: "from", kind: "text" }, { name: "To", raw: "to", kind: "text" },
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

/** Value or bound, and error. @param {Figure} figure @returns {(string|number|{fewerThan: number}|null)[]} */
function figureCells(figure) {
  if (figure.fewerThan !== null) return [{ fewerThan: figure.fewerThan }, null];
  if (figure.value === null) return [null, null];
  return [figure.value, figure.exact ? "exact" : figure.standard_error === null ? "unknown" : String(figure.standard_error)];
}

async function retention(asker, chosen) {
  const by = byOf(chosen);
  const cohort = chosen.cohort === NEW ? NEW : "active";
  const whole = wholeSpan(chosen, by);
  const periods = by === "week" ? lengthOf(whole.from, whole.to) / 7 : months(whole.from, whole.to).length;
  const most = Math.max(1, Math.min(MOST_AGES[by], periods - 1));
  const answer = await asker.ask("/v1/retention", { granularity: by, cohort, ages: String(most), from: chosen.from, to: chosen.to, ...chosen.query });
  const rows = answer.items.map((item) => ({
    period: item.period, head: isWeek(item.period) ? spanText(item) : monthText(item.period), name: periodText(item.period), users: figureOf(item.users),
    cells: item.ages.map((each) => cellOf(item, each, cohort, by)),
  }));
  const ages = Math.max(0, ...rows.map((row) => row.cells.length));
  const hint = [`${spanText(answer)}, by ${by}`, cohort === NEW ? `of the users new in each ${by}` : `of all users of each ${by}`, "share active later"];
  if (periods - 1 > most) hint.push(`up to ${laterText(most, by)}`);
  return {
    hint: hint.join("; "), kind: by, heading: cohort === NEW ? "New in" : "Users of", rows, ages,
    notes: cohort === NEW ? notesOfNew(answer) : [], table: retentionTable(answer, by),
    empty: answer.items.length > 1 ? "No user was active in these periods." : `Retention needs at least two ${by}s: choose a longer range${by === "month" ? " or weeks" : ""}.`,
  };
}

function notesOfNew({ history, items }) {
  const found = sinceText(history);
  const unknown = items.filter((item) => item.unknown === "history").map((item) => item.period);
  if (unknown.length) found.push(`Unknown in ${listed(unknown)}: no users before are known.`);
  return found;
}

/** @returns {import("./heat_map.js").Cell} */
function cellOf(item, each, cohort, by) {
  const [users, retained, rate] = [figureOf(item.users), figureOf(each.retained), figureOf(each.rate)];
  const whose = `${figureText(users)} ${cohort === NEW ? "new users" : "users"}`;
  const when = `active ${laterText(each.age, by)}, in ${inWords(each.period)}${each.ended ? "" : ", which is not over"}`;
  const unknown = item.unknown === "imported" || each.unknown === "imported" ? "a month was imported as a number without users" : "no users before are known";
  const text = retained.value === null && retained.fewerThan === null
    ? `${periodText(item.period)}: unknown, ${unknown}`
    : `${periodText(item.period)}: ${figureText(retained)} of ${whose}${accuracyText(retained, rate)} were ${when}`;
  return { age: each.age, period: each.period, partial: !each.ended, retained, rate, text };
}

/** " (42.9% ± 3.1 points in 95 of 100 cases)" */
function accuracyText(retained, rate) {
  if (rate.fewerThan !== null) return ` (less than ${percent(rate.fewerThan)})`;
  if (rate.value === null) return retained.exact ? "" : retained.value === null ? "" : ` (${exactness(retained)})`;
  if (rate.exact) return ` (${percent(rate.value)}, exact)`;
  if (rate.standard_error === null) return ` (${percent(rate.value)})`;
  return ` (${percent(rate.value)} ± ${decimal(196 * rate.standard_error * rate.value)} points in 95 of 100 cases)`;
}

const figureText = (figure) => (figure.fewerThan !== null ? fewerText(figure.fewerThan) : number(figure.value));

function retentionTable(answer, by) {
  const error = (name) => ({ name: `${name}: standard error`, kind: "text" });
  const columns = [
    { name: HEADINGS[by], raw: "period" }, { name: `${HEADINGS[by]}s later`, raw: "age", kind: "text" }, { name: "Active in", raw: "age_period", kind: "text" },
    { name: "Users", kind: "number" }, error("Users"), { name: "Retained", kind: "number" }, error("Retained"), { name: "Share", kind: "share" }, error("Share"), { name: "Over", kind: "text" },
  ];
  const rows = answer.items.flatMap((item) => item.ages.map((each) => [
    item.period, String(each.age), each.period, ...figureCells(figureOf(item.users)), ...figureCells(figureOf(each.retained)), ...rateCells(figureOf(each.rate)), each.ended ? "yes" : "not yet",
  ]));
  return { columns, rows };
}

/** @param {Figure} rate */
function rateCells(rate) {
  const [value, error] = figureCells(rate);
  return [rate.fewerThan === null ? value : { lessThan: rate.fewerThan }, error];
}

export const LIFECYCLE = [{ name: "lifecycle", title: "New, returning, lapsed", ask: lifecycle }];
export const RETENTION = retention;
