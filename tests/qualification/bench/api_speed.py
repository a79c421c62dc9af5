"""The api against what it stands on: ready answers against bare aiohttp, cold ones against the store's bare commands.

Load comes from wrk. Arms run interleaved, A B B A, as real processes; the answers must be the same bytes, else the
run is void.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import redis
import redis.asyncio
import uvloop

from api.ledger.client import open_ledger
from api.ledger.statistics import Statistics
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from deploy.demo.servers.process import ServerProcess
from schemas.ledger import accuracy, keys
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING
from tests.api.issuer import AUDIENCE, ISSUER, public_jwk, token
from tests.api.ledger_writer import LedgerWriter
from tests.integration.api_process import ApiProcess

PREFIX: Final = "authtally:"
PATH: Final = "/jans-auth/restv1/internal/stat"
SHARDS: Final = 64
MONTHS: Final = Month(2025, 12).until(Month(2026, 11))
QUESTION: Final = f"{PATH}?month={MONTHS[-1].compact}"
YEAR: Final = f"{PATH}?start-month={MONTHS[0].compact}&end-month={MONTHS[-1].compact}"
GRANTS: Final = {
    grant: {"access_token": 1000, "id_token": 900, "refresh_token": 800}
    for grant in ("authorization_code", "refresh_token", "client_credentials")
}
TEMPLATES: Final = 32
MEMBERS: Final = 5_000
"""In each sketch: enough that the store keeps it dense, 12 KB."""

CONNECTIONS: Final = 32
READY_GOALS: Final = {"none": 0.95, "jwt": 0.85}
"""Requests/s of a ready answer against bare aiohttp, by AUTH."""
P99_GOAL: Final = 1.3
COLD_GOAL: Final = 1.5
ASKED_AT_ONCE: Final = 1_000
TOKEN_S: Final = 7_200


def measure(quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """All of it: `ready` (one per AUTH), `cold` and `at_once`, each with its goals and whether they are `met`."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: tests/servers/install_test_servers.sh installs it")
    _allow_connections()
    with Valkey() as store:
        say(f"writing {len(MONTHS)} months in {SHARDS} shards …")
        write(store.url)
        ready = [_ready(store, auth, quick, say) for auth in READY_GOALS]
        at_once = _at_once(store, say)
        cold = _cold(store, 20 if quick else 40, say)
    met = all(found["met"] for found in (*ready, cold, at_once))
    return {"ready": ready, "cold": cold, "at_once": at_once, "met": met}


def write(url: str) -> None:
    """A year of a busy deployment: dense sketches and token counts in every shard."""
    with redis.Redis.from_url(url) as client:
        ledger = LedgerWriter(client)
        templates = []
        for number in range(TEMPLATES):
            client.pfadd("template", *range(number * MEMBERS, (number + 1) * MEMBERS))
            templates.append(client.get("template"))
            client.delete("template")
        for place in range(SHARDS):
            pipeline = client.pipeline(transaction=False)
            shard = Shard("auth.logins", place)
            for month in MONTHS:
                ledger.tokens(month.key, GRANTS, shard)
                for part in range(accuracy.sketches(month.key, EVERYTHING)):
                    name = ShardKeys(PREFIX, shard).users(month.key, EVERYTHING, part)
                    pipeline.set(name, templates[(place + part) % TEMPLATES])
            pipeline.execute()


# Ready answers.


@dataclass(frozen=True, slots=True)
class Load:
    """The results that wrk prints of one run."""

    per_second: float
    p50_ms: float
    p99_ms: float


class Bare(ServerProcess):
    """Plain aiohttp that gives the very answer of the api."""

    name = "bare"

    def __init__(self, answer: bytes, headers: dict[str, str]) -> None:
        super().__init__()
        self._answer = {"path": PATH, "body": answer.decode(), "headers": headers}

    def prepare(self) -> None:
        (self.folder / "answer.json").write_text(json.dumps(self._answer))

    def command(self) -> Sequence[str | Path]:
        return (sys.executable, Path(__file__).with_name("bare_api.py"), str(self.port), "answer.json")

    def answers(self) -> bool:
        try:
            return bool(get(f"http://{self.address}{QUESTION}")[0])
        except OSError:
            return False


def _ready(store: Valkey, auth: str, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    seconds, pairs = (2, 3) if quick else (8, 6)
    authorization = {"Authorization": f"Bearer {token(exp=int(time.time()) + TOKEN_S)}"} if auth == "jwt" else {}
    with key_set() as keys_at, ApiProcess(**_settings(store, auth, keys_at.url)) as api:
        url = f"http://{api.address}{QUESTION}"
        get(url, authorization)
        # The second one lay ready.
        answer, headers = get(url, authorization)
        # The others are aiohttp's own, in both arms.
        own = {name: value for name, value in headers.items() if name != "Date"}
        with Bare(answer, own) as bare:
            bare_url = f"http://{bare.address}{QUESTION}"
            _same((answer, headers), get(bare_url))
            arms: dict[str, tuple[str, dict[str, str]]] = {"api": (url, authorization), "bare": (bare_url, {})}
            for arm in arms.values():
                load(*arm, seconds=1)
            runs: dict[str, list[Load]] = {name: [] for name in arms}
            for pair in range(pairs):
                for name in arms if pair % 2 == 0 else reversed(arms):
                    found = load(*arms[name], seconds=seconds)
                    runs[name].append(found)
                    say(f"  {name}, AUTH={auth}: {found.per_second:,.0f} requests/s, p99 {found.p99_ms:.2f} ms")
    both = list(zip(runs["api"], runs["bare"], strict=True))
    ratios = [ours.per_second / theirs.per_second for ours, theirs in both]
    p99 = [ours.p99_ms / theirs.p99_ms for ours, theirs in both]
    ratio_met = statistics.median(ratios) >= READY_GOALS[auth]
    p99_met = statistics.median(p99) <= P99_GOAL
    return {
        "auth": auth,
        "bytes": len(answer),
        "goal": READY_GOALS[auth],
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "ratio_met": ratio_met,
        "p99_goal": P99_GOAL,
        "p99_ratio": statistics.median(p99),
        "p99_ratios": p99,
        "p99_met": p99_met,
        "met": ratio_met and p99_met,
        "runs": {name: [asdict(run) for run in found] for name, found in runs.items()},
    }


def _settings(store: Valkey, auth: str, jwks: str) -> dict[str, str]:
    settings = {"auth": auth, "redis_url": store.url, "log_level": "warning"}
    if auth == "jwt":
        settings |= {"auth_issuer": ISSUER, "auth_audience": AUDIENCE, "auth_jwks_url": jwks}
    return settings


def get(url: str, headers: dict[str, str] | None = None) -> tuple[bytes, Message]:
    """One answer, on a connection that stays open as wrk's do: urllib's do not, and the answer's headers say so.

    Raises OSError for anything but a 200.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers or {})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{url} answers {answer.status}")
        return answer.read(), answer.headers
    finally:
        connection.close()


def _same(ours: tuple[bytes, Message], theirs: tuple[bytes, Message]) -> None:
    """Raises RuntimeError when ready answers differ in body or headers, or end their connection."""
    result = []
    for body, headers in (ours, theirs):
        # Of these two the values change with the second.
        result.append(
            (body, sorted((name, "" if name in ("Age", "Date") else value) for name, value in headers.items()))
        )
        if "Connection" in headers:
            raise RuntimeError(f"void: an arm does not keep its connections: {headers['Connection']}")
    if result[0] != result[1]:
        raise RuntimeError(f"void: the arms answer differently: {result[0]} and {result[1]}")


def load(url: str, headers: dict[str, str], seconds: int) -> Load:
    """One run of wrk: a thread, 32 connections. Raises RuntimeError when an answer was not a good one."""
    given = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *given, url]
    return parse(subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout)


def parse(printed: str) -> Load:
    """What wrk prints. Raises RuntimeError for errors and for an unknown format."""
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(f"void: not all answers were good:\n{printed}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    times = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+[a-z]+)$", printed, re.MULTILINE))
    if rate is None or len(times) != 2:
        raise RuntimeError(f"wrk's words are unknown:\n{printed}")
    return Load(float(rate[1]), _ms(times["50"]), _ms(times["99"]))


def _ms(text: str) -> float:
    number = float(text.rstrip("umsh"))
    return number * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[text.lstrip("0123456789.")]


@dataclass(slots=True)
class KeySet:
    """Where an issuer's keys are, and how often they were fetched."""

    url: str = ""
    fetches: int = 0


@contextmanager
def key_set() -> Iterator[KeySet]:
    """Serves the issuer's keys."""
    content = json.dumps({"keys": [public_jwk("rsa")]}).encode()
    served = KeySet()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.fetches += 1
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        served.url = "http://{}:{}/jwks".format(*server.server_address)
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Cold answers.


def _cold(store: Valkey, runs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of the year's answer, connecting included, against those of the commands that it needs."""
    seconds: dict[str, list[float]] = {"api": [], "bare": []}
    arms = {"api": _year, "bare": _commands}
    counts = {}
    for run in range(-1, runs):
        for name in arms if run % 2 == 0 else reversed(arms):
            took, counts[name] = uvloop.run(arms[name](store.url))
            # The first of each warms the store up.
            if run >= 0:
                seconds[name].append(took)
    if counts["api"] != counts["bare"]:
        raise RuntimeError(f"void: active users differ: {counts['api']} and {counts['bare']}")
    ratios = [ours / theirs for ours, theirs in zip(seconds["api"], seconds["bare"], strict=True)]
    ratio = statistics.median(ratios)
    ours, theirs = (statistics.median(seconds[name]) * 1e3 for name in arms)
    say(f"  cold answer of {len(MONTHS)} months: {ours:.0f} ms, its commands {theirs:.0f} ms, ratio {ratio:.2f}")
    return {
        "months": len(MONTHS),
        "shards": SHARDS,
        "goal": COLD_GOAL,
        "ratio": ratio,
        "ratios": ratios,
        "met": ratio <= COLD_GOAL,
        "runs": seconds,
    }


async def _year(url: str) -> tuple[float, list[int]]:
    settings = ApiSettings(redis_url=url, auth=("none",), _env_file=None)  # type: ignore[call-arg, arg-type]
    started = time.perf_counter()
    client = open_ledger(settings)
    try:
        figures = await Statistics(client, settings).months(MONTHS)
        return time.perf_counter() - started, [row.active.count for row in figures]
    finally:
        await client.close()


async def _commands(url: str) -> tuple[float, list[int]]:
    """Everything in one pipeline: who knows the shards beforehand needs no second."""
    held = [ShardKeys(PREFIX, Shard("auth.logins", place)) for place in range(SHARDS)]
    periods = [month.key for month in MONTHS]
    k = accuracy.sketches(periods[0], EVERYTHING)
    sketches = {
        period: [[shard_keys.users(period, EVERYTHING, part) for shard_keys in held] for part in range(k)]
        for period in periods
    }
    commands: list[tuple[str, ...]] = [("SMEMBERS", keys.shards(PREFIX))]
    commands += [("ZMSCORE", shard_keys.index, *periods) for shard_keys in held]
    commands += [("HGETALL", shard_keys.counts(period, EVERYTHING)) for period in periods for shard_keys in held]
    for period in periods:
        commands += [
            (
                "SUNION",
                *(
                    shard_keys.small_set(period, EVERYTHING, p)
                    for shard_keys in held
                    for p in range(part, SMALL_PARTS, k)
                ),
            )
            for part in range(k)
        ]
    commands += [("EXISTS", *(name for part in sketches[period] for name in part)) for period in periods]
    counted = len(commands)
    commands += [("PFCOUNT", *part) for period in periods for part in sketches[period]]
    started = time.perf_counter()
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    try:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = await pipeline.execute()
        took = time.perf_counter() - started
    finally:
        await client.aclose()
    estimates = replies[counted:]
    return took, [sum(estimates[place * k : (place + 1) * k]) for place in range(len(periods))]


# Misses at once.


def _at_once(store: Valkey, say: Callable[[str], None]) -> dict[str, Any]:
    """Many ask for the same year, which is not cached: how often it is computed."""
    with ApiProcess(**_settings(store, "none", "")) as api:
        before = answers_by_source(api.get("/metrics").text)
        bodies = uvloop.run(_ask_at_once(f"http://{api.address}"))
        after = answers_by_source(api.get("/metrics").text)
    grown = {source: int(after[source] - before.get(source, 0)) for source in after}
    computed, late = grown.get("miss", 0), grown.get("hit", 0)
    say(f"  {ASKED_AT_ONCE:,} ask the same at once: computed {computed} times, {late} came after it was")
    return {
        "asked": ASKED_AT_ONCE,
        "computed": computed,
        "came_later": late,
        "goal": 1,
        "met": computed == 1 and len(bodies) == 1,
    }


async def _ask_at_once(address: str) -> set[bytes]:
    """The different answers. Raises ClientResponseError for one that is none."""
    connector = aiohttp.TCPConnector(limit=ASKED_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:

        async def ask(path: str) -> bytes:
            async with session.get(address + path) as response:
                return await response.read()

        # Connected before, so that no one waits in the listening socket's queue while others are answered.
        await asyncio.gather(*(ask("/health/live") for _ in range(ASKED_AT_ONCE)))
        return set(await asyncio.gather(*(ask(YEAR) for _ in range(ASKED_AT_ONCE))))


def answers_by_source(metrics: str) -> dict[str, float]:
    found = re.findall(r'^authtally_api_cache_answers_total\{source="(\w+)"\} (\S+)$', metrics, re.MULTILINE)
    return {source: float(number) for source, number in found}


def _allow_connections() -> None:
    """Both ends of a thousand connections, more than some shells allow a process by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * ASKED_AT_ONCE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
