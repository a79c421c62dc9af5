"""Figures about the users of two periods and of the time before, from the sizes of unions. Pure.

With U(X) the distinct users of the periods X, H all periods before p, and q the period before p:

    new         = U(H + p) - U(H)
    returning   = U(p) + U(q) - U(p + q)
    reactivated = U(p) - new - returning
    lapsed      = U(q) - returning

All sizes of one figure are exact, or all are estimates from sketches of the same users. Then the identities hold
between the values as computed, and differences of nested unions are never negative. Shown values are limited to what is
possible, and a value that is not far above its error is replaced by an upper bound.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from api.ledger.union_errors import variance
from schemas.ledger import accuracy
from schemas.ledger.accuracy import REGISTERS

SHOWN_AT: Final = 4.0
"""A figure is shown if it is at least so many standard errors: at 25 % or less."""
NESTED_SHOWN_AT: Final = 33.0
"""A difference of nested unions is shown if it is at least so many users per register of the larger union's sketches.

There a new user changes a register with a probability of about one part in the users per register, so that this is
another form of 25 %; it also holds where the estimate happens to be 0 and so its standard error."""
SLACK: Final = 4.0
"""Users per register that are added to an upper bound: so many may have changed no register."""
UNSEEN: Final = 2.0
"""Users per register whose absence may go unnoticed."""
BOUND_AT: Final = 2.0
"""Standard errors that are added to an upper bound."""


class Figure(NamedTuple):
    """A number of users. Without `value` it is below `fewer_than`, or unknown."""

    value: int | None = None
    standard_error: float | None = None
    """Relative; 0 for an exact value."""
    fewer_than: int | None = None

    @property
    def exact(self) -> bool:
        return self.standard_error == 0


class Rate(NamedTuple):
    """A share of users, 0 to 1. Without `value` it is below `less_than`, or unknown."""

    value: float | None = None
    standard_error: float | None = None
    """Relative; 0 for an exact value."""
    less_than: float | None = None

    @property
    def exact(self) -> bool:
        return self.standard_error == 0


UNKNOWN: Final = Figure()
NO_RATE: Final = Rate()


class Pair(NamedTuple):
    """The users of a period, of the one before, and of both together, in one mode."""

    parts: int
    """Sketches of each estimate; 0 if the numbers are exact."""
    previous: int
    current: int
    together: int

    @property
    def returning(self) -> int:
        return self.current + self.previous - self.together

    @property
    def lapsed(self) -> int:
        return self.previous - self.returning

    def returning_figure(self) -> Figure:
        sizes = self.previous, self.current, self.together
        most = min(self.previous, self.current)
        value = _limited(self.returning, most)
        more = self.together - self.previous
        error = _error(self.parts, (1, 1, -1), sizes, (value, self.previous, self.current), (more, self.current, more))
        return _figure(self.parts, value, error, most, self.together)

    def lapsed_figure(self) -> Figure:
        return _nested_figure(self.parts, self.current, self.together, self.previous)


class Row(NamedTuple):
    """All unions of a row, in one mode."""

    pair: Pair
    before: int
    """U(H)"""
    after: int
    """U(H + p)"""
    only_previous: bool
    """Whether H has no users but those of q."""

    @property
    def new(self) -> int:
        return self.after - self.before

    @property
    def reactivated(self) -> int:
        return self.pair.current - self.new - self.pair.returning

    def new_figure(self) -> Figure:
        return _nested_figure(self.pair.parts, self.before, self.after, self.pair.current)

    def reactivated_figure(self) -> Figure:
        parts, previous, current, together = self.pair
        if self.only_previous:
            return Figure(0, 0.0)
        value = _limited(self.reactivated, min(current, max(self.before - previous, 0)))
        # As (U(p + q) - U(q)) - (U(H + p) - U(H)): fewer terms than the definition, and the same number.
        sizes = together, previous, self.after, self.before
        overlaps = previous, together, previous + value, previous, previous, self.before
        more = together - previous
        error = _error(parts, (1, -1, -1, 1), sizes, overlaps, (more, more, self.new, self.new))
        return _figure(parts, value, error, current, self.after)


class Cohort(NamedTuple):
    """The unions of a cohort's period p and a later period q, each with the periods H, in one mode.

    The cohort are the users of p who are not in H. With an empty H they are all users of p.
    """

    parts: int
    base: int
    """U(H)"""
    first: int
    """U(H + p)"""
    later: int
    """U(H + q)"""
    together: int
    """U(H + p + q)"""
    nobody_later: bool = False
    """Whether q has no users at all."""

    @property
    def users(self) -> int:
        return self.first - self.base

    @property
    def retained(self) -> int:
        """Users of the cohort who are active in q."""
        return self.first + self.later - self.base - self.together

    def users_figure(self) -> Figure:
        if not self.base:
            return active_figure(self.parts, self.first)
        return _nested_figure(self.parts, self.base, self.first, self.first)

    def retained_figure(self) -> Figure:
        if self.nobody_later:
            return Figure(0, 0.0)
        value = _limited(self.retained, min(self.first, self.later) - self.base)
        error = self._error((1, 1, -1, -1), value)
        # With a base the limit is an estimate itself, so that it is none for the upper bound.
        return _figure(self.parts, value, error, self.together, self.together)

    def rate(self) -> Rate:
        users, retained = self.users_figure(), self.retained_figure()
        if not users.value:
            return NO_RATE
        if retained.value is None:
            bound = None if retained.fewer_than is None else min(1.0, retained.fewer_than / users.value)
            return Rate(less_than=bound)
        if not self.parts or self.nobody_later:
            return Rate(retained.value / users.value, 0.0)
        value = min(1.0, retained.value / users.value)
        # To first order the rate's error is that of retained less rate times users, over users. At a rate of 1 it would
        # be 0, although a few users who left may have changed no register.
        unseen = UNSEEN * self.together / (REGISTERS * self.parts)
        error = max(self._error((1 - value, 1, value - 1, -1), retained.value), unseen) / users.value
        return Rate(value, error / value)

    def _error(self, coefficients: tuple[float, ...], retained: int) -> float:
        sizes = self.first, self.later, self.base, self.together
        overlaps = self.base + retained, self.base, self.first, self.base, self.later, self.base
        left = self.together - self.later
        return _error(self.parts, coefficients, sizes, overlaps, (self.users, left, self.users, left))


def active_figure(parts: int, value: int) -> Figure:
    """The users of one union, as every answer about active users has them."""
    return Figure(value, accuracy.SKETCH_ERROR / math.sqrt(parts) if parts and value else 0.0)


def _nested_figure(parts: int, smaller: int, larger: int, most: int) -> Figure:
    """The difference of a union and a part of it, which is at most `most`."""
    value = _limited(larger - smaller, most)
    error = _error(parts, (1, -1), (larger, smaller), (smaller,), (value, value))
    return _figure(parts, value, error, most, larger, NESTED_SHOWN_AT)


def _limited(value: int, most: int) -> int:
    return max(min(value, most), 0)


def _error(
    parts: int,
    coefficients: tuple[float, ...],
    sizes: tuple[int, ...],
    overlaps: tuple[int, ...],
    rounded: tuple[int, ...],
) -> float:
    """Absolute standard error."""
    return math.sqrt(variance(parts, coefficients, sizes, overlaps, rounded)) if parts else 0.0


def _figure(parts: int, value: int, error: float, most: int, ever: int, shown_at: float = 0.0) -> Figure:
    """The figure that may be shown. `most` is an upper limit, and `ever` the largest union of which it is made."""
    if not parts or not most:
        return Figure(value, 0.0)
    per_register = ever / (REGISTERS * parts)
    if value >= max(SHOWN_AT * error, shown_at * per_register, 1):
        return Figure(value, error / value)
    return Figure(fewer_than=min(math.ceil(value + BOUND_AT * error + SLACK * per_register), most) + 1)
