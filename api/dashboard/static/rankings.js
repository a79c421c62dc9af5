// Tables of the largest realms, clients and reasons: sorted by any column; a row sets a filter.

import { counted, sums, successRate } from "./counters.js";
import { spanText } from "./dates.js";
import { compared, ifKept } from "./models.js";
import { nameOf } from "./names.js";
import { Part } from "./part.js";
import { Refusal } from "./questions.js";
import { button, changeText, make, nameElement, number, percent } from "./text.js";

const FIRST_ROWS = 10;

/** @typedef {{names: Record<string, string>, [column: string]: any}} Row @typedef {import("./filters.js").Chosen} Chosen */

const relative = (now, before) => (now === null || before === null || before === undefined || !before ? null : (now - before) / before);
const WORDS = { region: ["region"], realm: ["realm"], client: ["realm", "client_id"] };
const GROUPS = { region: "region", realm: "realm", client: "client_id" };

/** Users, logins and failure rate of each realm or client. */
export const ranked = (kind) => async (asker, chosen) => {
  const words = WORDS[kind];
  const users = (span) => asker.ask("/v1/active-users", { granularity: "range", from: span.from, to: span.to, group_by: GROUPS[kind], ...chosen.query });
  const [{ found: now, unkept }, before, { found: logins, unkept: uncounted }] = await Promise.all([
    ifKept(() => users(chosen)),
    compared(chosen, users),
    ifKept(() => counted(asker, "/v1/logins", chosen, chosen, GROUPS[kind])),
  ]);
  const remarks = [unkept, uncounted].filter(Boolean);
  if (!now && !logins) throw new Refusal("unkept", remarks.join(" "));
  const rows = new Map();
  const row = (item) => {
    const names = Object.fromEntries(words.map((word) => [word, item[word]]));
    const key = JSON.stringify(names);
    if (!rows.has(key)) rows.set(key, { names, users: now ? 0 : null, before: null, succeeded: logins ? 0 : null, failed: logins ? 0 : null });
    return rows.get(key);
  };
  for (const item of now?.items ?? []) row(item).users = item.value;
  for (const item of logins?.rows ?? []) {
    row(item).succeeded += item.succeeded ?? 0;
    row(item).failed += item.failed ?? 0;
  }
  for (const item of before.found?.items ?? []) row(item).before = item.value;
  const found = [...rows.values()].map((each) => ({
    ...each, logins: each.succeeded, rate: failureRate(each), change: relative(each.users, each.before),
  }));
  return { rows: found, remark: remarks.join(" "), chosen };
};

const failureRate = ({ succeeded, failed }) => {
  const rate = successRate(succeeded, failed);
  return rate === null ? null : 1 - rate;
};

/** Failed logins of each realm or client, of the chosen reason only if there is one. */
export const failures = (kind) => async (asker, chosen) => {
  const words = WORDS[kind];
  const all = (span) => counted(asker, "/v1/logins", span, chosen, GROUPS[kind]);
  const byReason = (span) => counted(asker, "/v1/logins", span, chosen, `${GROUPS[kind]},reason`);
  const failed = chosen.reason ? byReason : all;
  const [now, logins, { found: before }] = await Promise.all([failed(chosen), all(chosen), compared(chosen, failed)]);
  const of = (each, measure, wanted = () => true) => {
    const rows = sums({ rows: each.rows.filter(wanted) }, words, measure);
    return new Map(rows.map(({ key, names, value }) => [key, { names, value }]));
  };
  const isOf = (item) => !chosen.reason || item.reason === chosen.reason;
  const [counts, earlier, tried] = [of(now, "failed", isOf), before && of(before, "failed", isOf), of(logins, "succeeded")];
  const whole = of(logins, "failed");
  const rows = [...whole].map(([key, { names, value }]) => {
    const count = counts.get(key)?.value ?? 0;
    const succeeded = tried.get(key)?.value ?? 0;
    const then = earlier && (earlier.get(key)?.value ?? 0);
    return {
      names: Object.fromEntries(words.map((word, place) => [word, names[place]])),
      failed: count, logins: succeeded + value, rate: succeeded + value ? count / (succeeded + value) : null,
      before: then, change: relative(count, then),
    };
  });
  return { rows: rows.filter((row) => row.failed), remark: "", chosen };
};

/** Failed logins by reason. */
export async function byReason(asker, chosen) {
  const of = (span) => counted(asker, "/v1/logins", span, chosen, "reason");
  const [now, { found: before }] = await Promise.all([of(chosen), compared(chosen, of)]);
  const counts = sums(now, ["reason"], "failed");
  const whole = counts.reduce((sum, each) => sum + each.value, 0);
  const earlier = before && new Map(sums(before, ["reason"], "failed").map(({ key, value }) => [key, value]));
  const rows = counts.filter((each) => each.value).map(({ key, names: [reason], value }) => {
    const then = earlier && (earlier.get(key) ?? 0);
    return { names: { reason }, failed: value, share: value / whole, before: then, change: relative(value, then) };
  });
  return { rows, remark: "", chosen };
}

const column = (id, title, text = number, value = (row) => row[id]) => ({ id, title, text, value });
const CHANGE = column("change", "Change", (value) => (value === null ? "–" : changeText(value)));
/** The figure that CHANGE is about, by the first column. */
const RANKED_BY = { users: "users", failed: "failed logins" };
export const COLUMNS = {
  users: [column("users", "Users"), column("logins", "Logins"), column("rate", "Failure rate", percent), CHANGE],
  failures: [column("failed", "Failed"), column("logins", "Tried"), column("rate", "Failure rate", percent), CHANGE],
  reasons: [column("failed", "Failed"), column("share", "Share", percent), CHANGE],
};

export class Ranking extends Part {
  /**
   * @param {{name: string, title: string, words: string[], columns: typeof COLUMNS.users}} entry of `#ranking-<name>`
   * @param {(changes: object) => void} go sets filters
   */
  constructor(entry, go) {
    super(document.getElementById(`ranking-${entry.name}`), entry.title);
    Object.assign(this, { entry, go, sort: entry.columns[0].id, down: true, all: false });
    this.body = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": entry.title });
    this.hint = make("p", { class: "hint" });
    this.more = button("", { class: "quiet", hidden: "" }, () => {
      this.all = !this.all;
      this.draw();
    });
    this.element.replaceChildren(make("div", { class: "head" }, make("h3", {}, entry.title)), this.hint, this.old, this.body, this.note, this.more);
    this.state("loading");
  }

  clear() {
    this.model = null;
    this.hint.textContent = "";
    this.more.hidden = true;
    this.body.replaceChildren();
  }

  /** @param {{rows: Row[], remark: string, chosen: Chosen}} model */
  render(model) {
    this.model = model;
    this.hint.textContent = this.hint.title = model.remark;
    this.draw();
    model.empty = "None in these days.";
    return model.rows.length ? "ready" : "empty";
  }

  ordered() {
    const of = this.entry.columns.find((each) => each.id === this.sort)?.value ?? ((row) => Object.values(row.names).join("\u0000"));
    const sign = this.down ? -1 : 1;
    return [...this.model.rows].sort((one, other) => {
      const [a, b] = [of(one), of(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return typeof a === "string" ? -sign * (a < b ? -1 : a > b ? 1 : 0) : sign * (a - b);
    });
  }

  draw() {
    const rows = this.ordered();
    const shown = this.all ? rows : rows.slice(0, FIRST_ROWS);
    const head = make("tr", {}, this.header("name", this.entry.heading), ...this.entry.columns.map((each) => this.header(each.id, each.title)));
    const body = make("tbody", {}, ...shown.map((row) => this.line(row)));
    this.body.replaceChildren(make("table", { "aria-label": this.title }, make("thead", {}, head), body));
    this.more.hidden = rows.length <= FIRST_ROWS;
    this.more.textContent = this.all ? `Show the first ${FIRST_ROWS}` : `Show all ${number(rows.length)}`;
  }

  header(id, title) {
    const chosen = this.sort === id;
    const { before } = this.model.chosen;
    const what = id === "change" && before ? { title: `Change of ${RANKED_BY[this.entry.columns[0].id]} against ${spanText(before)}` } : {};
    const head = make("th", { scope: "col", ...what, "aria-sort": chosen ? (this.down ? "descending" : "ascending") : "none" });
    head.append(
      button(title, { class: "sort" }, () => {
        this.down = chosen ? !this.down : true;
        this.sort = id;
        this.draw();
        this.body.querySelector(`th[aria-sort$="ending"] button`).focus();
      }),
    );
    return head;
  }

  line(row) {
    const { words } = this.entry;
    const word = words.at(-1);
    const raw = row.names[word];
    const { chosen } = this.model;
    const changes = this.changes(row);
    const name = nameElement(nameOf(word, raw), raw);
    const cell = make("th", { scope: "row" });
    cell.append(changes ? nameButton(name, () => this.go(changes)) : name);
    if (words.length > 1 && !chosen.realm) cell.append(" ", make("small", {}, nameElement(nameOf("realm", row.names.realm), row.names.realm)));
    const line = make("tr", changes ? { class: "pick" } : {}, cell);
    if (changes) {
      line.addEventListener("click", (event) => {
        if (!event.target.closest("button")) this.go(changes);
      });
    }
    for (const { id, text, value } of this.entry.columns) {
      const figure = value(row);
      const each = make("td", { "data-column": id }, text(figure));
      if (figure !== null && figure !== undefined) each.dataset.value = String(figure);
      if (id === "change" && typeof row.before === "number") each.title = `vs ${number(row.before)}`;
      line.append(each);
    }
    return line;
  }

  /** The filters that a row sets; null for a blank name, by which the API does not filter. */
  changes({ names }) {
    const { chosen } = this.model;
    if (Object.values(names).some((name) => !name.trim())) return null;
    if (names.region) return { region: names.region };
    if (names.reason) return { reason: names.reason === chosen.reason ? "" : names.reason };
    return names.client_id === undefined ? { realm: names.realm } : { realm: names.realm, client: names.client_id };
  }

  table() {
    if (!this.model) return null;
    const columns = [
      ...this.entry.words.map((name) => ({ name, kind: "name" })),
      ...this.entry.columns.map(({ id, title }) => ({ name: title, raw: id, kind: "number" })),
    ];
    return { columns, rows: this.ordered().map((row) => [...Object.values(row.names), ...this.entry.columns.map(({ value }) => value(row))]) };
  }
}

function nameButton(name, work) {
  const element = button("", { class: "name" }, work);
  element.append(name);
  return element;
}
