"""`region` in questions: the regions that are asked together, or each by itself with `group_by=region`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from api.auth.principal import Principal
from api.dialects.own.answers import AsOf, LeftOut, RegionShare
from api.dialects.own.lifecycle_answer import History
from api.dialects.own.parameters import BadParameterError, Parameter
from api.dialects.own.rendering import Answer, in_pieces
from api.endpoint import Reading, Services
from api.ledger.client import together
from api.ledger.statistics import Statistics
from api.regions import regional
from api.regions.regions import EVERY, Regions
from api.settings.peers_file import ALL, REGION_NAME

REGION_GROUP: Final = "region"
CONCURRENT: Final = 4
"""Most regions of a grouped question that are computed at the same time."""


def _read_regions(name: str, value: str) -> tuple[str, ...]:
    chosen = tuple(value.split(","))
    if chosen == EVERY:
        return chosen
    for each in chosen:
        if each == ALL or not re.fullmatch(REGION_NAME, each):
            raise BadParameterError(name, f"`{name}` is {ALL}, or names of regions separated by commas.")
    if len({*chosen}) < len(chosen):
        raise BadParameterError(name, f"`{name}` repeats a region.")
    return chosen


REGION: Final[Parameter[tuple[str, ...] | None]] = Parameter(
    "region",
    f"Figures of these regions together: names separated by commas, or `{ALL}` that the bearer sees. Without it the "
    "figures are those of the region that answers.",
    None,
    {"type": "string", "pattern": f"^{REGION_NAME}(,{REGION_NAME})*$", "examples": [ALL, "eu,us"]},
    _read_regions,
)


class RegionalQuestion(Protocol):
    @property
    def key(self) -> str: ...

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Any: ...


class AskedRegions(NamedTuple):
    """`names` as in the parameter. With `grouped` each region has rows of its own."""

    names: tuple[str, ...]
    grouped: bool


def asked_regions(names: tuple[str, ...] | None, groups: Collection[str]) -> AskedRegions | None:
    """The regions of a question; None if it names none."""
    grouped = REGION_GROUP in groups
    if names is None and not grouped:
        return None
    return AskedRegions(names or EVERY, grouped)


def reading(
    question: RegionalQuestion, asked: AskedRegions | None, services: Services, principal: Principal
) -> Reading:
    """How the figures are read, and under which key they are cached. Raises BadRequestError."""
    realms = principal.realms
    if asked is None:
        return Reading(question.key, lambda: _packed(question.read(services.statistics, realms)))
    names = services.regions.select(asked.names, principal)
    read = _read_each if asked.grouped else _read_together
    return Reading(f"{question.key} {names} {asked.grouped}", lambda: _packed(read(question, names, services, realms)))


async def _packed(figures: Awaitable[Any]) -> Any:
    found = await figures
    return await in_pieces(found) if isinstance(found, Answer) else found


async def _read_together(
    question: RegionalQuestion, names: Sequence[str], services: Services, realms: Collection[str] | None
) -> Answer[Any]:
    regions = services.regions
    statistics = regions.over(names)
    answer = await question.read(statistics, realms)
    return _marked(answer, statistics.finish(), regions)


async def _read_each(
    question: RegionalQuestion, names: Sequence[str], services: Services, realms: Collection[str] | None
) -> Answer[Any]:
    regions, budget, places = services.regions, services.regions.budget(), asyncio.Semaphore(CONCURRENT)
    shares: dict[str, regional.RegionShare] = {}

    async def read(name: str) -> Answer[Any]:
        async with places:
            statistics = regions.over([name], budget)
            answer = await question.read(statistics, realms)
            (shares[name],) = statistics.finish()
            return _named(answer, name)

    answers = await together(read(name) for name in names)
    return _marked(_joined(answers, names), [shares[name] for name in names], regions)


def _named(answer: Answer[Any], name: str) -> Answer[Any]:
    """The answer with the region's name in each of its rows."""
    items = [msgspec.structs.replace(item, region=name) for item in answer.document.items]
    more = [{REGION_GROUP: name, **row} for row in answer.more_rows]
    return answer._replace(document=msgspec.structs.replace(answer.document, items=items), more_rows=more)


def _joined(answers: Sequence[Answer[Any]], names: Sequence[str]) -> Answer[Any]:
    """One answer with the rows of all, region by region."""
    documents = [answer.document for answer in answers]
    first = documents[0]
    joined: dict[str, Any] = {
        "items": [item for document in documents for item in document.items],
        "complete": all(document.complete for document in documents),
        "as_of": _newest(document.as_of for document in documents),
        "counted_from": max((each.counted_from for each in documents if each.counted_from is not None), default=None),
        "since": _latest(document.since for document in documents),
    }
    if getattr(first, "left_out", UNSET) is not UNSET:
        joined["left_out"] = _sum_left_out([document.left_out for document in documents])
    if getattr(first, "unattributed", UNSET) is not UNSET:
        numbers = [document.unattributed for document in documents]
        joined["unattributed"] = None if None in numbers else sum(numbers)
    if hasattr(first, "definition"):
        joined["definition"] = msgspec.structs.replace(
            first.definition,
            active_on=sorted({each for document in documents for each in document.definition.active_on}),
            user_scope=sorted({each for document in documents for each in document.definition.user_scope}),
        )
    if hasattr(first, "history"):
        histories = [document.history for document in documents]
        joined["history"] = _shortest(histories)
        joined["histories"] = dict(zip(names, histories, strict=True))
    return answers[0]._replace(
        document=msgspec.structs.replace(first, **joined),
        more_rows=[row for answer in answers for row in answer.more_rows],
        partial=any(answer.partial for answer in answers),
    )


def _newest(moments: Iterable[AsOf]) -> AsOf:
    found = list(moments)
    lags = [moment.lag for moment in found if moment.lag is not None]
    # RFC 3339 in UTC with milliseconds: the order of the texts is that of the times.
    newest = max((moment.newest_event for moment in found if moment.newest_event is not None), default=None)
    return AsOf(newest_event=newest, lag=sum(lags) if lags else None)


def _latest(changes: Iterable[Mapping[str, str | None]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for each in changes:
        for name, at in each.items():
            before = found.get(name, "")
            found[name] = None if at is None or before is None else max(at, before)
    return found


def _shortest(histories: Sequence[History]) -> History:
    """The one that began last, with the imported months of all. Regions without one have counted nothing."""
    began = [history for history in histories if history.since is not None]
    shortest = max(began, key=lambda history: history.since or date.min, default=histories[0])
    imported = {month for history in histories for month in history.imported}
    return msgspec.structs.replace(shortest, imported=sorted(imported))


def _sum_left_out(found: Sequence[LeftOut]) -> LeftOut:
    counts = [each.count for each in found if each.count is not UNSET]
    groups = sum(each.groups for each in found)
    return LeftOut(groups=groups, count=sum(counts) if counts else UNSET)


def _marked(answer: Answer[Any], shares: Sequence[regional.RegionShare], regions: Regions) -> Answer[Any]:
    """The answer with the state of each region. It is incomplete if one is not current."""
    members: dict[str, Any] = {"regions": [_share(share) for share in shares]}
    document = answer.document
    complete = all(share.is_complete for share in shares)
    if hasattr(document, "complete"):
        members["complete"] = document.complete and complete
    if hasattr(document, "region_users"):
        members["region_users"] = regions.users
    return answer._replace(
        document=msgspec.structs.replace(document, **members), partial=answer.partial or not complete
    )


def _share(share: regional.RegionShare) -> RegionShare:
    return RegionShare(
        region=share.region,
        state=share.state,
        age_s=UNSET if share.age_s is None else share.age_s,
        reason=share.reason or UNSET,
        not_united=share.not_united or UNSET,
        imported=share.imported or UNSET,
    )
