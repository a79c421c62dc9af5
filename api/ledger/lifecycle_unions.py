"""The sizes of the unions from which figures about new, returning and lapsed users follow. Pure.

With U(X) the distinct users of the periods X, H all periods before p, and q the period before p:

    new         = U(H + p) - U(H)
    returning   = U(p) + U(q) - U(p + q)
    reactivated = U(p) - new - returning
    lapsed      = U(q) - returning

All sizes of one figure are exact, or all are estimates from sketches of the same users. Then the identities hold
between the values as computed, and differences of nested unions are never negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from api.ledger.union_errors import variance
from schemas.ledger.accuracy import REGISTERS

NESTED_SHOWN_AT: Final = 33.0
"""A difference of nested unions is shown if it is at least so many users per register of the larger union's sketches.

There a new user changes a register with a probability of about one part in the users per register, so that this is
another form of 25 %; it also holds where the estimate happens to be 0 and so its standard error."""
UNSEEN: Final = 2.0
"""Users per register whose absence may go unnoticed."""


class Estimate(NamedTuple):
    """A number of users before it is known whether it may be shown."""

    value: int
    error: float = 0.0
    """Absolute standard error."""
    most: int = 0
    """Upper limit."""
    per_register: float = 0.0
    """Users per register of the largest union of which the number is made; 0 if it is exact."""
    shown_at: float = 0.0
    """Users per register from which on it is shown."""


class Active(NamedTuple):
    """The users of one union, as every answer about active users has them: always shown."""

    parts: int
    """Sketches of the estimate; 0 if the number is exact."""
    users: int


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

    def returning_estimate(self) -> Estimate:
        sizes = self.previous, self.current, self.together
        most = min(self.previous, self.current)
        value = _limited(self.returning, most)
        more = self.together - self.previous
        error = _error(self.parts, (1, 1, -1), sizes, (value, self.previous, self.current), (more, self.current, more))
        return _estimate(self.parts, value, error, most, self.together)

    def lapsed_estimate(self) -> Estimate:
        return _nested_estimate(self.parts, self.current, self.together, self.previous)


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

    def new_estimate(self) -> Estimate:
        return _nested_estimate(self.pair.parts, self.before, self.after, self.pair.current)

    def reactivated_estimate(self) -> Estimate:
        parts, previous, current, together = self.pair
        if self.only_previous:
            return Estimate(0)
        value = _limited(self.reactivated, min(current, max(self.before - previous, 0)))
        # As (U(p + q) - U(q)) - (U(H + p) - U(H)): fewer terms than the definition, and the same number.
        sizes = together, previous, self.after, self.before
        overlaps = previous, together, previous + value, previous, previous, self.before
        more = together - previous
        error = _error(parts, (1, -1, -1, 1), sizes, overlaps, (more, more, self.new, self.new))
        return _estimate(parts, value, error, current, self.after)


class LifecycleRow(NamedTuple):
    """The unions of one period."""

    active: Active
    pair: Pair
    """Exact if both periods together have few users, also if all periods before them have many."""
    row: Row


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

    def users_estimate(self) -> Estimate:
        """Of a cohort with periods before it."""
        return _nested_estimate(self.parts, self.base, self.first, self.first)

    def retained_estimate(self) -> Estimate:
        if self.nobody_later:
            return Estimate(0)
        value = _limited(self.retained, min(self.first, self.later) - self.base)
        error = self._error((1, 1, -1, -1), value)
        # With a base the limit is an estimate itself, so that it is none for the upper bound.
        return _estimate(self.parts, value, error, self.together, self.together)

    def rate_error(self, rate: float, retained: int) -> float:
        """The standard error of `retained` less `rate` times the cohort, in users.

        To first order it is that of the rate, times the cohort.
        """
        if not self.parts or self.nobody_later:
            return 0.0
        return self._error((1 - rate, 1, rate - 1, -1), retained)

    @property
    def unseen(self) -> float:
        """Users who left and may have changed no register: a rate of 1 would have no error otherwise."""
        return UNSEEN * self.together / (REGISTERS * self.parts) if self.parts and not self.nobody_later else 0.0

    def _error(self, coefficients: tuple[float, ...], retained: int) -> float:
        sizes = self.first, self.later, self.base, self.together
        overlaps = self.base + retained, self.base, self.first, self.base, self.later, self.base
        left = self.together - self.later
        return _error(self.parts, coefficients, sizes, overlaps, (self.users, left, self.users, left))


class CohortRow(NamedTuple):
    """A cohort with its later periods."""

    users: Cohort
    """With an empty later period."""
    ages: Sequence[Cohort]
    """From age 1."""


def _nested_estimate(parts: int, smaller: int, larger: int, most: int) -> Estimate:
    """The difference of a union and a part of it, which is at most `most`."""
    value = _limited(larger - smaller, most)
    error = _error(parts, (1, -1), (larger, smaller), (smaller,), (value, value))
    return _estimate(parts, value, error, most, larger, NESTED_SHOWN_AT)


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


def _estimate(parts: int, value: int, error: float, most: int, ever: int, shown_at: float = 0.0) -> Estimate:
    """`most` is an upper limit, and `ever` the largest union of which the number is made."""
    if not parts or not most:
        return Estimate(value, most=value)
    return Estimate(value, error, most, ever / (REGISTERS * parts), shown_at)
