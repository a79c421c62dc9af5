// Puts the page together: who looks, at what, and when it is looked at again.

import { Board } from "./board.js";
import { live } from "./figures.js";
import { Filters } from "./filters.js";
import { follow } from "./live.js";
import { newest } from "./pipeline.js";
import { onChange, signedIn, signOut, start } from "./sign_in.js";

/** All figures again, while somebody looks. Today's come by themselves in between. */
const AGAIN_MS = 60_000;
const RETRY_MS = [5_000, 10_000, 20_000, 40_000, 60_000];

const $ = (id) => document.getElementById(id);

const config = await started();
const filters = new Filters(config.timezone, () => look());
const board = new Board(config, filters, health);
let timer;
let failures = 0;
let stop = null;

/** The page can come out of a cache, or from one process while the others are away. */
async function started() {
  for (let tries = 0; ; tries += 1) {
    try {
      const found = await start();
      $("banner").hidden = true;
      return found;
    } catch {
      $("banner").hidden = false;
      $("banner-text").textContent = "The api does not answer. It is tried again by itself.";
      await new Promise((resolve) => {
        setTimeout(resolve, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
        $("retry").addEventListener("click", resolve, { once: true });
      });
    }
  }
}

function look() {
  clearTimeout(timer);
  if (signedIn()) board.look(filters.read());
}

/** Says in what state the figures are, and when they are looked at next. */
function health({ dead, some, stale }) {
  failures = dead ? failures + 1 : 0;
  const now = new Date().toLocaleTimeString("en-GB");
  if (!dead) $("banner").dataset.last = now;
  const last = $("banner").dataset.last;
  $("banner").hidden = !dead && !stale;
  $("banner-text").textContent = !dead
    ? "The ledger is away: these are the last figures that the api has kept."
    : some
      ? `Some figures could not be had: ${dead} It is tried again by itself.`
      : `${dead} ${last ? `What stands here is of ${last}.` : "There are no figures yet."} It is tried again by itself.`;
  clearTimeout(timer);
  const wait = dead ? RETRY_MS[Math.min(failures - 1, RETRY_MS.length - 1)] : AGAIN_MS;
  timer = setTimeout(() => (document.hidden ? health({ dead, some, stale }) : look()), wait);
}

const STATES = { live: "live", retrying: "live: trying again", off: "not live" };

function figures(told) {
  live(told, filters.read());
  newest(told.as_of, config.timezone);
  if (!$("first-event").hidden && told.as_of.newest_event !== null) look();
}

function state(of) {
  $("live").dataset.state = of;
  $("live").textContent = STATES[of];
}

/** After each sign-in, sign-out, and when a token ends. */
function whoever(who) {
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

$("retry").addEventListener("click", look);
$("sign-out").addEventListener("click", () => signOut());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && failures) look();
});
onChange(whoever);
whoever(signedIn());
