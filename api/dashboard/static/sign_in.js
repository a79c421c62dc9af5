/**
 * The signed-in user. The bearer token is only in memory and in this tab's sessionStorage: not in localStorage or
 * cookies. A URL may bring one in its fragment, which browsers do not send; it is removed from the address at once.
 *
 * @typedef {{token: string, expires: ?number, renew: ?number, subject: ?string, scopes: ?string[],
 *   openid: ?import("./openid.js").Tokens}} Session `expires` and `renew` in ms since 1970
 */

import { begin, claimsOf, endSession, finish, isCallback, renew, SignInError } from "./openid.js";
import { forget, keep, kept } from "./tab.js";

const CONFIG = "/dashboard/config.json";
const PROBE = "/v1/overview";
const STORED = "authtally.session";
/** Without an answer for so long, the api counts as unreachable. */
const TIMEOUT_MS = 15_000;
/** The longest time before its end at which an access token is renewed, so that no request is pending then. */
const EARLY_MS = 10_000;
const EARLY_PART = 0.1;
/** The maximum delay of setTimeout. */
const LONGEST_MS = 2 ** 31 - 1;
const ENDED = "Your sign-in has ended. Sign in again to continue.";

let config = null;
/** @type {?Session} */
let session = null;
let renewing = null;
let timer = 0;
/** Kept until the configuration is read, which may need several attempts. */
let given = "";
const listeners = new Set();

/** Reads the configuration, and the issuer's answer from the URL or the session from the tab. Call once. */
export async function start() {
  const token = takeFragment();
  const response = await fetch(CONFIG, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`${CONFIG} answered ${response.status}`);
  config = await response.json();
  if (!config.sign_in) return config;
  if (config.openid && isCallback()) {
    show("Signing you in …");
    await says(async () => enter(await checked(ofTokens(await finish(config.openid)))));
  } else if (!restore()) {
    show();
    await tryToken(token);
  }
  const takeLate = () => {
    const late = takeFragment();
    given = "";
    if (session === null) tryToken(late);
  };
  window.addEventListener("hashchange", takeLate);
  takeLate(); // One that came while the page started.
  return config;
}

/** The token of the address `#token=…`, which is removed from it; "" without one. */
function takeFragment() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return given;
  history.replaceState(history.state, "", location.pathname + location.search);
  return (given = token);
}

/** As if it had been pasted. */
async function tryToken(token) {
  if (!token) return;
  given = "";
  section().querySelector("#token").value = token;
  await says(async () => enter(await checked(ofText(token))));
}

/** The token to send; null if none is needed or no one is signed in. */
export async function bearer() {
  if (session !== null && session.expires !== null && Date.now() >= session.expires) {
    await refused(session.token);
  } else if (session !== null && session.renew !== null && Date.now() >= session.renew) {
    // Once before its end; the present token stays valid if the issuer is unreachable.
    session.renew = null;
    await renewed(session);
    watch();
  }
  return session === null ? null : session.token;
}

/** The signed-in user by the token's unverified claims; null if no one is signed in. */
export function signedIn() {
  if (config !== null && !config.sign_in) return { subject: null, scopes: null };
  return session === null ? null : { subject: session.subject, scopes: session.scopes };
}

/** Call with a token that the api refused. True: there is another token now, so repeat the request. */
export async function refused(token) {
  if (session === null) return false;
  if (session.token !== token) return true;
  if (session.openid?.refresh_token && (await renewed(session))) return true;
  if (session !== null && session.token === token) {
    leave();
    show(ENDED);
  }
  return false;
}

/** Removes the token, and ends the issuer's session if it supports that. */
export async function signOut() {
  const was = session;
  leave();
  show();
  const url = was?.openid ? endSession(config.openid, was.openid) : null;
  if (url !== null) location.assign(url);
}

/** Calls `listener` with `signedIn()` at every change. */
export function onChange(listener) {
  listeners.add(listener);
}

/** One at a time: an issuer accepts a refresh token once. */
function renewed(/** @type {Session} */ old) {
  renewing ??= renewedOnce(old).finally(() => {
    renewing = null;
  });
  return renewing;
}

async function renewedOnce(old) {
  try {
    const fresh = ofTokens(await renew(config.openid, old.openid));
    if (session !== old) return false;
    enter(fresh);
    return true;
  } catch (error) {
    if (!(error instanceof SignInError)) throw error;
    return false;
  }
}

/** @returns {Session} */
function ofTokens(tokens) {
  const claims = { ...tokens.claims, ...claimsOf(tokens.access_token) };
  const expires = tokens.expires_at ?? expiryOf(claims);
  const early = Math.min(EARLY_MS, (expires - Date.now()) * EARLY_PART);
  return {
    token: tokens.access_token,
    expires,
    renew: expires !== null && tokens.refresh_token ? expires - early : null,
    subject: text(tokens.claims.preferred_username ?? tokens.claims.email ?? claims.sub),
    scopes: scopesOf(tokens.scope ?? claims.scope ?? claims.scp),
    openid: tokens,
  };
}

/** @returns {Session} */
function ofText(token) {
  const claims = claimsOf(token) ?? {};
  return {
    token,
    expires: expiryOf(claims),
    renew: null,
    subject: text(claims.preferred_username ?? claims.sub ?? claims.client_id),
    scopes: scopesOf(claims.scope ?? claims.scp),
    openid: null,
  };
}

/** Tries the token on the api, so that an invalid one is reported at once. */
async function checked(/** @type {Session} */ found) {
  let response;
  try {
    response = await fetch(PROBE, { headers: { Authorization: `Bearer ${found.token}` }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    // The token is not at fault: a pasted one can be submitted again, and one from the issuer is kept.
    if (found.openid) return found;
    throw new SignInError("The api does not answer.", { cause: error });
  }
  if (response.status === 401) {
    const whose = found.openid ? "The issuer signed you in, but its token is not valid here" : "This token is not valid here";
    throw new SignInError(`${whose}: it is unknown, expired, or issued for another service.`);
  }
  if (response.status === 403) {
    const problem = await response.json().catch(() => null);
    throw new SignInError(`${problem?.detail ?? "The token lacks a right."} The dashboard needs stats:read.`);
  }
  return found;
}

function enter(/** @type {Session} */ found) {
  session = found;
  keep(STORED, found);
  watch();
  section().hidden = true;
  section().replaceChildren();
  notify();
}

function leave() {
  session = null;
  clearTimeout(timer);
  forget(STORED);
  notify();
}

function restore() {
  const found = kept(STORED);
  if (found !== null) enter(found);
  return found !== null;
}

/** Renews or ends the session when the token expires, even without a request. */
function watch() {
  clearTimeout(timer);
  if (session === null || session.expires === null) return;
  const wait = (session.renew ?? session.expires) - Date.now();
  timer = setTimeout(() => (wait > LONGEST_MS ? watch() : bearer()), Math.min(Math.max(wait, 0), LONGEST_MS));
}

function notify() {
  for (const listener of listeners) listener(signedIn());
}

function section() {
  return document.getElementById("sign-in");
}

/** Shows the sign-in methods, and the reason for signing in again. */
function show(sentence = "") {
  const children = [element("h2", { textContent: "Sign in" })];
  children.push(element("p", { className: "sign-in-says", role: "alert", textContent: sentence }));
  if (config.openid) {
    const button = element("button", { type: "button", textContent: `Sign in at ${new URL(config.openid.issuer).host}` });
    button.addEventListener("click", () => says(() => begin(config.openid), button));
    children.push(element("div", { className: "sign-in-openid" }, button));
  }
  children.push(form());
  section().replaceChildren(...children);
  section().hidden = false;
}

function form() {
  const input = element("input", { type: "password", id: "token", name: "token", required: true, autocomplete: "off" });
  input.spellcheck = false;
  const label = element("label", { textContent: "Bearer token with the scope stats:read" });
  label.htmlFor = input.id;
  const button = element("button", { type: "submit", textContent: "Use this token" });
  const made = element("form", { className: "sign-in-token" }, label, input, button);
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    const token = input.value.trim().replace(/^bearer\s+/i, "");
    says(async () => enter(await checked(ofText(token))), button);
  });
  return made;
}

/** Runs `work` and shows its SignInError. */
async function says(work, button = null) {
  if (button !== null) button.disabled = true;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof SignInError)) throw error;
    section().querySelector(".sign-in-says").textContent = error.message;
  } finally {
    if (button !== null) button.disabled = false;
  }
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function expiryOf(claims) {
  return typeof claims.exp === "number" ? claims.exp * 1000 : null;
}

function scopesOf(value) {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === "string" ? value.split(" ").filter(Boolean) : null;
}

function text(value) {
  return typeof value === "string" && value !== "" ? value : null;
}
