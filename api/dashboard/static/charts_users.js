// The charts of users and accounts: the question that each asks, and the conversion of its answer.

import { counted, series, usersOver } from "./counters.js";
import { days, firstOf, lastOf, lengthOf, monthOf, monthText, plusDays, spanText } from "./dates.js";
import { compared, dotted, grouped, overTime } from "./models.js";
import { decimal, number, percent } from "./text.js";

/** The most days of rolling windows: the API does not unite those of longer ranges. */
const ROLLING_DAYS = 92;

async function users(asker, chosen) {
  const [now, { found: before, unkept }] = await Promise.all([
    usersOver(asker, chosen, chosen),
    compared(chosen, (span) => usersOver(asker, span, chosen)),
  ]);
  const values = (each) => each.items.map((item) => item.value);
  const lines = [{ id: "users", name: "Active users", kind: "line", color: 0, values: values(now), errors: now.items }];
  if (before) lines.push(dotted(chosen, now.periods, before.periods, values(before), { errors: before.items }));
  return overTime(chosen, now.periods, lines, { caveats: now.caveats, unkept });
}

async function months(asker, chosen) {
  const answer = await asker.ask("/v1/overview", { date: chosen.to, ...chosen.query });
  const rows = answer.months;
  const { average, maximum, maximum_month: month } = answer.billing;
  const of = (id, name, wanted, color) => ({
    id, name, kind: "bar", color, values: rows.map((row) => (wanted(row) ? row.value : null)), errors: rows,
  });
  const bars = [of("users", "Active users", (row) => row.imported === null, 0)];
  if (rows.some((row) => row.imported !== null)) bars.push(of("imported", "Imported", (row) => row.imported !== null, 3));
  const facts = [`12 months up to ${monthText(monthOf(chosen.to))}`];
  if (average !== null) facts.push(`average of whole months ${decimal(Math.round(average))}`);
  if (month !== null) facts.push(`maximum ${number(maximum)} in ${monthText(month)}`);
  return {
    hint: facts.join("; "), kind: "month", first: "Month", x: rows.map((row) => row.month), stacked: true, series: bars,
    partial: rows.at(-1).to_date, lines: average === null ? [] : [{ value: average }], empty: "No month has figures yet.",
    pick: (place) => {
      const { month: picked } = rows[place];
      const to = lastOf(picked);
      return { range: "custom", from: firstOf(picked), to: to < chosen.today ? to : chosen.today };
    },
  };
}

/** Rolling windows of the last days of the range. */
function rolled(chosen) {
  const whole = lengthOf(chosen.from, chosen.to);
  const from = whole > ROLLING_DAYS ? plusDays(chosen.to, 1 - ROLLING_DAYS) : chosen.from;
  const hint = `${whole > ROLLING_DAYS ? `the last ${ROLLING_DAYS} days: ` : ""}${spanText({ from, to: chosen.to })}`;
  const query = { granularity: "day", from, to: chosen.to, ...chosen.query };
  const shape = {
    kind: "day", first: "Day", x: days(from, chosen.to), partial: chosen.to === chosen.today,
    pick: (place) => ({ range: "custom", from: plusDays(from, place), to: plusDays(from, place) }),
  };
  const ask = (asker, trailing) => asker.ask("/v1/active-users", trailing === 1 ? query : { ...query, trailing: String(trailing) });
  return { hint, shape, ask };
}

async function rolling(asker, chosen) {
  const { hint, shape, ask } = rolled(chosen);
  const names = { 1: ["On the day (DAU)", 0], 7: ["7 days up to it (WAU)", 2], 30: ["30 days up to it (MAU)", 3] };
  const lines = await Promise.all(
    Object.entries(names).map(async ([trailing, [name, color]]) => {
      const { items } = await ask(asker, Number(trailing));
      return { id: trailing, name, kind: "line", color, values: items.map((item) => item.value), errors: items };
    }),
  );
  return { ...shape, hint, series: lines };
}

async function stickiness(asker, chosen) {
  const { hint, shape, ask } = rolled(chosen);
  const [day, month] = await Promise.all([ask(asker, 1), ask(asker, 30)]);
  const values = day.items.map((item, place) => (month.items[place].value ? item.value / month.items[place].value : null));
  const shares = values.filter((share) => share !== null);
  const mean = shares.length ? shares.reduce((sum, share) => sum + share, 0) / shares.length : null;
  return {
    ...shape, hint: `${hint}; on average ${percent(mean)}`,
    series: [{ id: "stickiness", name: "Daily / 30-day users", kind: "line", color: 1, percent: true, values }],
  };
}

const SIGNUP = "signup";

async function signups(asker, chosen) {
  const of = (span) => counted(asker, "/v1/accounts", span, chosen, "kind");
  const [now, { found: before, unkept }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const values = (each) => series(each, "events", (row) => row.kind === SIGNUP);
  const bars = [{ id: SIGNUP, name: "Sign-ups", raw: SIGNUP, kind: "bar", color: 2, values: values(now) }];
  if (before) bars.push(dotted(chosen, now.periods, before.periods, values(before)));
  return overTime(chosen, now.periods, bars, { caveats: now.caveats, unkept, empty: "No user signed up in these days." });
}

async function accounts(asker, chosen) {
  const now = await counted(asker, "/v1/accounts", chosen, chosen, "kind");
  const others = { ...now, rows: now.rows.filter((row) => row.kind !== SIGNUP) };
  return grouped(chosen, others, "kind", "events", { empty: "Nothing else happened to accounts in these days." });
}

export const USERS = [
  { name: "users", title: "Active users", ask: users },
  { name: "months", title: "Active users by month", ask: months },
  { name: "signups", title: "Sign-ups", ask: signups },
  { name: "accounts", title: "Other account events", ask: accounts },
  { name: "rolling", title: "Daily, 7-day and 30-day users", ask: rolling },
  { name: "stickiness", title: "Stickiness", ask: stickiness },
];
