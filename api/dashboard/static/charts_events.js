// The charts of logins, tokens, one-time-password tokens and partitions.

import { counted, series, successRate } from "./counters.js";
import { days, lengthOf, monthOf, monthText, plusDays, spanText } from "./dates.js";
import { compared, dotted, grouped, overTime, ownRegionOnly } from "./models.js";
import { nameOf } from "./names.js";
import { askPipeline } from "./pipeline.js";
import { decimal, number } from "./text.js";

const MOST_ROWS = 12;
/** The most days that `/v1/otp-tokens` answers. */
const OTP_DAYS = 400;

const loginsOf = (asker, chosen) => (span) => counted(asker, "/v1/logins", span, chosen);

async function logins(asker, chosen) {
  const of = loginsOf(asker, chosen);
  const [now, { found: before, unkept }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const bars = [
    { id: "succeeded", name: "Succeeded", kind: "bar", color: 0, values: series(now, "succeeded") },
    { id: "failed", name: "Failed", kind: "bar", color: 4, values: series(now, "failed") },
  ];
  if (before) {
    const line = dotted(chosen, now.periods, before.periods, series(before, "succeeded"));
    bars.push({ ...line, name: `${line.name}, succeeded` });
  }
  return overTime(chosen, now.periods, bars, { caveats: now.caveats, unkept });
}

async function success(asker, chosen) {
  const of = loginsOf(asker, chosen);
  const [now, { found: before, unkept }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const rates = (each) => {
    const failed = series(each, "failed");
    return series(each, "succeeded").map((succeeded, place) => successRate(succeeded, failed[place]));
  };
  const lines = [{ id: "rate", name: "Success rate", kind: "line", percent: true, color: 2, values: rates(now) }];
  if (before) lines.push(dotted(chosen, now.periods, before.periods, rates(before), { percent: true }));
  return overTime(chosen, now.periods, lines, { caveats: now.caveats, unkept, whole: true, empty: "No login was tried in these days." });
}

async function reasons(asker, chosen) {
  const now = await counted(asker, "/v1/logins", chosen, chosen, "reason");
  const shown = chosen.reason ? { ...now, rows: now.rows.filter((row) => row.reason === chosen.reason) } : now;
  return grouped(chosen, shown, "reason", "failed", { empty: "No login failed in these days." });
}

async function tokens(asker, chosen) {
  const of = (span) => counted(asker, "/v1/tokens", span, chosen);
  const [now, { found: before, unkept }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const bars = [{ id: "tokens", name: "Tokens issued", kind: "bar", color: 0, values: series(now, "tokens") }];
  if (before) bars.push(dotted(chosen, now.periods, before.periods, series(before, "tokens")));
  return overTime(chosen, now.periods, bars, { caveats: now.caveats, unkept });
}

const tokensBy = (word) => async (asker, chosen) =>
  grouped(chosen, await counted(asker, "/v1/tokens", chosen, chosen, word), word, "tokens");

/** Usage and quotas of the month of the last day. */
async function m2m(asker, chosen) {
  const month = monthOf(chosen.to);
  const answer = await asker.ask("/v1/m2m", { month, ...(chosen.region && { region: chosen.region }), ...(chosen.realm && { realm: chosen.realm }) });
  const all = answer.items.filter((item) => !chosen.client || item.client_id === chosen.client);
  // Clients over their quota come first: they are what the chart is opened for.
  all.sort((one, other) => (other.percent ?? 0) - (one.percent ?? 0) || other.used - one.used);
  const rows = all.slice(0, MOST_ROWS);
  const over = all.filter((row) => row.limit !== null && row.used > row.limit).length;
  const soon = all.filter((row) => row.limit !== null && row.used <= row.limit && row.projected > row.limit).length;
  const facts = [chosen.to === chosen.today ? `${monthText(month)} so far` : monthText(month)];
  if (over || soon) facts.push(`${number(over)} over quota${soon ? `, ${number(soon)} more projected` : ""}`);
  // The sum of the realm, or of everything, is no figure of one client.
  if (!chosen.client) {
    const { used, limit, percent } = answer.tenant;
    facts.push(`all clients${chosen.realm ? " of the realm" : ""}: ${number(used)}${limit === null ? "" : ` of ${number(limit)} (${decimal(percent)}%)`}`);
  }
  const left = all.length - rows.length + answer.left_out.groups;
  if (left) facts.push(`${number(left)} more ${answer.left_out.groups ? "in the table or omitted" : "in the table"}`);
  const names = ["realm", "client_id", "used", "limit", "percent", "projected", "projected_percent"];
  return {
    hint: facts.join("; "), kind: "name", first: "Client", across: true, stacked: true,
    x: rows.map((row) => (row.realm ? `${nameOf("client_id", row.client_id)} · ${nameOf("realm", row.realm)}` : row.client_id)),
    series: [
      { id: "used", name: "Used", kind: "bar", color: 0, values: rows.map((row) => row.used) },
      { id: "projected", name: "Projected rest of the month", kind: "bar", color: 0, light: true, values: rows.map((row) => Math.max(0, row.projected - row.used)) },
      ...(rows.some((row) => row.limit !== null) ? [{ id: "quota", name: "Quota", kind: "mark", color: 4, values: rows.map((row) => row.limit) }] : []),
    ],
    table: {
      columns: names.map((name, place) => ({ name: name.replaceAll("_", " "), raw: name, kind: place < 2 ? "name" : "number" })),
      rows: all.map((row) => names.map((name) => row[name])),
    },
    empty: chosen.client ? "This client received no machine-to-machine tokens in this month." : "No client received machine-to-machine tokens in this month.",
    pick: (place) => ({ realm: rows[place].realm ?? "", client: rows[place].client_id }),
  };
}

const QUARTERS = [
  ["active&assigned", 2, false],
  ["active&unassigned", 2, true],
  ["inactive&assigned", 1, false],
  ["inactive&unassigned", 1, true],
];
const otpQuery = (chosen) => (chosen.realm ? { realm: chosen.realm } : {});
const notByClient = (chosen) => (chosen.client ? "; of all clients: these tokens belong to realms" : "");
const NO_OTP = "No one-time-password tokens are counted here.";

async function otp(asker, chosen) {
  ownRegionOnly(chosen, "One-time-password tokens");
  const answer = await asker.ask("/v1/otp-tokens", otpQuery(chosen));
  const counts = new Map();
  for (const item of answer.items) {
    if (!counts.has(item.realm)) counts.set(item.realm, new Map());
    counts.get(item.realm).set(item.status, item.count);
  }
  const ordered = [...counts].sort(([, one], [, other]) => (other.get("total") ?? 0) - (one.get("total") ?? 0));
  const shown = ordered.slice(0, MOST_ROWS);
  const statuses = [...new Set(answer.items.map((item) => item.status))];
  const sum = (status) => number(ordered.reduce((all, [, of]) => all + (of.get(status) ?? 0), 0));
  return {
    hint: `now, by realm${ordered.length > 1 ? `; sum of the realms: ${sum("active")} active of ${sum("total")}` : ""}${ordered.length > MOST_ROWS ? `; the largest ${MOST_ROWS} of ${ordered.length}` : ""}${notByClient(chosen)}`,
    kind: "name", first: "Realm", across: true, stacked: true,
    x: shown.map(([realm]) => nameOf("realm", realm)),
    series: QUARTERS.map(([status, color, light]) => ({
      id: status, raw: status, name: nameOf("status", status), kind: "bar", color, light, values: shown.map(([, of]) => of.get(status) ?? 0),
    })),
    table: {
      columns: [{ name: "realm" }, ...statuses.map((raw) => ({ name: nameOf("status", raw), raw, kind: "number" }))],
      rows: ordered.map(([realm, of]) => [realm, ...statuses.map((status) => of.get(status) ?? null)]),
    },
    empty: NO_OTP,
    // LinOTP's name of "no realm" is none that the API filters by.
    pick: (place) => (shown[place][0].startsWith("/:") ? null : { realm: shown[place][0] }),
  };
}

async function otpDays(asker, chosen) {
  ownRegionOnly(chosen, "One-time-password tokens");
  const from = lengthOf(chosen.from, chosen.to) > OTP_DAYS ? plusDays(chosen.to, 1 - OTP_DAYS) : chosen.from;
  const answer = await asker.ask("/v1/otp-tokens", { from, to: chosen.to, status: "total", ...otpQuery(chosen) });
  const span = { ...chosen, from, granularity: "day" };
  const rows = answer.items.map((item) => ({ ...item, period: item.date }));
  const model = grouped(span, { periods: days(from, chosen.to), rows, caveats: [] }, "realm", "count", { empty: NO_OTP });
  return {
    ...model, hint: `at the end of each day, by realm; ${spanText(span)}${notByClient(chosen)}`,
    stacked: false, series: model.series.map((each) => ({ ...each, kind: "line" })),
  };
}

async function lag(asker, chosen) {
  const { items, total } = await askPipeline(asker, chosen);
  return {
    hint: `${number(total.lag)} offsets behind in ${items.length} partitions, of the whole deployment`,
    kind: "name", first: "Partition", x: items.map((item) => `${item.region ? `${item.region}: ` : ""}${item.topic}-${item.partition}`),
    series: [{ id: "lag", name: "Offsets behind", kind: "bar", color: 6, values: items.map((item) => item.lag) }],
    empty: !items.length
      ? "No partition was counted yet."
      : items.every((item) => item.lag === null) ? "No worker has read the end of the log yet." : "No partition is behind: all offsets are counted.",
  };
}

export const EVENTS = {
  logins: [
    { name: "logins", title: "Logins", ask: logins },
    { name: "success", title: "Success rate", ask: success },
    { name: "reasons", title: "Failed logins by reason", ask: reasons },
  ],
  tokens: [
    { name: "tokens", title: "Tokens issued", ask: tokens },
    { name: "m2m", title: "Machine-to-machine tokens and quotas", ask: m2m },
    { name: "grants", title: "Tokens by grant type", ask: tokensBy("grant_type") },
    { name: "kinds", title: "Tokens by kind", ask: tokensBy("token_type") },
  ],
  otp: [
    { name: "otp", title: "One-time-password tokens by status", ask: otp },
    { name: "otp-days", title: "One-time-password tokens by day", ask: otpDays },
  ],
  pipeline: [{ name: "lag", title: "Offsets behind, by partition", ask: lag }],
};
