"""Events over HTTP into Apache Kafka: the api against a bare aiohttp handler that only produces the same values.

Load comes from wrk. Arms run interleaved, A B B A, as real processes; both must leave the same values in Kafka, else
the run is void.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from api.ingest.event_ids import id_prefix
from api.ingest.producer import properties
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey, create_topics
from deploy.demo.servers.process import ServerProcess, accepts
from schemas.events import Login
from tests.api.ingest.sending import records
from tests.integration.api_process import ApiProcess
from tests.qualification.bench.api_speed import parse
from tests.qualification.bench.measure import cpu_s
from tests.servers import ApacheKafka

PATH: Final = "/v1/events"
MEDIA: Final = "application/x-ndjson"
BATCHES: Final = 16
PARTITIONS: Final = 4
TIMEOUT_S: Final = 10.0
GOALS: Final = {100: 0.8, 1: None}
"""Events/s against the bare handler, by events in a request; single ones are shown only."""
CONNECTIONS: Final = {100: 32, 1: 64}
# A run writes some hundred megabytes that are not read.
TOPIC_CONFIG: Final = {"segment.bytes": "67108864", "retention.bytes": "67108864"}


@dataclass(frozen=True, slots=True)
class Run:
    """The results that wrk prints of one run, in events; and what the process under load spent on it."""

    per_second: float
    per_cpu_second: float
    p50_ms: float
    p99_ms: float


class Bare(ServerProcess):
    """The handler that only produces."""

    name = "bare"

    def __init__(self, producer: dict[str, Any], topic: str) -> None:
        super().__init__()
        self._answer = {"path": PATH, "properties": producer, "topic": topic}

    def prepare(self) -> None:
        (self.folder / "answer.json").write_text(json.dumps(self._answer))

    def command(self) -> Sequence[str | Path]:
        return (sys.executable, Path(__file__).with_name("bare_ingest.py"), str(self.port), "answer.json")

    def answers(self) -> bool:
        return accepts(self.port)


def measure(quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """One row per number of events in a request."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: tests/servers/install_test_servers.sh installs it")
    with Valkey() as store, ApacheKafka() as broker:
        rows = [_measure(store, broker, size, quick, say) for size in GOALS]
    return {"rows": rows, "met": all(row["met"] for row in rows)}


def _measure(store: Valkey, broker: ApacheKafka, size: int, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    seconds, pairs = (3, 3) if quick else (8, 6)
    topics = {arm: f"{arm}.logins-{size}" for arm in ("api", "bare")}
    create_topics(broker.address, dict.fromkeys(topics.values(), PARTITIONS), TOPIC_CONFIG)
    bodies = [_body(number, size) for number in range(BATCHES)]
    settings: dict[str, str] = {
        "auth": "none",
        "auth_none_writes": "on",
        "redis_url": store.url,
        "ingest": "on",
        "kafka_bootstrap_servers": broker.address,
        "topics": f"{topics['api']}=login",
        "ingest_rate_limit": "0",
        "ingest_timeout_s": str(TIMEOUT_S),
        "log_level": "warning",
    }
    read: dict[str, Any] = {**settings, "_env_file": None}
    with (
        ApiProcess(**settings) as api,
        Bare(properties(ApiSettings(**read), TIMEOUT_S), topics["bare"]) as bare,
    ):
        arms: dict[str, ServerProcess] = {"api": api, "bare": bare}
        for name, arm in arms.items():
            _send_each(arm.address, bodies)
            _same(name, broker, topics[name], bodies)
            _load(arm, bodies, size, 2)
        runs: dict[str, list[Run]] = {name: [] for name in arms}
        for pair in range(pairs):
            for name in arms if pair % 2 == 0 else reversed(arms):
                found = _load(arms[name], bodies, size, seconds)
                runs[name].append(found)
                say(f"  {name}, {size} a request: {found.per_second:,.0f} events/s, p99 {found.p99_ms:.1f} ms")
    both = list(zip(runs["api"], runs["bare"], strict=True))
    ratios = [ours.per_second / theirs.per_second for ours, theirs in both]
    cpu_ratios = [ours.per_cpu_second / theirs.per_cpu_second for ours, theirs in both]
    goal, ratio = GOALS[size], statistics.median(ratios)
    return {
        "size": size,
        "body_bytes": len(bodies[0]),
        "goal": goal,
        "ratio": ratio,
        "ratios": ratios,
        "cpu_ratio": statistics.median(cpu_ratios),
        "cpu_ratios": cpu_ratios,
        "met": goal is None or ratio >= goal,
        "runs": {name: [asdict(run) for run in found] for name, found in runs.items()},
    }


def _body(number: int, size: int) -> bytes:
    """Lines as Kafka will hold them, all different, so that who only splits them leaves the same values there."""
    now = datetime.now(UTC).replace(microsecond=0)
    return b"\n".join(
        msgspec.json.encode(
            Login(
                time=now,
                user_id=f"user-{number * size + place:08}",
                realm=f"realm-{place % 20}",
                client_id=f"client-{place % 10}",
                id=f"{number:04}{place:012}",
            )
        )
        for place in range(size)
    )


def _send_each(address: str, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        request = urllib.request.Request(f"http://{address}{PATH}", body, {"Content-Type": MEDIA})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S + 5) as answer:
            if answer.status != 202:
                raise RuntimeError(f"void: {answer.status}")


def _same(arm: str, broker: ApacheKafka, topic: str, bodies: Sequence[bytes]) -> None:
    """Raises RuntimeError unless the topic holds the values of all bodies. The api's ids have a prefix."""
    values = [record.value for record in records(broker.address, topic)]
    held = sorted(json.dumps(value | {"id": value["id"].removeprefix(id_prefix("native"))}) for value in values)
    if held != sorted(json.dumps(json.loads(line)) for body in bodies for line in body.split(b"\n")):
        raise RuntimeError(f"void: {arm} left other values in Kafka than it was sent")


def _load(arm: ServerProcess, bodies: Sequence[bytes], size: int, seconds: int) -> Run:
    """One run of wrk, each connection sending the bodies in turn. Raises RuntimeError when an answer was not good."""
    script = arm.folder / "load.lua"
    quoted = ",".join(f"[==[{body.decode()}]==]" for body in bodies)
    script.write_text(
        f"local bodies, next = {{{quoted}}}, 0\n"
        f'wrk.headers["Content-Type"] = "{MEDIA}"\n'
        "local requests = {}\n"
        f'function made(body) return wrk.format("POST", "{PATH}", nil, body) end\n'
        "function init() for i, body in ipairs(bodies) do requests[i] = made(body) end end\n"
        "function request() next = next % #requests + 1; return requests[next] end\n"
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS[size]}", f"-d{seconds}s", "--latency", "-s", str(script)]
    spent, began = cpu_s(arm.pid), time.perf_counter()
    done = subprocess.run(
        [*command, f"http://{arm.address}"], check=True, capture_output=True, text=True, timeout=seconds + 30
    )
    took, spent = time.perf_counter() - began, cpu_s(arm.pid) - spent
    result = parse(done.stdout)
    per_second = result.per_second * size
    return Run(per_second, per_second * took / spent, result.p50_ms, result.p99_ms)
