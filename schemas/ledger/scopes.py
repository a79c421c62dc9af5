"""Scopes: everything, a realm, a client of a realm, a node."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

OTHER: Final = "__other__"
"""The label of events whose own is unknown (a failure) or exceeds MAX_LABELS: totals stay exact."""


class Scope(NamedTuple):
    """One of `("all",)`, `("realm", realm)`, `("client", realm, client_id)`, `("node", node)`.

    A client is the pair, since every realm may have a client `web`; an event without a realm has realm "".
    """

    dimension: str
    names: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """`all`, `realm/acme`, `client/acme/web`, `node/as1`: one string per scope and one scope per string."""
        return scope_text(self)

    @classmethod
    def parse(cls, text: str) -> Scope:
        dimension, *names = text.split("/")
        return cls(dimension, tuple(unquote(name) for name in names))


@lru_cache(maxsize=65_536)
def scope_text(scope: Scope) -> str:
    return "/".join((scope.dimension, *(quote(name, safe="") for name in scope.names)))


EVERYTHING: Final = Scope("all")
