"""Callers with good tokens during a flood of 100,000 forged ones, each with an unknown key id."""

from __future__ import annotations

import base64
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from deploy.demo.servers import Valkey
from tests.api.issuer import AUDIENCE, ISSUER, token
from tests.integration.api_process import ApiProcess
from tests.qualification.bench.api_speed import QUESTION, TOKEN_S, key_set, load, write

TOKENS: Final = 100_000
GOAL: Final = 0.8
FETCH_S: Final = 30.0
BURST: Final = 20
"""Questions sent at once on the flood's connection, then their answers are read."""


def measure(quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """`ratio` of the throughputs of those with a good token, `fetches` of keys and how many there may be."""
    pairs, run_s = (2, 3) if quick else (6, 10)
    tokens = TOKENS // 50 if quick else TOKENS
    alone: list[float] = []
    flooded: list[float] = []
    with Valkey() as store, key_set() as keys:
        write(store.url)
        settings = {"auth_issuer": ISSUER, "auth_audience": AUDIENCE, "auth_jwks_url": keys.url}
        with ApiProcess(redis_url=store.url, auth="jwt", janssen_cache_ttl_s="86400", **settings) as api:
            began = time.monotonic()
            url = f"http://{api.address}{QUESTION}"
            headers = {"Authorization": f"Bearer {token(exp=int(time.time()) + TOKEN_S)}"}
            load(url, headers, 2)
            refused = 0
            for pair in range(pairs):
                for arm in ("alone", "flooded") if pair % 2 == 0 else ("flooded", "alone"):
                    if arm == "alone":
                        alone.append(load(url, headers, run_s).per_second)
                    else:
                        with flood(api.port, tokens // pairs, tokens / pairs / run_s) as answers:
                            flooded.append(load(url, headers, run_s).per_second)
                        refused += answers.count(401)
                say(f"  alone {alone[-1]:,.0f}, with the flood {flooded[-1]:,.0f} requests/s")
            may = 1 + int((time.monotonic() - began) / FETCH_S)
            fetches = keys.fetches
    ratio = statistics.median(there / here for there, here in zip(flooded, alone, strict=True))
    sent = tokens // pairs * pairs
    return {
        "tokens": sent,
        "refused": refused,
        "ratio": ratio,
        "goal": GOAL,
        "fetches": fetches,
        "fetches_allowed": may,
        "alone": alone,
        "flooded": flooded,
        "met": ratio >= GOAL and fetches <= may and refused == sent,
    }


def made_up(good: str, number: int) -> bytes:
    """A request with an unsigned token, well-formed except for its unknown key id."""
    head, claims, signature = good.split(".")
    result = json.loads(base64.urlsafe_b64decode(head + "=="))
    other = base64.urlsafe_b64encode(json.dumps(result | {"kid": f"unknown-{number}"}).encode()).decode().rstrip("=")
    return f"GET {QUESTION} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {other}.{claims}.{signature}\r\n\r\n".encode()


@contextmanager
def flood(port: int, tokens: int, per_second: float) -> Iterator[list[int]]:
    """Sends so many made-up tokens at that pace beside what is done within; gives the answers' statuses at its end."""
    good = token()
    every = [made_up(good, number) for number in range(tokens)]
    requests = [b"".join(every[at : at + BURST]) for at in range(0, tokens, BURST)]
    answers: list[int] = []

    def send() -> None:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 30) as connection, connection.makefile("rb") as replies:
            for number, burst in enumerate(requests):
                time.sleep(max(0.0, began + number * BURST / per_second - time.monotonic()))
                connection.sendall(burst)
                answers.extend(_status(replies) for _ in range(burst.count(b"GET ")))

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield answers
    finally:
        sending.join()


def _status(replies: Any) -> int:
    status = int(replies.readline().split()[1])
    size = 0
    while (line := replies.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    replies.read(size)
    return status
