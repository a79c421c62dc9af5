"""`/v1/labels`: the known realms, clients and nodes, for use in filters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from api.dialects.own.active_users import LIMIT, MAX_LIMIT
from api.dialects.own.completeness import are_known
from api.dialects.own.filters import COLUMNS
from api.dialects.own.filters import DIMENSIONS as KINDS
from api.dialects.own.parameters import Parameters
from api.dialects.own.rendering import Answer, as_of
from api.ledger.statistics import Statistics
from api.ledger.status import PipelineStatus
from schemas.ledger.scopes import Scope

__all__ = ["DIMENSIONS", "MAX_LIMIT", "PARAMETERS", "PATH", "LabelsQuestion", "parse"]

PATH: Final = "/v1/labels"
DIMENSIONS: Final = tuple(KINDS)
PARAMETERS: Final = ("dimension", "realm", "limit")


@dataclass(frozen=True)
class LabelsQuestion:
    dimensions: tuple[str, ...]
    realm: str | None
    limit: int

    @property
    def key(self) -> str:
        return repr((self.dimensions, self.realm, self.limit))

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer:
        # Raises ForbiddenError for a bearer limited to realms if users are not kept by realm.
        statistics.scopes_of(realms)
        status = await statistics.pipeline_status()
        known = await statistics.labels()
        rows: list[dict[str, str]] = []
        for name in self.dimensions:
            found = sorted(scope for scope in known if scope.dimension == KINDS[name] and self._is_shown(scope, realms))
            rows += [
                {"dimension": name, **dict(zip(COLUMNS[KINDS[name]], scope.names, strict=True))} for scope in found
            ]
        complete = await self._is_complete(statistics, status, realms)
        document: dict[str, Any] = {
            "as_of": as_of(status),
            "complete": complete,
            "items": rows[: self.limit],
            "left_out": {"groups": len(rows[self.limit :])},
        }
        return Answer(document, rows[: self.limit], partial=not complete or not rows)

    async def _is_complete(
        self, statistics: Statistics, status: PipelineStatus, realms: Collection[str] | None
    ) -> bool:
        """Whether every label of all time was kept; for a limited bearer, every one of its realms."""
        dimensions = {KINDS[name] for name in self.dimensions}
        if realms is None:
            return status.labels_complete(dimensions)
        if "realm" in dimensions and not await are_known(statistics, status, realms):
            return False
        return "client" not in dimensions or not await statistics.refused_by_share("client", realms)

    def _is_shown(self, scope: Scope, realms: Collection[str] | None) -> bool:
        """A node belongs to all realms, so a bearer or filter of some does not see it."""
        if scope.dimension == "node":
            return realms is None and self.realm is None
        return self.realm in (None, scope.names[0]) and (realms is None or scope.names[0] in realms)


def parse(parameters: Parameters) -> LabelsQuestion:
    """Raises BadParameterError."""
    chosen = parameters.choice("dimension", ("", *DIMENSIONS), "")
    limit = parameters.number("limit", LIMIT, 1, MAX_LIMIT)
    return LabelsQuestion((chosen,) if chosen else DIMENSIONS, parameters.text("realm"), limit)
