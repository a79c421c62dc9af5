"""The questions that the demo asks, and whether their answers agree with what it published."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import redis
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo_children import Children
from deploy.sample_events import DEAD_LETTERS, TOPICS, Expected
from schemas import accuracy, fields
from schemas.keys import Shard, ShardKeys
from schemas.scopes import EVERYTHING
from schemas.settings import CommonSettings

JANSSEN: Final = "/jans-auth/restv1/internal/stat"
GLUU: Final = "/oxauth/restv1/internal/stat"
TOKEN_FAMILIES: Final = ("access_token", "id_token", "refresh_token", "uma_token")
"""The token types that every grant type of an answer has, zero or not."""
STANDARD_ERRORS: Final = 4

Grants = dict[str, dict[str, int]]


def curl_lines(url: str, token: str, months: Sequence[str]) -> list[tuple[str, str]]:
    """Path and ready-to-paste command of the questions worth trying first."""
    paths = (
        f"{JANSSEN}?month={months[-1]}",
        f"{JANSSEN}?start-month={months[-2]}&end-month={months[-1]}&format=jsonmonth",
        f"{GLUU}?month={months[-2]}%20{months[-1]}",
        f"{JANSSEN}?month={months[-1]}&format=openmetrics",
    )
    return [(path, f"curl -s -H 'Authorization: Bearer {token}' '{url}{path}'") for path in paths]


def differences(children: Children, expected: Expected, key_prefix: str) -> list[str]:
    """What is off, a line each; empty when every answer agrees."""
    asked = quote(" ".join(expected.months))
    bounds = f"start-month={expected.months[0]}&end-month={expected.months[-1]}"
    by_month = {
        f"{JANSSEN}?month={asked}": _janssen,
        f"{JANSSEN}?{bounds}": _janssen,
        f"{JANSSEN}?{bounds}&format=jsonmonth": _jsonmonth,
        f"{GLUU}?month={asked}": _janssen,
        f"{JANSSEN}?{bounds}&format=openmetrics": _openmetrics,
        f"{GLUU}?month={asked}&format=openmetrics": _openmetrics,
    }
    found = [*_dead_letters(children, expected, key_prefix)]
    for path, read in by_month.items():
        try:
            answer = read(children.get(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            found.append(f"{path}: no answer that can be read: {error!r}")
            continue
        found += (f"{path}: {line}" for line in _against(answer, expected))
    return found


def _against(answer: dict[str, tuple[int, Grants]], expected: Expected) -> Iterator[str]:
    if sorted(answer) != expected.months:
        yield f"months {sorted(answer)}, published {expected.months}"
    for month in sorted(set(answer) & set(expected.months)):
        users, grants = answer[month]
        allowed = _allowed(month, expected.active(month))
        if abs(users - expected.active(month)) > allowed:
            yield f"{month}: {users} active users, published {expected.active(month)}, allowed ± {allowed:g}"
        published = {
            grant: dict.fromkeys(TOKEN_FAMILIES, 0) | tokens for grant, tokens in expected.grants(month).items()
        }
        for grant in sorted(grants.keys() | published.keys()):
            if grants.get(grant) != published.get(grant):
                yield f"{month} {grant}: tokens {grants.get(grant)}, published {published.get(grant)}"


def _allowed(month: str, users: int) -> float:
    """How far an answer may be off: not at all while users are counted one by one."""
    bound: int = CommonSettings.model_fields["exact_up_to"].default
    if users <= bound:
        return 0
    period = f"{month[:4]}-{month[4:]}"
    return math.ceil(STANDARD_ERRORS * accuracy.standard_error(period, EVERYTHING) * users)


def _janssen(text: str) -> dict[str, tuple[int, Grants]]:
    response: dict[str, Any] = json.loads(text)["response"]
    return {month: (of["monthly_active_users"], of["token_count_per_granttype"]) for month, of in response.items()}


def _jsonmonth(text: str) -> dict[str, tuple[int, Grants]]:
    return {of["month"]: (of["monthly_active_users"], of["token_count_per_granttype"]) for of in json.loads(text)}


def _openmetrics(text: str) -> dict[str, tuple[int, Grants]]:
    users: dict[str, int] = {}
    tokens: dict[str, Grants] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            month = sample.labels["month"]
            if family.name == "monthly_active_users":
                users[month] = int(sample.value)
            else:
                grant = sample.labels["grantType"]
                tokens.setdefault(month, {}).setdefault(grant, {})[sample.name.removesuffix("_total")] = int(
                    sample.value
                )
    return {month: (count, tokens.get(month, {})) for month, count in users.items()}


def _dead_letters(children: Children, expected: Expected, key_prefix: str) -> Iterator[str]:
    """The ledger's own books: every record consumed, the bad ones by reason."""
    consumed, dead = 0, dict.fromkeys(expected.dead, 0)
    with redis.Redis.from_url(children.store.url, decode_responses=True) as client:
        for topic, partitions in TOPICS.items():
            for partition in range(partitions if topic != DEAD_LETTERS else 0):
                progress: Any = client.hgetall(ShardKeys(key_prefix, Shard(topic, partition)).progress)
                consumed += int(progress.get(fields.CONSUMED, 0))
                for reason in dead:
                    dead[reason] += int(progress.get(fields.dead(reason), 0))
    if consumed != expected.records:
        yield f"ledger: {consumed} records consumed, published {expected.records}"
    for reason, count in dead.items():
        if count != expected.dead[reason]:
            yield f"ledger: {count} dead letters for {reason}, published {expected.dead[reason]}"
