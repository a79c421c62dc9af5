// Connects the parts of the page: sign-in, filters, tabs, board, and the refresh timer.

import { actions } from "./actions.js";
import { Board } from "./board.js";
import { Filters } from "./filters.js";
import { follow } from "./live.js";
import { onChange, signedIn, signOut, start } from "./sign_in.js";
import { tabs } from "./tabs.js";

/** Refresh interval of all figures while the page is visible. Today's are also streamed. */
const AGAIN_MS = 60_000;
const RETRY_MS = [2_000, 5_000, 10_000, 20_000, 40_000, 60_000];

const $ = (id) => document.getElementById(id);

const config = await started();
const filters = new Filters(config, () => refresh());
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

/** @param {boolean} [missing] only what failed */
function refresh(missing = false) {
  clearTimeout(timer);
  if (signedIn()) board.refresh(filters.read(), missing);
}

/** Shows whether figures are missing or old, and schedules the next refresh: soon if any are. */
function health({ unreachable, some, expired }) {
  const lacking = unreachable !== null || expired;
  failures = lacking ? failures + 1 : 0;
  $("banner").hidden = !lacking;
  $("banner-text").textContent = !unreachable
    ? "The ledger is unreachable: these are the last figures in the api's cache. The page retries automatically."
    : `${some ? "Some figures are missing: " : ""}${unreachable} Figures that remain state their time. The page retries automatically.`;
  schedule(lacking ? RETRY_MS[Math.min(failures - 1, RETRY_MS.length - 1)] : AGAIN_MS);
}

/** A hidden page waits. */
function schedule(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden ? schedule(wait) : refresh(failures > 0)), wait);
}

const STATES = { live: "live", retrying: "live: retrying", off: "not live" };

function figures(answer) {
  board.live(answer, filters.read());
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
    board.forget();
    state("off");
    $("banner").hidden = true;
    return;
  }
  stop = follow(figures, state);
  filters.changed();
}

$("retry").addEventListener("click", () => refresh(true));
$("sign-out").addEventListener("click", () => signOut());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && failures) refresh();
});
tabs((tab) => filters.go({ tab }));
actions(board, filters, config.timezone);
onChange(showPrincipal);
showPrincipal(signedIn());
