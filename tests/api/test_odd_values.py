"""No route fails, whatever values the ledger's hashes hold: an impossible number or time is shown as null.

Format 1 stored record timestamps unchecked, and a broker may keep any 64-bit number.
"""

from __future__ import annotations

import asyncio
import string
import urllib.request
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import orjson
import pytest
import redis
from hypothesis import HealthCheck, given, settings, strategies
from prometheus_client.parser import text_string_to_metric_families

from api.dialects.own import today
from api.dialects.own.pipeline import Partition, dedupe_window, partition
from api.dialects.own.rendering import as_of
from api.ledger.client import open_ledger
from api.ledger.statistics import Statistics
from api.ledger.status import HeldIds, PipelineStatus, ShardStatus
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.settings import read
from tests.api import in_thread
from tests.api.conftest import Api, Clock, Serve
from tests.api.worker import account, count, login, token

LOGINS = ShardKeys("authtally:", Shard("auth.logins", 0))
DAY = "2026-11-20"
NOON = f"{DAY}T12:00:00Z"
AT_MS = 1_795_176_000_000
ROUTES: Final = (
    "/v1/pipeline",
    "/v1/pipeline?format=csv",
    "/v1/metrics",
    "/metrics",
    "/v1/overview",
    f"/v1/active-users?from={DAY}",
    f"/v1/active-users?from={DAY}&trailing=7",
    f"/v1/logins?from={DAY}&group_by=realm",
    f"/v1/tokens?from={DAY}",
    f"/v1/accounts?from={DAY}",
    "/v1/m2m",
    "/v1/labels",
    "/v1/otp-tokens",
    "/jans-auth/restv1/internal/stat?month=202611",
    "/jans-auth/restv1/internal/stat?month=202611&format=openmetrics",
    "/oxauth/restv1/internal/stat?month=202611",
    "/oxauth/restv1/internal/stat?month=202611&format=openmetrics",
    "/api/v2/stats/active-users",
    "/api/v2/stats/daily",
)


class Odd(NamedTuple):
    value: bytes
    time: str | None
    """How it is shown where a time in ms belongs."""
    number: int | None
    """How it is shown where a count belongs."""
    why: str


ODD: Final = (
    Odd(b"1795176000000000", None, 1_795_176_000_000_000, "microseconds"),
    Odd(b"1795176000", "1970-01-21T18:39:36.000Z", 1_795_176_000, "seconds: a date, shown as it is"),
    Odd(b"1795176000000000000", None, None, "nanoseconds: no JSON reader keeps such a count"),
    Odd(b"4611686018427387904", None, None, "2^62"),
    Odd(b"9223372036854775807", None, None, "the largest number of 64 bits"),
    Odd(b"18446744073709551616", None, None, "more than 64 bits"),
    Odd(b"9" * 5000, None, None, "more digits than Python converts"),
    Odd(b"253402300800000", None, 253_402_300_800_000, "the year 10000"),
    Odd(b"4102444800000", "2100-01-01T00:00:00.000Z", 4_102_444_800_000, "2100: a date, shown as it is"),
    Odd(b"0", "1970-01-01T00:00:00.000Z", 0, "the epoch"),
    Odd(b"-1", None, None, "Kafka's value for no timestamp"),
    Odd(b"-9223372036854775808", None, None, "the smallest number of 64 bits"),
    Odd(b"", None, None, "nothing"),
    Odd(b"soon", None, None, "no number"),
    Odd(b"1e12", None, None, "a float"),
    Odd(b" 12", None, None, "a number for Python, not for Redis"),
    Odd(b"1_000", None, None, "likewise"),
    Odd("٣".encode(), None, None, "another script's digits"),
    Odd(b"\xff\xfe", None, None, "no UTF-8"),
)
COUNTERS: Final = (
    *(fields.CONSUMED, fields.COUNTED, fields.DUPLICATES, fields.IGNORED, fields.LOST, fields.UNTIMED),
    *(fields.dead("not_json"), fields.overflowed("realm")),
)
TIMES: Final = (fields.FIRST_EVENT, fields.LAST_EVENT, fields.FIRST_RECORD, fields.LAST_RECORD)


def spoil(server: Any, value: bytes) -> None:
    """Write the value to every field that stores a part of a record or a worker's observation."""
    server.hset(LOGINS.progress, mapping=dict.fromkeys((*COUNTERS, *TIMES), value))
    server.hset(LOGINS.observed, mapping=dict.fromkeys((fields.REFUSED, fields.REFUSED_MS), value))
    server.hset(LOGINS.observed, mapping=dict.fromkeys((fields.END, fields.STABLE_END), value + b" " + value))
    server.hset(LOGINS.record_times(DAY), mapping=dict.fromkeys((fields.FIRST, fields.LAST), value))
    server.hset(LOGINS.ids, mapping={value: value, fields.EVICTED_BEFORE: value})
    server.hset(LOGINS.meta, mapping={fields.UNEXPECTED_ALLOWED: value, fields.since("counts_by"): b"5 " + value})


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock) -> Api:
    clock.now = datetime.fromisoformat(f"{DAY}T13:00:00+00:00").timestamp()
    log = [login(NOON, "ada", id="1", realm="acme"), token(NOON, "password", "id_token"), account(NOON, "signup")]
    await count(redis_url, log, partitions=1)
    return await serve(redis_url=redis_url)


async def live(redis_url: str) -> dict[str, Any]:
    """The data of an event of `/v1/live`."""
    given = read(ApiSettings, auth=("none",), redis_url=redis_url)
    client = open_ledger(given)
    try:
        figures = await today.read(Statistics(client, given), None, date.fromisoformat(DAY), ZoneInfo("UTC"))
        found: dict[str, Any] = msgspec.to_builtins(figures)
        return found
    finally:
        await client.close()


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.why)
async def test_every_route_answers_whatever_the_ledger_holds(api: Api, redis_url: str, odd: Odd) -> None:
    with redis.Redis.from_url(redis_url) as server:
        spoil(server, odd.value)
    for route in ROUTES:
        answer = await api.get(route)
        assert answer.status == 200, f"{route}: {answer.text}"
    assert (await live(redis_url))["logins"] == 1
    found = next(row for row in (await api.get("/v1/pipeline")).json["items"] if row["topic"] == "auth.logins")
    assert found["last_event"] == found["last_record"] == found["seen"] == odd.time, odd.why
    assert found["consumed"] == found["dead"] == found["untimed"] == found["end"] == odd.number, odd.why
    assert found["unexpected_allowed"] == odd.number
    assert found["adds_up"] is (odd.number == 0), "a sum of four equal numbers"
    assert (found["position"], found["unexpected"]) == (1, 0), "the rest stays"
    (users,) = (await api.get(f"/v1/active-users?from={DAY}")).json["items"]
    assert users["value"] == 1, "the figures stay"


@pytest.mark.parametrize(
    ("observed", "end", "seen", "lag", "why"),
    [
        (b"", None, None, None, "both halves are missing"),
        (b"12", 12, None, 11, "no time"),
        (b"12 ", 12, None, 11, "an empty time"),
        (b" %d" % AT_MS, None, "2026-11-20T12:00:00.000Z", None, "no number"),
        (b"12 %d 7" % AT_MS, 12, None, 11, "three parts"),
        (b"12 %d000" % AT_MS, 12, None, 11, "microseconds"),
        (b"-5 %d" % AT_MS, None, "2026-11-20T12:00:00.000Z", None, "a negative end"),
    ],
)
async def test_the_usable_half_of_an_observation_is_shown(
    api: Api, redis_url: str, observed: bytes, end: int | None, seen: str | None, lag: int | None, why: str
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.observed, fields.END, observed)
    found = next(row for row in (await api.get("/v1/pipeline")).json["items"] if row["topic"] == "auth.logins")
    assert (found["end"], found["seen"], found["lag"]) == (end, seen, lag), why


async def test_a_time_that_is_no_date_does_not_hide_that_of_another_partition(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.progress, fields.LAST_EVENT, AT_MS * 1_000_000)
    assert (await api.get("/v1/pipeline")).json["as_of"]["newest_event"] == "2026-11-20T12:00:00.000Z"
    gauges = {
        sample.name: sample.value
        for family in text_string_to_metric_families((await api.get("/v1/metrics")).text)
        for sample in family.samples
    }
    assert gauges["authtally_newest_event_timestamp_seconds"] == AT_MS / 1000


async def test_a_setting_of_unknown_age_is_named_without_a_time(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.hset(LOGINS.meta, fields.since("counts_by"), b"5 %d000" % AT_MS)
    assert (await api.get(f"/v1/logins?from={DAY}")).json["since"] == {"COUNTS_BY": None}


async def test_a_day_without_a_usable_record_time_has_its_midnight_for_auth0(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        for shard in ("auth.logins", "auth.tokens", "auth.accounts"):
            written = ShardKeys("authtally:", Shard(shard, 0)).record_times(DAY)
            server.hset(written, mapping={fields.FIRST: "soon", fields.LAST: AT_MS * 1000})
    (row,) = (await api.get("/api/v2/stats/daily")).json
    assert row["updated_at"] == row["created_at"] == f"{DAY}T00:00:00.000Z"


EDGES = strategies.sampled_from([odd.value for odd in ODD])
NUMBERS = strategies.integers(-(2**70), 2**70).map(lambda number: str(number).encode())
VALUES = strategies.one_of(EDGES, NUMBERS, strategies.binary(max_size=30))
NAMES = strategies.one_of(
    strategies.sampled_from([name.encode() for name in (*COUNTERS, *TIMES, fields.END, fields.REFUSED, "dead", "a/b")]),
    strategies.text(string.printable, max_size=12).map(str.encode),
    strategies.binary(max_size=12),
    NUMBERS,
)
HASHES = strategies.dictionaries(NAMES, VALUES, max_size=8)


@settings(max_examples=400, deadline=None)
@given(progress=HASHES, observed=HASHES, ids=HASHES, position=strategies.none() | VALUES)
def test_a_partition_is_shown_whatever_its_hashes_hold(
    progress: dict[bytes, bytes], observed: dict[bytes, bytes], ids: dict[bytes, bytes], position: bytes | None
) -> None:
    shard = ShardStatus.of(LOGINS, {}, position, progress, observed)
    row = Partition(**partition(shard), **dedupe_window(HeldIds.of(ids)))
    shown = orjson.loads(msgspec.json.encode(row)) | msgspec.to_builtins(as_of(PipelineStatus([shard])))
    for name in ("seen", "last_event", "last_record", "refused_last", "ids_from", "ids_until", "newest_event"):
        assert shown[name] is None or datetime.fromisoformat(shown[name]).year <= 9999
    for name in ("consumed", "counted", "dead", "untimed", "lost", "refused", "ids_held"):
        assert shown[name] is None or 0 <= shown[name] < 2**64


@pytest.fixture(scope="module")
def running(valkey: Valkey) -> Iterator[tuple[str, Clock]]:
    """An api in a thread of its own, and the clock by which its answers expire."""
    with redis.Redis.from_url(valkey.url) as server:
        server.flushall()
    asyncio.run(count(valkey.url, [login(NOON, "ada", id="1", realm="acme")], partitions=1))
    clock = Clock()
    clock.now = datetime.fromisoformat(f"{DAY}T13:00:00+00:00").timestamp()
    ttl = {"cache_ttl_s": 1, "janssen_cache_ttl_s": 1, "auth0_cache_ttl_s": 1, "gluu_interval_s": 1}
    api_settings = read(ApiSettings, auth=("none",), redis_url=valkey.url, auth0_rate_limit=0, **ttl)
    with in_thread.served(api_settings, clock.handed) as (host, port):
        yield f"http://{host}:{port}", clock


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(progress=HASHES, observed=HASHES, written=HASHES, ids=HASHES)
def test_every_route_answers_whatever_random_hashes_hold(
    valkey: Valkey,
    running: tuple[str, Clock],
    progress: dict[bytes, bytes],
    observed: dict[bytes, bytes],
    written: dict[bytes, bytes],
    ids: dict[bytes, bytes],
) -> None:
    url, clock = running
    clock.now += 3
    names = {LOGINS.progress: progress, LOGINS.observed: observed, LOGINS.record_times(DAY): written, LOGINS.ids: ids}
    with redis.Redis.from_url(valkey.url) as server:
        for name, content in names.items():
            server.delete(name)
            if content:
                server.hset(name, mapping=dict(content))
    for route in ROUTES:
        with urllib.request.urlopen(url + route, timeout=10) as response:
            assert response.status == 200, route
            assert response.headers["Age"] in (None, "0"), "computed from these"
