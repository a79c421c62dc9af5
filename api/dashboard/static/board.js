// The board: asks the questions of the chosen view, and shows each answer in its place.

import { Chart } from "./chart.js";
import { EVENTS } from "./charts_events.js";
import { LIFECYCLE } from "./charts_lifecycle.js";
import { retention } from "./charts_retention.js";
import { USERS } from "./charts_users.js";
import { dayIn, dayText, lengthOf, momentText, plusDays, spanText } from "./dates.js";
import { firstEvent } from "./first_event.js";
import { HeatMap } from "./heat_map.js";
import { keyOf as keyOfLifecycle, LifecycleChoices } from "./lifecycle.js";
import { askTiles, LIFECYCLE_TILES, LifecycleTile } from "./lifecycle_tiles.js";
import { askPipeline, Pipeline, StatusLine } from "./pipeline.js";
import { Refusal, Round } from "./questions.js";
import { isOverRegions } from "./regions.js";
import { byReason, COLUMNS, failures, ranked, Ranking } from "./rankings.js";
import { TABS, showTab } from "./tabs.js";
import { Tile, TILES } from "./tiles.js";
import { askToday, Today } from "./today.js";

const CHARTS = { users: USERS, lifecycle: LIFECYCLE, ...EVENTS };
const REALM = { words: ["realm"], heading: "Realm" };
const REGION = { words: ["region"], heading: "Region" };
const CLIENT = { words: ["realm", "client_id"], heading: "Client" };
const RANKINGS = {
  users: [
    { name: "regions", title: "Regions", ...REGION, columns: COLUMNS.users, ask: ranked("region") },
    { name: "realms", title: "Top realms", ...REALM, columns: COLUMNS.users, ask: ranked("realm") },
    { name: "clients", title: "Top clients", ...CLIENT, columns: COLUMNS.users, ask: ranked("client") },
  ],
  logins: [
    { name: "reasons", title: "Reasons of failed logins", words: ["reason"], heading: "Reason", columns: COLUMNS.reasons, ask: byReason },
    { name: "failing-realms", title: "Failed logins by realm", ...REALM, columns: COLUMNS.failures, ask: failures("realm") },
    { name: "failing-clients", title: "Failed logins by client", ...CLIENT, columns: COLUMNS.failures, ask: failures("client") },
  ],
};
const WITH_TILES = ["users", "logins", "tokens"];

/** @typedef {import("./filters.js").Chosen} Chosen */

/**
 * A part of a tab. `ask` asks the part's questions through the asker and returns the model that the part shows; `keyOf`
 * identifies the question.
 *
 * @typedef {{part: import("./part.js").Part, ask: (asker: import("./questions.js").Asker, chosen: Chosen) => Promise<object>, keyOf: (chosen: Chosen) => string}} Entry
 */

export class Board {
  /**
   * @param {object} config of this deployment @param {import("./filters.js").Filters} filters
   * @param {(health: {unreachable: string|null, some: boolean, expired: boolean}) => void} onHealth after each refresh
   */
  constructor(config, filters, onHealth) {
    Object.assign(this, { config, filters, onHealth, abort: new AbortController(), newestDay: null });
    const go = (changes) => this.filters.go(changes);
    const ofView = (chosen) => chosen.key;
    const ofPipeline = (chosen) => `pipeline ${chosen.region}`;
    const zone = config.timezone;
    this.today = new Today(zone);
    this.status = new StatusLine();
    this.tiles = TILES.map((tile) => ({
      part: new Tile(tile), keyOf: ofView, ask: async (asker, chosen) => ({ ...(await tile.ask(asker, chosen)), chosen }),
    }));
    /** @type {Record<string, Entry[]>} */
    this.entries = Object.fromEntries(TABS.map((tab) => [tab, [
      ...CHARTS[tab].map(({ name, title, ask }) => ({ part: new Chart(name, title, go), ask, keyOf: ofView })),
      ...(RANKINGS[tab] ?? []).map((entry) => ({ part: new Ranking(entry, go), ask: entry.ask, keyOf: ofView })),
    ]]));
    // Above the charts on the page, so asked before them.
    this.entries.users.unshift(
      { part: this.status, ask: askPipeline, keyOf: ofPipeline },
      { part: this.today, ask: askToday, keyOf: ({ today, query }) => JSON.stringify([today, query]) },
    );
    for (const entry of this.entries.lifecycle) entry.keyOf = keyOfLifecycle;
    this.entries.lifecycle.unshift(...LIFECYCLE_TILES.map((tile) => ({ part: new LifecycleTile(tile), ask: askTiles, keyOf: keyOfLifecycle })));
    this.entries.lifecycle.push({ part: new HeatMap("retention", "Retention"), ask: retention, keyOf: keyOfLifecycle });
    this.choices = new LifecycleChoices(go);
    this.entries.pipeline.push({ part: new Pipeline(zone), ask: askPipeline, keyOf: ofPipeline });
    document.getElementById("show-newest").addEventListener("click", () => {
      const { from, to } = this.filters.read();
      this.filters.days(plusDays(this.newestDay, 1 - Math.min(lengthOf(from, to), 366)), this.newestDay);
    });
  }

  /** The parts of a tab, in the order of the page. @returns {Entry[]} */
  shown(tab) {
    const shown = this.entries[tab].filter(({ part }) => !part.element.hidden);
    return [...(WITH_TILES.includes(tab) ? this.tiles : []), ...shown];
  }

  /**
   * Aborts the previous refresh and drops its answers.
   * @param {Chosen} chosen @param {boolean} missing asks only for parts without current figures: a busy api gets less work
   */
  async refresh(chosen, missing = false) {
    this.abort.abort();
    this.abort = new AbortController();
    const round = new Round(this.abort.signal);
    document.documentElement.dataset.ready = "false";
    showTab(chosen.tab);
    this.choices.show(chosen);
    this.hide(chosen);
    const entries = this.shown(chosen.tab).filter(({ part, keyOf }) => !missing || !part.isCurrent(keyOf(chosen)));
    for (const entry of entries) entry.part.begin(entry.keyOf(chosen));
    const runs = [...entries.map((entry) => this.run(round, chosen, entry)), this.labels(round, chosen), this.regions(round)];
    const refusals = (await Promise.all(runs)).filter(Boolean);
    if (round.signal.aborted) return;
    this.answered(round, chosen);
    const unreachable = refusals.find((refusal) => refusal.kind === "unreachable");
    document.documentElement.dataset.ready = "true";
    this.onHealth({ unreachable: unreachable?.message ?? null, some: round.answered, expired: round.expired });
  }

  /** Runs one part; it alone fails. @returns {Promise<Refusal|null>} */
  async run(round, chosen, { part, ask, keyOf }) {
    const key = keyOf(chosen);
    const asker = round.asker();
    try {
      const model = await ask(asker, chosen);
      if (!round.signal.aborted) await part.show(model, key, asker.expired);
      return null;
    } catch (error) {
      if (round.signal.aborted) return null;
      const refusal = error instanceof Refusal ? error : new Refusal("invalid", "The page could not show this.");
      // A defect of the page: the other parts continue.
      if (refusal !== error) console.error(error);
      if (refusal.kind !== "signed-out") part.fail(refusal, key, this.config.timezone);
      return refusal;
    }
  }

  labels(round, { region }) {
    return this.offered(round, "/v1/labels", { limit: "2000", ...(region && { region }) }, ({ items }) => this.filters.known(items));
  }

  regions(round) {
    if (!this.config.region) return null;
    return this.offered(round, "/v1/regions", {}, ({ items }) => this.filters.knownRegions(items.map(({ region }) => region)));
  }

  async offered(round, path, query, take) {
    try {
      take(await round.asker().ask(path, query));
      return null;
    } catch (error) {
      // Filters without choices: the parts report the reason.
      if (!(error instanceof Refusal) && !round.signal.aborted) throw error;
      return error instanceof Refusal ? error : null;
    }
  }

  /** Remarks of another view must not stay while this one is asked. */
  hide(chosen) {
    if (chosen.key !== this.key) for (const id of ["older", "regions"]) document.getElementById(id).hidden = true;
    document.getElementById("ranking-regions").hidden = !isOverRegions(chosen);
    this.key = chosen.key;
  }

  /** Removes all figures: the next bearer may see others. */
  forget() {
    this.abort.abort();
    for (const { part } of [...this.tiles, ...Object.values(this.entries).flat()]) {
      part.empty();
      part.state("loading");
    }
    this.filters.known([]);
    this.filters.knownRegions([]);
  }

  /** What the answers of a refresh have in common: freshness, definition, and whether there is any event. */
  answered({ asOf, definition, regions }, chosen) {
    const said = regions.sentences(Date.now());
    document.getElementById("regions").textContent = said.join(" ");
    document.getElementById("regions").hidden = !said.length;
    if (definition) this.define(definition);
    if (!asOf) return;
    this.newest(asOf.newest_event);
    const at = asOf.newest_event;
    const months = this.entries.users.find(({ part }) => part.name === "months");
    const nothing = at === null && chosen.tab === "users" && months.part.element.dataset.state === "empty";
    if (nothing) firstEvent(this.config);
    document.getElementById("first-event").hidden = !nothing;
    document.getElementById("figures").hidden = nothing;
    const tiles = WITH_TILES.includes(chosen.tab) ? this.tiles.map(({ part }) => part.figure?.value) : [undefined];
    if (chosen.tab === "lifecycle" && this.entries.lifecycle.some(({ part }) => part.name === "lifecycle" && part.element.dataset.state === "empty")) tiles[0] = 0;
    const empty = tiles.every((value) => value === 0 || value === null);
    const older = document.getElementById("older");
    older.hidden = at === null || !empty || (this.newestDay >= chosen.from && this.newestDay <= chosen.to && !chosen.region && !chosen.realm && !chosen.client);
    const filtered = chosen.region || chosen.realm || chosen.client ? " under these filters" : "";
    older.querySelector("span").textContent = older.hidden
      ? ""
      : `No event was counted in ${spanText(chosen)}${filtered}. The newest event is of ${dayText(this.newestDay)}.`;
    document.getElementById("show-newest").hidden = this.newestDay >= chosen.from && this.newestDay <= chosen.to;
  }

  /** @param {string|null} at the time of the newest event */
  newest(at) {
    this.newestDay = at === null ? null : dayIn(this.config.timezone, new Date(at));
    document.getElementById("as-of").textContent = at === null ? "" : `newest event ${momentText(this.config.timezone, new Date(at))}`;
  }

  /** @param {object} figures of /v1/live */
  live(figures, chosen) {
    // They are those of the own region.
    if (chosen.region) return;
    this.newest(figures.as_of.newest_event);
    this.status.live(figures);
    this.today.live(figures, chosen);
  }

  define({ active_on: on, user_scope: scope }) {
    const whose = scope.includes("realm") ? "each realm has users of its own" : "a user of two realms counts once";
    const what = { login: "a successful login", refresh: "a token refresh" };
    const words = on.map((word) => what[word] ?? word).join(" or ");
    document.getElementById("definition").textContent = on.length ? `Active: ${words}; ${whose}. Days and months of ${this.config.timezone}.` : "";
  }
}
