"""A question's parameters, read one by one; each bad one is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Final

from api.http.errors import BadQuestion
from schemas.ledger.periods import Month

EARLIEST: Final = date(2000, 1, 1)
LATEST: Final = date(2999, 12, 31)
MAX_LABEL_BYTES: Final = 256
"""No event can carry a longer one."""


class BadParameter(BadQuestion):
    """`parameter` is its name as the caller wrote it."""

    def __init__(self, parameter: str, sentence: str) -> None:
        super().__init__(sentence)
        self.parameter = parameter


class Parameters:
    """The parameters that a route knows. Raises BadParameter for any other, and for blank ones."""

    def __init__(self, given: Mapping[str, str], known: Collection[str]) -> None:
        for name, value in given.items():
            if name not in known:
                raise BadParameter(name[:64], f"`{name[:64]}` is no parameter here: {', '.join(sorted(known))} are.")
            if not value.strip():
                raise BadParameter(name, f"`{name}` is blank.")
        self._given = given

    def text(self, name: str) -> str | None:
        """A realm, client or node, as events name it."""
        value = self._given.get(name)
        if value is not None and len(value.encode()) > MAX_LABEL_BYTES:
            raise BadParameter(name, f"`{name}` is longer than {MAX_LABEL_BYTES} bytes.")
        return value

    def day(self, name: str) -> date | None:
        value = self._given.get(name)
        if value is None:
            return None
        # date.fromisoformat alone would take `20261120` and `2026-W47-5` too.
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
            raise BadParameter(name, f"`{name}` is no date in the format YYYY-MM-DD (e.g. 2026-11-20).")
        try:
            day = date.fromisoformat(value)
        except ValueError as error:
            raise BadParameter(name, f"`{name}`: there is no day {value}.") from error
        if not EARLIEST <= day <= LATEST:
            raise BadParameter(name, f"`{name}` is not between {EARLIEST} and {LATEST}.")
        return day

    def month(self, name: str) -> Month | None:
        value = self._given.get(name)
        if value is None:
            return None
        if not re.fullmatch(r"\d{4}-\d{2}", value, re.ASCII):
            raise BadParameter(name, f"`{name}` is no month in the format YYYY-MM (e.g. 2026-11).")
        try:
            month = Month.of_key(value)
        except ValueError as error:
            raise BadParameter(name, f"`{name}`: there is no month {value}.") from error
        if not EARLIEST.year <= month.year <= LATEST.year:
            raise BadParameter(name, f"`{name}` is not between {EARLIEST.year}-01 and {LATEST.year}-12.")
        return month

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._given.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not least <= int(value) <= most:
            raise BadParameter(name, f"`{name}` is no number from {least} to {most}.")
        return int(value)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        value = self._given.get(name, default)
        if value not in choices:
            raise BadParameter(name, f"`{name}` is none of {', '.join(choices)}.")
        return value

    def choices(self, name: str, choices: Sequence[str]) -> tuple[str, ...]:
        """`a,b`: several, each once; none when it is not given."""
        value = self._given.get(name)
        if value is None:
            return ()
        chosen = tuple(value.split(","))
        for each in chosen:
            if each not in choices:
                raise BadParameter(name, f"`{name}`: {each[:64] or 'nothing'} is none of {', '.join(choices)}.")
        if len(set(chosen)) < len(chosen):
            raise BadParameter(name, f"`{name}` names one twice.")
        return chosen
