// The filters: range, comparison, realm, client, and the tab. They are in the URL, so that a view can be shared and revisited.

import { dayIn, isDay, lengthOf, spanText } from "./dates.js";
import { COHORTS, PERIODS } from "./lifecycle.js";
import { nameOf } from "./names.js";
import { COMPARISONS, comparisonOf, DEFAULT_RANGE, granularityOf, RANGES, spanOf } from "./ranges.js";
import { regionOptions, regionText } from "./regions.js";
import { TABS } from "./tabs.js";
import { button, make, named, nameElement, shortened, undirected } from "./text.js";

const DEFAULTS = { range: DEFAULT_RANGE, compare: "previous", region: "", realm: "", client: "", reason: "", by: "", cohort: "all", tab: TABS[0] };
/** The API's limit is ten years. */
const MOST_DAYS = 3652;

/**
 * @typedef {{range: string, from: string, to: string, today: string, compare: "previous"|"year"|"none",
 *   before: import("./ranges.js").Span|null, region: string, realm: string, client: string, reason: string, tab: string,
 *   by: ""|"week"|"month", cohort: "all"|"new", granularity: "day"|"month", query: Record<string, string>, key: string}} Chosen
 *   `before` is the range to compare with; `key` names all that figures depend on;
 *   `by` and `cohort` are of the lifecycle's figures only: their periods ("" by the length of the range) and cohorts
 */

export class Filters {
  /** @param {object} config of this deployment @param {(chosen: Chosen) => void} onChange */
  constructor(config, onChange) {
    this.config = config;
    this.onChange = onChange;
    this.labels = [];
    /** @type {string[]} */
    this.regions = [];
    this.form = document.getElementById("filters");
    const { range, from, to, compare, region, realm, client } = this.form.elements;
    this.fields = { range, from, to, compare, region, realm, client };
    for (const [value, text] of Object.entries(RANGES)) range.add(new Option(text, value));
    for (const [value, text] of Object.entries(COMPARISONS)) compare.add(new Option(`vs ${text}`, value));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    range.addEventListener("change", () => {
      if (range.value !== "custom") {
        this.go({ range: range.value });
        return;
      }
      this.form.dataset.custom = "true";
      from.focus();
    });
    for (const field of [from, to]) {
      field.addEventListener("change", () => {
        if (isDay(from.value) && isDay(to.value) && from.value <= to.value) this.days(from.value, to.value);
      });
    }
    compare.addEventListener("change", () => this.go({ compare: compare.value }));
    region.addEventListener("change", () => this.go({ region: region.value }));
    realm.addEventListener("change", () => this.go({ realm: realm.value }));
    client.addEventListener("change", () => this.go({ client: client.value }));
    document.getElementById("reset").addEventListener("click", () => this.go({ ...DEFAULTS, tab: this.read().tab }));
    const opener = document.getElementById("open-filters");
    opener.addEventListener("click", () => {
      const open = this.form.dataset.open !== "true";
      this.form.dataset.open = String(open);
      opener.setAttribute("aria-expanded", String(open));
    });
    window.addEventListener("popstate", () => this.changed());
  }

  /** The filters in the URL; invalid ones are ignored. @returns {Chosen} */
  read() {
    const given = new URLSearchParams(location.search);
    const choice = (name, choices, fallback) => (choices.includes(given.get(name)) ? given.get(name) : fallback);
    const today = dayIn(this.config.timezone, Date.now());
    const asked = given.get("region") ?? "";
    const region = this.config.region && asked !== this.config.region ? asked : "";
    const realm = given.get("realm") ?? "";
    const client = given.get("client_id") ?? "";
    const reason = given.get("reason") ?? "";
    const compare = choice("compare", Object.keys(COMPARISONS), DEFAULTS.compare);
    const by = choice("by", Object.keys(PERIODS), DEFAULTS.by);
    const cohort = choice("cohort", Object.keys(COHORTS), DEFAULTS.cohort);
    const tab = choice("tab", TABS, DEFAULTS.tab);
    let range = choice("range", Object.keys(RANGES).filter((name) => name !== "custom"), DEFAULT_RANGE);
    let span = spanOf(range, today);
    const [from, to] = [given.get("from") ?? "", given.get("to") ?? ""];
    if (isDay(from) && isDay(to) && from <= to && from >= "2000-01-01" && lengthOf(from, to) <= MOST_DAYS) {
      range = "custom";
      span = { from, to };
    }
    const before = comparisonOf(range, span, today, compare);
    const query = { ...(region && { region }), ...(realm && { realm }), ...(client && { client_id: client }) };
    const key = JSON.stringify([span, before, region, realm, client, reason]);
    return { range, ...span, today, compare, before, region, realm, client, reason, by, cohort, tab, granularity: granularityOf(span), query, key };
  }

  /** Applies changes to the URL and the page. */
  go(changes) {
    const next = { ...this.read(), ...changes };
    const query = new URLSearchParams();
    if (next.range === "custom") {
      query.set("from", next.from);
      query.set("to", next.to);
    }
    for (const name of ["range", "compare", "region", "realm", "client", "reason", "by", "cohort", "tab"]) {
      if (next[name] === DEFAULTS[name] || (name === "range" && next.range === "custom")) continue;
      query.set(name === "client" ? "client_id" : name, next[name]);
    }
    const text = query.toString();
    if (`?${text}` !== location.search && (text || location.search)) history.pushState(null, "", text ? `?${text}` : location.pathname);
    this.changed();
  }

  days(from, to) {
    this.go({ range: "custom", from, to });
  }

  changed() {
    const chosen = this.read();
    this.show(chosen);
    this.onChange(chosen);
  }

  /** Sets the form and the chips to the filters. */
  show(chosen) {
    const { range, from, to, compare } = this.fields;
    range.value = chosen.range;
    this.form.dataset.custom = String(chosen.range === "custom");
    from.value = chosen.from;
    to.value = chosen.to;
    compare.value = chosen.compare;
    for (const field of [from, to]) field.max = chosen.today > chosen.to ? chosen.today : chosen.to;
    this.options(chosen);
    this.chips(chosen);
  }

  chips(chosen) {
    const chip = (name, text, raw, fallback) => {
      const item = make("li", { class: "chip", "data-chip": name }, nameElement(text, raw));
      if (fallback) item.append(button("×", { "aria-label": `Remove: ${undirected(text)}` }, () => this.go(fallback)));
      return item;
    };
    const chips = [
      chip("range", `${spanText(chosen)} (${this.config.timezone})`, RANGES[chosen.range], chosen.range !== DEFAULTS.range && { range: DEFAULTS.range }),
    ];
    if (chosen.before) {
      const title = `compared with ${COMPARISONS[chosen.compare]}`;
      chips.push(chip("compare", `vs ${spanText(chosen.before)}`, title, chosen.compare !== DEFAULTS.compare && { compare: DEFAULTS.compare }));
    }
    if (chosen.region) chips.push(chip("region", regionText(chosen.region), chosen.region, { region: "" }));
    if (chosen.realm) chips.push(chip("realm", `Realm: ${nameOf("realm", chosen.realm)}`, chosen.realm, { realm: "" }));
    if (chosen.client) chips.push(chip("client", `Client: ${nameOf("client_id", chosen.client)}`, chosen.client, { client: "" }));
    if (chosen.reason && chosen.tab === "logins") {
      chips.push(chip("reason", `Failures: ${nameOf("reason", chosen.reason)}`, chosen.reason, { reason: "" }));
    }
    document.getElementById("chips").replaceChildren(...chips);
  }

  /** @param {{dimension: string, realm?: string, client_id?: string}[]} labels that the bearer sees */
  known(labels) {
    this.labels = labels;
    this.options(this.read());
  }

  /** @param {string[]} names of the regions that the bearer sees */
  knownRegions(names) {
    this.regions = names;
    this.options(this.read());
  }

  /** What an answer by this dimension lacks here, so that it is known before a label is chosen. */
  lacks(dimension) {
    const settings = { USERS_BY: this.config.users_by, COUNTS_BY: this.config.counts_by };
    return Object.keys(settings).filter((name) => !settings[name].includes(dimension));
  }

  options(chosen) {
    // The API does not filter by a blank name: events without a realm are in "All realms" only.
    const realms = this.labels.filter((each) => each.dimension === "realm" && each.realm.trim()).map((each) => each.realm);
    const clients = this.labels
      .filter((each) => each.dimension === "client_id" && each.client_id.trim() && (!chosen.realm || each.realm === chosen.realm))
      .map((each) => each.client_id);
    regionOptions(this.fields.region, this.config.region, this.regions, chosen.region);
    fill(this.fields.realm, "All realms", realms, chosen.realm, this.lacks("realm"));
    fill(this.fields.client, "All clients", [...new Set(clients)].sort(), chosen.client, this.lacks("client"));
  }
}

const MISSING = { USERS_BY: "no users", COUNTS_BY: "no logins and tokens" };

/** @param {string[]} lacks the settings that do not contain the dimension */
function fill(select, all, names, chosen, lacks) {
  const wanted = chosen && !names.includes(chosen) ? [chosen, ...names] : names;
  const word = select.name === "realm" ? "realm" : "client_id";
  const key = JSON.stringify(wanted);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    const mark = lacks.length ? ` – ${lacks.map((name) => MISSING[name]).join(", ")}` : "";
    const options = wanted.map((name) => {
      const option = new Option(`${undirected(shortened(named(nameOf(word, name)), 60))}${mark}`, name);
      option.title = name;
      return option;
    });
    select.replaceChildren(new Option(all, ""), ...options);
    select.title = lacks.length ? `${lacks.join(" and ")} lacks ${word === "realm" ? "realm" : "client"}: figures marked so are missing under this filter` : "";
    select.disabled = lacks.length === 2 && !chosen;
  }
  select.value = chosen;
}
