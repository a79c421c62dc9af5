"""Validated access to a question's parameters; an error names the bad parameter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Final

from api.http.errors import BadRequestError
from schemas.ledger.periods import Month

EARLIEST: Final = date(2000, 1, 1)
LATEST: Final = date(2999, 12, 31)
MAX_LABEL_BYTES: Final = 256
"""The longest label that an event can have."""


class BadParameterError(BadRequestError):
    """`parameter` is the name as the caller wrote it."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message, members={"parameter": parameter})


class Parameters:
    """The parameters of a route. Raises BadParameterError for unknown and for blank ones."""

    def __init__(self, values: Mapping[str, str], known: Collection[str]) -> None:
        for name, value in values.items():
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise BadParameterError(
                    name[:64], f"`{name[:64]}` is not a parameter of this route. Its parameters: {listed}."
                )
            if not value.strip():
                raise BadParameterError(name, f"`{name}` is blank.")
        self._values = values

    def text(self, name: str) -> str | None:
        """The name of a realm, client or node, as in events."""
        value = self._values.get(name)
        if value is not None and len(value.encode()) > MAX_LABEL_BYTES:
            raise BadParameterError(name, f"`{name}` is longer than {MAX_LABEL_BYTES} bytes.")
        return value

    def day(self, name: str) -> date | None:
        value = self._values.get(name)
        if value is None:
            return None
        # date.fromisoformat alone would also accept `20261120` and `2026-W47-5`.
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
            raise BadParameterError(name, f"`{name}` is not a date in the format YYYY-MM-DD (e.g. 2026-11-20).")
        try:
            day = date.fromisoformat(value)
        except ValueError as error:
            raise BadParameterError(name, f"`{name}`: {value} is not a day of the calendar.") from error
        if not EARLIEST <= day <= LATEST:
            raise BadParameterError(name, f"`{name}` is not between {EARLIEST} and {LATEST}.")
        return day

    def month(self, name: str) -> Month | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not re.fullmatch(r"\d{4}-\d{2}", value, re.ASCII):
            raise BadParameterError(name, f"`{name}` is not a month in the format YYYY-MM (e.g. 2026-11).")
        try:
            month = Month.of_key(value)
        except ValueError as error:
            raise BadParameterError(name, f"`{name}`: {value} is not a month of the calendar.") from error
        if not EARLIEST.year <= month.year <= LATEST.year:
            raise BadParameterError(name, f"`{name}` is not between {EARLIEST.year}-01 and {LATEST.year}-12.")
        return month

    def number(self, name: str, default: int, minimum: int, maximum: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not minimum <= int(value) <= maximum:
            raise BadParameterError(name, f"`{name}` is not a whole number from {minimum} to {maximum}.")
        return int(value)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        value = self._values.get(name, default)
        if value not in choices:
            raise BadParameterError(name, f"`{name}` must be one of {', '.join(choices)}.")
        return value

    def choices(self, name: str, choices: Sequence[str]) -> tuple[str, ...]:
        """The items of `a,b`, each at most once; empty if the parameter is absent."""
        value = self._values.get(name)
        if value is None:
            return ()
        chosen = tuple(value.split(","))
        for each in chosen:
            if each not in choices:
                raise BadParameterError(
                    name, f"`{name}`: each item must be one of {', '.join(choices)}, not `{each[:64]}`."
                )
        if len(set(chosen)) < len(chosen):
            raise BadParameterError(name, f"`{name}` repeats an item.")
        return chosen
