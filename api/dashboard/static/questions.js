// Questions to the API with the bearer's token, and their answers or refusals.

import { RegionStates } from "./regions.js";
import { bearer, refused, signedIn } from "./sign_in.js";

const TIMEOUT_MS = 15_000;
/** Requests at a time: the api has a deadline per answer, which many at once would miss together. */
const AT_A_TIME = 4;

/** A question without an answer. */
export class Refusal extends Error {
  /**
   * @param {"unkept"|"refused"|"invalid"|"unreachable"|"signed-out"} kind the filter's dimension is not kept; the right is missing;
   *   the question is invalid; the api or ledger is unreachable; no one is signed in
   * @param {string} sentence
   */
  constructor(kind, sentence) {
    super(sentence);
    this.kind = kind;
  }
}

/** One round of questions, each sent once. `answered`: at least one has an answer; `expired`: one has an
 * answer that the api could not renew. */
export class Round {
  constructor(signal) {
    this.signal = signal;
    this.asked = new Map();
    this.running = 0;
    /** @type {(() => void)[]} */
    this.waiting = [];
    this.answered = false;
    this.expired = false;
    /** Freshness and definition, as the latest answers state them. */
    this.asOf = null;
    this.definition = null;
    this.regions = new RegionStates();
  }

  /** For one part of the page: it has the age of its own answers only. */
  asker() {
    return new Asker(this);
  }

  /** @returns {Promise<{body: object, expired: number|null}>} `expired`: age in seconds of an answer that could not be renewed */
  ask(path, query = {}) {
    const parameters = new URLSearchParams(query).toString();
    const url = parameters ? `${path}?${parameters}` : path;
    let answer = this.asked.get(url);
    if (!answer) {
      answer = this.turn(() => this.fetch(url, true));
      this.asked.set(url, answer);
    }
    return answer;
  }

  /** Runs `work` once fewer than AT_A_TIME others run, in the order of the calls. */
  async turn(work) {
    if (this.running >= AT_A_TIME) await new Promise((resolve) => this.waiting.push(resolve));
    else this.running += 1;
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running -= 1;
    }
  }

  async fetch(url, again) {
    const token = await bearer();
    if (!signedIn()) throw new Refusal("signed-out", "You are not signed in.");
    let response;
    let body;
    try {
      response = await fetch(url, {
        headers: { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
        signal: AbortSignal.any([this.signal, AbortSignal.timeout(TIMEOUT_MS)]),
        credentials: "omit",
      });
      body = await response.json();
    } catch (error) {
      if (this.signal.aborted) throw error;
      throw new Refusal("unreachable", response ? `The api answered ${response.status}.` : "The api does not answer.");
    }
    if (response.ok) {
      this.answered = true;
      this.asOf = body.as_of ?? this.asOf;
      this.definition = body.definition ?? this.definition;
      if (body.regions) this.regions.add(body.regions);
      this.expired ||= response.headers.has("Cache-Status");
      return { body, expired: response.headers.has("Cache-Status") ? Number(response.headers.get("Age")) || 0 : null };
    }
    if (response.status === 401) {
      if (again && (await refused(token))) return this.fetch(url, false);
      throw new Refusal("signed-out", "You are no longer signed in.");
    }
    throw refusal(response.status, typeof body.detail === "string" ? body.detail : `The api answered ${response.status}.`);
  }
}

/** Asks for one part of the page. */
export class Asker {
  constructor(/** @type {Round} */ round) {
    this.round = round;
    /** The greatest age in seconds of expired answers; null if all are current. */
    this.expired = null;
  }

  /** @param {string} path @param {Record<string, string>} [query] */
  async ask(path, query) {
    const { body, expired } = await this.round.ask(path, query);
    if (expired !== null) this.expired = Math.max(this.expired ?? 0, expired);
    return body;
  }
}

function refusal(status, sentence) {
  if (status === 403) {
    const scope = /required scope/.test(sentence) ? "The token lacks the scope stats:read, which this needs." : sentence;
    return new Refusal("refused", scope);
  }
  if (status === 400) return new Refusal(/\b(USERS_BY|COUNTS_BY|RETAIN_\w+)\b/.test(sentence) ? "unkept" : "invalid", sentence);
  return new Refusal("unreachable", sentence);
}
