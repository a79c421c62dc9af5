"""Query parameters: each is declared once, with the function that reads it and its schema for `/openapi.json`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Any, Final, Generic, NamedTuple, TypeVar

from api.http.errors import BadRequestError
from schemas.ledger.periods import Month

EARLIEST: Final = date(2000, 1, 1)
LATEST: Final = date(2999, 12, 31)
MAX_LABEL_BYTES: Final = 256
"""The longest label that an event can have."""
DEFAULT_LIMIT: Final = 1000

T = TypeVar("T")


class BadParameterError(BadRequestError):
    """`parameter` is the name as the caller wrote it."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message, members={"parameter": parameter})


class Parameter(NamedTuple, Generic[T]):
    """`read` gets the name and the text, and raises BadParameterError. `schema` is a JSON Schema of the text."""

    name: str
    description: str
    default: T
    schema: Mapping[str, Any]
    read: Callable[[str, str], T]


class Parameters:
    """The parameters of a request. Raises BadParameterError for unknown and for blank ones."""

    def __init__(self, values: Mapping[str, str], known: Collection[Parameter[Any]]) -> None:
        names = {each.name for each in known}
        for name, value in values.items():
            if name not in names:
                listed = ", ".join(sorted(names)) or "none"
                raise BadParameterError(
                    name[:64], f"`{name[:64]}` is not a parameter of this route. Its parameters: {listed}."
                )
            if not value.strip():
                raise BadParameterError(name, f"`{name}` is blank.")
        self._values = values

    def get(self, parameter: Parameter[T]) -> T:
        """The value, or the default. Raises BadParameterError."""
        value = self._values.get(parameter.name)
        return parameter.default if value is None else parameter.read(parameter.name, value)


def label(name: str, description: str) -> Parameter[str | None]:
    """The name of a realm, client or node, as in events."""
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_BYTES}
    return Parameter(name, description, None, schema, _read_label)


def _read_label(name: str, value: str) -> str:
    if len(value.encode()) > MAX_LABEL_BYTES:
        raise BadParameterError(name, f"`{name}` is longer than {MAX_LABEL_BYTES} bytes.")
    return value


def day(name: str, description: str) -> Parameter[date | None]:
    schema = {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
    return Parameter(name, description, None, schema, _read_day)


def _read_day(name: str, value: str) -> date:
    # date.fromisoformat alone would also accept `20261120` and `2026-W47-5`.
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise BadParameterError(name, f"`{name}` is not a date in the format YYYY-MM-DD (e.g. 2026-11-20).")
    try:
        found = date.fromisoformat(value)
    except ValueError as error:
        raise BadParameterError(name, f"`{name}`: {value} is not a day of the calendar.") from error
    if not EARLIEST <= found <= LATEST:
        raise BadParameterError(name, f"`{name}` is not between {EARLIEST} and {LATEST}.")
    return found


def month(name: str, description: str) -> Parameter[Month | None]:
    return Parameter(name, description, None, {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"}, _read_month)


def _read_month(name: str, value: str) -> Month:
    if not re.fullmatch(r"\d{4}-\d{2}", value, re.ASCII):
        raise BadParameterError(name, f"`{name}` is not a month in the format YYYY-MM (e.g. 2026-11).")
    try:
        found = Month.of_key(value)
    except ValueError as error:
        raise BadParameterError(name, f"`{name}`: {value} is not a month of the calendar.") from error
    if not EARLIEST.year <= found.year <= LATEST.year:
        raise BadParameterError(name, f"`{name}` is not between {EARLIEST.year}-01 and {LATEST.year}-12.")
    return found


def number(name: str, description: str, default: int, minimum: int, maximum: int) -> Parameter[int]:
    def read(name: str, value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not minimum <= int(value) <= maximum:
            raise BadParameterError(name, f"`{name}` is not a whole number from {minimum} to {maximum}.")
        return int(value)

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum, "default": default}
    return Parameter(name, description, default, schema, read)


def limit(
    maximum: int, description: str = "Maximum number of groups, largest first; `left_out` counts the others."
) -> Parameter[int]:
    return number("limit", description, DEFAULT_LIMIT, 1, maximum)


def choice(name: str, description: str, choices: Sequence[str], default: str = "") -> Parameter[str]:
    """One of `choices`; without a default the value of an absent parameter is empty."""

    def read(name: str, value: str) -> str:
        if value not in choices:
            raise BadParameterError(name, f"`{name}` must be one of {', '.join(choices)}.")
        return value

    schema = {"type": "string", "enum": list(choices)} | ({"default": default} if default else {})
    return Parameter(name, description, default, schema, read)


def choices(name: str, description: str, allowed: Sequence[str], example: str) -> Parameter[tuple[str, ...]]:
    """The items of `a,b`, each at most once; empty if the parameter is absent."""

    def read(name: str, value: str) -> tuple[str, ...]:
        chosen = tuple(value.split(","))
        for each in chosen:
            if each not in allowed:
                raise BadParameterError(
                    name, f"`{name}`: each item must be one of {', '.join(allowed)}, not `{each[:64]}`."
                )
        if len(set(chosen)) < len(chosen):
            raise BadParameterError(name, f"`{name}` repeats an item.")
        return chosen

    one = "|".join(allowed)
    schema = {"type": "string", "pattern": f"^({one})(,({one}))*$", "examples": [example]}
    return Parameter(name, description, (), schema, read)
