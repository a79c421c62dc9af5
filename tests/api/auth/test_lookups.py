"""Made-up tokens cause few requests to the issuer, and shut out no token that was good before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest

from api.auth.lookups import BURST_S, PLACES, REFUSED_S
from api.http.client_address import network_of
from tests.api.auth.test_lying_issuer import GOOD, Behaviour, Liar, answering, lying
from tests.api.conftest import Api, Clock, Serve
from tests.api.issuer import Issuer
from tests.api.sources import by_introspection
from tests.conftest import wait_until_async

STAT: Final = "/jans-auth/restv1/internal/stat?month=202611"
PER_S: Final = 50
CALLERS: Final = 250


@asynccontextmanager
async def at(address: str, api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller at another address of this machine."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=0)
    async with aiohttp.ClientSession(api.url, connector=connector) as session:
        yield session


async def ask(session: aiohttp.ClientSession, token: str) -> int:
    async with session.get(STAT, headers={"Authorization": f"Bearer {token}"}) as answer:
        await answer.read()
        return answer.status


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await behaviour(reader, writer)

    return answer


INACTIVE: Final = answering(b'{"active":false}')
ACTIVE: Final = answering(b"{" + GOOD + b"}")


async def by_token(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tokens that begin with `good` are active."""
    asked = await reader.readuntil(b"\r\n\r\n")
    length = int(asked.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    form = await reader.readexactly(length)
    await (ACTIVE if b"token=good" in form else INACTIVE)(reader, writer)


async def served(serve: Serve, redis_url: str, issuer: Issuer, liar: Liar, **settings: Any) -> Api:
    issuer.url = liar.url
    given = {"auth_lookups_per_s": PER_S, "janssen_cache_ttl_s": 0}
    return await serve(redis_url=redis_url, **by_introspection(issuer) | given | settings)


async def test_a_flood_at_a_slow_issuer_shuts_out_no_good_token(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    async with lying(by_token) as liar:
        api = await served(serve, redis_url, issuer, liar)
        async with at("127.0.0.2", api) as attacker, at("127.0.0.3", api) as victim:
            good = [f"good-{number}" for number in range(10)]
            assert [await ask(victim, token) for token in good] == [200] * len(good)
            asked, liar.behaviour, liar.most = liar.asked, after(0.5, by_token), 0
            # Their verifications have expired: each must be asked again, during the flood.
            clock.now += 120
            flood = [asyncio.create_task(ask(attacker, f"made-up-{number}")) for number in range(CALLERS)]
            await wait_until_async(lambda: liar.open, 10, "the flood is being verified")
            assert await asyncio.gather(*(ask(victim, token) for token in good)) == [200] * len(good)
            # A token that is new, from an address that floods nothing.
            assert await ask(victim, "good-new") == 200
            answers = Counter(await asyncio.gather(*flood))
            assert answers.keys() <= {401, 503}
            assert liar.asked - asked <= BURST_S * PER_S / 5 + len(good) + 1, "a fifth of the rate is for one address"
            assert liar.most <= 2 * PLACES


async def test_a_flood_from_many_addresses_is_bounded(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    async with lying(by_token) as liar:
        api = await served(serve, redis_url, issuer, liar)
        async with at("127.0.0.3", api) as victim:
            assert await ask(victim, "good") == 200
            asked = liar.asked
            clock.now += 120
            for host in range(10, 20):
                async with at(f"127.0.0.{host}", api) as attacker:
                    await asyncio.gather(*(ask(attacker, f"made-up-{host}-{number}") for number in range(45)))
            assert liar.asked - asked <= BURST_S * PER_S
            assert await ask(victim, "good") == 200
            assert await ask(victim, "good-new") == 503
            clock.now += 1
            assert await ask(victim, "good-new") == 200


async def test_a_refusal_is_remembered_for_a_short_time(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    api = await serve(redis_url=redis_url, **by_introspection(issuer))
    for _ in range(5):
        assert (await api.get(STAT, "opaque")).status == 401
    assert issuer.introspections == 1
    issuer.active["opaque"] = {"active": True, "scope": "jans_stat"}
    clock.now += REFUSED_S
    assert (await api.get(STAT, "opaque")).status == 200


async def test_a_token_that_is_revoked_loses_its_share(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    issuer.active["opaque"] = {"active": True, "scope": "jans_stat"}
    # A burst of one look-up for each address.
    api = await serve(redis_url=redis_url, **by_introspection(issuer), auth_lookups_per_s=0.25)
    assert (await api.get(STAT, "opaque")).status == 200
    clock.now += 60
    assert (await api.get(STAT, "opaque")).status == 200, "its own share"
    del issuer.active["opaque"]
    clock.now += 60
    assert (await api.get(STAT, "opaque")).status == 401
    clock.now += REFUSED_S
    assert (await api.get(STAT, "opaque")).status == 401, "as any other"
    clock.now += REFUSED_S
    answer = await api.get(STAT, "opaque")
    assert (answer.status, int(answer.headers["Retry-After"])) == (503, 10)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_host_has_one_share(address: str, network: str) -> None:
    assert network_of(address) == network
