"""The figures that the API returns for a range, added up month by month, and by day within parts of months."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

from schemas.ledger.periods import Month
from tests.dashboard.site import Site


class Span(NamedTuple):
    first: str
    last: str


class View(NamedTuple):
    """A range, what it is compared with, and the filters."""

    span: Span
    before: Span | None
    filters: Mapping[str, str] = MappingProxyType({})


def query(span: Span, filters: Mapping[str, str], **more: str) -> str:
    return urlencode({"from": span.first, "to": span.last, **filters, **more})


async def users(site: Site, span: Span, filters: Mapping[str, str]) -> int:
    result = await site.get(f"/v1/active-users?{query(span, filters, granularity='range')}")
    return int(result["items"][0]["value"])


async def grouped_users(site: Site, span: Span, filters: Mapping[str, str], word: str) -> dict[str, int]:
    result = await site.get(f"/v1/active-users?{query(span, filters, granularity='range', group_by=word)}")
    return {named(item, word): item["value"] for item in result["items"]}


def pieces(span: Span) -> Iterator[dict[str, str]]:
    first, last = date.fromisoformat(span.first), date.fromisoformat(span.last)
    month = Month.of(first)
    while month.span.first <= last:
        whole = first <= month.span.first and month.span.last <= last
        start, end = max(first, month.span.first), min(last, month.span.last)
        yield {"from": f"{start}", "to": f"{end}", "granularity": "month" if whole else "day"}
        month = month.plus(1)


async def sums(
    site: Site, path: str, measure: str, span: Span, filters: Mapping[str, str], words: str = ""
) -> Counter[str]:
    """By the names of `words`, which are joined; by "" without any."""
    more = {"group_by": words} if words else {}
    found: Counter[str] = Counter()
    for piece in pieces(span):
        for item in (await site.get(f"{path}?{urlencode({**piece, **filters, **more})}"))["items"]:
            found[" · ".join(named(item, word) for word in words.split(",")) if words else ""] += item[measure]
    return found


def named(item: dict[str, Any], word: str) -> str:
    """A client's name has its realm, as in the page's tables."""
    return f"{item['client_id']} · {item['realm']}" if word == "client_id" else str(item[word])


async def tiles(site: Site, span: Span, filters: Mapping[str, str]) -> dict[str, float]:
    succeeded = (await sums(site, "/v1/logins", "succeeded", span, filters))[""]
    failed = (await sums(site, "/v1/logins", "failed", span, filters))[""]
    found: dict[str, float] = {
        "users": await users(site, span, filters),
        "logins": succeeded,
        "signups": (await sums(site, "/v1/accounts", "events", span, filters, "kind"))["signup"],
        "tokens": (await sums(site, "/v1/tokens", "tokens", span, filters))[""],
    }
    if succeeded + failed:
        found["rate"] = succeeded / (succeeded + failed)
    return found
