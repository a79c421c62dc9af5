"""One statement of a product's document, its verdict, and the request that proves it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

Verdict = Literal["as documented", "as the product", "differs"]

PRESENT: Final = object()
"""In `json`: any value, but the field is there."""


UNORDERED: Final = {"name", "parameter"}
"""Fields of LinOTP's realms, and of its rows: those of one event have the same time."""


class Statement(NamedTuple):
    """`text` stands in the docs, `why` after a verdict that differs. The request is a GET unless `form` is given."""

    text: str
    path: str
    json: Any = None
    """What the answer contains: objects may have more fields, arrays have these elements."""
    verdict: Verdict = "as documented"
    why: str = ""
    status: int = 200
    says: tuple[str, ...] = ()
    """Parts of the answer's text."""
    headers: Mapping[str, str] = {}
    """Parts of the answer's headers."""
    token: str | None = "reader"
    form: str | None = None
    world: str = ""
    """The data that the ledger holds; the product's own by default."""
    settings: Mapping[str, Any] = {}
    proof: str = ""
    """Instead of a request: the test (`file::name`) that proves the statement."""


def contains(found: Any, expected: Any) -> bool:
    """Whether an answer has all that is expected. The order of a pair such as `active&assigned` has no meaning."""
    if expected is PRESENT:
        return True
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return False
        named = {_canonical(name): value for name, value in found.items()}
        return all(
            _canonical(name) in named and contains(named[_canonical(name)], value) for name, value in expected.items()
        )
    if isinstance(expected, list) and any(isinstance(each, Mapping) and UNORDERED & each.keys() for each in expected):
        return len(found) == len(expected) and all(any(contains(one, each) for one in found) for each in expected)
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(contains, found, expected))
    if isinstance(expected, str) and isinstance(found, str):
        return _canonical(found) == _canonical(expected)
    return bool(found == expected) and type(found) is type(expected)


def _canonical(text: str) -> str:
    return "&".join(sorted(text.split("&"))) if re.fullmatch(r"[a-z]+&[a-z]+", text) else text
