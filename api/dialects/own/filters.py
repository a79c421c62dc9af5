"""Whose figures: a question's filters and grouping as scopes, within what its bearer may see."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from api.dialects.own.parameters import BadParameterError, Parameters
from api.http.errors import ForbiddenError
from api.ledger.statistics import Statistics
from api.ledger.status import PipelineStatus
from api.metrics import ACCESS_REFUSALS
from api.settings.settings import ApiSettings
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import OTHER, Scope

PARAMETERS: Final = ("realm", "client_id", "node")
DIMENSIONS: Final = {"realm": "realm", "client_id": "client", "node": "node"}
"""Parameters and groupings by name: which dimension has to be kept for them."""
COLUMNS: Final = {"realm": ("realm",), "client": ("realm", "client_id"), "node": ("node",)}


class Group(NamedTuple):
    """One row's scope, and the columns that name it."""

    scope: Scope
    columns: dict[str, str]


class Groups(NamedTuple):
    rows: list[Group]
    known_by: Mapping[Scope, Collection[Shard]]


class Filters(NamedTuple):
    """The filters, and by which of them rows are grouped."""

    realm: str | None
    client_id: str | None
    node: str | None
    group_by: str | None
    setting: str
    """Which setting has to keep it: `users_by` or `counts_by`."""

    @property
    def cache_key(self) -> str:
        return repr(tuple(self))

    @property
    def as_document(self) -> dict[str, str]:
        given = {"realm": self.realm, "client_id": self.client_id, "node": self.node}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def is_empty(self) -> bool:
        return self.group_by is None and not self.as_document

    @property
    def by_client(self) -> bool:
        """Whether clients are told apart, by a filter or by groups."""
        return "client_id" in (*self.as_document, self.group_by)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Whose labels an answer depends on."""
        found = [DIMENSIONS[name] for name in PARAMETERS if name in self.as_document or name == self.group_by]
        # A client is a pair.
        return tuple(dict.fromkeys((["realm"] if "client" in found else []) + found))

    def require_kept(self, status: PipelineStatus) -> None:
        """Raises BadParameterError where a shard was counted without what is asked."""
        for name, dimension in self._needed:
            if not status.keeps_dimension(self.setting, dimension):
                raise _not_kept_error(name, dimension, self.setting)

    @property
    def _needed(self) -> list[tuple[str, str]]:
        """The parameters that need a dimension to be kept, and which."""
        needed = [(name, DIMENSIONS[name]) for name in self.as_document]
        if self.group_by is not None:
            needed.append(("group_by", DIMENSIONS[self.group_by]))
        # A realm's clients are clients: they need no figures of the realm.
        clients = [(name, dimension) for name, dimension in needed if dimension == "client"]
        return clients or needed

    async def scopes(self, statistics: Statistics, realms: Collection[str] | None) -> Sequence[Scope]:
        """What the filters let through; several scopes are to be united. Raises ForbiddenError."""
        everything = self._everything(statistics, realms)
        if self.node is not None:
            return [Scope("node", (self.node,))]
        if self.realm is not None and not _is_visible(realms, self.realm, self.client_id):
            return []
        if self.client_id is not None:
            if self.realm is not None:
                return [Scope("client", (self.realm, self.client_id))]
            if realms is not None:
                own = [realm for realm in sorted(realms) if _is_visible(realms, realm, self.client_id)]
                return [Scope("client", (realm, self.client_id)) for realm in own]
            known = _with_other_labels(await statistics.labels())
            return sorted(scope for scope in known if scope.dimension == "client" and scope.names[1] == self.client_id)
        return everything if self.realm is None else [Scope("realm", (self.realm,))]

    async def groups(self, statistics: Statistics, realms: Collection[str] | None) -> Groups:
        """Every known label that `group_by` tells apart and the filters let through. Raises ForbiddenError."""
        self._everything(statistics, realms)
        dimension = DIMENSIONS[self.group_by or ""]
        known_by = await statistics.labels()
        rows = []
        for scope in sorted(_with_other_labels(known_by)):
            columns = dict(zip(COLUMNS.get(scope.dimension, ()), scope.names, strict=False))
            hidden = "node" not in columns and not _is_visible(realms, columns["realm"], columns.get("client_id"))
            if scope.dimension != dimension or hidden:
                continue
            if all(columns.get(name) == value for name, value in self.as_document.items()):
                rows.append(Group(scope, columns))
        return Groups(rows, known_by)

    def _everything(self, statistics: Statistics, realms: Collection[str] | None) -> Sequence[Scope]:
        everything = statistics.scopes_of(realms)
        if realms is not None and "node" in (*self.as_document, self.group_by):
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError("Figures of nodes are of all realms, and this bearer sees only some.")
        return everything


def parse(parameters: Parameters, settings: ApiSettings, setting: str, group_by: str | None = None) -> Filters:
    """The filters, within what the settings keep. Raises BadParameterError."""
    realm, client_id, node = (parameters.text(name) for name in PARAMETERS)
    selected = Filters(realm, client_id, node, group_by, setting)
    if selected.node is not None:
        for name in ("realm", "client_id"):
            if name in selected.as_document or name == group_by:
                raise BadParameterError(
                    "node", f"`node` and `{name}` cannot be combined: a node is kept for all realms."
                )
    elif group_by == "node":
        for name in selected.as_document:
            raise BadParameterError(
                "group_by", f"Nodes cannot be told within one `{name}`: a node is kept for all realms."
            )
    if selected.group_by == "realm" and selected.client_id is not None:
        selected = selected._replace(group_by="client_id")
    for name, dimension in selected._needed:
        if dimension not in getattr(settings, setting):
            raise _not_kept_error(name, dimension, setting)
    return selected


def _is_visible(realms: Collection[str] | None, realm: str, client_id: str | None = None) -> bool:
    return realms is None or (realm in realms and OTHER not in (realm, client_id))


def _with_other_labels(known: Mapping[Scope, Collection[Shard]]) -> set[Scope]:
    """The labels, and where counts go whose label is not known: per realm where there are clients."""
    realms = {scope.names[0] for scope in known if scope.dimension == "realm"} | {"", OTHER}
    others = {Scope("realm", (OTHER,)), Scope("node", (OTHER,))}
    return {*known, *others, *(Scope("client", (realm, OTHER)) for realm in realms)}


def _not_kept_error(parameter: str, dimension: str, setting: str) -> BadParameterError:
    kind = "Active users" if setting == "users_by" else "Counters"
    name = setting.upper()
    return BadParameterError(
        parameter, f"{kind} by {dimension} are not kept here: {name} would have to name `{dimension}`."
    )
