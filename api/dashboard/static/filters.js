// The filters: days, realm, client. They are in the URL, so that a view can be shared and revisited.

import { dayIn, days, firstOf, isDay, lastOf, lengthOf, monthOf, months, plusDays, plusMonths } from "./dates.js";
import { named, shortened, undirected } from "./text.js";

const DEFAULT = "30d";
const LAST = { "7d": 7, "30d": 30, "90d": 90 };
/** Above this number of days charts have a point per month. */
const MOST_DAYS = 92;

/**
 * @typedef {{range: string, from: string, to: string, today: string, realm: string, client: string,
 *   granularity: "day"|"month", periods: string[], query: Record<string, string>}} Chosen
 */

export class Filters {
  /** @param {string} zone @param {(chosen: Chosen) => void} onChange */
  constructor(zone, onChange) {
    this.zone = zone;
    this.onChange = onChange;
    this.form = document.getElementById("filters");
    const { range, from, to, realm, client } = this.form.elements;
    this.fields = { range, from, to, realm, client };
    this.clients = [];
    this.form.addEventListener("submit", (event) => event.preventDefault());
    range.addEventListener("change", () => {
      if (range.value === "custom") {
        this.form.elements.from.focus();
        return;
      }
      this.go({ range: range.value });
    });
    for (const field of [from, to]) {
      field.addEventListener("change", () => {
        if (isDay(from.value) && isDay(to.value) && from.value <= to.value) {
          this.go({ range: "custom", from: from.value, to: to.value });
        }
      });
    }
    realm.addEventListener("change", () => this.go({ realm: realm.value }));
    client.addEventListener("change", () => this.go({ client: client.value }));
    document.getElementById("reset").addEventListener("click", () => this.go({ range: DEFAULT, realm: "", client: "" }));
    window.addEventListener("popstate", () => this.changed());
  }

  /** The filters in the URL; invalid ones are ignored. @returns {Chosen} */
  read() {
    const given = new URLSearchParams(location.search);
    const today = dayIn(this.zone, Date.now());
    const realm = given.get("realm") ?? "";
    const client = given.get("client_id") ?? "";
    const [from, to] = [given.get("from") ?? "", given.get("to") ?? ""];
    let found = spanOf(given.get("range") ?? DEFAULT, today) ?? spanOf(DEFAULT, today);
    // The API's limit is ten years.
    if (isDay(from) && isDay(to) && from <= to && from >= "2000-01-01" && lengthOf(from, to) <= 3652) {
      found = { range: "custom", from, to };
    }
    const granularity = lengthOf(found.from, found.to) > MOST_DAYS ? "month" : "day";
    const periods = granularity === "day" ? days(found.from, found.to) : months(found.from, found.to);
    const query = { ...(realm && { realm }), ...(client && { client_id: client }) };
    return { ...found, today, realm, client, granularity, periods, query };
  }

  /** Applies changes to the URL and the page. */
  go(changes) {
    const next = { ...this.read(), ...changes };
    const query = new URLSearchParams();
    if (next.range === "custom") {
      query.set("from", next.from);
      query.set("to", next.to);
    } else if (next.range !== DEFAULT) {
      query.set("range", next.range);
    }
    if (next.realm) query.set("realm", next.realm);
    if (next.client) query.set("client_id", next.client);
    const text = query.toString();
    history.pushState(null, "", text ? `?${text}` : location.pathname);
    this.changed();
  }

  changed() {
    const chosen = this.read();
    this.show(chosen);
    this.onChange(chosen);
  }

  /** Sets the form to the filters. */
  show(chosen) {
    const { range, from, to } = this.fields;
    range.value = chosen.range;
    from.value = chosen.from;
    to.value = chosen.to;
    for (const field of [from, to]) field.max = chosen.today > chosen.to ? chosen.today : chosen.to;
    this.options(chosen);
  }

  /** @param {{dimension: string, realm?: string, client_id?: string}[]} labels that the bearer sees */
  known(labels) {
    this.labels = labels;
    this.options(this.read());
  }

  options(chosen) {
    const labels = this.labels ?? [];
    // The API does not filter by a blank name: events without a realm are in "All realms" only.
    const realms = labels.filter((each) => each.dimension === "realm" && each.realm.trim()).map((each) => each.realm);
    const clients = labels
      .filter((each) => each.dimension === "client_id" && each.client_id.trim() && (!chosen.realm || each.realm === chosen.realm))
      .map((each) => each.client_id);
    fill(this.fields.realm, "All realms", realms, chosen.realm);
    fill(this.fields.client, "All clients", [...new Set(clients)].sort(), chosen.client);
  }
}

/** @returns {{range: string, from: string, to: string}|null} null for an unknown range */
function spanOf(range, today) {
  const month = monthOf(today);
  if (Object.hasOwn(LAST, range)) return { range, from: plusDays(today, 1 - LAST[range]), to: today };
  if (range === "12m") return { range, from: firstOf(plusMonths(month, -11)), to: today };
  if (range === "month") return { range, from: firstOf(month), to: today };
  if (range === "last-month") return { range, from: firstOf(plusMonths(month, -1)), to: lastOf(plusMonths(month, -1)) };
  return null;
}

function fill(select, all, names, chosen) {
  const wanted = chosen && !names.includes(chosen) ? [chosen, ...names] : names;
  const key = JSON.stringify(wanted);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(
      new Option(all, ""),
      ...wanted.map((name) => {
        const option = new Option(undirected(shortened(named(name), 60)), name);
        option.title = name;
        return option;
      }),
    );
  }
  select.value = chosen;
}
