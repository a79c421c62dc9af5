"""Events made to do harm: ten thousand of a kind leave keys, fields and labels of a bounded number and length."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from prometheus_client import REGISTRY

from schemas.ledger import fields, keys
from schemas.ledger.accuracy import K_MONTHS
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from tests.aggregator import ledgers
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord

EVENTS = 10_000
RANGE = 2_500
MAX_LABELS = 20
FEW = 100
"""Reasons, grants, token types and kinds, in a shard."""
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
LONGEST = 3 * 256
"""Of a name, percent-encoded."""
PREFIX = "authtally:"
NAMES = (
    *(
        "{x}",
        "}{",
        "{auth.logins-0}",
        "a:b",
        "a/b",
        "*",
        "[a-z]",
        "\r\nSET x 1\r\n",
        "\x00",
        "\x1b[2J",
        "\u2028",
        "\u202e",
    ),
    *(
        "__other__",
        "users",
        "counts",
        "meta",
        "position",
        "..",
        "inf",
        "-0",
        "%s%n",
        "'",
        '"',
        "\\",
        "🙂" * 64,
        "ﷺ",
        "",
    ),
)


def name(chance: Random) -> str:
    """Short or as long as may be, of anything; sometimes longer."""
    made = chance.choice(NAMES) + "".join(chr(chance.choice((chance.randrange(1, 128), 0x20AC))) for _ in range(6))
    return made if chance.random() < 0.6 else made * 60 if chance.random() < 0.1 else made[:3].ljust(85, "\u20ac")


def hostile(kind: str, chance: Random) -> bytes:
    day = AT - timedelta(
        days=chance.choice((0, 0, 1, 30, 400, chance.randrange(9_800))), seconds=chance.randrange(9999)
    )
    result: dict[str, Any] = {"type": kind, "time": day.isoformat(), "user_id": name(chance) + "u"}
    for field in ("realm", "client_id", "node", "id"):
        if chance.random() < 0.8:
            result[field] = name(chance)
    if kind == "login" and chance.random() < 0.3:
        result |= {"success": False, "reason": name(chance)}
    if kind == "token":
        result |= {"grant_type": name(chance), "tokens": [name(chance) for _ in range(chance.randrange(1, 18))]}
    if kind == "account":
        result["kind"] = name(chance)
    body = json.dumps(result, ensure_ascii=chance.random() < 0.5).encode()
    return body if chance.random() < 0.97 else body[: chance.randrange(len(body))]


@pytest.mark.parametrize("kind", ["login", "token", "account"])
async def test_what_hostile_events_leave_is_bounded(
    redis_url: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, shard = Random(3), Shard(f"auth.{kind}s", 0)
    series = sum(len(list(family.samples)) for family in REGISTRY.collect())
    kept: dict[str, Any] = {"users_by": ("realm", "client", "node"), "counts_by": ("realm", "client", "node")}
    async with Counting(redis_url, shard, max_labels=MAX_LABELS, topics={shard.topic: kind}, **kept) as counter:
        await counter.open()
        for start in range(0, EVENTS, RANGE):
            at_ms = int(AT.timestamp() * 1000)
            records = [LogRecord(start + each, at_ms, hostile(kind, chance)) for each in range(RANGE)]
            await counter.count(records, start, start + RANGE)
        assert len(counter.known.event_classes) < 50 * MAX_LABELS
    client = ledgers.client(redis_url)
    shard_keys = ShardKeys(PREFIX, shard)
    periods = client.zcard(shard_keys.index)
    # Months from 2000 on, and the days that are not over for good.
    assert periods <= 27 * 12 + 402
    clients = fields.REALM_CLIENTS * (MAX_LABELS + 1) + 2 * MAX_LABELS
    scopes = 1 + 3 * (MAX_LABELS + 1) + clients
    held = [key.encode() if isinstance(key, str) else key for key in client.scan_iter("*", 5_000)]
    assert len(held) < periods * (scopes * (K_MONTHS + SMALL_PARTS + 1) + 2) + 100
    shared = {name(PREFIX).encode() for name in (keys.shards, keys.ledger_id)}
    for key in held:
        assert len(key) < len(PREFIX) + 2 * LONGEST + 100
        # Whatever braces a name has: the slot is the shard's.
        assert key in shared or key.startswith(PREFIX.encode() + b"{" + shard.tag.encode() + b"}"), key
    words = 4 * (FEW + fields.WORD_POOL + fields.REALM_WORDS * (MAX_LABELS + 2))
    assert client.scard(shard_keys.labels) <= 2 * MAX_LABELS + clients + words
    longest = 2 * LONGEST + 100
    for key in chance.sample(held, min(len(held), 400)):
        if client.type(key) in (b"hash", "hash"):
            result = client.hkeys(key)
            assert len(result) <= FEW * 17 + 100
            assert all(len(field) <= longest for field in result)
    assert sum(len(list(family.samples)) for family in REGISTRY.collect()) == series
    result = capsys.readouterr()
    assert len(result.out + result.err) < 10_000
