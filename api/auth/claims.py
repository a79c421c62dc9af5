"""Claims of an access token: the same rules for a verified JWT and for an introspection answer (RFC 7519, RFC 7662).

The two differ only in `required`: RFC 7662 makes every claim of an answer optional, because the issuer has checked it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from api.auth.principal import Principal

ACCESS_TOKEN_TYPES: Final = {
    # `token_type` of RFC 7662, also with Hydra's older name. DPoP and MAC need a proof that callers do not send here.
    "token_type": frozenset({"bearer", "access_token"}),
    # Keycloak: `Bearer`; its refresh and id tokens have `Refresh`, `Offline` and `ID`.
    "typ": frozenset({"bearer", "jwt", "at+jwt", "access_token"}),
    # Cognito and Hydra: `access`, `access_token`; others are id and refresh tokens.
    "token_use": frozenset({"access", "access_token"}),
}
"""Claims that name a token's type, and the values of access tokens."""
OTHER_TOKENS: Final = ("at_hash", "c_hash", "events", "cnf")
"""Claims that no bearer token has: of id tokens, of events such as logout tokens, and of tokens bound to a key."""


class RefusedClaimsError(ValueError):
    """The claims are those of no acceptable token. The text is for developers; callers never see it."""


class AcceptedTokens(NamedTuple):
    """Whose tokens are accepted, and how they limit realms and regions."""

    issuer: str
    """Required `iss`; empty: any."""
    audiences: tuple[str, ...]
    """One of them must be in `aud`; empty: any."""
    realms_claim: str
    realms_required: bool
    regions_claim: str = "regions"


def parse(text: str | bytes) -> dict[str, Any]:
    """The object in JSON. Raises ValueError; RefusedClaimsError for a duplicate name, which parsers read differently.

    RFC 7515 §4 and RFC 7519 §4 forbid duplicate names.
    """
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def principal_of(
    claims: Mapping[str, Any], accepted: AcceptedTokens, now: float, required: Collection[str] = ()
) -> Principal:
    """The principal of an access token. `now` is Unix time. Raises RefusedClaimsError.

    A claim that is null is absent (Janssen before 2025 sends such), except realms and regions: null grants none.
    """
    present = {name: value for name, value in claims.items() if value is not None}
    missing = [name for name in required if name not in present]
    if missing:
        raise RefusedClaimsError(f"without {missing[0]}")
    _check_type(present)
    if accepted.issuer and present.get("iss", accepted.issuer) != accepted.issuer:
        raise RefusedClaimsError("of another issuer")
    if accepted.audiences and "aud" in present and not _names("aud", present["aud"]) & {*accepted.audiences}:
        raise RefusedClaimsError("for another audience")
    expires_at = _time(present, "exp", math.inf)
    if expires_at <= now or _time(present, "nbf", -math.inf) > now:
        raise RefusedClaimsError("expired, or not valid yet")
    return Principal(
        _text(present, "sub") or _text(present, "client_id"),
        _scopes(present.get("scope", present.get("scp", ""))),
        _realms(claims, accepted),
        expires_at,
        _granted(claims, accepted.regions_claim),
    )


def _check_type(claims: Mapping[str, Any]) -> None:
    for name, allowed in ACCESS_TOKEN_TYPES.items():
        value = claims.get(name)
        if value is not None and not (isinstance(value, str) and value.lower() in allowed):
            raise RefusedClaimsError(f"{name} is not that of an access token")
    for name in OTHER_TOKENS:
        if name in claims:
            raise RefusedClaimsError(f"with {name}, so no bearer token")


def _realms(claims: Mapping[str, Any], accepted: AcceptedTokens) -> frozenset[str] | None:
    if accepted.realms_claim not in claims and accepted.realms_required:
        raise RefusedClaimsError(f"without {accepted.realms_claim}")
    return _granted(claims, accepted.realms_claim)


def _granted(claims: Mapping[str, Any], name: str) -> frozenset[str] | None:
    """One name as text, even with a space, or a list of names; None without the claim."""
    if name not in claims:
        return None
    return frozenset() if claims[name] is None else _names(name, claims[name]) - {""}


def _scopes(value: object) -> frozenset[str]:
    """As text `a b` (RFC 8693, RFC 7662) or as a list, depending on the product."""
    return frozenset(value.split()) if isinstance(value, str) else _names("scope", value)


def _names(name: str, value: object) -> frozenset[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and _is_unicode(item) for item in values):
        raise RefusedClaimsError(f"{name} is neither a string nor a list of strings")
    return frozenset(values)


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or not _is_unicode(value):
        raise RefusedClaimsError(f"{name} is not a string")
    return value


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogate: JSON can write one, but no encoding of Unicode can."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _time(claims: Mapping[str, Any], name: str, otherwise: float) -> float:
    """A NumericDate (RFC 7519 §2) in Unix time."""
    if name not in claims:
        return otherwise
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedClaimsError(f"{name} is not a number")
    try:
        time = float(value)
    except OverflowError as error:
        raise RefusedClaimsError(f"{name} is too large") from error
    if not math.isfinite(time):
        raise RefusedClaimsError(f"{name} is not a finite number")
    return time


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedClaimsError("a name comes twice")
    return found


def _no_number(text: str) -> float:
    raise RefusedClaimsError(f"{text} is not a number in JSON")
