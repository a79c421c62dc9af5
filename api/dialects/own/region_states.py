"""`/v1/regions`: the regions that the bearer sees, and whether their figures can be used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from api.auth.principal import Principal
from api.dialects.own.answers import AsOf, Part, Time
from api.dialects.own.operation import Operation
from api.dialects.own.rendering import Answer
from api.endpoint import Reading, Services
from api.http.errors import BadRequestError
from api.ledger.statistics import Statistics
from api.regions.regions import Regions
from api.regions.wire import Identity

PATH: Final = "/v1/regions"


class Region(Part, frozen=True, kw_only=True):
    """One region, as this process saw it last."""

    region: str
    own: bool
    state: Annotated[
        Literal["current", "unreachable", "refused", "unknown"],
        Meta(description="`unknown` until the first exchange has ended."),
    ]
    since: Annotated[Time | None, Meta(description="The time of the last change of `state`; null for the own region.")]
    error: Annotated[str | UnsetType, Meta(description="Why it is unreachable: timeout, connection, status_503, …")] = (
        UNSET
    )
    refusal: Annotated[str | UnsetType, Meta(description="Why its figures are not used, in one word.")] = UNSET
    detail: Annotated[str | UnsetType, Meta(description="The setting that differs, with both values.")] = UNSET
    ledger: Annotated[str | None, Meta(description="The random id of its ledger; null if unknown.")]
    as_of: AsOf | None


class RegionStates(Part, frozen=True, kw_only=True):
    """The regions; none if REGION is not set."""

    region: Annotated[str | None, Meta(description="The region that answers.")]
    region_users: Literal["shared", "distinct"] | None
    items: list[Region]


OPERATION: Final = Operation(
    PATH,
    "regions",
    "The regions that answer together, and their state",
    "Only regions that the bearer sees: a token without `regions` sees the one that answers.",
    RegionStates,
)


@dataclass(frozen=True)
class RegionsQuestion:
    key: str = "regions"
    is_wide: bool = False

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[RegionStates]:
        raise BadRequestError("The regions depend on the bearer.")


def reading(services: Services, principal: Principal) -> Reading:
    """The states of the regions that the bearer sees."""
    visible = services.regions.visible(principal) if services.regions.own else ()

    async def read() -> Answer[RegionStates]:
        return Answer(await states(services.regions, visible))

    return Reading(f"regions {visible}", read)


async def states(regions: Regions, visible: Collection[str]) -> RegionStates:
    """Raises one of api.ledger.client.UNREACHABLE."""
    items = []
    for name in visible:
        if name == regions.own:
            identity = await regions.exporter.identity()
            items.append(
                Region(
                    region=name, own=True, state="current", since=None, ledger=identity.ledger, as_of=_as_of(identity)
                )
            )
        elif name in regions.peers:
            items.append(_peer(regions, name))
    if not regions.own:
        return RegionStates(region=None, region_users=None, items=[])
    return RegionStates(region=regions.own, region_users=regions.users, items=items)


def _peer(regions: Regions, name: str) -> Region:
    state = regions.peers[name].state
    found: Literal["current", "unreachable", "refused", "unknown"] = "current"
    if state.refused is not None:
        found = "refused"
    elif state.error:
        found = "unreachable"
    elif state.identity is None:
        found = "unknown"
    at = datetime.fromtimestamp(state.since, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    return Region(
        region=name,
        own=False,
        state=found,
        since=at,
        error=state.error or UNSET,
        refusal=UNSET if state.refused is None else state.refused.refusal,
        detail=UNSET if state.refused is None else state.refused.detail,
        ledger=None if state.identity is None else state.identity.ledger,
        as_of=None if state.identity is None else _as_of(state.identity),
    )


def _as_of(identity: Identity) -> AsOf:
    return AsOf(newest_event=identity.as_of.newest_event, lag=identity.as_of.lag)
