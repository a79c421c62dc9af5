"""A question's filters and grouping as ledger scopes, limited to the realms that the bearer sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from api.dialects.own.parameters import BadParameterError, Parameters, label
from api.http.errors import ForbiddenError
from api.ledger.statistics import Statistics
from api.ledger.status import PipelineStatus
from api.metrics import ACCESS_REFUSALS
from api.settings.settings import ApiSettings
from api.turns import pause
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import OTHER, Scope

REALM: Final = label("realm", "Only this realm. An unknown realm has zero.")
CLIENT_ID: Final = label("client_id", "Only clients with this id, in `realm` or in all realms that the bearer sees.")
NODE: Final = label("node", "Only this node. Not with `realm` or `client_id`.")
PARAMETERS: Final = (REALM, CLIENT_ID, NODE)
DIMENSIONS: Final = {"realm": "realm", "client_id": "client", "node": "node"}
"""The dimension that must be kept, by parameter or grouping."""
COLUMNS: Final = {"realm": ("realm",), "client": ("realm", "client_id"), "node": ("node",)}


class Group(NamedTuple):
    """A row's scope and its label columns."""

    scope: Scope
    columns: dict[str, str]


class Groups(NamedTuple):
    rows: list[Group]
    known_by: Mapping[Scope, Collection[Shard]]


class Filters(NamedTuple):
    """The filters, and the grouping of rows."""

    realm: str | None
    client_id: str | None
    node: str | None
    group_by: str | None
    setting: str
    """The setting that must keep the dimensions: `users_by` or `counts_by`."""

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
        """Whether a filter or the grouping distinguishes clients."""
        return "client_id" in (*self.as_document, self.group_by)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions on whose labels the answer depends."""
        found = [DIMENSIONS[name] for name in DIMENSIONS if name in self.as_document or name == self.group_by]
        # A client is a pair of realm and client id.
        return tuple(dict.fromkeys((["realm"] if "client" in found else []) + found))

    def require_kept(self, status: PipelineStatus) -> None:
        """Raises BadParameterError if a shard was counted without a needed dimension."""
        for name, dimension in self._needed:
            if not status.keeps_dimension(self.setting, dimension):
                region = status.region_without(self.setting, dimension)
                raise _not_kept_error(name, dimension, self.setting, region)

    @property
    def _needed(self) -> list[tuple[str, str]]:
        """Pairs of a parameter and the dimension that it needs."""
        needed = [(name, DIMENSIONS[name]) for name in self.as_document]
        if self.group_by is not None:
            needed.append(("group_by", DIMENSIONS[self.group_by]))
        # Clients of a realm are read from client scopes; the realm's own are not needed.
        clients = [(name, dimension) for name, dimension in needed if dimension == "client"]
        return clients or needed

    async def scopes(self, statistics: Statistics, realms: Collection[str] | None) -> Sequence[Scope]:
        """The scopes that pass the filters; the caller unites them. Raises ForbiddenError."""
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
        """One group per known label of `group_by` that passes the filters. Raises ForbiddenError."""
        self._everything(statistics, realms)
        dimension = DIMENSIONS[self.group_by or ""]
        known_by = await statistics.labels()
        rows = []
        for scope in sorted(_with_other_labels(known_by)):
            await pause()
            columns = dict(zip(COLUMNS.get(scope.dimension, ()), scope.names, strict=False))
            hidden = "node" not in columns and not _is_visible(realms, columns["realm"], columns.get("client_id"))
            if scope.dimension != dimension or hidden:
                continue
            if all(columns.get(name) == value for name, value in self.as_document.items()):
                rows.append(Group(scope, columns))
        return Groups(rows, known_by)

    def _everything(self, statistics: Statistics, realms: Collection[str] | None) -> Sequence[Scope]:
        """The scopes of a question without filters.

        Raises ForbiddenError if the bearer, limited to `realms`, may not ask: by node, or without figures by realm.
        """
        everything = statistics.scopes_of(realms)
        if realms is not None and "node" in (*self.as_document, self.group_by):
            ACCESS_REFUSALS.labels("realms").inc()
            raise ForbiddenError("Figures of nodes cover all realms, and this bearer is limited to some.")
        return everything


def narrower(group_by: str | None) -> str:
    """The filters that reduce the number of groups, for the text of a refusal."""
    return {"realm": "`realm`", "node": "`node`"}.get(group_by or "", "`realm` or `client_id`")


def parse(parameters: Parameters, settings: ApiSettings, setting: str, group_by: str | None = None) -> Filters:
    """The filters. Raises BadParameterError if they contradict each other or the settings do not keep them."""
    realm, client_id, node = (parameters.get(each) for each in PARAMETERS)
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
                "group_by", f"`group_by=node` and `{name}` cannot be combined: a node is kept for all realms."
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
    """The known labels and the `__other__` scopes; those of clients exist per realm."""
    realms = {scope.names[0] for scope in known if scope.dimension == "realm"} | {"", OTHER}
    others = {Scope("realm", (OTHER,)), Scope("node", (OTHER,))}
    return {*known, *others, *(Scope("client", (realm, OTHER)) for realm in realms)}


def _not_kept_error(parameter: str, dimension: str, setting: str, region: str = "") -> BadParameterError:
    """`region` is empty for the own one."""
    kind = "Active users" if setting == "users_by" else "Counters"
    name = setting.upper()
    where = f"in region {region}" if region else "here"
    return BadParameterError(
        parameter, f"{kind} by {dimension} are not kept {where}: {name} does not contain `{dimension}`."
    )
