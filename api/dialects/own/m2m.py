"""`/v1/m2m`: machine-to-machine tokens of a month per client, with quotas and projections."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Annotated, Any, Final, NamedTuple

from msgspec import UNSET, Meta, UnsetType

from api.dialects.own import filters
from api.dialects.own.answers import AsOf, Complete, Count, Figure, MonthCount, Part, Shares, Since, Source
from api.dialects.own.completeness import is_complete
from api.dialects.own.filters import REALM, Filters
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import Parameters, limit, month
from api.dialects.own.rendering import Answer, as_of, figure
from api.dialects.own.series import MAX_ROWS
from api.dialects.own.window import require_kept
from api.ledger.distinct_query import ActiveUsers
from api.ledger.statistics import Statistics
from api.settings.quotas import Quotas
from api.settings.settings import ApiSettings
from schemas.ledger import fields
from schemas.ledger.periods import Month

PATH: Final = "/v1/m2m"
MONTH: Final = month("month", "A month, `YYYY-MM`. Default: the current month.")
LIMIT: Final = limit(MAX_ROWS)
PARAMETERS: Final = (MONTH, REALM, LIMIT)
TOKEN: Final = fields.split(fields.token("client_credentials", "access_token"))
ACTIVE: Final = {fields.split(fields.LOGIN)[0], TOKEN[0]}

MIN_ELAPSED: Final = timedelta(hours=1)
"""The minimum age of a month for projections: those from its first seconds would be arbitrary."""


class Usage(NamedTuple):
    """The tokens of a month and their quota. `used` is None if it is unknown, in an imported month."""

    used: int | None
    limit: int | None

    def as_document(self, elapsed: float) -> dict[str, Any]:
        """`elapsed` is the elapsed share of the month; the projection is linear."""
        projected = None if self.used is None else round(self.used / elapsed)
        return {
            "used": self.used,
            "limit": self.limit,
            "percent": _percent(self.used, self.limit),
            "projected": projected,
            "projected_percent": _percent(projected, self.limit),
        }


Limit = Annotated[Count | None, Meta(description="The limit in the quotas file.")]
Percent = Annotated[float | None, Meta(description="Percentage of the limit.")]
Projected = Annotated[Count, Meta(description="The number at the month's end, at the present rate.")]


class TenantUsage(Part, frozen=True, kw_only=True):
    """All clients; the limit is shown only to bearers of all realms."""

    used: MonthCount
    limit: Limit
    percent: Percent
    projected: Projected | None
    projected_percent: Percent


class M2mItem(Part, frozen=True, kw_only=True):
    """One client."""

    realm: str
    client_id: str
    used: Count
    limit: Limit
    percent: Percent
    projected: Projected
    projected_percent: Percent


class M2mLeftOut(Part, frozen=True, kw_only=True):
    """Clients beyond `limit`."""

    groups: Count
    used: Count


class M2m(Part, frozen=True, kw_only=True):
    """Usage of a month."""

    month: str
    timezone: str
    filters: dict[str, str]
    as_of: AsOf
    complete: Complete
    since: Since
    regions: Shares | UnsetType = UNSET
    tenant: TenantUsage
    active_clients: Figure
    items: list[M2mItem]
    left_out: M2mLeftOut
    imported: Source | UnsetType = UNSET


OPERATION: Final = Operation(
    PATH,
    "m2m",
    "Machine-to-machine tokens of a month against quotas",
    "Access tokens of the client_credentials grant, by client.",
    M2m,
    PARAMETERS,
    regional=True,
)


class ClientUsage(NamedTuple):
    """The usage of a month: of the tenant, and of each client by realm and client_id."""

    tenant: Usage
    clients: dict[tuple[str, str], Usage]
    active: int
    """The number of clients with a login or a token of any kind."""


@dataclass(frozen=True)
class M2mQuestion:
    month: Month
    filters: Filters
    limit: int
    quotas: Quotas
    version: str
    now: datetime

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return f"{self.month.key} {self.filters.cache_key} {self.limit} {self.version}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[M2m]:
        status = await statistics.pipeline_status()
        self.filters.require_kept(status)
        imported = await statistics.imported(realms, whole=self.filters.realm is None)
        require_kept([self.month.key], status, self.now.date(), "month", imported)
        async with statistics.wide_question(realms):
            used = await self.usage(statistics, realms)
        elapsed = self.elapsed
        ordered = sorted(used.clients.items(), key=lambda each: (-(each[1].used or 0), each[0]))
        rows = [
            M2mItem(realm=realm, client_id=client_id, **usage.as_document(elapsed))
            for (realm, client_id), usage in ordered[: self.limit]
        ]
        others = ordered[self.limit :]
        complete = await is_complete(statistics, status, ("realm", "client"), realms, [self.month.key])
        month = imported.get(self.month.key)
        answer = M2m(
            month=self.month.key,
            timezone=str(self.now.tzinfo),
            filters=self.filters.as_document,
            as_of=as_of(status),
            complete=complete,
            since=status.since(("counts_by", "max_labels", "labels_on", "topics"), self._starts(self.month)),
            tenant=TenantUsage(**used.tenant.as_document(elapsed)),
            active_clients=figure(await self._active(statistics, realms, used)),
            items=rows,
            left_out=M2mLeftOut(groups=len(others), used=sum(usage.used or 0 for _, usage in others)),
            imported=UNSET if month is None else month.source,
        )
        held = await statistics.find_periods([self.month.key])
        return Answer(answer, partial=not complete or not (held.shards or month))

    async def usage(self, statistics: Statistics, realms: Collection[str] | None) -> ClientUsage:
        """The usage of clients with tokens or a quota."""
        groups = await self.filters.groups(statistics, realms)
        scopes = await self.filters.scopes(statistics, realms)
        held = (await statistics.find_periods([self.month.key]))._replace(known_by=groups.known_by)
        tenant: int | None = 0
        used: dict[tuple[str, str], int] = {}
        active: set[tuple[str, str]] = set()
        async for _, _, counts in statistics.read_scopes(held, [self.month.key], scopes):
            tenant = (tenant or 0) + sum(count for parts, count in counts if parts == TOKEN)
        named = {group.scope: (group.columns["realm"], group.columns["client_id"]) for group in groups.rows}
        async for _, scope, counts in statistics.read_scopes(held, [self.month.key], named):
            client = named[scope]
            for parts, count in counts:
                if parts == TOKEN:
                    used[client] = used.get(client, 0) + count
                if parts[0] in ACTIVE:
                    active.add(client)
        limits = {
            client: limit
            for client, limit in self.quotas.by_client.items()
            if (realms is None or client[0] in realms) and self.filters.realm in (None, client[0])
        }
        whole = realms is None and self.filters.realm is None
        if month := (await statistics.imported(realms, whole=whole)).get(self.month.key):
            # The clients' tokens of an imported month are unknown, so `clients` has those that were counted here.
            tenant = month.counts.get(TOKEN)
        clients = {client: Usage(used.get(client, 0), limits.get(client)) for client in used.keys() | limits.keys()}
        return ClientUsage(Usage(tenant, self.quotas.tenant if whole else None), clients, len(active))

    @property
    def elapsed(self) -> float:
        """The elapsed share of the month, up to 1."""
        start, end = self._starts(self.month), self._starts(self.month.plus(1))
        # Timestamps, since the zone's UTC offset may change within the month.
        whole = end.timestamp() - start.timestamp()
        passed = self.now.timestamp() - start.timestamp()
        return min(max(passed, MIN_ELAPSED.total_seconds()) / whole, 1.0)

    async def _active(self, statistics: Statistics, realms: Collection[str] | None, used: ClientUsage) -> ActiveUsers:
        """From the sketch for the whole deployment; for single realms, the clients whose counters show activity."""
        if realms is None and self.filters.realm is None and statistics.has_client_sketches:
            return await statistics.active_clients(self.month.key)
        return ActiveUsers(used.active, 0.0)

    def _starts(self, month: Month) -> datetime:
        return datetime.combine(month.span.first, time(), self.now.tzinfo)


def _percent(part: int | None, limit: int | None) -> float | None:
    return None if part is None or limit is None else round(part / limit * 100, 2)


def parse(parameters: Parameters, settings: ApiSettings, now: datetime, quotas: Quotas, version: str) -> M2mQuestion:
    month = parameters.get(MONTH) or Month.of(now.date())
    selected = filters.parse(parameters, settings, "counts_by", "client_id")
    return M2mQuestion(month, selected, parameters.get(LIMIT), quotas, version, now)
