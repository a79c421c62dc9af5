"""Tables of `authtally report`, one function per kind of answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from deploy.cli.operations import show_table
from deploy.cli.report import lifecycle_tables
from deploy.cli.terminal import echo

Answer = Mapping[str, Any]

FIGURES: Final = {
    "dau": "daily active users",
    "wau": "weekly active users",
    "mau": "monthly active users",
    "rolling_7_days": "last 7 days",
    "rolling_30_days": "last 30 days",
}
MEASURES: Final = {"logins": "logins", "failed_logins": "failed logins", "signups": "sign-ups", "tokens": "tokens"}
ERROR: Final = ("exact", "standard_error")
PARTITION: Final = (
    "region",
    "topic",
    "partition",
    "position",
    "end",
    "lag",
    "consumed",
    "counted",
    "duplicates",
    "ignored",
    "dead",
    "untimed",
    "unexpected",
    "lost",
    "refused",
    "last_event",
    "adds_up",
)


def overview(answer: Answer) -> None:
    head(f"{answer['date']} ({answer['timezone']})", answer)
    rows: list[tuple[object, ...]] = []
    for name, title in FIGURES.items():
        figure = answer[name]
        days = figure["from"] if figure["from"] == figure["to"] else f"{figure['from']} to {figure['to']}"
        change = _compared(figure["previous"]["value"], figure["change"])
        rows.append((title, days, number(figure["value"]), error_of(figure), *change))
    show_table(("", "days", "users", "error", "before", "change"), rows)
    if answer["stickiness"] is not None:
        echo(f"stickiness (daily by last 30 days): {answer['stickiness']:.0%}")
    echo()
    day, month = answer["activity"]["day"], answer["activity"]["month"]
    rows = []
    for name, title in MEASURES.items():
        compared = (cell for measure in (day[name], month[name]) for cell in _measured(measure))
        rows.append((title, *compared))
    show_table(("", "day", "before", "change", "month", "before", "change"), rows)
    if month.get("unattributed"):
        unknown = number(month["unattributed"]["value"])
        echo(f"{unknown} failed logins of the month have an unknown client.")
    for title, name in (("Failed logins", "failed_logins_by_reason"), ("Tokens", "tokens_by_grant_type")):
        if month[name]:
            result = ", ".join(f"{key} {number(count)}" for key, count in _largest_first(month[name]))
            echo(f"{title} of the month: {result}.")
    echo()
    show_table(
        ("month", "users", "error", *MEASURES.values(), ""),
        (
            (
                row["month"],
                number(row["value"]),
                error_of(row),
                *(number(row[name]) for name in MEASURES),
                remark(row),
            )
            for row in answer["months"]
        ),
    )
    billing = answer["billing"]
    if billing["maximum"] is not None:
        echo(f"Largest month: {number(billing['maximum'])} in {billing['maximum_month']}.")
    if billing["average"] is not None:
        echo(f"Average of {billing['months_averaged']} months that are over: {billing['average']:,.1f}.")


def series(answer: Answer) -> None:
    head(f"{answer['from']} to {answer['to']} by {answer['granularity']} ({answer['timezone']})", answer)
    rows: Sequence[Answer] = answer["items"]
    estimated = any("value" in row for row in rows)
    # The name of a period gives its days, except for a week.
    hidden = {*ERROR, "imported"} | (set() if answer["granularity"] == "week" else {"from", "to"})
    columns = [name for name in _columns(rows) if name not in hidden]
    remarks = any(row.get("imported") for row in rows)
    _table(
        [*columns, *(["error"] if estimated else []), *([""] if remarks else [])],
        (
            (
                *(cell(row.get(name)) for name in columns),
                *([error_of(row)] if estimated else []),
                *([remark(row)] if remarks else []),
            )
            for row in rows
        ),
    )
    _left_out(answer)


def lifecycle(answer: Answer) -> None:
    head(f"{answer['from']} to {answer['to']} by {answer['granularity']} ({answer['timezone']})", answer)
    _table(*lifecycle_tables.lifecycle_table(answer))
    _sentences(lifecycle_tables.lifecycle_sentences(answer))


def retention(answer: Answer) -> None:
    head(f"{answer['from']} to {answer['to']} by {answer['granularity']} ({answer['timezone']})", answer)
    for table in lifecycle_tables.retention_tables(answer):
        _table(*table)
        echo()
    _sentences(lifecycle_tables.retention_sentences(answer))


def m2m(answer: Answer) -> None:
    head(f"Machine-to-machine tokens of {answer['month']} ({answer['timezone']})", answer)
    columns = ("used", "limit", "percent", "projected", "projected_percent")
    rows = [("all", "", answer["tenant"]), *((row["realm"], row["client_id"], row) for row in answer["items"])]
    _table(
        ["realm", "client_id", *columns],
        ((realm, client, *(cell(counts[name]) for name in columns)) for realm, client, counts in rows),
    )
    clients = answer["active_clients"]
    echo(f"Active clients: {number(clients['value'])} ({error_of(clients)}).")
    _left_out(answer)


def otp_tokens(answer: Answer) -> None:
    by_day = answer["granularity"] == "day"
    days = f"{answer['from']} to {answer['to']} by day" if by_day else "now"
    head(f"One-time-password tokens, {days} ({answer['timezone']})", {**answer, "complete": None})
    if answer["complete"] is False:
        echo("Some states of tokens were not counted because of a defect (`unexpected` in `report pipeline`).")
        echo()
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    for item in answer["items"]:
        row = (item["date"], item["realm"]) if by_day else (item["realm"],)
        counts.setdefault(row, {})[item["status"]] = item["count"]
    statuses = list(dict.fromkeys(status for by_status in counts.values() for status in by_status))
    rows = [(*row, *(cell(by_status.get(name)) for name in statuses)) for row, by_status in counts.items()]
    if not by_day and len(counts) > 1:
        sums = (number(sum(by_status.get(name, 0) for by_status in counts.values())) for name in statuses)
        rows.append(("sum", *sums))
        echo("A token or user of several realms counts in each, also in the sum.")
        echo()
    _table([*(["date"] if by_day else []), "realm", *statuses], rows)


def pipeline(answer: Answer) -> None:
    head("Partitions", answer)
    rows = answer["items"]
    columns = [name for name in PARTITION if any(name in row for row in rows)]
    _table(columns, ((cell(row.get(name)) for name in columns) for row in rows))
    total = answer["total"]
    parts = ("counted", "duplicates", "ignored", "dead")
    result = " + ".join(f"{number(total[name])} {name}" for name in parts)
    verb = "=" if total["adds_up"] else "DOES NOT EQUAL"
    echo(f"{number(total['consumed'])} consumed {verb} {result}.")


TABLES: Final[dict[str, Callable[[Answer], None]]] = {
    "overview": overview,
    "active-users": series,
    "lifecycle": lifecycle,
    "retention": retention,
    "logins": series,
    "tokens": series,
    "accounts": series,
    "m2m": m2m,
    "otp-tokens": otp_tokens,
    "pipeline": pipeline,
}


def head(what: str, answer: Answer) -> None:
    newest, lag = answer["as_of"]["newest_event"], answer["as_of"]["lag"]
    counted = "nothing counted yet" if newest is None else f"newest event {newest}"
    waiting = "" if lag is None else f", {number(lag)} waiting"
    echo(f"{what}: {counted}{waiting}")
    for name, value in (answer.get("filters") or {}).items():
        echo(f"only {name} {value}")
    said = region_lines(answer.get("regions") or ())
    for line in said:
        echo(line)
    if answer.get("complete") is False and not said:
        echo("Some labels exceed a limit (MAX_LABELS) and are counted together.")
    if answer.get("unattributed"):
        echo(f"{number(answer['unattributed'])} failed logins have an unknown client.")
    for setting, at in (answer.get("since") or {}).items():
        echo(f"{setting} has its present value only since {at or 'an unknown time'}")
    echo()


def region_lines(regions: Sequence[Answer]) -> list[str]:
    """A line for each region whose figures are missing, old, or not united with those of others."""
    said = []
    for region in regions:
        why = f" ({region['reason']})" if region.get("reason") else ""
        if region["state"] == "missing":
            said.append(f"Region {region['region']} is missing{why}: the figures are those of the others.")
        if region["state"] == "stand_in":
            said.append(
                f"Region {region['region']} does not answer{why}: its figures are {number(region['age_s'])} s old."
            )
    apart = [region["region"] for region in regions if region.get("not_united")]
    if apart:
        said.append(
            f"Users of several regions may count twice: {', '.join(apart)} exports some users as a number only."
        )
    return said


def _left_out(answer: Answer) -> None:
    groups = (answer.get("left_out") or {}).get("groups", 0)
    if groups:
        echo(f"{number(groups)} smaller groups are left out (--limit).")


def _table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    show_table([name.replace("_", " ") for name in columns], rows)


def _sentences(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        echo(sentence)


def _columns(rows: Sequence[Answer]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return number(value) if isinstance(value, int | float) else str(value)


def number(value: Any) -> str:
    return "-" if value is None else f"{value:,}"


def error_of(figure: Answer) -> str:
    if figure.get("exact"):
        return "exact"
    error = figure.get("standard_error")
    return "-" if error is None else f"±{error:.2%}"


def _compared(before: Any, change: Any) -> tuple[str, str]:
    return number(before), "-" if change is None else f"{change:+.1%}"


def _measured(measure: Answer) -> tuple[str, str, str]:
    return number(measure["value"]), *_compared(measure["previous"], measure["change"])


def remark(row: Answer) -> str:
    if row.get("imported"):
        return f"imported from {row['imported']}"
    return "to date" if row.get("to_date") and row.get("value") is not None else ""


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
