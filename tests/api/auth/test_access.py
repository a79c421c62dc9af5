"""Access by JWT, by introspection or by a static token; a refusal does not give its reason."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.api.conftest import Answer, Clock, Serve
from tests.api.issuer import AUDIENCE, KEYS, Issuer, claims, token
from tests.api.sources import by_file, by_introspection, by_jwt, listed

STAT = "/jans-auth/restv1/internal/stat?month=202611"


def pem_of(key: str) -> bytes:
    public: bytes = KEYS[key][0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def hmac_with_public_key() -> str:
    # By hand: PyJWT itself refuses to sign so.
    signed = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa'})}.{segment(claims())}"
    digest = hmac.new(pem_of("rsa"), signed.encode(), "sha256").digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def tampered() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{segment(claims(sub='somebody else'))}.{signature}"


class Case(NamedTuple):
    authorization: Callable[[], str | None]
    why: str


def bearer(make: Callable[[], str]) -> Callable[[], str]:
    return lambda: f"Bearer {make()}"


REFUSED = [
    Case(lambda: None, "no token"),
    Case(lambda: "", "an empty header"),
    Case(lambda: "Bearer", "a scheme without a token"),
    Case(lambda: f"Basic {token()}", "another scheme"),
    Case(lambda: token(), "no scheme"),
    Case(lambda: f"Bearer {token()} {token()}", "two tokens"),
    Case(lambda: "Bearer not.a.jwt", "malformed"),
    Case(lambda: "Bearer opaque", "opaque"),
    Case(bearer(lambda: token()[:-8]), "cut off"),
    Case(bearer(lambda: token(exp=int(time.time()) - 1)), "expired"),
    Case(bearer(lambda: token(exp=None)), "never expires"),
    Case(bearer(lambda: token(exp="soon")), "expires at no number"),
    Case(bearer(lambda: token(nbf=int(time.time()) + 600)), "not good yet"),
    Case(bearer(lambda: token("stranger", kid="rsa")), "signed with another key under a known kid"),
    Case(bearer(lambda: token("stranger")), "signed with an unpublished key"),
    Case(bearer(tampered), "claims changed after signing"),
    Case(bearer(lambda: jwt.encode(claims(), "", algorithm="none", headers={"kid": "rsa"})), "alg none"),
    Case(bearer(hmac_with_public_key), "HMAC with the public key as its secret"),
    Case(bearer(lambda: token("rsa", alg="PS256")), "an algorithm that the key is not published for"),
    Case(bearer(lambda: token(iss="https://other.example")), "another issuer"),
    Case(bearer(lambda: token(iss=None)), "no issuer"),
    Case(bearer(lambda: token(aud="other")), "another audience"),
    Case(bearer(lambda: token(aud=None)), "no audience"),
    Case(bearer(lambda: token(scope="openid")), "without the scope"),
    Case(bearer(lambda: token(scope=None)), "without any scope"),
    Case(bearer(lambda: token(scope="jans_stat_extra")), "a scope that only begins like it"),
    Case(bearer(lambda: token(scope=["jans_stat extra"])), "a scope with a space is another scope"),
    Case(bearer(lambda: token(scope={"jans_stat": True})), "scopes of no known shape"),
    Case(bearer(lambda: token(realms=7)), "realms of no known shape"),
    Case(bearer(lambda: token(padding="x" * 8192)), "a header over 8 KB"),
]


def parts(answer: Answer) -> tuple[int, Any, str]:
    return answer.status, answer.json, answer.headers.get("WWW-Authenticate", "")


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
async def test_every_refusal_looks_the_same(serve: Serve, redis_url: str, issuer: Issuer, case: Case) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    without = await api.get(STAT)
    authorization = case.authorization()
    answer = await api.get(STAT, headers={} if authorization is None else {"Authorization": authorization})
    assert parts(answer) == parts(without)
    assert answer.status == 401
    assert answer.json["error"] == "access_denied"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="authtally"'
    assert answer.headers["Cache-Control"] == "no-store"


async def test_an_oversize_header_is_not_read(serve: Serve, redis_url: str, issuer: Issuer) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    assert (await api.get(STAT, token(padding="x" * 8192))).status == 401
    assert issuer.key_fetches == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: token("rsa"), "RS256"),
        (lambda: token("ec"), "ES256"),
        (lambda: token("okp"), "EdDSA"),
        (lambda: token(scope=["other", "jans_stat"]), "scopes as a list"),
        (lambda: token(scope=None, scp=["jans_stat"]), "scopes under another product's name"),
        (lambda: token(aud=["other", AUDIENCE]), "several audiences"),
        (lambda: token(iat=int(time.time()) + 5), "an issuer whose clock is ahead"),
    ],
)
async def test_good_jwts_get_in(
    serve: Serve, redis_url: str, issuer: Issuer, make: Callable[[], str], why: str
) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    assert (await api.get(STAT, make())).status == 200, why
    assert (await api.get(STAT, headers={"Authorization": f"bEARER  {make()}"})).status == 200, "scheme in any case"


async def test_a_scope_of_another_name_is_asked_for(serve: Serve, redis_url: str, issuer: Issuer) -> None:
    api = await serve(redis_url=redis_url, stat_scope="stat", **by_jwt(issuer))
    assert (await api.get(STAT, token(scope="stat"))).status == 200
    assert (await api.get(STAT, token(scope="jans_stat"))).status == 401


async def test_unknown_kids_fetch_keys_once_in_half_a_minute(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    assert (await api.get(STAT, token())).status == 200
    for _ in range(5):
        assert (await api.get(STAT, token("stranger"))).status == 401
    assert issuer.key_fetches == 1
    issuer.published.append("stranger")
    clock.now += 30
    assert (await api.get(STAT, token("stranger"))).status == 200
    assert issuer.key_fetches == 2


async def test_a_withdrawn_key_is_dropped_with_the_next_refresh(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    lasting = int(clock.now) + 7200
    assert (await api.get(STAT, token(exp=lasting))).status == 200
    issuer.published.remove("rsa")
    clock.now += 600
    # This one still finds the key and starts the refresh; an unknown kid joins it and so waits for it.
    await api.get(STAT, token(exp=lasting))
    await api.get(STAT, token("stranger", exp=lasting))
    assert issuer.key_fetches == 2
    clock.now += 60
    assert (await api.get(STAT, token(exp=lasting))).status == 401


async def test_an_unreachable_issuer_is_no_reason_to_call_a_token_bad(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    issuer.down = True
    answer = await api.get(STAT, token())
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    issuer.down = False
    clock.now += 1
    assert (await api.get(STAT, token())).status == 200


async def test_known_keys_outlast_an_outage_of_the_issuer(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, **by_jwt(issuer))
    lasting = int(clock.now) + 7200
    assert (await api.get(STAT, token(exp=lasting))).status == 200
    await issuer.stop()
    clock.now += 3600
    assert (await api.get(STAT, token(exp=lasting))).status == 200
    assert (await api.get(STAT, token("stranger", exp=lasting))).status == 503


async def test_an_opaque_token_is_introspected_and_remembered_for_a_minute(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    issuer.active["opaque"] = {"active": True, "scope": "jans_stat"}
    api = await serve(redis_url=redis_url, **by_introspection(issuer))
    for _ in range(3):
        assert (await api.get(STAT, "opaque")).status == 200
    assert issuer.introspections == 1
    clock.now += 59.9
    del issuer.active["opaque"]
    assert (await api.get(STAT, "opaque")).status == 200
    clock.now += 0.1
    assert (await api.get(STAT, "opaque")).status == 401


async def test_a_token_is_not_remembered_beyond_its_expiry(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    issuer.active["opaque"] = {"active": True, "scope": "jans_stat", "exp": clock.now + 20}
    api = await serve(redis_url=redis_url, **by_introspection(issuer))
    assert (await api.get(STAT, "opaque")).status == 200
    clock.now += 20
    assert (await api.get(STAT, "opaque")).status == 401


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"active": True, "scope": "jans_stat"}, 200),
        ({"active": True, "scope": ["jans_stat"]}, 200),
        ({"active": False, "scope": "jans_stat"}, 401),
        ({"active": "true", "scope": "jans_stat"}, 401),
        ({"scope": "jans_stat"}, 401),
        ({"active": True, "scope": "openid"}, 401),
        ({"active": True}, 401),
        ({"active": True, "scope": "jans_stat", "exp": 1}, 401),
        ({"active": True, "scope": "jans_stat", "nbf": 9_999_999_999}, 401),
        ({"active": True, "scope": 7}, 401),
    ],
)
async def test_what_introspection_says(
    serve: Serve, redis_url: str, issuer: Issuer, said: dict[str, object], status: int
) -> None:
    issuer.active["opaque"] = said
    api = await serve(redis_url=redis_url, **by_introspection(issuer))
    assert (await api.get(STAT, "opaque")).status == status


async def test_an_unreachable_introspection_is_unavailable(serve: Serve, redis_url: str, issuer: Issuer) -> None:
    api = await serve(redis_url=redis_url, **by_introspection(issuer))
    await issuer.stop()
    assert (await api.get(STAT, "opaque")).status == 503


async def test_static_tokens_are_recognised_by_their_digest(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    api = await serve(redis_url=redis_url, **by_file(tmp_path, listed("one"), listed("two", scopes=["reporting"])))
    assert (await api.get(STAT, "one")).status == 200
    assert (await api.get(STAT, "two")).status == 401
    assert (await api.get(STAT, listed("one")["sha256"])).status == 401  # type: ignore[arg-type]


async def test_several_ways_stand_side_by_side(serve: Serve, redis_url: str, tmp_path: Path, issuer: Issuer) -> None:
    issuer.active["opaque"] = {"active": True, "scope": "jans_stat"}
    sources = by_jwt(issuer) | by_introspection(issuer) | by_file(tmp_path, listed("one"))
    api = await serve(redis_url=redis_url, **sources | {"auth": ("jwt", "introspection", "static")})
    assert [(await api.get(STAT, each)).status for each in ("one", "opaque", token(), "none of them")] == [
        200,
        200,
        200,
        401,
    ]


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        ({"auth_jwks_url": "http://issuer.example/jwks"}, ["AUTHTALLY_AUTH_JWKS_URL"]),
        ({"auth_introspection_url": "http://192.0.2.7/i?key=hush"}, ["AUTHTALLY_AUTH_INTROSPECTION_URL"]),
        ({"auth_jwks_url": "https://issuer.example/jwks"}, []),
        ({}, []),
    ],
)
async def test_an_issuer_in_the_clear_is_warned_of(
    serve: Serve,
    redis_url: str,
    issuer: Issuer,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    warned: list[str],
) -> None:
    both = by_jwt(issuer) | by_introspection(issuer) | {"auth": ("jwt", "introspection")}
    await serve(redis_url=redis_url, **both | change)
    logged = [line for line in capsys.readouterr().out.splitlines() if "can be forged" in line]
    assert [name for name in warned if any(name in line for line in logged)] == warned
    assert len(logged) == len(warned)
    assert "hush" not in "".join(logged)
