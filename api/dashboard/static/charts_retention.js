// Retention: which share of the users of a period, or of its new users, was active in later periods.

import { caveats } from "./counters.js";
import { lengthOf, months, monthText, spanText } from "./dates.js";
import { laterText } from "./heat_map.js";
import { byOf, figureCells, figureColumns, figureOf, figureText, inWords, isWeek, listed, NEW, PERIODS, periodText, sinceText, wholeSpan, WHY_UNKNOWN } from "./lifecycle.js";
import { decimal, exactness, lessText, percent } from "./text.js";

/** The most periods after a cohort's own: the API has a deadline per answer. */
const MOST_AGES = { week: 13, month: 24 };

export async function retention(asker, chosen) {
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
  hint.push(...caveats(answer));
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
  const unknown = WHY_UNKNOWN[item.unknown ?? each.unknown];
  const text = retained.value === null && retained.fewerThan === null
    ? `${periodText(item.period)}: unknown, ${unknown}`
    : `${periodText(item.period)}: ${figureText(retained)} of ${whose}${accuracyText(retained, rate)} were ${when}`;
  return { age: each.age, period: each.period, partial: !each.ended, retained, rate, text };
}

/** " (42.9% ± 3.1 points in 95 of 100 cases)" */
function accuracyText(retained, rate) {
  if (rate.fewerThan !== null) return ` (less than ${lessText(rate.fewerThan)})`;
  if (rate.value === null) return retained.exact ? "" : retained.value === null ? "" : ` (${exactness(retained)})`;
  if (rate.exact) return ` (${percent(rate.value)}, exact)`;
  if (rate.standard_error === null) return ` (${percent(rate.value)})`;
  return ` (${percent(rate.value)} ± ${decimal(196 * rate.standard_error * rate.value)} points in 95 of 100 cases)`;
}

function retentionTable(answer, by) {
  const columns = [
    { name: PERIODS[by], raw: "period" }, { name: `${PERIODS[by]}s later`, raw: "age", kind: "text" }, { name: "Active in", raw: "age_period", kind: "text" },
    ...figureColumns("Users"), ...figureColumns("Retained"), ...figureColumns("Share", "share"), { name: "Over", kind: "text" },
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
