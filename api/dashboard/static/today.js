// Today so far, beside what is usual on this weekday: always of today, whatever the range is.

import { clockText, plusDays, shortDayText, weekdayText } from "./dates.js";
import { successRate } from "./counters.js";
import { ifKept } from "./models.js";
import { Part } from "./part.js";
import { make, number, percent } from "./text.js";

const WEEKS = [7, 14, 21, 28];
const FACTS = [["users", "Users"], ["logins", "Logins"], ["rate", "Success rate"]];

/** @returns {Promise<{day: string, now: object, usual: Record<string, number[]>}>} */
export async function askToday(asker, chosen) {
  const day = chosen.today;
  const query = { granularity: "day", from: plusDays(day, -28), to: day, ...chosen.query };
  // Without the past days, today alone.
  const items = async (path) => {
    const { found } = await ifKept(() => asker.ask(path, query));
    return (found ?? (await ifKept(() => asker.ask(path, { ...query, from: day }))).found)?.items;
  };
  const [users, logins] = await Promise.all([items("/v1/active-users"), items("/v1/logins")]);
  const at = (found, back) => found?.find((item) => item.period === plusDays(day, -back));
  const of = (back) => {
    const counted = at(logins, back);
    return {
      users: at(users, back)?.value ?? null, logins: counted?.succeeded ?? null,
      rate: counted ? successRate(counted.succeeded, counted.failed) : null,
    };
  };
  const past = WEEKS.map(of);
  const usual = Object.fromEntries(FACTS.map(([name]) => [name, past.map((each) => each[name]).filter((value) => value !== null)]));
  return { day, now: of(0), usual };
}

export class Today extends Part {
  constructor(zone) {
    super(document.getElementById("today"), "Today so far");
    this.zone = zone;
    this.facts = make("dl", {});
    this.heading = make("h3", {}, "Today so far");
    this.element.replaceChildren(this.heading, this.facts, this.note, this.old);
    this.state("loading");
  }

  clear() {
    this.model = null;
    this.heading.textContent = "Today so far";
    this.facts.replaceChildren();
  }

  render(model) {
    this.model = model;
    this.heading.textContent = `Today so far: ${shortDayText(model.day)}, ${clockText(this.zone, Date.now())}`;
    this.facts.replaceChildren(...FACTS.map(([name, title]) => this.fact(name, title)));
    return "ready";
  }

  fact(name, title) {
    const text = name === "rate" ? percent : number;
    const value = this.model.now[name];
    const past = this.model.usual[name];
    const [least, most] = [Math.min(...past), Math.max(...past)];
    const usual = !past.length ? "" : least === most ? text(least) : `${text(least)} – ${text(most)}`;
    // Counts of a part of a day can only be above the usual for certain; a share can be below too.
    const odd = value === null || !past.length ? "" : name === "rate" ? (value < least ? "below usual" : "") : value > most ? "above usual" : "";
    const figure = make("b", { id: `today-${name}` }, text(value));
    if (value !== null) figure.dataset.value = String(value);
    const detail = make("span", { class: "usual" });
    if (usual) {
      detail.textContent = `whole ${weekdayText(this.model.day)}s: ${usual}`;
      detail.title = `The last ${past.length} whole ${weekdayText(this.model.day)}s`;
    }
    const entry = make("dd", {}, figure, " ", detail);
    if (odd) entry.append(" ", make("em", { class: "odd" }, odd));
    return make("div", {}, make("dt", {}, title), entry);
  }

  /** Live figures of the same day; only if no filter is set. */
  live(figures, chosen) {
    if (!this.model || chosen.realm || chosen.client || figures.date !== this.model.day) return;
    const { active_users: users, logins, failed_logins: failed } = figures;
    this.render({ ...this.model, now: { users: users.value, logins, rate: successRate(logins, failed) } });
  }

  table() {
    if (!this.model) return null;
    const rows = FACTS.map(([name, title]) => [title, this.model.now[name], ...WEEKS.map((_, place) => this.model.usual[name][place] ?? null)]);
    const columns = [{ name: "figure" }, { name: this.model.day, kind: "number" }, ...WEEKS.map((back) => ({ name: plusDays(this.model.day, -back), kind: "number" }))];
    return { columns, rows };
  }
}

