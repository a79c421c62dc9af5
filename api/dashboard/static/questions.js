// Questions to the API with the bearer's token, and their answers or refusals.

import { bearer, refused, signedIn } from "./sign_in.js";

const TIMEOUT_MS = 15_000;

/** A question without an answer. */
export class Refusal extends Error {
  /**
   * @param {"unkept"|"refused"|"bad"|"dead"|"signed-out"} kind the filter's dimension is not kept; the right is missing;
   *   the question is invalid; the api or ledger is unreachable; no one is signed in
   * @param {string} sentence
   */
  constructor(kind, sentence) {
    super(sentence);
    this.kind = kind;
  }
}

/** One round of questions, each sent once. `answered`: at least one has an answer; `stale`: one has an expired answer. */
export class Round {
  constructor(signal) {
    this.signal = signal;
    this.asked = new Map();
    this.stale = false;
    this.answered = false;
  }

  /** @param {string} path @param {Record<string, string>} query */
  ask(path, query = {}) {
    const parameters = new URLSearchParams(query).toString();
    const url = parameters ? `${path}?${parameters}` : path;
    let answer = this.asked.get(url);
    if (!answer) {
      answer = this.fetch(url, true);
      this.asked.set(url, answer);
    }
    return answer;
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
      throw new Refusal("dead", response ? `The api answered ${response.status}.` : "The api does not answer.");
    }
    if (response.ok) {
      this.answered = true;
      this.stale ||= response.headers.has("Cache-Status");
      return body;
    }
    if (response.status === 401) {
      if (again && (await refused(token))) return this.fetch(url, false);
      throw new Refusal("signed-out", "You are no longer signed in.");
    }
    throw refusal(response.status, typeof body.detail === "string" ? body.detail : `The api answered ${response.status}.`);
  }
}

function refusal(status, sentence) {
  if (status === 403) {
    const scope = /required scope/.test(sentence) ? "The token lacks the scope stats:read, which this needs." : sentence;
    return new Refusal("refused", scope);
  }
  if (status === 400) return new Refusal(/\b(USERS_BY|COUNTS_BY|RETAIN_\w+)\b/.test(sentence) ? "unkept" : "bad", sentence);
  return new Refusal("dead", sentence);
}
