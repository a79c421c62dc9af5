// The charts: the question that each asks, and the conversion of its answer to series. One function per chart.

import { days, lengthOf, monthOf, plusDays, dayText, monthText } from "./dates.js";
import { grouped, periodical, spanText } from "./series.js";
import { decimal, number } from "./text.js";

/** The most days of the curve: the API does not unite the rolling windows of longer ranges. */
const CURVE_DAYS = 92;
const MOST_ROWS = 12;

/** @typedef {import("./filters.js").Chosen} Chosen @typedef {import("./questions.js").Round} Round */

export const overview = (round, chosen) => round.ask("/v1/overview", { date: chosen.to, ...chosen.query });

async function months(round, chosen) {
  const answer = await overview(round, chosen);
  const rows = answer.months;
  const { average } = answer.billing;
  const imported = rows.filter((row) => row.imported !== null).length;
  const of = (name, wanted, color) => ({
    name, kind: "bar", color,
    values: rows.map((row) => (wanted(row) ? row.value : null)),
    errors: rows,
  });
  const series = [of("Active users", (row) => row.imported === null, 0)];
  if (imported) series.push(of("Imported", (row) => row.imported !== null, 3));
  return {
    hint: `12 months up to ${monthText(monthOf(chosen.to))}${rows.at(-1).to_date ? ", the last one so far" : ""}`,
    kind: "month", first: "Month", x: rows.map((row) => row.month), stacked: true, series,
    lines: average === null ? [] : [{ value: average }],
    empty: "No month has figures yet.",
  };
}

async function curve(round, chosen) {
  const whole = lengthOf(chosen.from, chosen.to);
  const from = whole > CURVE_DAYS ? plusDays(chosen.to, 1 - CURVE_DAYS) : chosen.from;
  const query = { granularity: "day", from, to: chosen.to, ...chosen.query };
  const [day, week, month] = await Promise.all(
    [1, 7, 30].map((trailing) => round.ask("/v1/active-users", trailing === 1 ? query : { ...query, trailing: String(trailing) })),
  );
  const of = (name, answer, color) => ({
    name, kind: "line", color, values: answer.items.map((item) => item.value), errors: answer.items,
  });
  const sticky = day.items.map((item, place) => {
    const over = month.items[place]?.value;
    return over ? item.value / over : null;
  });
  return {
    hint: whole > CURVE_DAYS ? `the last ${CURVE_DAYS} days of ${spanText(chosen)}` : spanText(chosen),
    kind: "day", first: "Day", x: days(from, chosen.to),
    series: [
      of("On the day (DAU)", day, 0),
      of("7 days up to it (WAU)", week, 2),
      of("30 days up to it (MAU)", month, 3),
      { name: "Stickiness (DAU / MAU)", kind: "line", color: 1, percent: true, values: sticky },
    ],
    sticky: sticky.filter((share) => share !== null),
  };
}

const counted = (round, chosen, path, group) =>
  round.ask(path, {
    granularity: chosen.granularity, from: chosen.from, to: chosen.to, ...(group && { group_by: group }), ...chosen.query,
  });

async function logins(round, chosen) {
  const answer = await counted(round, chosen, "/v1/logins");
  return periodical(chosen, answer, [
    { name: "Succeeded", kind: "bar", color: 0, values: answer.items.map((item) => item.succeeded) },
    { name: "Failed", kind: "bar", color: 4, values: answer.items.map((item) => item.failed) },
  ]);
}

const reasons = async (round, chosen) =>
  grouped(chosen, await counted(round, chosen, "/v1/logins", "reason"), "reason", "failed", "No login failed in these days.");

const grants = async (round, chosen) =>
  grouped(chosen, await counted(round, chosen, "/v1/tokens", "grant_type"), "grant_type", "tokens");

const kinds = async (round, chosen) =>
  grouped(chosen, await counted(round, chosen, "/v1/tokens", "token_type"), "token_type", "tokens");

async function accounts(round, chosen) {
  const answer = await counted(round, chosen, "/v1/accounts", "kind");
  const model = grouped(chosen, answer, "kind", "events", "Nothing happened to accounts in these days.");
  // The two most requested kinds are shown; the others are hidden until selected in the legend.
  const first = { signup: ["Sign-ups", 0], leaked_password: ["Leaked passwords", 4] };
  const main = Object.entries(first).map(([kind, [name, color]]) => {
    const found = model.series.find((series) => series.name === kind);
    return { name, kind: "bar", color, values: found?.values ?? model.x.map(() => 0) };
  });
  const colors = [2, 3, 1, 5, 6, 7, 8];
  const others = model.series
    .filter((series) => !Object.hasOwn(first, series.name))
    .map((series, place) => ({ ...series, color: colors[place % colors.length], hidden: true }));
  return { ...model, series: [...main, ...others] };
}

async function m2m(round, chosen) {
  const month = monthOf(chosen.to);
  const answer = await round.ask("/v1/m2m", { month, ...(chosen.realm && { realm: chosen.realm }) });
  const all = answer.items.filter((item) => !chosen.client || item.client_id === chosen.client);
  const rows = all.slice(0, MOST_ROWS);
  const { tenant } = answer;
  const quota = tenant.limit === null ? "no quota" : `quota ${number(tenant.limit)}, ${decimal(tenant.percent)} % used, ${decimal(tenant.projected_percent)} % projected`;
  const left = all.length - rows.length + answer.left_out.groups;
  const names = ["realm", "client_id", "used", "limit", "percent", "projected", "projected_percent"];
  return {
    hint: `${monthText(month)}: ${number(tenant.used)} used, ${number(tenant.projected)} projected, ${quota}${left ? `; ${number(left)} more clients in the table or omitted` : ""}`,
    kind: "name", first: "Client", across: true, stacked: true,
    x: rows.map((row) => (row.realm ? `${row.client_id} · ${row.realm}` : row.client_id)),
    series: [
      { name: "Used", kind: "bar", color: 0, values: rows.map((row) => row.used) },
      { name: "Projected rest of the month", kind: "bar", color: 0, light: true, values: rows.map((row) => Math.max(0, row.projected - row.used)) },
      ...(rows.some((row) => row.limit !== null) ? [{ name: "Quota", kind: "mark", color: 4, values: rows.map((row) => row.limit) }] : []),
    ],
    table: {
      columns: names.map((name, place) => ({ name, kind: place < 2 ? "name" : "number" })),
      rows: all.map((row) => names.map((name) => row[name])),
    },
    empty: "No client received machine-to-machine tokens in this month.",
  };
}

const QUARTERS = [
  ["active&assigned", "Active, assigned", 2, false],
  ["active&unassigned", "Active, unassigned", 2, true],
  ["inactive&assigned", "Inactive, assigned", 1, false],
  ["inactive&unassigned", "Inactive, unassigned", 1, true],
];
const otpQuery = (chosen) => (chosen.realm ? { realm: chosen.realm } : {});
const notByClient = (chosen) => (chosen.client ? ", of all clients: tokens belong to realms" : "");

async function otp(round, chosen) {
  const answer = await round.ask("/v1/otp-tokens", otpQuery(chosen));
  const counts = new Map();
  for (const item of answer.items) {
    if (!counts.has(item.realm)) counts.set(item.realm, {});
    counts.get(item.realm)[item.status] = item.count;
  }
  const ordered = [...counts].sort(([, one], [, other]) => (other.total ?? 0) - (one.total ?? 0));
  const shown = ordered.slice(0, MOST_ROWS);
  const statuses = [...new Set(answer.items.map((item) => item.status))];
  return {
    hint: `now, by realm${ordered.length > MOST_ROWS ? `; the largest ${MOST_ROWS} of ${ordered.length}` : ""}${notByClient(chosen)}`,
    kind: "name", first: "Realm", across: true, stacked: true,
    x: shown.map(([realm]) => realm),
    series: QUARTERS.map(([status, name, color, light]) => ({
      name, kind: "bar", color, light, values: shown.map(([, of]) => of[status] ?? 0),
    })),
    table: {
      columns: [{ name: "realm" }, ...statuses.map((name) => ({ name, kind: "number" }))],
      rows: ordered.map(([realm, of]) => [realm, ...statuses.map((status) => of[status] ?? null)]),
    },
    empty: "No one-time-password tokens are counted here.",
  };
}

async function otpDays(round, chosen) {
  const from = lengthOf(chosen.from, chosen.to) > 400 ? plusDays(chosen.to, -399) : chosen.from;
  const answer = await round.ask("/v1/otp-tokens", { from, to: chosen.to, status: "total", ...otpQuery(chosen) });
  const items = answer.items.map((item) => ({ ...item, period: item.date }));
  const model = grouped({ ...chosen, from, periods: days(from, chosen.to) }, { items }, "realm", "count", "No one-time-password tokens are counted here.");
  return {
    ...model, kind: "day", first: "Day", hint: `at the end of each day, by realm; ${dayText(from)} to ${dayText(chosen.to)}${notByClient(chosen)}`,
    stacked: false, series: model.series.map((series) => ({ ...series, kind: "line" })),
  };
}

async function lag(round) {
  const { items, total } = await round.ask("/v1/pipeline");
  return {
    hint: `${number(total.lag)} records behind in ${items.length} partitions, of the whole deployment`,
    kind: "name", first: "Partition", x: items.map((item) => `${item.topic}-${item.partition}`),
    series: [{ name: "Records behind", kind: "bar", color: 6, values: items.map((item) => item.lag) }],
    empty: items.length ? (items.every((item) => item.lag === null) ? "No worker has read the end of the log yet." : "All records are counted.") : "No partition was counted yet.",
  };
}

export const CHARTS = [
  { name: "months", title: "Active users by month", ask: months },
  { name: "curve", title: "Daily, weekly and monthly users", ask: curve },
  { name: "logins", title: "Logins and failures", ask: logins },
  { name: "reasons", title: "Why logins fail", ask: reasons },
  { name: "grants", title: "Tokens by grant type", ask: grants },
  { name: "kinds", title: "Tokens by kind", ask: kinds },
  { name: "accounts", title: "Sign-ups and leaked passwords", ask: accounts },
  { name: "m2m", title: "Machine-to-machine tokens", ask: m2m },
  { name: "otp", title: "One-time-password tokens by status", ask: otp },
  { name: "otp-days", title: "One-time-password tokens by day", ask: otpDays },
  { name: "lag", title: "Records behind, by partition", ask: lag },
];

