// Regions: the filter's choices, and the line about regions whose figures are missing or old.

import { agoText } from "./dates.js";

/** Names of a refusal or a failed exchange for people; the raw one, as the api has it, is the title. */
const REASONS = {
  timeout: "no answer in time", connection: "no connection", tls: "its certificate is not accepted", open: "no answer lately",
  status_401: "it does not accept our token", status_403: "our token lacks a right there", status_404: "it exports nothing",
  time_zone: "another time zone", hash_key: "another hash key", user_scope: "another user scope", accuracy: "other sketches",
  removed: "it was removed from PEERS_FILE",
  same_ledger: "the same ledger as here", repeated_ledger: "the same ledger as another region", exact_up_to: "another limit of exact counts",
};

/** @typedef {{region: string, state: "current"|"stand_in"|"missing", age_s?: number, reason?: string, not_united?: boolean, imported?: boolean}} RegionState */

/** Fills the filter; it is hidden where the bearer sees one region only. @param {HTMLSelectElement} select */
export function regionOptions(select, own, names, chosen) {
  const others = names.filter((name) => name !== own);
  select.closest("label").hidden = !own || (!others.length && !chosen);
  const choices = [["", `Region ${own}`], ["all", "All regions"], ...others.map((name) => [name, `Region ${name}`])];
  if (chosen && !choices.some(([value]) => value === chosen)) choices.push([chosen, regionText(chosen)]);
  const key = JSON.stringify(choices);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  }
  select.value = chosen;
}

export const regionText = (chosen) =>
  chosen === "all" ? "All regions" : `${chosen.includes(",") ? "Regions" : "Region"} ${chosen.replaceAll(",", ", ")}`;

/** Whether the filter has several regions. */
export const isOverRegions = ({ region }) => region === "all" || region.includes(",");

/** The regions whose figures an answer lacks. @param {{regions?: RegionState[]}} answer @returns {Set<string>} */
export const missingIn = ({ regions = [] }) => new Set(regions.filter(({ state }) => state === "missing").map(({ region }) => region));

/** @param {RegionState} of a region that is not current, or has imported months */
export const regionCaveat = ({ region, state }) =>
  state === "missing" ? `without region ${region}` : state === "stand_in" ? `earlier figures of region ${region}` : `without the imported months of region ${region}`;

/** The worst state of each region that the answers of a refresh have. */
export class RegionStates {
  constructor() {
    /** @type {Map<string, RegionState>} */
    this.found = new Map();
  }

  /** @param {RegionState[]} regions */
  add(regions) {
    for (const each of regions) {
      const before = this.found.get(each.region);
      const states = ["current", "stand_in", "missing"];
      const worse = !before || states.indexOf(each.state) > states.indexOf(before.state) ||
        (each.state === before.state && (each.age_s ?? 0) > (before.age_s ?? 0));
      const either = (name) => Boolean(each[name] || before?.[name]);
      this.found.set(each.region, { ...(worse ? each : before), not_united: either("not_united"), imported: either("imported") });
    }
  }

  /** A sentence per region whose figures are missing or old, and one about users that may count twice. @returns {string[]} */
  sentences(now) {
    const said = [];
    const apart = [];
    for (const { region, state, age_s: age, reason, not_united: notUnited, imported } of this.found.values()) {
      const why = reason ? ` (${REASONS[reason] ?? reason})` : "";
      if (state === "missing") said.push(`Figures lack region ${region}${why}.`);
      if (state === "stand_in") said.push(`Figures of region ${region} are of ${agoText(new Date(now - age * 1000))}${why}.`);
      if (imported) said.push(`Figures lack the imported months of region ${region}.`);
      if (notUnited) apart.push(region);
    }
    if (apart.length) said.push(`Users of several regions may count twice: ${apart.join(", ")} exports some users as a number only.`);
    return said;
  }
}
