/**
 * OpenID Connect's authorization code flow for a public client: PKCE with S256 (RFC 7636), `state`, `nonce`, and the
 * issuer's name in its answer (RFC 9207). State that must survive the redirect is in sessionStorage.
 *
 * @typedef {{issuer: string, client_id: string, scope: string, audience: ?string, origins: string[]}} OpenId
 * @typedef {{access_token: string, refresh_token: ?string, id_token: ?string, expires_at: ?number, scope: ?string,
 *   claims: Object<string, unknown>, end_session_endpoint: ?string, token_endpoint: string}} Tokens
 */

import { forget, keep, kept } from "./tab.js";

const PENDING = "authtally.sign-in";
const SKEW_S = 300;
/** The parameters that the issuer adds to the page's URL; none of them is a filter's name. */
const ANSWERS = ["code", "state", "session_state", "iss", "error", "error_description", "error_uri"];

/** A failed sign-in; the message is for the user. */
export class SignInError extends Error {}

/** Whether the page's URL contains an issuer's answer. */
export function isCallback() {
  const given = new URLSearchParams(location.search);
  return given.has("state") && (given.has("code") || given.has("error"));
}

/** Redirects to the issuer and stores the page's URL for the way back. Throws SignInError. */
export async function begin(/** @type {OpenId} */ openid) {
  if (!globalThis.crypto?.subtle) {
    throw new SignInError("Signing in needs HTTPS: browsers provide cryptography to secure pages only.");
  }
  const about = await discovered(openid);
  const methods = about.code_challenge_methods_supported;
  if (Array.isArray(methods) && !methods.includes("S256")) {
    throw new SignInError("The issuer does not support PKCE with S256.");
  }
  const pending = { state: random(), nonce: random(), verifier: random(), url: location.pathname + location.search };
  if (!keep(PENDING, pending)) throw new SignInError("Signing in needs this tab's storage, which the browser refuses.");
  const url = new URL(about.authorization_endpoint);
  const asked = {
    response_type: "code",
    client_id: openid.client_id,
    redirect_uri: redirectUri(),
    scope: openid.scope,
    state: pending.state,
    nonce: pending.nonce,
    code_challenge: await challenge(pending.verifier),
    code_challenge_method: "S256",
    // Auth0 issues a JWT for an api only if `audience` names it; other issuers ignore the parameter.
    ...(openid.audience ? { audience: openid.audience } : {}),
  };
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
  location.assign(url);
}

/** Removes the issuer's answer from the page's URL and exchanges it for tokens. Throws SignInError. */
export async function finish(/** @type {OpenId} */ openid) {
  const given = new URLSearchParams(location.search);
  const pending = taken();
  const known = pending !== null && pending.state === given.get("state");
  // First, so that the code is neither in the history nor sent again by a reload.
  history.replaceState(null, "", known ? pending.url : withoutAnswer());
  if (!known) throw new SignInError("This sign-in was not started in this tab, or was already used. Sign in again.");
  if (given.has("error")) throw new SignInError(refusal(given.get("error"), given.get("error_description")));
  const about = await discovered(openid);
  const named = given.get("iss");
  if (named === null ? about.authorization_response_iss_parameter_supported : named !== openid.issuer) {
    throw new SignInError("The answer is from another issuer than the configured one.");
  }
  const tokens = await granted(openid, about.token_endpoint, {
    grant_type: "authorization_code",
    code: given.get("code"),
    redirect_uri: redirectUri(),
    code_verifier: pending.verifier,
  });
  const claims = claimsOf(tokens.id_token);
  checkIdToken(openid, claims, pending.nonce);
  return {
    ...tokens,
    claims: claims ?? {},
    end_session_endpoint: web(about.end_session_endpoint),
    token_endpoint: about.token_endpoint,
  };
}

/** New tokens for a refresh token. Throws SignInError. */
export async function renew(/** @type {OpenId} */ openid, /** @type {Tokens} */ old) {
  const given = { grant_type: "refresh_token", refresh_token: old.refresh_token };
  const tokens = await granted(openid, old.token_endpoint, given);
  // Tokens that the answer omits stay valid (RFC 6749 §6).
  return {
    ...old,
    ...tokens,
    refresh_token: tokens.refresh_token ?? old.refresh_token,
    id_token: tokens.id_token ?? old.id_token,
  };
}

/** The URL at which the issuer ends its own session; null if it has none (RP-Initiated Logout 1.0). */
export function endSession(/** @type {OpenId} */ openid, /** @type {Tokens} */ tokens) {
  if (!tokens.end_session_endpoint) return null;
  const url = new URL(tokens.end_session_endpoint);
  url.searchParams.set("client_id", openid.client_id);
  url.searchParams.set("post_logout_redirect_uri", redirectUri());
  if (tokens.id_token) url.searchParams.set("id_token_hint", tokens.id_token);
  return url;
}

/** The claims of a JWT, unverified: the api checks the signature. Null if the token is not a JWT. */
export function claimsOf(/** @type {?string} */ token) {
  const parts = (token ?? "").split(".");
  if (parts.length !== 3) return null;
  try {
    const bytes = Uint8Array.from(atob(parts[1].replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === "object" ? claims : null;
  } catch {
    return null;
  }
}

/** No signature check: TLS to the token endpoint replaces it (OpenID Connect Core §3.1.3.7). */
function checkIdToken(openid, claims, nonce) {
  if (claims === null) {
    if (!openid.scope.split(" ").includes("openid")) return;
    throw new SignInError("The issuer sent no ID token.");
  }
  const audience = [claims.aud].flat();
  const wrong =
    claims.iss !== openid.issuer ||
    claims.nonce !== nonce ||
    !audience.includes(openid.client_id) ||
    (claims.azp !== undefined && claims.azp !== openid.client_id) ||
    !(claims.exp > Date.now() / 1000 - SKEW_S);
  if (wrong) throw new SignInError("The issuer's ID token does not belong to this sign-in.");
}

async function discovered(openid) {
  const url = `${openid.issuer.replace(/\/+$/, "")}/.well-known/openid-configuration`;
  const about = await asked(openid, url, {});
  if (about.issuer !== openid.issuer || !web(about.authorization_endpoint) || !web(about.token_endpoint)) {
    throw new SignInError(`The OpenID configuration of ${openid.issuer} lacks its endpoints or names another issuer.`);
  }
  return about;
}

async function granted(openid, endpoint, given) {
  const body = new URLSearchParams({ client_id: openid.client_id, ...given });
  const reply = await asked(openid, endpoint, { method: "POST", body });
  if (typeof reply.access_token !== "string" || `${reply.token_type}`.toLowerCase() !== "bearer") {
    throw new SignInError("The issuer sent no bearer token.");
  }
  const expires = Number(reply.expires_in);
  return {
    access_token: reply.access_token,
    refresh_token: reply.refresh_token ?? null,
    id_token: reply.id_token ?? null,
    expires_at: expires > 0 ? Date.now() + expires * 1000 : null,
    scope: reply.scope ?? null,
  };
}

async function asked(openid, url, init) {
  const { origin } = new URL(url);
  if (!openid.origins.includes(origin)) {
    throw new SignInError(`This page may not connect to ${origin}: AUTHTALLY_DASHBOARD_CONNECT_ORIGINS does not contain it.`);
  }
  let response;
  try {
    response = await fetch(url, { ...init, credentials: "omit", redirect: "error", headers: { Accept: "application/json" } });
  } catch {
    throw new SignInError(`${origin} does not answer, or does not allow requests from ${location.origin} (CORS).`);
  }
  const reply = await response.json().catch(() => null);
  if (!response.ok || reply === null || typeof reply !== "object") {
    throw new SignInError(refusal(reply?.error ?? `${origin} answered ${response.status}`, reply?.error_description));
  }
  return reply;
}

function refusal(error, description) {
  return `The issuer did not sign you in: ${description || error}`.slice(0, 500);
}

function taken() {
  const pending = kept(PENDING);
  forget(PENDING);
  return pending;
}

function withoutAnswer() {
  const url = new URL(location.href);
  for (const name of ANSWERS) url.searchParams.delete(name);
  return url.pathname + url.search;
}

function redirectUri() {
  return `${location.origin}/`;
}

function web(url) {
  return typeof url === "string" && /^https?:\/\//.test(url) ? url : null;
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

async function challenge(verifier) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
