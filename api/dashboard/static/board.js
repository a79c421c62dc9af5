// The board: asks all questions for the chosen days and filters, and shows each answer in its place.

import { CHARTS, overview } from "./catalogue.js";
import { Chart } from "./chart.js";
import { dayIn, lengthOf, plusDays, dayText } from "./dates.js";
import { firstEvent } from "./first_event.js";
import { blank, events, headline, sparks, stickiness } from "./figures.js";
import { closed, newest, pipeline } from "./pipeline.js";
import { Refusal, Round } from "./questions.js";

export class Board {
  /**
   * @param {object} config of this deployment
   * @param {import("./filters.js").Filters} filters
   * @param {(health: {dead: string|null, some: boolean, stale: boolean}) => void} onHealth after each refresh
   */
  constructor(config, filters, onHealth) {
    this.config = config;
    this.filters = filters;
    this.onHealth = onHealth;
    this.charts = CHARTS.map((entry) => ({ ...entry, chart: new Chart(entry.name, entry.title) }));
    this.abort = new AbortController();
    this.newestDay = null;
    document.getElementById("show-newest").addEventListener("click", () => {
      if (!this.newestDay) return;
      const { from, to } = this.filters.read();
      const length = Math.min(lengthOf(from, to), 366);
      this.filters.go({ range: "custom", from: plusDays(this.newestDay, 1 - length), to: this.newestDay });
    });
  }

  /** Aborts the previous refresh and drops its answers. @param {import("./filters.js").Chosen} chosen */
  async refresh(chosen) {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const round = new Round(signal);
    this.refused = [];
    document.documentElement.dataset.ready = "false";
    const parts = [this.figures(round, chosen), this.labels(round), this.pipeline(round)];
    for (const { chart, name, ask } of this.charts) parts.push(this.chart(round, chosen, chart, name, ask));
    await Promise.all(parts);
    if (signal.aborted) return;
    const dead = this.refused.find((refusal) => refusal.kind === "dead");
    document.documentElement.dataset.ready = "true";
    this.onHealth({ dead: dead ? dead.message : null, some: round.answered, stale: round.stale });
  }

  /** Runs a part; without an answer `instead` shows the reason. An aborted refresh shows nothing. */
  async part(round, work, instead) {
    try {
      await work();
    } catch (error) {
      if (round.signal.aborted) return;
      let refusal = error;
      if (!(error instanceof Refusal)) {
        // A defect in one part: the other parts continue.
        console.error(error);
        refusal = new Refusal("bad", "The page could not show this.");
      }
      this.refused.push(refusal);
      if (refusal.kind !== "signed-out") await instead(refusal);
    }
  }

  figures(round, chosen) {
    return this.part(
      round,
      async () => {
        const answer = await overview(round, chosen);
        if (round.signal.aborted) return;
        headline(answer, chosen);
        stickiness(answer, null);
        newest(answer.as_of, this.config.timezone);
        this.empty(answer, chosen);
        this.define(answer);
        await sparks(round, chosen, answer.months);
      },
      (refusal) => {
        if (refusal.kind !== "dead") blank(refusal.message);
        // Counters may be kept by a dimension that users are not kept by.
        if (refusal.kind === "unkept") return this.part(round, () => events(round, chosen), () => {});
        return undefined;
      },
    );
  }

  chart(round, chosen, chart, name, ask) {
    chart.wait();
    return this.part(
      round,
      async () => {
        const model = await ask(round, chosen);
        if (round.signal.aborted) return;
        await chart.show(model, `authtally-${name}-${chosen.from}-${chosen.to}`);
        if (name === "curve") stickiness(await overview(round, chosen), model);
      },
      (refusal) => chart.refuse(refusal),
    );
  }

  labels(round) {
    return this.part(round, async () => this.filters.known((await round.ask("/v1/labels", { limit: "2000" })).items), () => {});
  }

  pipeline(round) {
    return this.part(
      round,
      async () => pipeline(await round.ask("/v1/pipeline"), this.config.timezone),
      (refusal) => {
        if (refusal.kind !== "dead") closed(refusal);
      },
    );
  }

  /** Without any event, shows how to send one. Without events in these days, shows the days that have some. */
  empty(answer, chosen) {
    const at = answer.as_of.newest_event;
    const nothing = at === null && answer.months.every((month) => month.value === null) && answer.dau.value === 0;
    if (nothing) firstEvent(this.config);
    document.getElementById("first-event").hidden = !nothing;
    document.getElementById("figures").hidden = nothing;
    const day = at === null ? null : dayIn(this.config.timezone, new Date(at));
    this.newestDay = day;
    const older = document.getElementById("older");
    older.hidden = day === null || day >= chosen.from;
    if (!older.hidden) older.querySelector("span").textContent = `No event was counted in these days. The newest event is of ${dayText(day)}.`;
  }

  define(answer) {
    const { active_on: on, user_scope: scope } = answer.definition;
    const whose = scope.includes("realm") ? "each realm has users of its own" : "a user of two realms counts once";
    const what = { login: "a successful login", refresh: "a token refresh" };
    document.getElementById("definition").textContent = !on.length
      ? ""
      : `Active: ${on.map((word) => what[word] ?? word).join(" or ")}; ${whose}. Days and months of ${answer.timezone}.`;
  }
}
