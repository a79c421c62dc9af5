// Days as `YYYY-MM-DD` and months as `YYYY-MM`, as the API writes them; their text is in the browser's language.

const DAY_MS = 86_400_000;
const LANGUAGE = undefined; // the browser's

const ms = (day) => Date.parse(`${day}T00:00:00Z`);
const iso = (at) => new Date(at).toISOString().slice(0, 10);

export const isDay = (given) => /^\d{4}-\d{2}-\d{2}$/.test(given) && !Number.isNaN(ms(given)) && iso(ms(given)) === given;
export const plusDays = (day, days) => iso(ms(day) + days * DAY_MS);
/** The number of days, both ends included. */
export const lengthOf = (from, to) => Math.round((ms(to) - ms(from)) / DAY_MS) + 1;
export const monthOf = (day) => day.slice(0, 7);
export const firstOf = (month) => `${month}-01`;
export const lastOf = (month) => plusDays(firstOf(plusMonths(month, 1)), -1);

export function plusMonths(month, months) {
  const index = Number(month.slice(0, 4)) * 12 + Number(month.slice(5)) - 1 + months;
  return `${String(Math.floor(index / 12)).padStart(4, "0")}-${String((index % 12) + 1).padStart(2, "0")}`;
}

/** The same day some months away, or the last one of a shorter month. */
export function shiftMonths(day, months) {
  const last = lastOf(plusMonths(monthOf(day), months));
  const same = `${monthOf(last)}${day.slice(7)}`;
  return same < last ? same : last;
}

export const days = (from, to) => Array.from({ length: Math.max(0, lengthOf(from, to)) }, (_, n) => plusDays(from, n));

export function months(from, to) {
  const found = [];
  for (let month = monthOf(from); month <= monthOf(to); month = plusMonths(month, 1)) found.push(month);
  return found;
}

/** The Monday of a day's week. */
export const mondayOf = (day) => plusDays(day, -((new Date(ms(day)).getUTCDay() + 6) % 7));

/** The first day of a week that the API writes as `2026-W43` (ISO 8601: week 1 has 4 January). */
export const firstOfWeek = (week) => plusDays(mondayOf(`${week.slice(0, 4)}-01-04`), 7 * (Number(week.slice(6)) - 1));

const format = (options) => new Intl.DateTimeFormat(LANGUAGE, { timeZone: "UTC", ...options });
const DAY = format({ day: "numeric", month: "short", year: "numeric" });
const LONG_DAY = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
const SHORT_DAY = format({ day: "numeric", month: "short" });
const MONTH = format({ month: "short", year: "numeric" });
const SHORT_MONTH = format({ month: "short" });
const WEEKDAY = format({ weekday: "long" });

export const dayText = (day) => DAY.format(ms(day));
export const longDayText = (day) => LONG_DAY.format(ms(day));
export const shortDayText = (day) => SHORT_DAY.format(ms(day));
export const monthText = (month) => MONTH.format(ms(firstOf(month)));
export const shortMonthText = (month) => SHORT_MONTH.format(ms(firstOf(month)));
/** "Week 43, 19 – 25 Oct 2026". */
export const weekText = (week) => `Week ${Number(week.slice(6))}, ${spanText({ from: firstOfWeek(week), to: plusDays(firstOfWeek(week), 6) })}`;
export const weekdayText = (day) => WEEKDAY.format(ms(day));
export const spanText = ({ from, to }) => (from === to ? dayText(to) : DAY.formatRange(ms(from), ms(to)));

/** The day of a moment in a time zone. */
export function dayIn(zone, moment) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(moment);
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };

/** Day and time, with the name of the zone. */
export const momentText = (zone, moment) =>
  new Intl.DateTimeFormat(LANGUAGE, { timeZone: zone, day: "numeric", month: "short", year: "numeric", ...CLOCK }).format(moment);

/** Time only, with the name of the zone. */
export const clockText = (zone, moment) => new Intl.DateTimeFormat(LANGUAGE, { timeZone: zone, ...CLOCK }).format(moment);

const AGO = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "always", style: "short" });

/** "2 sec. ago"; moments ahead of the browser's clock count as now. */
export function agoText(moment, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - moment) / 1000));
  if (seconds < 120) return AGO.format(-seconds, "second");
  if (seconds < 7200) return AGO.format(-Math.round(seconds / 60), "minute");
  if (seconds < 172_800) return AGO.format(-Math.round(seconds / 3600), "hour");
  return AGO.format(-Math.round(seconds / 86_400), "day");
}
