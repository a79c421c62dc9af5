"""The output of `authtally demo --regions`, and the comparison of its answers with the published events."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console

from deploy.demo import answers
from deploy.demo.processes import Children, DemoError
from deploy.demo.region import MIN_USERS
from deploy.demo.sample_events import SampleEvents
from deploy.demo.sources import Sent
from schemas.ledger import accuracy
from schemas.ledger.scopes import EVERYTHING

Played = Sequence[tuple[Children, SampleEvents]]

ALL: Final = "region=all"
MET_TIMEOUT_S: Final = 60.0
"""More than the time between two probes of a peer and the life of an incomplete answer in the cache."""
POLL_S: Final = 0.25


def wait_until_met(played: Played) -> None:
    """Wait until each api accepts all others: one without counts was refused. Raises DemoError."""
    for children, _ in played:
        deadline = time.monotonic() + MET_TIMEOUT_S
        while True:
            children.check()
            items = json.loads(children.get("/v1/regions"))["items"]
            others = {item["region"]: item.get("refusal") or item.get("error") or item["state"] for item in items}
            if all(item["state"] == "current" for item in items) and len(items) == len(played):
                break
            if time.monotonic() > deadline:
                raise DemoError(f"The regions do not answer together, as {children.url}/v1/regions says: {others}")
            time.sleep(POLL_S)


def report(played: Played, seconds: float, console: Console, *, then_exit: bool) -> None:
    first, sample = played[0]
    days = f"from={_day(sample, 0)}&to={_day(sample, -1)}"
    console.print(f"\nReady after {seconds:.1f} s. Two regions, each with broker, store, worker and api of its own:\n")
    for children, played_sample in played:
        assert children.region is not None
        console.print(
            f"  {children.region.name}  {children.url}   {played_sample.expected.records:,} events, "
            f"{len(_users(played_sample)):,} users; store {children.store.url}"
        )
    shared = set.intersection(*(_users(played_sample) for _, played_sample in played))
    console.print(
        f"\n{len(shared):,} users are active in both. REGION_MIN_USERS is {MIN_USERS} here; its default is 100000."
    )
    if then_exit:
        return
    console.print("\nTry in another terminal:\n")
    for query in (f"granularity=month&{days}&{ALL}", f"granularity=range&{days}&group_by=region"):
        path = f"/v1/active-users?{query}&format=csv"
        console.print(f"curl -s -H 'Authorization: Bearer {first.token}' '{first.url}{path}'")
    for path in (f"/v1/lifecycle?{ALL}&format=csv", "/v1/regions"):
        console.print(f"curl -s -H 'Authorization: Bearer {first.token}' '{first.url}{path}'")
    console.print("\nCtrl-C stops the demo and removes its files.")
    console.print(f"\n  token      {first.token}")
    console.print(f"  dashboard  {first.url}/?{ALL}#token={quote(first.token)}")


def differences(played: Played, sent: Sequence[Sent], key_prefix: str) -> list[str]:
    """The differences between answers and published events, one line each: of each region, and over all."""
    found = []
    for place, (children, sample) in enumerate(played):
        own = answers.differences(children, sample, [] if place else sent, key_prefix)
        found += [f"{children.url}{line}" if line.startswith("/") else f"{children.url}: {line}" for line in own]
    for children, _ in played:
        found += (f"{children.url}{line}" for line in _over_regions(children, [sample for _, sample in played]))
    return found


def _over_regions(children: Children, samples: Sequence[SampleEvents]) -> Iterator[str]:
    days = f"from={_day(samples[0], 0)}&to={_day(samples[0], -1)}"
    path = f"/v1/active-users?granularity=month&{days}&{ALL}"
    logins = f"/v1/logins?granularity=month&{days}&{ALL}"
    try:
        users, counted = _whole(children, path), _whole(children, logins)
        for item in users["items"]:
            yield from (f"{path}: {line}" for line in _united(item, samples))
        found = Counter({item["period"]: item["succeeded"] for item in counted["items"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{path} or {logins}: the answer cannot be read: {error!r}"
        return
    published: Counter[str] = Counter()
    for sample in samples:
        for day, day_counts in sample.expected.days.items():
            published[day[:7]] += day_counts["logins"]
    for month in sorted(published | found):
        if found[month] != published[month]:
            yield f"{logins}: {month} has {found[month]} logins, published {published[month]}"


def _whole(children: Children, path: str) -> dict[str, Any]:
    """The answer in which every region is current: on a busy machine one can be late. Raises DemoError."""
    deadline = time.monotonic() + MET_TIMEOUT_S
    while True:
        answer: dict[str, Any] = json.loads(children.get(path))
        states = {region["region"]: region["state"] for region in answer["regions"]}
        if set(states.values()) == {"current"}:
            return answer
        if time.monotonic() > deadline:
            raise DemoError(f"{children.url}{path}: the regions are {states}")
        time.sleep(POLL_S)


def _united(item: dict[str, Any], samples: Sequence[SampleEvents]) -> Iterator[str]:
    """Users of two regions count once, except in a month where a region has too few users for a sketch."""
    month = item["period"].replace("-", "")
    of_regions = [sample.expected.users.get(month, set()) for sample in samples]
    united = len(set[str]().union(*of_regions))
    most = united if min(map(len, of_regions)) >= 2 * MIN_USERS else sum(map(len, of_regions))
    # Null where users of two regions may count twice.
    error = item["standard_error"] or accuracy.standard_error(item["period"], EVERYTHING)
    allowed = math.ceil(answers.STANDARD_ERRORS * error * most)
    if not united - allowed <= item["value"] <= most + allowed:
        yield f"{item['period']} has {item['value']} users, published {united} to {most}, allowed ± {allowed}"


def _users(sample: SampleEvents) -> set[str]:
    return set[str]().union(*sample.expected.users.values())


def _day(sample: SampleEvents, place: int) -> str:
    """The first or the last day of the first or the last month."""
    month = sample.expected.months[place]
    first = f"{month[:4]}-{month[4:]}-01"
    return first if not place else f"{sample.until - timedelta(milliseconds=1):%Y-%m-%d}"
