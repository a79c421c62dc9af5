// A part of the page with an answer of its own. It shows figures only of the question that is asked now.

import { clockText } from "./dates.js";
import { make, number } from "./text.js";

/** @typedef {"loading"|"ready"|"empty"|"undrawn"|"unkept"|"refused"|"failed"} State */

export class Part {
  /** @param {HTMLElement} element @param {string} title */
  constructor(element, title) {
    this.element = element;
    this.title = title;
    /** The question of the figures that are shown; null if there are none. */
    this.key = null;
    this.note = make("p", { class: "note", hidden: "" });
    this.old = make("p", { class: "old", hidden: "" });
  }

  /** Subclasses remove their figures. */
  clear() {}

  /** Subclasses show the figures, and return the state. @returns {Promise<State>|State} */
  render() {
    return "ready";
  }

  /** A table of the figures for the CSV of the view; null without figures. @returns {import("./table.js").Table|null} */
  table() {
    return null;
  }

  /** @param {State} state */
  state(state, sentence = "") {
    this.element.dataset.state = state;
    this.note.textContent = sentence;
    this.note.hidden = !sentence;
  }

  get shown() {
    return ["ready", "undrawn"].includes(this.element.dataset.state);
  }

  /** Whether the latest answer to this question is shown. */
  isCurrent(key) {
    return this.key === key && this.old.hidden;
  }

  /** Removes the figures of another question before the answer to this one is there. */
  begin(key) {
    if (key === this.key) return;
    this.empty();
    this.state("loading");
  }

  empty() {
    this.key = null;
    this.old.hidden = true;
    this.clear();
  }

  /** @param {object} model @param {string} key its question @param {number|null} expired age in seconds of an expired answer */
  async show(model, key, expired) {
    this.key = key;
    this.at = Date.now();
    this.old.hidden = expired === null;
    if (expired !== null) this.old.textContent = `These figures are ${number(expired)} s old: the ledger is unreachable.`;
    const state = await this.render(model);
    if (this.key === key) this.state(state, state === "empty" ? (model.empty ?? "Nothing in these days.") : this.remark ?? "");
  }

  /**
   * Without an answer: figures of the same question stay, with their time; else the reason is shown.
   * @param {import("./questions.js").Refusal} refusal @param {string} key @param {string} zone
   */
  fail(refusal, key, zone) {
    if (refusal.kind === "unreachable" && this.key === key && this.element.dataset.state !== "loading") {
      this.old.textContent = `Figures of ${clockText(zone, this.at)}: ${refusal.message}`;
      this.old.hidden = false;
      return;
    }
    this.empty();
    this.state({ unkept: "unkept", refused: "refused" }[refusal.kind] ?? "failed", refusal.message);
  }
}
