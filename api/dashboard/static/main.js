// Connects the parts of the page: sign-in, filters, board, and the refresh timer.

import { Board } from "./board.js";
import { live } from "./figures.js";
import { Filters } from "./filters.js";
import { follow } from "./live.js";
import { newest } from "./pipeline.js";
import { onChange, signedIn, signOut, start } from "./sign_in.js";

/** Refresh interval of all figures while the page is visible. Today's are also streamed. */
const AGAIN_MS = 60_000;
const RETRY_MS = [5_000, 10_000, 20_000, 40_000, 60_000];

const $ = (id) => document.getElementById(id);

const config = await started();
const filters = new Filters(config.timezone, () => refresh());
const board = new Board(config, filters, health);
let timer;
let failures = 0;
let stop = null;

/** Retries: the page may come from a cache or one process while other processes are down. */
async function started() {
  for (let tries = 0; ; tries += 1) {
    try {
      const found = await start();
      $("banner").hidden = true;
      return found;
    } catch {
      $("banner").hidden = false;
      $("banner-text").textContent = "The api does not answer. The page retries automatically.";
      await new Promise((resolve) => {
        setTimeout(resolve, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
        $("retry").addEventListener("click", resolve, { once: true });
      });
    }
  }
}

function refresh() {
  clearTimeout(timer);
  if (signedIn()) board.refresh(filters.read());
}

/** Shows the state of the figures, and schedules the next refresh. */
function health({ dead, some, stale }) {
  failures = dead ? failures + 1 : 0;
  const now = new Date().toLocaleTimeString("en-GB");
  if (!dead) $("banner").dataset.last = now;
  const last = $("banner").dataset.last;
  $("banner").hidden = !dead && !stale;
  $("banner-text").textContent = !dead
    ? "The ledger is unreachable: these are the last figures in the api's cache."
    : some
      ? `Some figures are missing: ${dead} The page retries automatically.`
      : `${dead} ${last ? `The figures shown are of ${last}.` : "There are no figures yet."} The page retries automatically.`;
  clearTimeout(timer);
  const wait = dead ? RETRY_MS[Math.min(failures - 1, RETRY_MS.length - 1)] : AGAIN_MS;
  timer = setTimeout(() => (document.hidden ? health({ dead, some, stale }) : refresh()), wait);
}

const STATES = { live: "live", retrying: "live: retrying", off: "not live" };

function figures(answer) {
  live(answer, filters.read());
  newest(answer.as_of, config.timezone);
  if (!$("first-event").hidden && answer.as_of.newest_event !== null) refresh();
}

function state(of) {
  $("live").dataset.state = of;
  $("live").textContent = STATES[of];
}

/** Called after sign-in, sign-out, and the end of a token. */
function showPrincipal(who) {
  $("board").hidden = !who;
  $("sign-out").hidden = !who || !config.sign_in;
  $("who").textContent = $("who").title = who?.subject ?? "";
  stop?.();
  stop = null;
  if (!who) {
    clearTimeout(timer);
    state("off");
    $("banner").hidden = true;
    return;
  }
  stop = follow(figures, state);
  filters.changed();
}

$("retry").addEventListener("click", refresh);
$("sign-out").addEventListener("click", () => signOut());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && failures) refresh();
});
onChange(showPrincipal);
showPrincipal(signedIn());
