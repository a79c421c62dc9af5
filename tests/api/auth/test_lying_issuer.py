"""An issuer that is slow, wrong or half dead: no token is accepted, every request ends, and known tokens still work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import orjson
import pytest

from api.app import ISSUER_TIMEOUT_S
from api.auth.lookups import PLACES
from tests.api.conftest import Api, Clock, Serve
from tests.api.issuer import Issuer, public_jwk, token
from tests.api.sources import by_introspection, by_jwt
from tests.conftest import wait_until_async

STAT: Final = "/jans-auth/restv1/internal/stat?month=202611"
AT_ONCE: Final = 300

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


def answering(body: bytes, status: str = "200 OK", *more: str) -> Behaviour:
    lines = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{lines}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()

    return answer


async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def forever(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much as is taken, and no end."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    while True:
        writer.write(chunk)
        await writer.drain()


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def no_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10)
    await writer.drain()


async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()
    await reader.read(-1)


class Liar:
    """Where the issuer should be. `most` connections were open at the same time."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.url = ""
        self.asked = 0
        self.open = self.most = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.behaviour(reader, writer)
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def lying(behaviour: Behaviour) -> AsyncIterator[Liar]:
    liar = Liar(behaviour)
    async with await asyncio.start_server(liar.meet, "127.0.0.1", 0) as server:
        liar.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        yield liar


async def timed(api: Api, principal: str) -> tuple[int, float]:
    began = time.monotonic()
    answer = await api.get(STAT, principal)
    return answer.status, time.monotonic() - began


GOOD: Final = b'"active":true,"scope":"jans_stat"'

UNUSABLE: Final[dict[str, Behaviour]] = {
    "it never answers": never,
    "it answers forever": forever,
    "it hangs up": hang_up,
    "it speaks no HTTP": no_http,
    "it stops in its head": half_a_head,
    "it says less than it promised": answering(b"{" + GOOD + b"}", "200 OK", "Content-Length: 9999"),
    "two megabytes": answering(b"{" + GOOD + b',"pad":"' + b"x" * (2 << 20) + b'"}'),
    "no JSON": answering(b"<html>active: true</html>"),
    "a list": answering(b"[{" + GOOD + b"}]"),
    "nested deeply": answering(b'{"a":' + b"[" * 100_000),
    "another status": answering(b"{" + GOOD + b"}", "201 Created"),
    "a redirect": answering(b"{" + GOOD + b"}", "307 Temporary Redirect", "Location: https://attacker.example/"),
    "an error that says active": answering(b"{" + GOOD + b"}", "500 Internal Server Error"),
}
REFUSING: Final[dict[str, Behaviour]] = {
    "inactive": answering(b'{"active":false,"scope":"jans_stat"}'),
    "active as a number": answering(b'{"active":1,"scope":"jans_stat"}'),
    "active as a text": answering(b'{"active":"true","scope":"jans_stat"}'),
    "active twice": answering(b'{"active":true,"scope":"jans_stat","active":false}'),
    "an expiry that is no number": answering(b"{" + GOOD + b',"exp":"soon"}'),
    "a start that is no number": answering(b"{" + GOOD + b',"nbf":[]}'),
    "scopes of no known shape": answering(b'{"active":true,"scope":{"jans_stat":true}}'),
    "realms of no known shape": answering(b"{" + GOOD + b',"realms":{"a":1}}'),
    "expired": answering(b"{" + GOOD + b',"exp":1}'),
    "expired before time began": answering(b"{" + GOOD + b',"exp":-1e300}'),
    "good in a thousand years": answering(b"{" + GOOD + b',"nbf":1e12}'),
}


@pytest.mark.parametrize("how", UNUSABLE)
async def test_an_unreadable_answer_lets_no_one_in_and_ends_in_time(
    serve: Serve, redis_url: str, issuer: Issuer, how: str
) -> None:
    async with lying(UNUSABLE[how]) as liar:
        issuer.url = liar.url
        api = await serve(redis_url=redis_url, **by_introspection(issuer))
        status, took_s = await timed(api, "opaque")
        assert status == 503
        assert took_s < ISSUER_TIMEOUT_S + 2
        assert liar.asked == 1


@pytest.mark.parametrize("how", REFUSING)
async def test_what_is_not_plainly_good_is_bad(serve: Serve, redis_url: str, issuer: Issuer, how: str) -> None:
    async with lying(REFUSING[how]) as liar:
        issuer.url = liar.url
        api = await serve(redis_url=redis_url, **by_introspection(issuer))
        assert (await timed(api, "opaque"))[0] == 401


async def test_questions_do_not_pile_up_behind_one_that_hangs_and_those_known_go_on(
    serve: Serve, redis_url: str, issuer: Issuer, clock: Clock
) -> None:
    async with lying(answering(b"{" + GOOD + b"}")) as liar:
        issuer.url = liar.url
        api = await serve(redis_url=redis_url, **by_introspection(issuer))
        assert (await timed(api, "known"))[0] == 200
        liar.behaviour = never
        flood = [asyncio.create_task(timed(api, f"opaque-{number}")) for number in range(AT_ONCE)]
        await wait_until_async(lambda: liar.open, 10, "the first question hangs")
        known = [await timed(api, "known") for _ in range(20)]
        assert {status for status, _ in known} == {200}
        ended = await asyncio.gather(*flood)
        assert {status for status, _ in ended} == {503}
        # All of them at once, not one after another.
        assert max(took_s for _, took_s in ended) < 3 * ISSUER_TIMEOUT_S
        assert liar.most <= PLACES + 1, "the flood, beside the token that was good before"
        liar.behaviour = answering(b"{" + GOOD + b"}")
        clock.now += 1
        assert (await timed(api, "afterwards"))[0] == 200


KEY: Final = orjson.dumps(public_jwk("rsa"))

KEY_SETS: Final[dict[str, Behaviour]] = {
    **{how: UNUSABLE[how] for how in ("it never answers", "it answers forever", "no JSON", "a redirect")},
    "keys that are no list": answering(b'{"keys":7}'),
    "keys that are no objects": answering(b'{"keys":["rsa",7,null]}'),
    "no keys at all": answering(b"{}"),
    "a kid that is a list": answering(b'{"keys":[' + KEY.replace(b'"kid":"rsa"', b'"kid":["rsa"]') + b"]}"),
    "numbers that are none": answering(b'{"keys":[{"kty":"RSA","kid":"rsa","n":"%%%","e":"AQAB"}]}'),
    "an exponent of one": answering(b'{"keys":[{"kty":"RSA","kid":"rsa","n":"' + b"A" * 342 + b'","e":"AQ"}]}'),
}


@pytest.mark.parametrize("how", KEY_SETS)
async def test_an_unreadable_key_set_lets_no_one_in(serve: Serve, redis_url: str, issuer: Issuer, how: str) -> None:
    async with lying(KEY_SETS[how]) as liar:
        issuer.url = liar.url
        api = await serve(redis_url=redis_url, **by_jwt(issuer))
        status, took_s = await timed(api, token())
        assert status in (401, 503)
        assert took_s < ISSUER_TIMEOUT_S + 2
