"""The same claims in a JWT and in an introspection answer: the same tokens get in, and see the same realms.

A row states where the two differ, and why.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final, NamedTuple

import pytest

from tests.api.auth.test_forged_tokens import by_us, head, signing, with_rsa
from tests.api.conftest import Answer, Api, Serve
from tests.api.issuer import AUDIENCE, ISSUER, Issuer, claims
from tests.api.otp import state, write
from tests.api.sources import by_introspection, by_jwt

ASKED: Final = "/reporting/maximum"
REALMS: Final = ("acme", "globex", "acme globex")
ALL: Final = frozenset(REALMS)
NONE: Final[frozenset[str]] = frozenset()
REFUSED: Final = 401
NO_SCOPE: Final = 410
"""LinOTP's code for a missing right."""

Outcome = int | frozenset[str]
"""The realms that the token sees, or the error."""
ABSENT: Final = object()
LATER: Final = int(time.time()) + 7200
EARLIER: Final = int(time.time()) - 7200


class Row(NamedTuple):
    why: str
    changes: dict[str, Any]
    outcome: Outcome
    introspected: Outcome | None = None
    """The outcome by introspection, if it differs; `apart` is the reason."""
    apart: str = ""


def times(name: str, *values: Any, outcome: Outcome = REFUSED) -> list[Row]:
    return [Row(f"{name} {value!r:.40}", {name: value}, outcome) for value in values]


OPTIONAL: Final = "RFC 7662 makes the claim optional: the issuer has checked the token"
NO_NUMBER: Final[tuple[Any, ...]] = (True, False, "soon", "", str(LATER), [], [LATER], {}, {"at": LATER})

TYPES: Final[tuple[Any, ...]] = ("DPoP", "MAC", "N_A", "", "id_token", 1, ["Bearer"], {}, True)

ROWS: Final = [
    Row("a good token", {}, ALL),
    # What products send in addition
    Row(
        "Janssen before 2025: null claims",
        dict.fromkeys(("nbf", "sub", "username", "jti", "acr_values", "auth_time", "cnf", "scp")),
        ALL,
    ),
    Row("Janssen: token_type", {"token_type": "Bearer", "client_id": "c", "username": "u"}, ALL),
    Row("Janssen: the client id as aud, listed in AUTH_AUDIENCE", {"aud": "3a1c-client"}, ALL),
    Row("Janssen: another client's id as aud", {"aud": "77ff-client"}, REFUSED),
    Row("Janssen: the client id as aud in a list", {"aud": ["3a1c-client"]}, ALL),
    Row("Gluu: scopes as a list", {"scope": ["openid", "reporting"]}, ALL),
    Row("Keycloak: typ Bearer", {"typ": "Bearer", "azp": "c", "acr": "1"}, ALL),
    Row("Keycloak: a refresh token", {"typ": "Refresh"}, REFUSED),
    Row("Keycloak: an offline token", {"typ": "Offline"}, REFUSED),
    Row("Keycloak: an id token", {"typ": "ID"}, REFUSED),
    Row("Keycloak: a logout token", {"typ": "Logout"}, REFUSED),
    Row("Hydra: token_use", {"token_use": "access_token"}, ALL),
    Row("Hydra: a refresh token", {"token_use": "refresh_token"}, REFUSED),
    Row("Hydra before 2.0: the use as token_type", {"token_type": "access_token"}, ALL),
    Row("Hydra before 2.0: refresh_token as token_type", {"token_type": "refresh_token"}, REFUSED),
    Row("Cognito: an access token", {"token_use": "access"}, ALL),
    Row("Cognito: an id token", {"token_use": "id"}, REFUSED),
    Row("RFC 9068: typ in the claims", {"typ": "at+jwt"}, ALL),
    Row("an id token: at_hash", {"at_hash": "x"}, REFUSED),
    Row("an id token: c_hash", {"c_hash": "x"}, REFUSED),
    Row("a logout token", {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, REFUSED),
    *(Row(f"token_type {value!r}", {"token_type": value}, REFUSED) for value in TYPES),
    *(Row(f"token_type {value!r}", {"token_type": value}, ALL) for value in ("bearer", "BEARER")),
    *(Row(f"typ {value!r}", {"typ": value}, REFUSED) for value in ("", "JWE", 7, ["Bearer"], "Bearer ")),
    *(Row(f"token_use {value!r}", {"token_use": value}, REFUSED) for value in ("", "refresh", 7, ["access"])),
    # Tokens that are bound to a key need a proof
    *(
        Row(f"cnf {name}", {"cnf": value}, REFUSED)
        for name, value in (
            ("jkt", {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
            ("x5t#S256", {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
            ("jwk", {"jwk": {"kty": "EC"}}),
            ("empty", {}),
            ("text", "x"),
            ("false", False),
        )
    ),
    # Issuer
    *(
        Row(f"iss {name}", {"iss": value}, REFUSED)
        for name, value in (
            ("another", "https://other.example"),
            ("begins like ours", f"{ISSUER}.attacker.example"),
            ("with a path", f"{ISSUER}/"),
            ("in capitals", ISSUER.upper()),
            ("over http", ISSUER.replace("https", "http")),
            ("empty", ""),
            ("in a list", [ISSUER]),
            ("in an object", {"iss": ISSUER}),
            ("a number", 7),
            ("true", True),
        )
    ),
    Row("iss null", {"iss": None}, REFUSED, ALL, OPTIONAL),
    Row("no iss", {"iss": ABSENT}, REFUSED, ALL, OPTIONAL),
    # Audience
    *(
        Row(f"aud {name}", {"aud": value}, REFUSED)
        for name, value in (
            ("another", "other"),
            ("begins like ours", f"{AUDIENCE}-admin"),
            ("is a part of ours", AUDIENCE[:-1]),
            ("in capitals", AUDIENCE.upper()),
            ("every", "*"),
            ("empty", ""),
            ("no audience in a list", []),
            ("others in a list", ["other", "account"]),
            ("two in one text", f"other {AUDIENCE}"),
            ("in a list in a list", [[AUDIENCE]]),
            ("as a name", {AUDIENCE: True}),
            ("beside a number", [AUDIENCE, 7]),
            ("beside null", [AUDIENCE, None]),
            ("a number", 7),
            ("true", True),
        )
    ),
    Row("aud among others", {"aud": ["account", AUDIENCE]}, ALL),
    Row("aud null", {"aud": None}, REFUSED, ALL, OPTIONAL),
    Row("no aud", {"aud": ABSENT}, REFUSED, ALL, OPTIONAL),
    # Times
    *times("exp", EARLIER, -1, 0, 1, -1e300, *NO_NUMBER),
    *times("exp", LATER, LATER + 0.5, outcome=ALL),
    Row("exp null", {"exp": None}, REFUSED, ALL, OPTIONAL),
    Row("no exp", {"exp": ABSENT}, REFUSED, ALL, OPTIONAL),
    *times("nbf", LATER, 1e12, *NO_NUMBER),
    *times("nbf", EARLIER, EARLIER + 0.5, 0, -1, None, outcome=ALL),
    *times("iat", EARLIER, LATER, None, outcome=ALL),
    # Subject
    Row("no sub", {"sub": ABSENT}, ALL),
    Row("no sub, but a client", {"sub": None, "client_id": "c"}, ALL),
    Row("sub a lone surrogate", {"sub": "\ud800"}, REFUSED),
    Row("sub ends in a lone surrogate", {"sub": "ada\udfff"}, REFUSED),
    Row("sub outside the basic plane", {"sub": "\U0001f600"}, ALL),
    Row("sub with a null byte", {"sub": "a\x00b"}, ALL),
    *(Row(f"sub {value!r}", {"sub": value}, REFUSED) for value in (7, True, ["ada"], {"sub": "ada"})),
    *(Row(f"client_id {value!r}", {"sub": None, "client_id": value}, REFUSED) for value in (7, ["c"], "\ud800")),
    # Scopes
    Row("no scope", {"scope": ABSENT}, NO_SCOPE),
    Row("scope null", {"scope": None}, NO_SCOPE),
    Row("scope null beside scp", {"scope": None, "scp": ["reporting"]}, ALL),
    Row("scp as text", {"scope": ABSENT, "scp": "openid reporting"}, ALL),
    Row("scope wins over scp", {"scope": "openid", "scp": "reporting"}, NO_SCOPE),
    Row("scope empty", {"scope": ""}, NO_SCOPE),
    Row("scope another", {"scope": "openid"}, NO_SCOPE),
    Row("scope begins like it", {"scope": "reporting.access"}, NO_SCOPE),
    Row("scope in capitals", {"scope": "REPORTING"}, NO_SCOPE),
    Row("scope with a space inside a list", {"scope": ["openid reporting"]}, NO_SCOPE),
    Row("scope with a lone surrogate in a list", {"scope": ["reporting", "\ud800"]}, REFUSED),
    *(
        Row(f"scope {value!r}", {"scope": value}, REFUSED)
        for value in (7, True, {"reporting": True}, ["reporting", 7], [["reporting"]])
    ),
    # Realms
    Row("one realm", {"realms": "acme"}, frozenset({"acme"})),
    Row("one realm with a space", {"realms": "acme globex"}, frozenset({"acme globex"})),
    Row("realms in a list", {"realms": ["acme", "globex"]}, frozenset({"acme", "globex"})),
    Row("a realm twice", {"realms": ["acme", "acme"]}, frozenset({"acme"})),
    Row("an unknown realm", {"realms": ["initech"]}, NONE),
    Row("a realm in capitals", {"realms": ["ACME"]}, NONE),
    Row("every realm", {"realms": "*"}, NONE),
    Row("realms null", {"realms": None}, NONE),
    Row("realms empty text", {"realms": ""}, NONE),
    Row("realms a space", {"realms": " "}, NONE),
    Row("no realm in a list", {"realms": []}, NONE),
    Row("an empty realm in a list", {"realms": [""]}, NONE),
    Row("realms with a lone surrogate", {"realms": ["acme", "\ud800"]}, REFUSED),
    Row("realms a lone surrogate", {"realms": "\udbff"}, REFUSED),
    *(
        Row(f"realms {value!r}", {"realms": value}, REFUSED)
        for value in (7, 0, True, False, {}, {"acme": True}, ["acme", 7], ["acme", None], [["acme"]])
    ),
]


def changed(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = claims(scope="reporting") | row.changes
    return {name: value for name, value in found.items() if value is not ABSENT}


def outcome(answer: Answer) -> Outcome:
    if answer.status != 200:
        return answer.status
    result = answer.json["result"]
    return frozenset(result["value"]) if result["status"] else int(result["error"]["code"])


def accepting() -> dict[str, Any]:
    return {"auth_issuer": ISSUER, "auth_audience": (AUDIENCE, "3a1c-client"), "auth_lookups_per_s": 10_000}


@pytest.fixture
async def seeded(redis_url: str) -> str:
    await write(
        redis_url,
        [state("2026-11-20T10:00:00Z", f"{number}", "token_init", name) for number, name in enumerate(REALMS)],
    )
    return redis_url


async def test_both_ways_give_the_same_answer(serve: Serve, seeded: str, issuer: Issuer) -> None:
    by_either = {
        "jwt": await serve(redis_url=seeded, **by_jwt(issuer) | accepting()),
        "introspection": await serve(redis_url=seeded, **by_introspection(issuer) | accepting()),
    }
    assert len(ROWS) >= 120
    assert len({row.why for row in ROWS}) == len(ROWS)
    assert all((row.introspected is None) == (row.apart == "") for row in ROWS)
    wrong = {}
    for number, row in enumerate(ROWS):
        issued = changed(row)
        issuer.active[f"opaque-{number}"] = {"active": True, **issued}
        tokens = {"jwt": by_us(issued), "introspection": f"opaque-{number}"}
        found = {way: outcome(await api.get(ASKED, tokens[way])) for way, api in by_either.items()}
        expected = {"jwt": row.outcome, "introspection": row.outcome if row.introspected is None else row.introspected}
        if found != expected:
            wrong[row.why] = found, expected
    assert wrong == {}


HEADS: Final[list[tuple[str, dict[str, Any], Outcome]]] = [
    ("no typ", {"typ": ABSENT}, ALL),
    *((f"typ {value}", {"typ": value}, ALL) for value in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt")),
    *(
        (f"typ {value!r}", {"typ": value}, REFUSED)
        for value in (
            "",
            "dpop+jwt",
            "logout+jwt",
            "secevent+jwt",
            "JOSE",
            "id+jwt",
            "token-introspection+jwt",
            None,
            7,
            ["JWT"],
        )
    ),
]


async def test_other_kinds_of_jwt_are_no_access_tokens(serve: Serve, seeded: str, issuer: Issuer) -> None:
    api = await serve(redis_url=seeded, **by_jwt(issuer) | accepting())
    for why, change, expected in HEADS:
        header = {name: value for name, value in head(**change).items() if value is not ABSENT}
        token = with_rsa(signing(header, claims(scope="reporting")))
        assert outcome(await api.get(ASKED, token)) == expected, why


@pytest.mark.parametrize("value", [b'"\\ud800"', b'["acme","\\udc00"]'])
async def test_a_surrogate_that_json_escapes_is_refused(
    serve: Serve, seeded: str, issuer: Issuer, value: bytes
) -> None:
    api = await serve(redis_url=seeded, **by_jwt(issuer) | accepting())
    text = json.dumps(claims(scope="reporting")).encode()
    for name in (b"sub", b"realms"):
        assert outcome(await api.get(ASKED, by_us(text[:-1] + b',"' + name + b'":' + value + b"}"))) == REFUSED


async def test_a_jwt_of_our_issuer_that_fails_is_not_introspected(serve: Serve, seeded: str, issuer: Issuer) -> None:
    both = by_jwt(issuer) | by_introspection(issuer) | accepting() | {"auth": ("jwt", "introspection")}
    api: Api = await serve(redis_url=seeded, **both)
    good = claims(scope="reporting")
    refused = {
        "expired": by_us(good | {"exp": EARLIER}),
        "for another audience": by_us(good | {"aud": "other"}),
        "a refresh token": by_us(good | {"typ": "Refresh"}),
        "an unknown signature": by_us(good)[:-8] + "AAAAAAAA",
        "unsigned": signing(head(alg="none"), good) + ".",
        "no issuer": by_us({name: value for name, value in good.items() if name != "iss"}),
        "two issuers": by_us(json.dumps(good).encode()[:-1] + b',"iss":"https://other.example"}'),
        "claims that are no JSON": by_us(b"sub=root"),
    }
    for why, token in refused.items():
        # The issuer would accept it, for example because its own clock is behind, or for another api.
        issuer.active[token] = {"active": True, "scope": "reporting"}
        assert outcome(await api.get(ASKED, token)) == REFUSED, why
    assert issuer.introspections == 0
    accepted = {"opaque": "opaque", "a JWT of another issuer": by_us(good | {"iss": "https://other.example"})}
    for why, token in accepted.items():
        issuer.active[token] = {"active": True, "scope": "reporting"}
        assert outcome(await api.get(ASKED, token)) == ALL, why
    assert issuer.introspections == len(accepted)


async def test_tokens_without_the_claim_are_refused_if_it_is_required(
    serve: Serve, seeded: str, issuer: Issuer
) -> None:
    required = accepting() | {"auth_realms_required": True}
    by_either = [
        await serve(redis_url=seeded, **by_jwt(issuer) | required),
        await serve(redis_url=seeded, **by_introspection(issuer) | required),
    ]
    for change, expected in (({}, REFUSED), ({"realms": None}, NONE), ({"realms": ["acme"]}, frozenset({"acme"}))):
        issued = claims(scope="reporting") | change
        issuer.active[f"opaque {change}".replace(" ", "")] = {"active": True, **issued}
        for api, token in zip(by_either, (by_us(issued), f"opaque {change}".replace(" ", "")), strict=True):
            assert outcome(await api.get(ASKED, token)) == expected, change
