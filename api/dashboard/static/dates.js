// Days as `YYYY-MM-DD` and months as `YYYY-MM`, as the API writes them. Times and zones are the server's.

const DAY_MS = 86_400_000;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const ms = (day) => Date.parse(`${day}T00:00:00Z`);
const text = (at) => new Date(at).toISOString().slice(0, 10);

export const isDay = (given) => /^\d{4}-\d{2}-\d{2}$/.test(given) && !Number.isNaN(ms(given)) && text(ms(given)) === given;
export const plusDays = (day, days) => text(ms(day) + days * DAY_MS);
/** The number of days, both ends included. */
export const lengthOf = (from, to) => Math.round((ms(to) - ms(from)) / DAY_MS) + 1;
export const monthOf = (day) => day.slice(0, 7);
export const firstOf = (month) => `${month}-01`;
export const lastOf = (month) => plusDays(firstOf(plusMonths(month, 1)), -1);

export function plusMonths(month, months) {
  const index = Number(month.slice(0, 4)) * 12 + Number(month.slice(5)) - 1 + months;
  return `${String(Math.floor(index / 12)).padStart(4, "0")}-${String((index % 12) + 1).padStart(2, "0")}`;
}

export const days = (from, to) => Array.from({ length: Math.max(0, lengthOf(from, to)) }, (_, n) => plusDays(from, n));

export function months(from, to) {
  const found = [];
  for (let month = monthOf(from); month <= monthOf(to); month = plusMonths(month, 1)) found.push(month);
  return found;
}

/** "31 Oct 2026" */
export const dayText = (day) => `${Number(day.slice(8))} ${MONTHS[Number(day.slice(5, 7)) - 1]} ${day.slice(0, 4)}`;
/** "Oct 2026" */
export const monthText = (month) => `${MONTHS[Number(month.slice(5, 7)) - 1]} ${month.slice(0, 4)}`;

/** The day of a moment in a time zone. */
export function dayIn(zone, moment) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(moment);
}

/** "14:03:09, 31 Oct 2026" */
export function momentText(zone, moment) {
  const time = new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeStyle: "medium" }).format(moment);
  return `${time}, ${dayText(dayIn(zone, moment))}`;
}
