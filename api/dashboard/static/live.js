// Today's figures as server-sent events, read with fetch, because EventSource cannot send a bearer token.

import { bearer, refused, signedIn } from "./sign_in.js";

const PATH = "/v1/live";
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;
/** After this silence the connection counts as dead: the api sends a comment every 15 s. */
const SILENCE_MS = 40_000;

/**
 * Follows the figures until the returned function is called.
 *
 * @param {(figures: object) => void} onFigures
 * @param {(state: "live"|"retrying"|"off") => void} onState `off`: no one is signed in, the token may not see them, or following has stopped
 * @returns {() => void}
 */
export function follow(onFigures, onState) {
  const stop = new AbortController();
  let state = "";
  const setState = (now) => {
    if (now !== state) onState((state = now));
  };
  run(stop.signal, onFigures, setState).finally(() => setState("off"));
  return () => stop.abort();
}

async function run(stop, onFigures, setState) {
  let failed = 0;
  while (!stop.aborted) {
    const token = await bearer();
    if (!signedIn() || stop.aborted) return;
    let wait = 0;
    const connection = new AbortController();
    const signal = AbortSignal.any([stop, connection.signal]);
    const watch = watchdog(() => connection.abort());
    try {
      const headers = { Accept: "text/event-stream", ...(token && { Authorization: `Bearer ${token}` }) };
      const response = await fetch(PATH, { headers, signal, cache: "no-store", credentials: "omit" });
      if (response.status === 401) {
        if (await refused(token)) continue;
        return;
      }
      if (response.status === 403 || response.status === 404) return;
      wait = 1000 * (Number(response.headers.get("Retry-After")) || 0);
      if (response.ok) {
        for await (const { event, data } of events(response.body, watch.reset)) {
          failed = 0;
          if (event === "figures") onFigures(JSON.parse(data));
          setState(event === "figures" ? "live" : "retrying");
        }
      }
    } catch (error) {
      // A broken or aborted connection; any other error is a defect.
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    } finally {
      watch.end();
    }
    if (stop.aborted) return;
    setState("retrying");
    const backoff = Math.min(FIRST_RETRY_MS * 2 ** failed, LONGEST_RETRY_MS);
    failed += 1;
    // With jitter: pages must not all reconnect at the same moment when the api comes back.
    await pause(Math.max(wait, backoff) * (0.5 + Math.random()), stop);
  }
}

/** The events of a stream: the subset of HTML Living Standard §9.2.6 that the api sends; lines end with \n. */
async function* events(body, reset) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      reset();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = block.split("\n").map((line) => line.split(/:\s?(.*)/s, 2));
        const event = Object.fromEntries(fields);
        if (event.event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function watchdog(onSilence) {
  let timer = setTimeout(onSilence, SILENCE_MS);
  return {
    reset() {
      clearTimeout(timer);
      timer = setTimeout(onSilence, SILENCE_MS);
    },
    end: () => clearTimeout(timer),
  };
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
