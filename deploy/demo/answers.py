"""The demo's questions to the api, and the comparison of the answers with the published events."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.otp_sample import otp_tokens
from deploy.demo.processes import Children
from deploy.demo.sample_events import Expected, SampleEvents
from deploy.demo.site import DEAD_LETTERS, TOPICS
from deploy.demo.sources import Sent
from schemas.connections.redis_clients import open_blocking
from schemas.ledger import accuracy, fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import CommonSettings

JANSSEN: Final = "/jans-auth/restv1/internal/stat"
GLUU: Final = "/oxauth/restv1/internal/stat"
AUTH0: Final = "/api/v2/stats"
LINOTP: Final = "/reporting"
TOKEN_FAMILIES: Final = ("access_token", "id_token", "refresh_token", "uma_token")
"""The token types that an answer has for every grant type, also with zero tokens."""
STANDARD_ERRORS: Final = 4
DAYS_AT_ONCE: Final = 180
STORE_TIMEOUT_S: Final = 5.0

Grants = dict[str, dict[str, int]]


def curl_lines(url: str, token: str, months: Sequence[str]) -> list[tuple[str, str]]:
    """Path and curl command of the questions to try first."""
    paths = (
        "/v1/overview",
        f"{JANSSEN}?month={months[-1]}",
        f"{AUTH0}/active-users",
        f"{JANSSEN}?start-month={months[-2]}&end-month={months[-1]}&format=jsonmonth",
        f"{GLUU}?month={months[-2]}%20{months[-1]}",
        f"{AUTH0}/daily?from={months[-1]}01&to={months[-1]}03",
        f"{LINOTP}/maximum?realms=acme&status=total,active%26assigned",
        f"{JANSSEN}?month={months[-1]}&format=openmetrics",
    )
    return [(path, f"curl -s -H 'Authorization: Bearer {token}' '{url}{path}'") for path in paths]


def differences(children: Children, sample: SampleEvents, sent: Sequence[Sent], key_prefix: str) -> list[str]:
    """The differences between answers and published events, one line each."""
    expected = sample.expected
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
    found = [
        *_totals(children, sample, sent, key_prefix),
        *_todays(children, expected),
        *_daily(children, expected),
        *_inventory(children, sample.until),
    ]
    for path, read in by_month.items():
        try:
            answer = read(children.get(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            found.append(f"{path}: the answer cannot be read: {error!r}")
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
    """The allowed difference: zero while users are kept one by one."""
    bound: int = CommonSettings.model_fields["exact_up_to"].default
    if users <= bound:
        return 0
    period = f"{month[:4]}-{month[4:]}"
    return math.ceil(STANDARD_ERRORS * accuracy.standard_error(period, EVERYTHING) * users)


def _janssen(text: str) -> dict[str, tuple[int, Grants]]:
    response: dict[str, Any] = json.loads(text)["response"]
    return {
        month: (figures["monthly_active_users"], figures["token_count_per_granttype"])
        for month, figures in response.items()
    }


def _jsonmonth(text: str) -> dict[str, tuple[int, Grants]]:
    return {
        figures["month"]: (figures["monthly_active_users"], figures["token_count_per_granttype"])
        for figures in json.loads(text)
    }


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


def _todays(children: Children, expected: Expected) -> Iterator[str]:
    """Check the last days' logins by realm, which came by every source."""
    days = sorted(expected.realm_logins)[-2:]
    path = f"/v1/logins?from={days[0]}&to={days[-1]}&group_by=realm"
    try:
        result: dict[str, Any] = json.loads(children.get(path))
        logins: Counter[str] = Counter()
        for item in result["items"]:
            logins[item["realm"]] += item["succeeded"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{path}: the answer cannot be read: {error!r}"
        return
    published: Counter[str] = sum((expected.realm_logins[day] for day in days), Counter())
    for realm in sorted(published):
        if logins[realm] != published[realm]:
            yield f"{path}: {logins[realm]} logins in {realm}, published {published[realm]}"


def _daily(children: Children, expected: Expected) -> Iterator[str]:
    """Check Auth0's daily statistics, day by day."""
    days = sorted(expected.days)
    for asked in (days[at : at + DAYS_AT_ONCE] for at in range(0, len(days), DAYS_AT_ONCE)):
        first, last = (day.replace("-", "") for day in (asked[0], asked[-1]))
        path = f"{AUTH0}/daily?from={first}&to={last}"
        try:
            result = {row["date"][:10]: row for row in json.loads(children.get(path))}
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield f"{path}: the answer cannot be read: {error!r}"
            continue
        for day, name in itertools.product(asked, ("logins", "signups", "leaked_passwords")):
            found, published = result.get(day, {}).get(name), expected.days[day][name]
            if found != published:
                yield f"{path}: {day} has {found} {name}, published {published}"


def _inventory(children: Children, until: datetime) -> Iterator[str]:
    """Check the present and the largest number of OTP tokens of each realm by an independent count."""
    states: dict[str, dict[str, Any]] = {}
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for record in otp_tokens(until):
        state = json.loads(record.value or b"")
        before = states.get(state["serial"], {"realms": []})
        states[state["serial"]] = state = state | ({"realms": []} if state.get("deleted") else {})
        now.subtract(before["realms"])
        now.update(state["realms"])
        most |= now
    paths = ("/v1/otp-tokens?status=total", f"{LINOTP}/maximum?status=total")
    try:
        answered_now = {item["realm"]: item["count"] for item in json.loads(children.get(paths[0]))["items"]}
        answered_most = json.loads(children.get(paths[1]))["result"]["value"]
        for realm, count in now.items():
            if answered_now.get(realm) != count:
                yield f"{paths[0]}: {answered_now.get(realm)} tokens in {realm}, published {count}"
            if answered_most[realm]["total"] != most[realm]:
                yield f"{paths[1]}: at most {answered_most[realm]['total']} tokens in {realm}, published {most[realm]}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{' or '.join(paths)}: the answer cannot be read: {error!r}"


def records_sent(sample: SampleEvents, sent: Sequence[Sent]) -> int:
    """Number of published records, without dead letters."""
    return sample.expected.records + sum(1 for _ in otp_tokens(sample.until)) + sum(each.records for each in sent)


def consumed(client: Any, key_prefix: str) -> int:
    """Number of records that the ledger has consumed."""
    return sum(int(progress.get(fields.CONSUMED, 0)) for progress in _progress(client, key_prefix))


def _progress(client: Any, key_prefix: str) -> list[dict[str, str]]:
    return [
        client.hgetall(ShardKeys(key_prefix, Shard(topic, partition)).progress)
        for topic, partitions in TOPICS.items()
        for partition in range(partitions if topic != DEAD_LETTERS else 0)
    ]


def _totals(children: Children, sample: SampleEvents, sent: Sequence[Sent], key_prefix: str) -> Iterator[str]:
    """Check the ledger's totals: records consumed, bad records by reason, repeated records counted once."""
    with open_blocking(children.store.url, STORE_TIMEOUT_S, decode_responses=True) as client:
        shards = _progress(client, key_prefix)

    def held(name: str) -> int:
        return sum(int(progress.get(name, 0)) for progress in shards)

    records = records_sent(sample, sent)
    if held(fields.CONSUMED) != records:
        yield f"ledger: {held(fields.CONSUMED)} records consumed, published {records}"
    repeats = sum(each.records - each.logins for each in sent)
    if held(fields.DUPLICATES) != repeats:
        yield f"ledger: {held(fields.DUPLICATES)} records were repeats, sent {repeats}"
    for reason, count in sample.expected.dead.items():
        if held(fields.dead(reason)) != count:
            yield f"ledger: {held(fields.dead(reason))} dead letters for {reason}, published {count}"
