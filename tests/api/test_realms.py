"""Bearers who are limited to realms, and what each of them sees."""

from __future__ import annotations

from pathlib import Path

from schemas.ledger.scopes import Scope
from tests.api.conftest import Api, Serve
from tests.api.issuer import Issuer, token
from tests.api.ledger_writer import LedgerWriter
from tests.api.sources import by_file, by_jwt, listed

STAT = "/jans-auth/restv1/internal/stat?month=202611"


async def users_seen(api: Api, principal: str) -> int:
    answer = await api.get(STAT, principal)
    assert answer.status == 200
    users: int = answer.json["response"]["202611"]["monthly_active_users"]
    return users


async def test_bearers_of_different_realms_never_share_an_answer(
    serve: Serve, redis_url: str, ledger: LedgerWriter, tmp_path: Path
) -> None:
    ledger.few_users("2026-11", range(100))
    ledger.few_users("2026-11", range(3), scope=Scope("realm", ("acme",)))
    ledger.few_users("2026-11", range(2, 7), scope=Scope("realm", ("globex",)))
    tokens = by_file(
        tmp_path,
        listed("all"),
        listed("acme", realms=["acme"]),
        listed("globex", realms=["globex"]),
        listed("both", realms=["globex", "acme"]),
        listed("nothing", realms=[]),
    )
    api = await serve(redis_url=redis_url, cache_redis_url=redis_url.removesuffix("0") + "1", **tokens)
    for _ in range(2):
        seen = [await users_seen(api, each) for each in ("all", "acme", "globex", "both")]
        assert seen == [100, 3, 5, 7]
        assert (await api.get(STAT, "nothing")).json == {"response": {}}


async def test_a_claim_limits_its_bearer_to_realms(
    serve: Serve, redis_url: str, ledger: LedgerWriter, issuer: Issuer
) -> None:
    ledger.few_users("2026-11", range(100))
    ledger.few_users("2026-11", range(3), scope=Scope("realm", ("acme",)))
    api = await serve(redis_url=redis_url, auth_realms_claim="tenants", **by_jwt(issuer))
    assert await users_seen(api, token(tenants=["acme"])) == 3
    assert await users_seen(api, token(tenants="acme")) == 3
    assert await users_seen(api, token(realms=["acme"])) == 100, "another claim limits nothing"


async def test_a_bearer_of_realms_is_refused_where_realms_are_not_kept(
    serve: Serve, redis_url: str, tmp_path: Path
) -> None:
    tokens = by_file(tmp_path, listed("acme", realms=["acme"]), listed("all"))
    api = await serve(redis_url=redis_url, users_by=("client",), **tokens)
    answer = await api.get(STAT, "acme")
    assert (answer.status, answer.json["error"]) == (403, "access_denied")
    assert (await api.get(STAT, "all")).status == 200
