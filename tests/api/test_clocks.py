"""The wall clock is set back or forward, and no duration or expiry inside the api notices."""

from __future__ import annotations

import json
import resource
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession

from api.auth.access import TOKEN_CACHE_S, Access
from api.auth.jwks import UNKNOWN_KID_INTERVAL_S, Jwks
from api.auth.lookups import REFUSED_S, Lookups
from api.auth.principal import Principal
from api.auth.rate_limit import RateLimit
from api.auth.sessions import Sessions
from api.auth.static_tokens import StaticTokens
from api.cache.cache import Cache, Figures
from api.dialects.gluu import Interval
from api.http.errors import ForbiddenError
from api.ledger.cooldown import RETRY_S, Cooldown
from api.settings.quotas import QuotasFile
from tests.api.conftest import Clock
from tests.api.issuer import Issuer

HOUR: Final = 3600.0
STEPS: Final = {"an hour back": -HOUR, "a year back": -8760 * HOUR, "an hour ahead": HOUR, "a year ahead": 8760 * HOUR}

Probe = Callable[[], Awaitable[bool]]
"""Whether what was begun still lasts."""


async def rate_limit(clock: Clock, *_: Any) -> Probe:
    limit = RateLimit("test", 1, 1 / 60, "authtally:", clock.handed, None)
    await limit.take("one")

    async def refused() -> bool:
        return (await limit.take("one")).wait_s > 0

    return refused


async def remembered_token(clock: Clock, *_: Any) -> Probe:
    class Issuers:
        asked = 0

        async def verify(self, token: str, address: str) -> Principal | None:
            self.asked += 1
            return Principal("ada", frozenset({"read"}))

    source, access = Issuers(), Access(clock.handed)
    access.configure([source], open_access=False)
    await access.authenticate("Bearer t", "read", "192.0.2.1")

    async def remembered() -> bool:
        before = source.asked
        await access.authenticate("Bearer t", "read", "192.0.2.1")
        return source.asked == before

    return remembered


async def remembered_refusal(clock: Clock, *_: Any) -> Probe:
    lookups, asked = Lookups(10, clock.handed), list[str]()

    async def refuse() -> None:
        asked.append("issuer")

    await lookups.run("t", "192.0.2.1", refuse)

    async def remembered() -> bool:
        before = len(asked)
        await lookups.run("t", "192.0.2.1", refuse)
        return len(asked) == before

    return remembered


async def kept_answer(clock: Clock, *_: Any) -> Probe:
    cache, computed = Cache(clock.handed, lambda: 0.0, 0), list[int]()

    async def compute() -> Figures:
        computed.append(1)
        return Figures("answer")

    await cache.get("key", 60, compute)

    async def kept() -> bool:
        before = len(computed)
        await cache.get("key", 60, compute)
        return len(computed) == before

    return kept


async def gluu_interval(clock: Clock, *_: Any) -> Probe:
    interval = Interval(60, clock.handed)
    interval.admit()

    async def refused() -> bool:
        try:
            interval.admit()
        except ForbiddenError:
            return True
        return False

    return refused


async def session(clock: Clock, *_: Any) -> Probe:
    sessions = Sessions(60, "authtally:", clock.handed, None)
    opened = await sessions.open(Principal("ada", frozenset({"read"})))

    async def open_still() -> bool:
        return await sessions.principal(opened.id) is not None

    return open_still


async def respite(clock: Clock, *_: Any) -> Probe:
    held = Cooldown(clock.handed.monotonic)
    held.record_failure(ConnectionError())

    async def lasts() -> bool:
        return held.active

    return lasts


async def watched_file(clock: Clock, folder: Path, _: AsyncExitStack) -> Probe:
    path = folder / "quotas.json"
    path.write_text('{"tenant": 1}')
    quotas = QuotasFile(path, clock.handed)
    quotas.current()
    path.write_text('{"tenant": 22}')

    async def unread() -> bool:
        return quotas.current().tenant == 1

    return unread


async def keys_of_an_issuer(clock: Clock, _: Path, stack: AsyncExitStack) -> Probe:
    issuer = Issuer()
    await issuer.start()
    stack.push_async_callback(issuer.stop)
    jwks = Jwks(f"{issuer.url}/jwks", await stack.enter_async_context(ClientSession()), clock.handed)
    stack.push_async_callback(jwks.close)
    await jwks.key("unknown")

    async def not_asked_again() -> bool:
        before = issuer.key_fetches
        await jwks.key("unknown")
        return issuer.key_fetches == before

    return not_asked_again


PLACES: Final[dict[str, tuple[Callable[[Clock, Path, AsyncExitStack], Awaitable[Probe]], float]]] = {
    # what is begun, and how long it lasts
    "rate limit": (rate_limit, 60),
    "remembered token": (remembered_token, TOKEN_CACHE_S),
    "remembered refusal": (remembered_refusal, REFUSED_S),
    "kept answer": (kept_answer, 60),
    "Gluu's interval": (gluu_interval, 60),
    "session": (session, 60),
    "respite": (respite, RETRY_S),
    "watched file": (watched_file, 1),
    "issuer's keys": (keys_of_an_issuer, UNKNOWN_KID_INTERVAL_S),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("place", PLACES)
async def test_a_step_of_the_wall_clock_changes_no_duration(
    clock: Clock, tmp_path: Path, place: str, step: str
) -> None:
    begin, lasts_s = PLACES[place]
    async with AsyncExitStack() as stack:
        lasts = await begin(clock, tmp_path, stack)
        assert await lasts()
        clock.step(STEPS[step])
        assert await lasts(), "not shorter"
        clock.now += lasts_s + 0.1
        assert not await lasts(), "not longer"


async def test_a_token_ends_by_the_wall_clock(clock: Clock) -> None:
    """Its expiry is from the issuer, whose clock is not set back with ours."""
    expires, asked = clock.now + 30, list[str]()

    class Issuers:
        async def verify(self, token: str, address: str) -> Principal | None:
            asked.append(token)
            return Principal("ada", frozenset({"read"}), None, expires)

    access = Access(clock.handed)
    access.configure([Issuers()], open_access=False)
    await access.authenticate("Bearer t", "read", "192.0.2.1")
    await access.authenticate("Bearer t", "read", "192.0.2.1")
    assert len(asked) == 1
    clock.step(31)
    await access.authenticate("Bearer t", "read", "192.0.2.1")
    assert len(asked) == 2


def tokens(path: Path, *words: str) -> None:
    listed = [{"sha256": sha256(word.encode()).hexdigest(), "subject": word, "scopes": ["read"]} for word in words]
    path.with_suffix(".new").write_text(json.dumps(listed))
    path.with_suffix(".new").rename(path)


async def test_static_tokens_are_read_again(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens(path, "old")
    source = StaticTokens(path, clock.handed)
    tokens(path, "new")
    clock.now += 2
    assert await source.verify("old", "192.0.2.1") is None
    assert (await source.verify("new", "192.0.2.1") or Principal("", frozenset())).subject == "new"


UNREADABLE: Final[dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]]] = {
    # how it becomes unreadable, and readable: root reads files whatever their mode, so other ways
    "a folder in its place": (lambda path: path.mkdir(), lambda path: path.rmdir()),
    "a link to itself": (lambda path: path.symlink_to(path), lambda path: path.unlink()),
    "nothing there": (lambda path: None, lambda path: None),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_file_that_could_not_be_read_is_read_when_it_can_be(clock: Clock, tmp_path: Path, kind: str) -> None:
    path, aside = tmp_path / "quotas.json", tmp_path / "aside.json"
    path.write_text('{"tenant": 1}')
    quotas = QuotasFile(path, clock.handed)
    aside.write_text('{"tenant": 22}')
    path.unlink()
    spoil, clear = UNREADABLE[kind]
    spoil(path)
    for _ in range(2):
        clock.now += 2
        assert quotas.current().tenant == 1, "the last good one holds"
    clear(path)
    aside.rename(path)
    clock.now += 2
    assert quotas.current().tenant == 22


async def test_a_file_that_fails_while_it_is_read_is_tried_again_though_it_looks_the_same(
    clock: Clock, tmp_path: Path
) -> None:
    """Its stamp is that of the reading that failed: a stamp kept before the reading would hide it forever."""
    path = tmp_path / "quotas.json"
    path.write_text('{"tenant": 1}')
    quotas = QuotasFile(path, clock.handed)
    path.write_text('{"tenant": 22}')
    # Without a free descriptor `stat` works and `open` does not.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        clock.now += 2
        assert quotas.current().tenant == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    clock.now += 2
    assert quotas.current().tenant == 22
