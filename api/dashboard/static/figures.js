// The headline: figures in large type, their change, and a small line of their past.

import { monthOf, plusDays, dayText, monthText } from "./dates.js";
import { exactness, make, number, percent, signed } from "./text.js";

const card = (name) => document.getElementById(`figure-${name}`);

function put(name, value, title = "") {
  const element = card(name).querySelector(".value");
  element.textContent = number(value);
  element.title = title;
  if (value === null || value === undefined) delete element.dataset.value;
  else element.dataset.value = String(value);
}

/** "+4.1 % against 1,204 before"; green or red, depending on whether more is better (`better` > 0) or worse. */
function change(name, relative, before, words, better = 1) {
  const line = card(name).querySelector(".change");
  if (relative === null || relative === undefined) {
    line.replaceChildren(before === null || before === undefined ? `no figure kept for ${words}` : `${number(before)} ${words}`);
    return;
  }
  const kind = relative === 0 || !better ? "plain" : relative * better > 0 ? "up" : "down";
  line.replaceChildren(make("b", { class: kind }, signed(relative)), ` against ${number(before)} ${words}`);
}

/** Active users of the day, week and month that end with the chosen last day. */
export function headline(answer, chosen) {
  const now = chosen.to === chosen.today;
  // An unfinished day is neither better nor worse than a whole one.
  const whole = now ? 0 : 1;
  const last = dayText(chosen.to);
  const cards = [
    ["day", answer.dau, now ? "Today so far" : `On ${last}`, "the day before"],
    ["week", answer.wau, now ? "This week so far" : `Week up to ${last}`, "in as many days of the week before"],
    ["month", answer.mau, now ? "This month so far" : `${monthText(monthOf(chosen.to))} up to ${last}`, "in as many days of the month before"],
  ];
  for (const [name, figure, title, words] of cards) {
    card(name).querySelector("h3").textContent = title;
    put(name, figure.value, `${dayText(figure.from)} to ${dayText(figure.to)}: ${exactness(figure)}`);
    change(name, figure.change, figure.previous.value, words, name === "day" ? whole : 1);
  }
  document.getElementById("events-title").textContent = now ? "Events of today so far" : `Events of ${last}`;
  const measures = [
    ["logins", "logins", 1],
    ["failed", "failed_logins", -1],
    ["tokens", "tokens", 1],
    ["signups", "signups", 1],
  ];
  for (const [name, measure, better] of measures) {
    const day = answer.activity.day[measure];
    put(name, day.value);
    change(name, day.change, day.previous, "the day before", better * whole);
    card(name).querySelector(".change").append(`; ${number(answer.activity.month[measure].value)} in the month`);
  }
  billing(answer.billing);
}

function billing({ average, months_averaged: over, maximum, maximum_month: month }) {
  put("average", average === null ? null : Math.round(average), average === null ? "" : `${average} over ${over} months`);
  put("maximum", maximum);
  card("maximum").querySelector(".what").textContent = month === null ? "Maximum" : `Maximum, in ${monthText(month)}`;
}

export function stickiness(answer, curve) {
  const value = card("stickiness").querySelector(".value");
  const shares = curve?.sticky ?? [];
  const mean = shares.length ? shares.reduce((sum, share) => sum + share, 0) / shares.length : null;
  value.textContent = `${percent(answer.stickiness)}${mean === null ? "" : `, on average ${percent(mean)}`}`;
  if (answer.stickiness !== null) value.dataset.value = String(answer.stickiness);
  else delete value.dataset.value;
}

/** The past of each headline figure: 30 days, 12 weeks, 12 months. */
export async function sparks(round, chosen, months) {
  const of = (granularity, back) =>
    round.ask("/v1/active-users", { granularity, from: plusDays(chosen.to, -back), to: chosen.to, ...chosen.query });
  const [day, week] = await Promise.all([of("day", 29), of("week", 77)]);
  spark("day", day.items.map((item) => item.value));
  spark("week", week.items.map((item) => item.value));
  spark("month", months.map((month) => month.value));
}

function spark(name, values) {
  const place = card(name).querySelector(".spark");
  const known = values.map((value, at) => [at, value]).filter(([, value]) => value !== null);
  const most = Math.max(1, ...known.map(([, value]) => value));
  const point = ([at, value]) => `${((at / Math.max(1, values.length - 1)) * 100).toFixed(2)} ${(44 - (value / most) * 40).toFixed(2)}`;
  if (known.length < 2) {
    place.replaceChildren();
    return;
  }
  const line = `M${known.map(point).join("L")}`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 46");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, path] of [["area", `${line}L${known.at(-1)[0] / Math.max(1, values.length - 1) * 100} 46L${known[0][0] / Math.max(1, values.length - 1) * 100} 46Z`], ["line", line]]) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "path");
    element.setAttribute("class", kind);
    element.setAttribute("d", path);
    svg.append(element);
  }
  place.replaceChildren(svg);
}

/** Live figures of today; only if the page shows today without filters. */
export function live(figures, chosen) {
  if (chosen.to !== figures.date || chosen.realm || chosen.client) return;
  put("day", figures.active_users.value, exactness(figures.active_users));
  put("logins", figures.logins);
  put("failed", figures.failed_logins);
  put("tokens", figures.tokens);
  put("signups", figures.signups);
}

/** The day's events without an overview: from the counters of the day and the day before. */
export async function events(round, chosen) {
  const query = { granularity: "day", from: plusDays(chosen.to, -1), to: chosen.to, ...chosen.query };
  const [logins, tokens, accounts] = await Promise.all([
    round.ask("/v1/logins", query),
    round.ask("/v1/tokens", query),
    round.ask("/v1/accounts", { ...query, group_by: "kind" }),
  ]);
  if (round.signal.aborted) return;
  const signups = [query.from, query.to].map(
    (day) => accounts.items.find((item) => item.kind === "signup" && item.period === day)?.events ?? 0,
  );
  const of = (answer, measure) => answer.items.map((item) => item[measure]);
  const better = chosen.to === chosen.today ? 0 : 1;
  for (const [name, [before, now], sign] of [
    ["logins", of(logins, "succeeded"), better],
    ["failed", of(logins, "failed"), -better],
    ["tokens", of(tokens, "tokens"), better],
    ["signups", signups, better],
  ]) {
    put(name, now);
    change(name, before ? (now - before) / before : null, before, "the day before", sign);
  }
}

/** Dashes for figures, and the reason in place of each headline figure's change. */
export function blank(sentence) {
  for (const element of document.querySelectorAll("#headline .value, #events .value, .aside .value")) {
    element.textContent = "–";
    delete element.dataset.value;
  }
  for (const element of document.querySelectorAll("#headline .change, #events .change, #headline .spark")) element.replaceChildren();
  for (const element of document.querySelectorAll("#headline .change")) element.textContent = sentence;
}
