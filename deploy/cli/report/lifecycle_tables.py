"""The tables of `authtally report lifecycle` and `retention`: columns, rows and sentences of an answer. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

Answer = Mapping[str, Any]

KINDS: Final = ("active", "new", "returning", "reactivated", "lapsed")
REASONS: Final = {
    "first_counted": "the first counted day",
    "retain_months": "the first day that RETAIN_MONTHS keeps",
    "users_by": "when USERS_BY got its present value",
    "active_on": "when ACTIVE_ON got its present value",
}
SHOWN_ERROR: Final = 0.0005
"""Smaller errors would be rounded to 0."""
AGES_ABREAST: Final = 6
"""Ages beside each other, so that a table fits a terminal of 80 columns."""
NOT_OVER: Final = "*"


class TableText(NamedTuple):
    columns: list[str]
    rows: list[list[str]]


def lifecycle_table(answer: Answer) -> TableText:
    """A row per period, with the figure and the error of each kind of users in one cell."""
    weeks = answer["granularity"] == "week"
    region = _region_columns(answer)
    rows = [
        [
            *(row[name] for name in region),
            row["period"],
            *([row["from"], row["to"]] if weeks else []),
            *(_figure(row[kind]) for kind in KINDS),
            _remark(row),
        ]
        for row in answer["items"]
    ]
    return TableText([*region, "period", *(["from", "to"] if weeks else []), *KINDS, ""], rows)


def lifecycle_sentences(answer: Answer) -> Iterator[str]:
    figures = [row[kind] for row in answer["items"] for kind in KINDS]
    yield from _accuracy(figures)
    yield from (f"{kind}: {_defined(answer, kind)}" for kind in KINDS)
    yield from _histories(answer)
    if answer["items"] and not answer["items"][-1]["ended"]:
        yield "The last period is not over; its lapsed users are not yet back."
    yield from _imported(answer["history"])


def retention_tables(answer: Answer) -> Iterator[TableText]:
    """Cohorts by age, AGES_ABREAST ages per table; shares in percent with their standard errors in points."""
    items = answer["items"]
    region = _region_columns(answer)
    most = max((len(item["ages"]) for item in items), default=0)
    for first in range(0, max(most, 1), AGES_ABREAST):
        ages = range(first, min(first + AGES_ABREAST, most))
        rows = [
            [
                *(item[name] for name in region),
                item["period"],
                _figure(item["users"]),
                *(_share(item["ages"][at]) if at < len(item["ages"]) else "" for at in ages),
            ]
            for item in items
            if first == 0 or len(item["ages"]) > first
        ]
        yield TableText([*region, "period", "users", *(f"+{age + 1}" for age in ages)], rows)


def retention_sentences(answer: Answer) -> Iterator[str]:
    cells = [cell for item in answer["items"] for cell in item["ages"]]
    granularity = answer["granularity"]
    whose = (
        f"users that were new in each {granularity}" if answer["cohort"] == "new" else f"users of each {granularity}"
    )
    yield f"Percent of the {whose} that were active +1, +2, … {granularity}s later."
    yield from _accuracy([item["users"] for item in answer["items"]] + [cell["retained"] for cell in cells])
    if any(cell["rate"]["standard_error"] for cell in cells):
        yield "±: one standard error, of users in percent of the figure, of shares in points."
    if any(not cell["ended"] for cell in cells):
        yield f"{NOT_OVER} the later {granularity} is not over."
    yield f"users: {_defined(answer, 'users')}"
    yield from _histories(answer)
    yield from _imported(answer["history"])


def _figure(figure: Answer) -> str:
    if figure["fewer_than"] is not None:
        return f"<{figure['fewer_than']:,}"
    if figure["value"] is None:
        return "-"
    error = figure["standard_error"]
    return f"{figure['value']:,}" + (f" ±{error:.1%}" if error and error >= SHOWN_ERROR else " ±<0.1%" if error else "")


def _share(cell: Answer) -> str:
    rate, mark = cell["rate"], "" if cell["ended"] else NOT_OVER
    if rate["less_than"] is not None:
        # Rounded up: a lower number would not be a bound.
        return f"<{math.ceil(1000 * rate['less_than']) / 10:.1f}{mark}"
    if rate["value"] is None:
        return "-"
    error = rate["standard_error"]
    return f"{100 * rate['value']:.1f}" + (f"±{100 * error * rate['value']:.1f}" if error else "") + mark


def _accuracy(figures: Sequence[Answer]) -> Iterator[str]:
    known = [figure for figure in figures if figure["value"] is not None]
    bounds = any(figure["fewer_than"] is not None for figure in figures)
    if known and not bounds and all(figure["exact"] for figure in known):
        yield "All figures are exact."
    if bounds:
        yield "<N: fewer than N; the estimate is too small against its error to be a figure."


def _defined(answer: Answer, name: str) -> str:
    """The answer's definition of a figure, with the day from which users are known."""
    history, text = answer["history"], str(answer["definition"][name])
    if "histories" in answer:
        return text.replace("`history.since`", "the first day of the region")
    return text if history["since"] is None else text.replace("`history.since`", _since(history))


def _histories(answer: Answer) -> Iterator[str]:
    """The first day of each region, in an answer by region."""
    known = {region: history for region, history in answer.get("histories", {}).items() if history["since"] is not None}
    if known:
        yield f"First days: {', '.join(f'{region} {_since(history)}' for region, history in known.items())}."


def _since(history: Answer) -> str:
    return f"{history['since']} ({REASONS.get(history['reason'], history['reason'])})"


def _region_columns(answer: Answer) -> list[str]:
    return ["region"] if "histories" in answer else []


def _imported(history: Answer) -> Iterator[str]:
    if history["imported"]:
        yield f"Imported months are numbers without users and take no part: {', '.join(history['imported'])}."


def _remark(row: Answer) -> str:
    if row.get("imported"):
        return f"imported from {row['imported']}"
    unknown = row.get("unknown")
    if unknown == "imported":
        return "the month before was imported"
    if unknown == "history":
        return "no users before are known"
    if unknown == "not_united":
        return "users of several regions are not united"
    return "" if row["ended"] else "not over"
