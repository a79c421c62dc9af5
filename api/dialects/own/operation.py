"""An endpoint's description in `/openapi.json`, declared beside the endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from api.dialects.own.parameters import Parameter, choice

FORMATS: Final = ("json", "csv")
FORMAT: Final = choice("format", "The format of the answer; overrides `Accept`.", FORMATS)
BOM: Final = choice(
    "bom", "1: CSV begins with a byte order mark, so that spreadsheets read it as UTF-8.", ("0", "1"), "0"
)


class Operation(NamedTuple):
    """A GET route with an answer in JSON, or in CSV of its items. `id` becomes the name of a function in clients."""

    path: str
    id: str
    summary: str
    description: str
    answer: type[Struct]
    parameters: Sequence[Parameter[Any]] = ()
    regional: bool = False
    """Whether it can be asked over regions."""
