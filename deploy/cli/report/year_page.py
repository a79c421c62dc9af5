"""The view of twelve months as a page for print: one file without links, scripts or fonts of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from deploy.cli.report.tables import error_of, number, region_lines, remark
from deploy.cli.terminal import printable

Answer = Mapping[str, Any]

STYLE: Final = """
@page { size: A4 portrait; margin: 12mm 15mm; }
:root { color-scheme: light; --ink: #16202c; --soft: #5a6775; --line: #d5dbe2; --bar: #2f6db5; --most: #b4500f; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 180mm; padding: 8mm 0; background: #fff; color: var(--ink);
  font: 9.5pt/1.4 "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
h1 { font-size: 17pt; line-height: 1.2; margin: 0 0 1mm; }
h2 { font-size: 10.5pt; margin: 3mm 0 0.5mm; break-after: avoid; }
p { margin: 0 0 1mm; }
.soft, footer { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3mm; margin: 2mm 0; }
.tile { border: 0.3mm solid var(--line); border-radius: 1.5mm; padding: 1mm 3mm; }
.tile b { display: block; font-size: 16pt; line-height: 1.25; }
svg { display: block; width: 100%; margin-bottom: 2mm; }
svg rect { fill: var(--bar); }
svg rect.most { fill: var(--most); }
svg text { font-size: 8px; fill: var(--ink); text-anchor: middle; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; font-variant-numeric: tabular-nums;
  font-size: 8.5pt; line-height: 1.22; }
table.realms th:first-child { width: 32%; }
th { color: var(--soft); font-weight: 600; text-align: right; }
th, td { padding: 0.32mm 1mm; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
thead th { border-bottom: 0.4mm solid var(--line); }
tbody tr + tr > * { border-top: 0.15mm solid var(--line); }
td { text-align: right; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { color: var(--ink); font-weight: 400; }
.most { font-weight: 700; }
footer { margin-top: 3mm; font-size: 7.5pt; line-height: 1.3; }
footer p { margin: 0 0 0.5mm; }
tr, .tile { break-inside: avoid; }
@media screen and (max-width: 700px) { body { padding: 4mm; } table { font-size: 7.5pt; } }
@media print { body { max-width: none; padding: 0; } }
""".strip()
MEASURES: Final = {"logins": "Logins", "failed_logins": "Failed logins", "signups": "Sign-ups", "tokens": "Tokens"}


def page(year: Answer) -> str:
    """HTML for `year`, the JSON of the view. Every value is escaped; invisible characters are shown as escapes."""
    months = f"{year['from'][:7]} to {year['to'][:7]}"
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Active users, {_text(months)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>Active users, {_text(months)}</h1>",
            f'<p class="soft">{_text(_subject(year))}</p>',
            *_tiles(year["summary"]),
            "<h2>Active users per month</h2>",
            *_bars(year["months"], year["summary"]["maximum"]),
            *_months(year["months"], year["summary"]["maximum"]),
            *_realms(year["realms"], year["realms_left_out"]),
            *_footer(year),
            "</body>",
            "</html>",
            "",
        )
    )


def _subject(year: Answer) -> str:
    filters = [f"{name.replace('_', ' ')} {value}" for name, value in year["filters"].items()]
    if year["regions"]:
        filters.append(f"regions {', '.join(region['region'] for region in year['regions'])}")
    return f"{', '.join(filters) or 'The whole deployment'} · days and months in {year['timezone']}"


def _tiles(summary: Answer) -> Iterable[str]:
    average = "–" if summary["average"] is None else f"{summary['average']:,.1f}"
    maximum, day = summary["maximum"], summary["peak_day"]
    yield '<div class="tiles">'
    yield _tile("Average month", average, f"of {summary['months_averaged']} months that are over")
    for title, users in (("Largest month", maximum), ("Peak day", day)):
        value = "–" if users is None else number(users["value"])
        yield _tile(title, value, "not known" if users is None else f"{users['period']}, {error_of(users)}")
    yield "</div>"


def _tile(title: str, value: str, more: str) -> str:
    return f'<div class="tile">{_text(title)}<b>{_text(value)}</b><span class="soft">{_text(more)}</span></div>'


def _bars(months: Sequence[Answer], maximum: Answer | None) -> Iterable[str]:
    """A bar per month, with its value above it. The table below has the same figures, so screen readers skip it."""
    width, top, floor = 48, 12, 70
    most = (maximum or {}).get("value") or 1
    yield f'<svg viewBox="0 0 {width * len(months)} 82" aria-hidden="true">'
    for place, row in enumerate(months):
        x, value = width * place, row["value"]
        height = 0 if value is None else (floor - top) * value / most
        kind = ' class="most"' if maximum is not None and row["month"] == maximum["period"] else ""
        yield f'<rect{kind} x="{x + 7}" y="{floor - height:.1f}" width="{width - 14}" height="{height:.1f}"/>'
        yield f'<text x="{x + width / 2:g}" y="{floor - height - 3:.1f}">{_text(number(value))}</text>'
        yield f'<text x="{x + width / 2:g}" y="{floor + 10}">{_text(row["month"])}</text>'
    yield "</svg>"


def _months(months: Sequence[Answer], maximum: Answer | None) -> Iterable[str]:
    yield from _table_head(("Month", "Users", "Error", *MEASURES.values(), ""), "months")
    for row in months:
        largest = maximum is not None and row["month"] == maximum["period"]
        cells = (number(row["value"]), error_of(row), *(number(row[name]) for name in MEASURES), _mark(row))
        yield _row(row["month"], cells, largest=largest)
    yield "</tbody></table>"


def _mark(row: Answer) -> str:
    """A word; the footer names the source of an imported month."""
    return "imported" if row["imported"] else remark(row)


def _realms(realms: Sequence[Answer], left_out: int) -> Iterable[str]:
    if not realms:
        return
    yield "<h2>Realms</h2>"
    yield from _table_head(("Realm", "Average", "Largest", "Error", "in", "Peak day", "Error", "on"), "realms")
    for row in realms:
        summary = row["summary"]
        average = "–" if summary["average"] is None else f"{summary['average']:,.1f}"
        cells = [average]
        for users in (summary["maximum"], summary["peak_day"]):
            cells += ["–", "–", ""] if users is None else [number(users["value"]), error_of(users), users["period"]]
        yield _row(row["realm"], cells)
    yield "</tbody></table>"
    if left_out:
        yield f'<p class="soft">{number(left_out)} smaller realms are left out.</p>'


def _table_head(columns: Iterable[str], kind: str) -> Iterable[str]:
    cells = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    yield f'<table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>'


def _row(name: str, cells: Iterable[str], *, largest: bool = False) -> str:
    columns = "".join(f"<td>{_text(each)}</td>" for each in cells)
    mark = ' class="most"' if largest else ""
    return f'<tr{mark}><th scope="row"><bdi>{_text(name)}</bdi></th>{columns}</tr>'


def _footer(year: Answer) -> Iterable[str]:
    definition, newest = year["definition"], year["as_of"]["newest_event"]
    events = " or ".join(definition["active_on"]) or "login"
    lines = [
        f"A user is active in a period with at least one event of: {events}. A user counts once per period.",
        "An error is the relative standard error of an estimate; “exact” means that users were counted one by one. "
        "The average covers months that are over; the peak day is the first day with most users.",
    ]
    if year["realms"] and definition["user_scope"] == ["global"]:
        lines.append("A user of several realms counts once in the total, so realms can add up to more.")
    regions = region_lines(year["regions"] or ())
    lines += regions
    if not year["complete"] and not regions:
        lines.append("Some labels exceed a limit (MAX_LABELS) and are counted together.")
    lines += [f"{row['month']} is imported from {row['imported']}." for row in year["months"] if row["imported"]]
    lines += year["notes"]
    counted = "nothing counted yet" if newest is None else f"newest counted event {newest}"
    lines.append(f"Made {year['made']} by authtally from {year['api']}; {counted}.")
    yield "<footer>"
    yield from (f"<p>{_text(line)}</p>" for line in lines)
    yield "</footer>"


def _text(value: str) -> str:
    return escape(printable(value))
