// Names for people. The raw one, as the events have it, is in the title; unlisted names stay as they are.

/** Names that stand for labels beyond MAX_LABELS and for failed logins under unknown clients. */
const OTHER = { __other__: "Other", "/:no realm:/": "No realm" };

const NAMES = {
  reason: {
    invalid_credentials: "Wrong password",
    mfa_failed: "Second factor failed",
    locked: "Account locked",
    user_disabled: "Account disabled",
    user_not_found: "Unknown user",
    expired_credentials: "Password expired",
    client_error: "Client error",
    unknown: "Unknown reason",
  },
  grant_type: {
    authorization_code: "Authorization code",
    refresh_token: "Refresh token",
    client_credentials: "Client credentials",
    password: "Password",
    implicit: "Implicit",
    "urn:ietf:params:oauth:grant-type:device_code": "Device code",
    "urn:ietf:params:oauth:grant-type:uma-ticket": "UMA ticket",
    "urn:ietf:params:oauth:grant-type:jwt-bearer": "JWT bearer",
    "urn:ietf:params:oauth:grant-type:saml2-bearer": "SAML bearer",
    "urn:ietf:params:oauth:grant-type:token-exchange": "Token exchange",
    "urn:openid:params:grant-type:ciba": "Back-channel (CIBA)",
  },
  token_type: {
    access_token: "Access token",
    refresh_token: "Refresh token",
    id_token: "ID token",
    uma_token: "UMA token",
  },
  kind: {
    signup: "Sign-up",
    leaked_password: "Leaked password",
    client_registered: "Client registered",
    client_updated: "Client updated",
    deleted: "Account deleted",
    password_changed: "Password changed",
  },
  status: {
    total: "Total",
    active: "Active",
    inactive: "Inactive",
    assigned: "Assigned",
    unassigned: "Unassigned",
    "active&assigned": "Active, assigned",
    "active&unassigned": "Active, unassigned",
    "inactive&assigned": "Inactive, assigned",
    "inactive&unassigned": "Inactive, unassigned",
  },
};

/** @param {string} word the column of the raw name: `reason`, `grant_type`, `token_type`, `kind`, `status`, `realm`, `client_id` */
export function nameOf(word, raw) {
  const names = NAMES[word] ?? {};
  if (Object.hasOwn(names, raw)) return names[raw];
  return Object.hasOwn(OTHER, raw) ? OTHER[raw] : raw;
}
