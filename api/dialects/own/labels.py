"""`/v1/labels`: the known realms, clients and nodes, for use in filters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, get_args

from msgspec import UNSET, UnsetType

from api.dialects.own.active_users import MAX_LIMIT
from api.dialects.own.answers import AsOf, Complete, Dimension, LeftOut, Part, Shares
from api.dialects.own.completeness import are_known
from api.dialects.own.filters import COLUMNS, REALM
from api.dialects.own.filters import DIMENSIONS as KINDS
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import Parameters, choice, limit
from api.dialects.own.rendering import Answer, as_of
from api.ledger.statistics import Statistics
from api.ledger.status import PipelineStatus
from schemas.ledger.scopes import Scope

PATH: Final = "/v1/labels"
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
DIMENSION: Final = choice("dimension", "Only labels of this kind.", DIMENSIONS)
LIMIT: Final = limit(MAX_LIMIT, "Maximum number of labels; `left_out` counts the others.")
PARAMETERS: Final = (REALM, DIMENSION, LIMIT)


class Label(Part, frozen=True, kw_only=True):
    """One label. A client has a realm and a client id."""

    dimension: Dimension
    realm: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    node: str | UnsetType = UNSET


class Labels(Part, frozen=True, kw_only=True):
    """Known labels."""

    as_of: AsOf
    complete: Complete
    regions: Shares | UnsetType = UNSET
    items: list[Label]
    left_out: LeftOut


OPERATION: Final = Operation(
    PATH,
    "labels",
    "Known realms, clients and nodes",
    "The labels that the bearer sees, sorted; nodes only for bearers of all realms.",
    Labels,
    PARAMETERS,
    regional=True,
)


@dataclass(frozen=True)
class LabelsQuestion:
    dimensions: tuple[Dimension, ...]
    realm: str | None
    limit: int

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return repr((self.dimensions, self.realm, self.limit))

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[Labels]:
        # Raises ForbiddenError for a bearer limited to realms if users are not kept by realm.
        statistics.scopes_of(realms)
        status = await statistics.pipeline_status()
        known = await statistics.labels()
        rows: list[Label] = []
        for name in self.dimensions:
            found = sorted(scope for scope in known if scope.dimension == KINDS[name] and self._is_shown(scope, realms))
            rows += [
                Label(dimension=name, **dict(zip(COLUMNS[KINDS[name]], scope.names, strict=True))) for scope in found
            ]
        complete = await self._is_complete(statistics, status, realms)
        answer = Labels(
            as_of=as_of(status),
            complete=complete,
            items=rows[: self.limit],
            left_out=LeftOut(groups=len(rows[self.limit :])),
        )
        return Answer(answer, partial=not complete or not rows)

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
    chosen = parameters.get(DIMENSION)
    return LabelsQuestion(
        tuple(name for name in DIMENSIONS if chosen in ("", name)), parameters.get(REALM), parameters.get(LIMIT)
    )
