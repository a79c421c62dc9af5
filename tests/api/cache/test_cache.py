"""The result cache: one computation for many, absolute expiry, bounded, shared, stale only when it must."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis.exceptions

from api.cache.cache import Cache, CacheEntry, Figures, LocalStore, ResponseBody, SharedStore
from api.cache.entries import Body, PackedFigures
from api.http.errors import UnavailableError
from api.ledger.client import Client, open_url
from api.ledger.cooldown import RETRY_S
from tests.api.conftest import Clock, Serve
from tests.api.ledger_writer import LedgerWriter
from tests.conftest import wait_until_async

PATH = "/jans-auth/restv1/internal/stat?month=202611"
GONE = redis.exceptions.ConnectionError()


class Work:
    """A computation that counts its calls, and waits until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None
        self.partial = False

    async def __call__(self) -> Figures:
        self.calls += 1
        number = self.calls
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return Figures(f"answer {number}", self.partial)


@pytest.fixture
def work() -> Work:
    return Work()


def shown(entry: CacheEntry) -> str:
    return str(entry.figures(str))


def cache(clock: Clock, jitter: Callable[[], float] = lambda: 0.0, **given: object) -> Cache:
    return Cache(clock.handed, jitter, grace_s=100, **given)  # type: ignore[arg-type]


async def test_a_thousand_concurrent_misses_are_one_computation(clock: Clock, work: Work) -> None:
    kept = cache(clock)
    work.go.clear()
    asked = [asyncio.create_task(kept.get("key", 60, work)) for _ in range(1000)]
    await asyncio.sleep(0)
    asked[0].cancel()
    work.go.set()
    entries = await asyncio.gather(*asked[1:])
    assert work.calls == 1
    assert {shown(entry) for entry in entries} == {"answer 1"}


async def test_a_thousand_concurrent_requests_read_the_ledger_once(
    serve: Serve, redis_url: str, ledger: LedgerWriter
) -> None:
    ledger.few_users("2026-11", range(5))
    api = await serve(redis_url=redis_url)
    with redis.Redis.from_url(redis_url) as server:
        server.config_resetstat()
        answers = await asyncio.gather(*(api.get(PATH) for _ in range(1000)))
        unions = server.info("commandstats")["cmdstat_sunion"]["calls"]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert unions == 1


async def test_an_answer_ends_at_its_expiry(clock: Clock, work: Work) -> None:
    kept = cache(clock)
    first = await kept.get("key", 60, work)
    clock.now += 59.9
    assert await kept.get("key", 60, work) is first
    clock.now += 0.1
    assert shown(await kept.get("key", 60, work)) == "answer 2"


async def test_jitter_only_ever_lengthens(clock: Clock, work: Work) -> None:
    entry = await cache(clock, jitter=lambda: 1.0).get("key", 3600, work)
    assert entry.expires_at == pytest.approx(clock.now + 3672)


@pytest.mark.parametrize("jitter", [0.0, 1.0])
async def test_partial_figures_live_ten_seconds_and_have_no_grace(clock: Clock, work: Work, jitter: float) -> None:
    kept = cache(clock, lambda: jitter)
    work.partial = True
    await kept.get("key", 3600, work)
    clock.now += 9.9
    work.error = GONE
    assert shown(await kept.get("key", 3600, work)) == "answer 1"
    clock.now += 0.1
    with pytest.raises(UnavailableError):
        await kept.get("key", 3600, work)
    work.error = None
    clock.now += RETRY_S
    assert shown(await kept.get("key", 3600, work)) == "answer 3"


async def test_partial_figures_do_not_outlive_ten_seconds_in_the_shared_store(
    clock: Clock, work: Work, shared: Client, redis_url: str
) -> None:
    one, other = (cache(clock, shared=SharedStore(shared, "authtally:", 1000, clock.handed)) for _ in range(2))
    work.partial = True
    await one.get("key", 3600, work)
    await stored(redis_url)
    with redis.Redis.from_url(redis_url) as server:
        (key,) = server.keys()
        assert 5_000 < server.pttl(key) <= 10_000
    clock.now += 8
    assert (await other.get("key", 3600, work)).partial
    clock.now += 2
    work.error = GONE
    with pytest.raises(UnavailableError):
        await other.get("key", 3600, work)


async def test_a_format_is_rendered_once_for_an_entry(clock: Clock, work: Work) -> None:
    kept, rendered = cache(clock), list[str]()

    def render(form: str) -> Callable[[], ResponseBody]:
        def run() -> ResponseBody:
            rendered.append(form)
            return ResponseBody(f"{shown(entry)} {form}".encode(), "text/plain")

        return run

    for form in ("json", "csv", "json"):
        entry = await kept.get("key", 60, work)
        assert (await kept.body("key", entry, form, render(form))).pieces == [f"answer 1 {form}".encode()]
    clock.now += 60
    entry = await kept.get("key", 60, work)
    assert (await kept.body("key", entry, "csv", render("csv"))).pieces == [b"answer 2 csv"]
    assert rendered == ["json", "csv", "csv"]


async def test_an_answer_has_its_age_and_lifetime(
    serve: Serve, redis_url: str, ledger: LedgerWriter, clock: Clock
) -> None:
    ledger.few_users("2026-11", range(5))
    api = await serve(redis_url=redis_url, janssen_cache_ttl_s=3600)
    ages = []
    for _ in range(3):
        answer = await api.get(PATH)
        ages.append(answer.headers["Age"])
        clock.now += 100
    assert ages == ["0", "100", "200"]
    kind, _, seconds = answer.headers["Cache-Control"].partition(", max-age=")
    assert kind == "private"
    assert 3600 <= int(seconds) <= 3672
    assert "Cache-Status" not in answer.headers


async def test_a_client_that_closes_does_not_close_the_next_one(
    serve: Serve, redis_url: str, ledger: LedgerWriter
) -> None:
    """Headers of an answer are shared by all who get it in the same second."""
    ledger.few_users("2026-11", range(5))
    api = await serve(redis_url=redis_url)
    for _ in range(2):
        assert (await api.get(PATH, headers={"Connection": "close"})).headers["Connection"] == "close"
        kept = await api.get(PATH)
        assert "Connection" not in kept.headers
        assert kept.headers.getall("Content-Length") == [str(len(kept.body))]


async def test_a_failed_computation_is_not_kept(clock: Clock, work: Work) -> None:
    kept = cache(clock)
    work.error = ValueError("a defect")
    with pytest.raises(ValueError, match="a defect"):
        await kept.get("key", 60, work)
    work.error = None
    assert shown(await kept.get("key", 60, work)) == "answer 2"


async def test_an_unreachable_ledger_is_bridged_within_the_grace(clock: Clock, work: Work) -> None:
    kept = cache(clock)
    assert not (await kept.get("key", 60, work)).stale
    work.error = GONE
    clock.now += 159.9
    bridged = await kept.get("key", 60, work)
    assert (shown(bridged), bridged.stale) == ("answer 1", True)
    clock.now += 0.1
    with pytest.raises(UnavailableError):
        await kept.get("key", 60, work)


async def test_an_unreachable_ledger_is_tried_once_a_second(clock: Clock, work: Work) -> None:
    kept = cache(clock)
    work.error = GONE
    for key in ("a", "b", "c"):
        with pytest.raises(UnavailableError):
            await kept.get(key, 60, work)
    assert work.calls == 1
    clock.now += 1
    work.error = None
    assert shown(await kept.get("a", 60, work)) == "answer 2"


async def test_a_clock_that_is_set_back_keeps_no_ledger_unreachable(clock: Clock, work: Work) -> None:
    kept = cache(clock)
    work.error = GONE
    with pytest.raises(UnavailableError):
        await kept.get("a", 60, work)
    clock.step(-3600)
    clock.now += RETRY_S
    work.error = None
    assert shown(await kept.get("a", 60, work)) == "answer 2"


async def test_the_oldest_answers_go_when_there_are_too_many(clock: Clock) -> None:
    store = LocalStore(max_bytes=3000)

    def entry(size: int) -> CacheEntry:
        return CacheEntry(PackedFigures(b"x" * size), clock.now, clock.now + 60, clock.handed, partial=False)

    def there() -> list[int]:
        return [number for number in range(10) if store.get(str(number)) is not None]

    for number in range(10):
        store.put(str(number), entry(400))
    assert there() == [7, 8, 9]
    last = entry(1)
    store.put("9", last)
    assert there() == [7, 8, 9]
    last.bodies["json"] = await Body.of(ResponseBody(b"y" * 400, "text/plain"))
    store.grown("9", last)
    assert there() == [7, 8, 9]
    last.bodies["csv"] = await Body.of(ResponseBody(b"y" * 600, "text/plain"))
    store.grown("9", last)
    assert there() == [8, 9], "rendered bodies count too"
    store.grown("7", entry(10_000))
    assert there() == [8, 9], "an entry that is gone already takes no memory"


@pytest.fixture
async def shared(redis_url: str) -> AsyncIterator[Client]:
    client = open_url(redis_url)
    yield client
    await client.close()


async def stored(url: str) -> None:
    with redis.Redis.from_url(url) as server:
        await wait_until_async(lambda: server.dbsize() == 1, what="an answer in the shared store")


async def test_processes_share_answers_and_their_expiry(
    clock: Clock, work: Work, shared: Client, redis_url: str
) -> None:
    one, other = (cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed)) for _ in range(2))
    await one.get("key", 60, work)
    await stored(redis_url)
    clock.now += 40
    entry = await other.get("key", 60, work)
    assert (work.calls, shown(entry)) == (1, "answer 1")
    assert entry.computed_at == pytest.approx(clock.now - 40)
    clock.now += 20
    assert shown(await other.get("key", 60, work)) == "answer 2", "a copy does not outlive what it is a copy of"


async def test_a_shared_answer_bridges_an_outage_of_the_ledger(
    clock: Clock, work: Work, shared: Client, redis_url: str
) -> None:
    one, other = (cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed)) for _ in range(2))
    await one.get("key", 60, work)
    await stored(redis_url)
    clock.now += 90
    work.error = GONE
    assert shown(await other.get("key", 60, work)) == "answer 1"


async def test_a_shared_answer_has_a_lifetime_in_redis(
    clock: Clock, work: Work, shared: Client, redis_url: str
) -> None:
    await cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed)).get("key", 60, work)
    await stored(redis_url)
    with redis.Redis.from_url(redis_url) as server:
        (key,) = server.keys()
        assert 150 < server.ttl(key) <= 160


async def test_a_lost_shared_store_costs_a_computation_and_no_more(clock: Clock, work: Work) -> None:
    client = open_url("redis://127.0.0.1:1/0")
    kept = cache(clock, shared=SharedStore(client, "authtally:", 100, clock.handed))
    assert shown(await kept.get("key", 60, work)) == "answer 1"
    await kept.close()


def flipped(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda _: b"\x00 no such thing", "a foreign value"),
        (lambda _: b"", "an empty one"),
        (lambda value: value[:-3], "a truncated one"),
        (flipped, "another digit: it would decode"),
        (lambda value: value[:20] + value[21:], "a byte too few in its times"),
        (lambda _: b'[1.0,9e9,"text/plain"]\nanswer 9', "the layout of an earlier release"),
    ],
)
async def test_a_damaged_entry_is_a_miss(
    clock: Clock, work: Work, shared: Client, redis_url: str, damage: Callable[[bytes], bytes], why: str
) -> None:
    kept = cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed))
    await kept.get("key", 60, work)
    await stored(redis_url)
    with redis.Redis.from_url(redis_url) as server:
        (key,) = server.keys()
        server.set(key, damage(server.get(key)))
    fresh = cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed))
    assert shown(await fresh.get("key", 60, work, str)) == "answer 2", why


async def test_an_entry_under_the_key_of_another_is_a_miss(
    clock: Clock, work: Work, shared: Client, redis_url: str
) -> None:
    kept = cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed))
    await kept.get("one", 60, work)
    await stored(redis_url)
    with redis.Redis.from_url(redis_url) as server:
        (one,) = server.keys()
        await kept.get("other", 60, work)
        await wait_until_async(lambda: server.dbsize() == 2, what="both answers in the shared store")
        (other,) = set(server.keys()) - {one}
        server.set(other, server.get(one))
    fresh = cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed))
    assert shown(await fresh.get("other", 60, work, str)) == "answer 3"


async def test_figures_of_another_type_are_a_miss(clock: Clock, work: Work, shared: Client, redis_url: str) -> None:
    await cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed)).get("key", 60, work)
    await stored(redis_url)
    fresh = cache(clock, shared=SharedStore(shared, "authtally:", 100, clock.handed))
    await fresh.get("key", 60, work, dict[str, int])
    assert work.calls == 2


async def test_releases_do_not_share_figures(clock: Clock, work: Work, shared: Client, redis_url: str) -> None:
    one, other = (cache(clock, shared=SharedStore(shared, "a:", 100, clock.handed, release)) for release in "12")
    await one.get("key", 60, work)
    await stored(redis_url)
    assert shown(await other.get("key", 60, work)) == "answer 2"
