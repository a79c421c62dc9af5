"""Rows in which every pair of levels of two factors occurs together: most faults need no more than two."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import combinations

Row = tuple[str, ...]
Pair = tuple[tuple[int, str], tuple[int, str]]


def pairs_of(row: Sequence[str]) -> Iterator[Pair]:
    """The pairs of (factor, level) in one row."""
    return combinations(enumerate(row), 2)


def all_pairs(starts: Sequence[Row], others: Sequence[Sequence[str]]) -> list[Row]:
    """Rows that begin with one of `starts`, the allowed combinations of the first factors, and go on with a level of
    each of `others`: every possible pair is in one, and every start. Greedy and deterministic.
    """
    width = len(starts[0])
    missing = dict.fromkeys(_possible(starts, others))
    rows: list[Row] = []
    while missing:
        fixed = dict(next(iter(missing)))
        fitting = [start for start in starts if all(start[at] == fixed[at] for at in fixed if at < width)]
        best = max(fitting, key=lambda start: _gain(missing, {**dict(enumerate(start)), **fixed}))
        row = {**dict(enumerate(best)), **fixed}
        for place, levels in enumerate(others, width):
            if place not in row:
                row[place] = max(levels, key=lambda level: _gain(missing, {**row, place: level}))
        rows.append(tuple(row[place] for place in sorted(row)))
        for pair in pairs_of(rows[-1]):
            missing.pop(pair, None)
    return rows


def _possible(starts: Sequence[Row], others: Sequence[Sequence[str]]) -> Iterator[Pair]:
    width = len(starts[0])
    for start in starts:
        yield from pairs_of(start)
    for place, levels in enumerate(others, width):
        for start in starts:
            yield from (((at, one), (place, level)) for at, one in enumerate(start) for level in levels)
    for (place, levels), (other, more) in combinations(enumerate(others, width), 2):
        yield from (((place, level), (other, one)) for level in levels for one in more)


def _gain(missing: Container[Pair], row: Mapping[int, str]) -> int:
    return sum(pair in missing for pair in combinations(sorted(row.items()), 2))
